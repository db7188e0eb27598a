"""A folder to write in beside a target, which does not outlive whoever writes in it."""

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
def beside(target: Path) -> Iterator[Path]:
    """Make a folder beside `target` and drop it in the end, and with it those that killed writers left.

    A sibling, since a rename is one step only within a file system.
    """
    prefix = f".{target.name}.writing-"
    _clear(target.parent, prefix)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        with held(folder):
            # Another writer may have taken it for left behind before it was held.
            if not folder.exists():
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextmanager
def held(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Keep other writers out of a folder, and say whether that could be done.

    The system lets go of it when the process ends, however it ends. Where there are no locks, as on Windows and some
    network drives, nothing is held.
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


def _clear(parent: Path, prefix: str) -> None:
    """Remove folders whose writers are no more; those of living ones are held."""
    for folder in parent.iterdir():
        if folder.name.startswith(prefix) and folder.is_dir() and not folder.is_symlink():
            with held(folder, wait=False) as abandoned:
                if abandoned:
                    shutil.rmtree(folder, ignore_errors=True)
