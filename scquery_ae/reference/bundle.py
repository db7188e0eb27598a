"""The ``.scq`` directory: how a reference lies on disk.

``manifest.json`` names every other file with its length and SHA-256. Files are named after their content and
written before the manifest, which is put in place by one rename: whoever reads finds the old reference or the
new one, at whatever moment the writer stops. Nothing is pickled, and nothing is evaluated on reading.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scquery_ae._errors import BundleError
from scquery_ae.reference import archive, parts

if TYPE_CHECKING:
    from scquery_ae.reference.reference import Reference

T = TypeVar("T")

FORMAT = "scquery_ae reference"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"

_FILE_NAME = re.compile(r"[a-z]+\.[0-9a-f]{16}\.(faiss|json|npy|parquet|safetensors)")
_MAX_MANIFEST = 1 << 20


def write(path: str | PathLike[str], reference: Reference, *, overwrite: bool) -> None:
    """Write `reference` under `path`, whole or not at all; with the ending ``.zip`` as one file."""
    target = Path(path)
    zipped = target.suffix == archive.SUFFIX
    replacing = _check_file(target, overwrite=overwrite) if zipped else _check_target(target, overwrite=overwrite)
    staging = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A sibling, since a rename is one step only within a file system.
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        entries = {name: _write_part(staging, name, save) for name, save in parts.writers(reference).items()}
        manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "parts": entries}
        _write_durably(staging / MANIFEST, json.dumps(manifest, indent=2).encode())
        if zipped:
            archive.pack(staging, target)
        elif replacing:
            _replace(target, staging, {entry["file"] for entry in entries.values()})
        else:
            # mkdtemp makes it private; a bundle is as readable as any file its owner makes.
            staging.chmod(0o777 & ~_umask())
            staging.rename(target)
    except OSError as error:
        msg = (
            f"The reference could not be written to {target}: {error}. "
            f"{'The one that is there is unchanged' if replacing else 'Nothing was left behind'}; "
            "free some space, or choose a place that can be written to."
        )
        raise BundleError(msg) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _replace(target: Path, staging: Path, files: set[str]) -> None:
    """Put new files beside the old ones, the manifest last, and drop what it no longer names."""
    stale = _own_files(target)
    for name in files:
        (staging / name).replace(target / name)
    (staging / MANIFEST).replace(target / MANIFEST)
    for name in stale - files:
        (target / name).unlink(missing_ok=True)


def read(path: str | PathLike[str], build: Callable[..., T]) -> T:
    """Verify the bundle at `path` and return what `build` makes of its contents; the embedding is memory-mapped."""
    root = Path(path)
    if root.is_file() and root.suffix == archive.SUFFIX:
        unpacked = archive.unpack(root)
        try:
            built = read(unpacked.name, build)
        except BundleError as error:
            unpacked.cleanup()
            # The user knows the file, not where it was unpacked.
            raise BundleError(str(error).replace(unpacked.name, str(root))) from error
        # The embedding is read from there for as long as the reference lives.
        weakref.finalize(built, unpacked.cleanup)
        return built
    manifest = read_manifest(root)
    files = {}
    for name in parts.SUFFIXES:
        if name not in manifest["parts"]:
            if name not in parts.REQUIRED:
                continue
            msg = f"{root} is damaged: its manifest has no part {name!r}. Copy it again from its source."
            raise BundleError(msg)
        files[name] = _verified(root, name, manifest["parts"][name])
    try:
        return build(**parts.load(files))
    except parts.UNREADABLE as error:
        msg = f"{root} is damaged: its parts do not fit together ({error}). Copy it again from its source."
        raise BundleError(msg) from error


def read_manifest(root: Path) -> dict[str, Any]:
    """Return the manifest of a bundle, or say why there is none to be had."""
    if not root.exists():
        msg = (
            f"There is no reference at {root}. Expected a `.scq` directory that `Reference.save` wrote; check the path."
        )
        raise BundleError(msg)
    file = root / MANIFEST
    if not file.is_file():
        msg = (
            f"{root} is not a reference: it has no {MANIFEST}. Expected a `.scq` directory that `Reference.save` "
            "wrote; if it was copied, copy it again."
        )
        raise BundleError(msg)
    try:
        if file.stat().st_size > _MAX_MANIFEST:
            msg = "it is too long"
            raise ValueError(msg)
        manifest = json.loads(file.read_bytes())
        kind, version, listed = manifest["format"], manifest["format_version"], manifest["parts"]
        # type(), since True would pass as the version 1.
        if kind != FORMAT or type(version) is not int or version < 1 or not isinstance(listed, dict):
            msg = "it does not describe a scquery_ae reference"
            raise ValueError(msg)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        msg = (
            f"{file} cannot be read as the manifest of a reference ({error}). Copy the reference again from its source."
        )
        raise BundleError(msg) from error
    if version > FORMAT_VERSION:
        msg = (
            f"{root} has format version {version}; this scquery_ae reads up to {FORMAT_VERSION}. "
            "Upgrade with `pip install --upgrade scquery-ae`."
        )
        raise BundleError(msg)
    return manifest  # type: ignore[no-any-return]


def digest(path: str | PathLike[str]) -> str:
    """Return the SHA-256 of a bundle's manifest, which covers all its files."""
    if Path(path).is_file():
        with archive.unpack(Path(path)) as folder:
            return digest(folder)
    return hashlib.sha256((Path(path) / MANIFEST).read_bytes()).hexdigest()


def _verified(root: Path, name: str, entry: Any) -> Path:
    try:
        file_name, size, checksum = entry["file"], entry["bytes"], entry["sha256"]
        well_named = _FILE_NAME.fullmatch(file_name) is not None and file_name.startswith(f"{name}.")
    except (KeyError, TypeError):
        well_named, file_name, size, checksum = False, None, None, None
    # The pattern leaves no room for a separator, so that no entry can point outside the bundle.
    if not well_named:
        msg = (
            f"{root} is damaged: its manifest names {file_name!r} as the part {name!r}. Copy it again from its source."
        )
        raise BundleError(msg)
    file = root / str(file_name)
    if not file.is_file() or file.is_symlink():
        msg = f"{root} is incomplete: {file_name} is missing. Copy it again from its source."
        raise BundleError(msg)
    if file.stat().st_size != size or _sha256(file) != checksum:
        msg = (
            f"{root} is damaged: {file_name} is not what its manifest says (expected {size} bytes with SHA-256 "
            f"{str(checksum)[:12]}..., received {file.stat().st_size} bytes). Copy it again from its source."
        )
        raise BundleError(msg)
    return file


def _check_target(target: Path, *, overwrite: bool) -> bool:
    """Return whether a reference is there to be replaced; raise if something else is, or it may not be."""
    if not target.exists() and not target.is_symlink():
        return False
    if not (target / MANIFEST).is_file():
        msg = f"{target} exists and is not a reference. It is left as it is; choose another name, such as `pbmc.scq`."
        raise BundleError(msg)
    if not overwrite:
        msg = f"There is a reference at {target} already. Pass `overwrite=True` to replace it, or choose another name."
        raise BundleError(msg)
    return True


def _check_file(target: Path, *, overwrite: bool) -> bool:
    """Return whether a zipped reference is there to be replaced; raise if something else is, or it may not be."""
    if not target.exists() and not target.is_symlink():
        return False
    if not target.is_file() or target.is_symlink() or not archive.is_archive(target):
        msg = f"{target} exists and is not a zipped reference. It is left as it is; choose another name."
        raise BundleError(msg)
    if not overwrite:
        msg = f"There is a reference at {target} already. Pass `overwrite=True` to replace it, or choose another name."
        raise BundleError(msg)
    return True


def _write_part(folder: Path, name: str, save: Callable[[Path], None]) -> dict[str, Any]:
    suffix = parts.SUFFIXES[name]
    draft = folder / f"draft.{suffix}"
    save(draft)
    checksum = _sha256(draft)
    file_name = f"{name}.{checksum[:16]}.{suffix}"
    draft.rename(folder / file_name)
    # Some writers make files private.
    (folder / file_name).chmod(0o666 & ~_umask())
    _sync(folder / file_name)
    return {"file": file_name, "bytes": (folder / file_name).stat().st_size, "sha256": checksum}


def _own_files(root: Path) -> set[str]:
    return {file.name for file in root.iterdir() if _FILE_NAME.fullmatch(file.name)}


def _write_durably(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    _sync(file)


def _sync(file: Path) -> None:
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
