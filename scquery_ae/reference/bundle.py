"""The ``.scq`` directory: a reference on disk.

``manifest.json`` names every other file with its length and SHA-256. Files are named after their content and written
before the manifest, which one rename puts in place: a reader finds the old reference or the new one, whenever the
writer stops. Nothing is pickled, and nothing is evaluated on reading.
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from scquery_ae._caller import argument
from scquery_ae._errors import BundleError
from scquery_ae.reference import archive, serialize
from scquery_ae.reference.contents import ReferenceContents
from scquery_ae.reference.serialize import MANIFEST, PART_FILE
from scquery_ae.reference.write_beside import folder_beside, locked

T = TypeVar("T")

FORMAT = "scquery_ae reference"
FORMAT_VERSION = 1

_MAX_MANIFEST = 1 << 20


def write(path: str | PathLike[str], contents: ReferenceContents, *, overwrite: bool) -> None:
    """Write a reference to `path`, completely or not at all; a path ending in ``.zip`` makes one file."""
    target = Path(path)
    zipped = target.suffix == archive.SUFFIX
    check = _check_file if zipped else _check_target
    replacing = False
    made: list[Path] = []
    try:
        replacing = check(target, overwrite=overwrite)
        made = [folder for folder in target.parents if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(target) as folder:
            entries = {name: _write_part(folder, name, save) for name, save in serialize.writers(contents).items()}
            manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "parts": entries}
            _write_durably(folder / MANIFEST, json.dumps(manifest, indent=2).encode())
            _read_back(folder, entries)
            # Another process may have saved there in the meantime.
            replacing = check(target, overwrite=overwrite)
            if zipped:
                archive.pack(folder, target)
            elif replacing or not _moved(folder, target, overwrite=overwrite):
                _replace(target, folder, {entry["file"] for entry in entries.values()})
    except OSError as error:
        for empty in made:
            with suppress(OSError):
                empty.rmdir()
        msg = (
            f"The reference could not be written to {target}: {error}. "
            f"{'The one that is there is unchanged' if replacing else 'Nothing was left behind'}; "
            "free some space, or choose a place that can be written to."
        )
        raise BundleError(msg) from error


def _moved(folder: Path, target: Path, *, overwrite: bool) -> bool:
    """Rename a finished folder to the target; return False if another process saved there first."""
    # Temporary folders are private; a bundle is as readable as any file that its owner makes.
    folder.chmod(0o777 & ~_umask())
    try:
        folder.rename(target)
    except OSError:
        if not _check_target(target, overwrite=overwrite):
            raise
        return False
    return True


def _replace(target: Path, folder: Path, files: set[str]) -> None:
    """Move new files beside the old ones, the manifest last, and delete files that it no longer names."""
    # One writer at a time: each deletes what its own manifest does not name.
    with locked(target):
        stale = _own_files(target)
        try:
            for name in files:
                (folder / name).replace(target / name)
            (folder / MANIFEST).replace(target / MANIFEST)
        finally:
            replaced = not (folder / MANIFEST).exists()
            for name in stale - files if replaced else files - stale:
                # A file that cannot be deleted now does no harm, and the next writer tries again.
                with suppress(OSError):
                    (target / name).unlink(missing_ok=True)


def read(path: str | PathLike[str], build: Callable[..., T]) -> T:
    """Verify the bundle at `path` and return `build` called with its contents; large arrays are memory-mapped."""
    root = Path(path)
    if root.is_file() and root.suffix == archive.SUFFIX:
        unpacked = archive.unpack(root)
        try:
            built = read(unpacked.name, build)
        except BundleError as error:
            unpacked.cleanup()
            # The user knows the file, not the folder that it was unpacked to.
            raise BundleError(str(error).replace(unpacked.name, str(root))) from error
        # Memory-mapped arrays are read from there as long as the reference exists.
        weakref.finalize(built, unpacked.cleanup)
        return built
    while True:
        manifest = read_manifest(root)
        try:
            return build(**serialize.load(_verified_files(root, manifest)))
        except BundleError:
            # Another process may have replaced the reference meanwhile and deleted these files.
            if read_manifest(root) == manifest:
                raise
        except serialize.UNREADABLE as error:
            if read_manifest(root) == manifest:
                msg = f"{root} is damaged: its parts do not fit together ({error}). Copy it again from its source."
                raise BundleError(msg) from error


def read_manifest(root: Path) -> dict[str, Any]:
    """Return the manifest of a bundle.

    Raises
    ------
    BundleError
        If there is none, or it cannot be read.
    """
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
    zipped = Path(path).is_file()
    manifest = archive.read_member(Path(path), MANIFEST) if zipped else (Path(path) / MANIFEST).read_bytes()
    return hashlib.sha256(manifest).hexdigest()


def _verified_files(root: Path, manifest: dict[str, Any]) -> dict[str, Path]:
    files = {}
    for name in serialize.SUFFIXES:
        if name in manifest["parts"]:
            files[name] = _verified(root, name, manifest["parts"][name])
        elif name in serialize.REQUIRED:
            msg = f"{root} is damaged: its manifest has no part {name!r}. Copy it again from its source."
            raise BundleError(msg)
    return files


def _verified(root: Path, name: str, entry: Any) -> Path:
    try:
        file_name, size, checksum = entry["file"], entry["bytes"], entry["sha256"]
        well_named = PART_FILE.fullmatch(file_name) is not None and file_name.startswith(f"{name}.")
    except (KeyError, TypeError):
        well_named, file_name, size, checksum = False, None, None, None
    # The pattern admits no separator, so that no entry can point outside of the bundle.
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
    """Return whether there is a reference to replace; raise if it may not be replaced, or is something else."""
    if not target.exists() and not target.is_symlink():
        return False
    if not (target / MANIFEST).is_file():
        msg = f"{target} exists and is not a reference. It is left as it is; choose another name, such as `pbmc.scq`."
        raise BundleError(msg)
    return _may_replace(target, overwrite=overwrite)


def _check_file(target: Path, *, overwrite: bool) -> bool:
    """Return whether there is a zipped reference to replace; raise if it may not be replaced, or is something else."""
    if not target.exists() and not target.is_symlink():
        return False
    if not target.is_file() or target.is_symlink() or not archive.is_archive(target):
        msg = f"{target} exists and is not a zipped reference. It is left as it is; choose another name."
        raise BundleError(msg)
    return _may_replace(target, overwrite=overwrite)


def _may_replace(target: Path, *, overwrite: bool) -> bool:
    if not overwrite:
        msg = (
            f"There is a reference at {target} already. Pass {argument('overwrite', True)} to replace it, or choose "
            "another name."
        )
        raise BundleError(msg)
    return True


def _write_part(folder: Path, name: str, save: Callable[[Path], None]) -> dict[str, Any]:
    suffix = serialize.SUFFIXES[name]
    draft = folder / f"draft.{suffix}"
    try:
        save(draft)
    except (OSError, SafetensorError, RuntimeError) as error:
        # safetensors and faiss raise their own errors on a full disk, and NumPy's does not name the file.
        msg = f"its part {name!r}: {error}"
        raise OSError(msg) from error
    checksum = _sha256(draft)
    file_name = f"{name}.{checksum[:16]}.{suffix}"
    draft.rename(folder / file_name)
    # Some writers make files private.
    (folder / file_name).chmod(0o666 & ~_umask())
    _sync(folder / file_name)
    return {"file": file_name, "bytes": (folder / file_name).stat().st_size, "sha256": checksum}


def _read_back(folder: Path, entries: dict[str, Any]) -> None:
    """Read all parts before they replace others: NumPy does not notice a disk that becomes full at the very end."""
    try:
        serialize.load({name: folder / entry["file"] for name, entry in entries.items()})
    except serialize.UNREADABLE as error:
        msg = f"what was written cannot be read back ({error}), as on a full disk"
        raise OSError(msg) from error


def _own_files(root: Path) -> set[str]:
    return {file.name for file in root.iterdir() if PART_FILE.fullmatch(file.name)}


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
