"""Files that are written whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from scquery_ae._errors import StorageError

#: Exceptions that libraries raise when a disk is full or a place cannot be written to.
_WRITING = (OSError, RuntimeError)


def write_whole(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file under another name beside its path, and rename it once it is complete.

    Parameters
    ----------
    path
        Path of the file. Its folder must be there.
    save
        Called with the path to write to, which has the suffix of `path`.

    Raises
    ------
    StorageError
        If the file cannot be written. Nothing is left behind, and an older file at `path` stays.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.writing{path.suffix}")
    try:
        save(draft)
        draft.replace(path)
    except _WRITING as error:
        msg = (
            f"{path} could not be written: {' '.join(str(error).split())}. Nothing was left behind; free some space, "
            "or choose another place."
        )
        raise StorageError(msg) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
