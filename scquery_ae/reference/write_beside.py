"""A temporary folder beside a target, which does not outlive its writer."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextmanager
def folder_beside(target: Path) -> Iterator[Path]:
    """Make a folder beside `target` and remove it in the end, together with folders that killed writers left.

    The folder is a sibling of the target because a rename is atomic only within a file system.
    """
    prefix = f".{target.name}.writing-"
    _remove_abandoned(target.parent, prefix)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        with locked(folder):
            # Another writer may have removed it as abandoned before it was locked.
            if not folder.exists():
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Lock a folder against other writers, and return whether that was possible.

    The system releases the lock when the process ends, however it ends. On Windows and some network drives there are no
    locks, and nothing is locked.

    Checked first: filelock, whose lock files would stay behind in the user's folder.
    """
    handle = None
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle is not None and _lock(handle, wait=wait)
    finally:
        if handle is not None:
            os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool:
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the folders of writers that no longer run; running writers hold a lock on theirs."""
    for folder in parent.iterdir():
        if folder.name.startswith(prefix) and folder.is_dir() and not folder.is_symlink():
            with locked(folder, wait=False) as abandoned:
                if abandoned:
                    shutil.rmtree(folder, ignore_errors=True)
