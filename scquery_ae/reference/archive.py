"""A reference as one zip file, to share."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from pathlib import Path

from scquery_ae._errors import BundleError

SUFFIX = ".zip"
#: Names of members: no separators, so that none can point outside.
_MEMBER = re.compile(r"manifest\.json|[a-z]+\.[0-9a-f]{16}\.(faiss|json|npy|parquet|safetensors)")
#: More members than any bundle has.
_MAX_MEMBERS = 32


def pack(folder: Path, target: Path) -> None:
    """Write the files of a bundle into a zip file, whole or not at all; nothing is compressed."""
    with tempfile.NamedTemporaryFile(prefix=f".{target.name}.", dir=target.parent, delete=False) as handle:
        draft = Path(handle.name)
    try:
        # Arrays hardly shrink, and what is stored as it is cannot swell on unpacking.
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)
        # As readable as any file that its owner makes.
        shutil.copymode(folder / "manifest.json", draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def is_archive(path: Path) -> bool:
    """Whether a file is a zip with a manifest in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "manifest.json" in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def unpack(source: Path) -> tempfile.TemporaryDirectory[str]:
    """Unpack a zip file into a temporary directory, which goes when it is no longer referred to.

    Raises
    ------
    BundleError
        If it is no zip file, or holds anything but the files of a bundle.
    """
    folder = tempfile.TemporaryDirectory(prefix="scquery_ae-")
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if len(members) > _MAX_MEMBERS or len(set(names)) < len(names):
                msg = f"it has {len(members)} members, or some twice"
                raise ValueError(msg)
            for member in members:
                if not _MEMBER.fullmatch(member.filename) or member.compress_type != zipfile.ZIP_STORED:
                    msg = f"the member {member.filename[:60]!r} is none that `Reference.save` writes"
                    raise ValueError(msg)
            if sum(member.file_size for member in members) > source.stat().st_size:
                msg = "its members claim to be larger than the file"
                raise ValueError(msg)
            for member in members:
                with archive.open(member) as stored, (Path(folder.name) / member.filename).open("wb") as file:
                    shutil.copyfileobj(stored, file)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        folder.cleanup()
        msg = f"{source} cannot be read as a zipped reference: {error}. Copy it again from its source."
        raise BundleError(msg) from error
    return folder
