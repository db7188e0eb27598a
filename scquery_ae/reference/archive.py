"""A reference as one zip file."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from scquery_ae._errors import BundleError
from scquery_ae.reference.serialize import MANIFEST, PART_FILE

SUFFIX = ".zip"
#: Largest accepted number of members; a bundle has fewer.
_MAX_MEMBERS = 32
#: Errors of a full disk, or of a user's full quota.
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def pack(folder: Path, target: Path) -> None:
    """Write the files of a bundle into a zip file, completely or not at all, without compression."""
    files = sorted(folder.iterdir())
    draft = folder / f"draft{SUFFIX}"
    with draft.open("wb") as handle:
        # Arrays hardly compress, and uncompressed members cannot grow on unpacking.
        with zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED) as archive:
            for file in files:
                archive.write(file, file.name)
        handle.flush()
        os.fsync(handle.fileno())
    draft.replace(target)


def is_archive(path: Path) -> bool:
    """Whether a file is a zip with a manifest in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def read_member(path: Path, name: str) -> bytes:
    """Return one file of a zipped bundle."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def unpack(source: Path) -> tempfile.TemporaryDirectory[str]:
    """Unpack a zip file into a temporary directory, which is removed when the last reference to it is gone.

    Raises
    ------
    BundleError
        If it is not a zip file, holds other files than those of a bundle, or cannot be unpacked for lack of space.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="scquery_ae-")
    except OSError as error:
        raise _no_space(source, error) from error
    try:
        with source.open("rb") as handle, zipfile.ZipFile(handle) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if len(members) > _MAX_MEMBERS or len(set(names)) < len(names):
                msg = f"it has {len(members)} members, or some twice"
                raise ValueError(msg)
            for member in members:
                named = member.filename == MANIFEST or PART_FILE.fullmatch(member.filename)
                if not named or member.compress_type != zipfile.ZIP_STORED:
                    msg = f"the member {member.filename[:60]!r} is not one that `Reference.save` writes"
                    raise ValueError(msg)
            if sum(member.file_size for member in members) > os.fstat(handle.fileno()).st_size:
                msg = "its members claim to be larger than the file"
                raise ValueError(msg)
            for member in members:
                with archive.open(member) as stored, (Path(folder.name) / member.filename).open("wb") as file:
                    shutil.copyfileobj(stored, file)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        folder.cleanup()
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            raise _no_space(source, error) from error
        msg = f"{source} cannot be read as a zipped reference: {error}. Copy it again from its source."
        raise BundleError(msg) from error
    return folder


def _no_space(source: Path, error: OSError) -> BundleError:
    msg = (
        f"{source} could not be unpacked to the folder for temporary files: {error}. Free some space there, set TMPDIR "
        "to a folder on another disk, or save the reference as a `.scq` directory, which is not unpacked."
    )
    return BundleError(msg)
