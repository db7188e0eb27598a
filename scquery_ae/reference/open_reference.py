"""References given as an object or as the path of a saved one."""

from __future__ import annotations

from functools import lru_cache
from os import PathLike
from pathlib import Path
from threading import Lock

from scquery_ae._caller import running
from scquery_ae._errors import ArgumentError, BundleError
from scquery_ae.reference import bundle
from scquery_ae.reference.reference import Reference

_OPENING = Lock()


def open_reference(reference: Reference | str | PathLike[str], function: str) -> tuple[Reference, dict[str, str]]:
    """Return a reference, loaded if a path was given, with the name and hash of the saved one ("" for an object)."""
    if isinstance(reference, Reference):
        return reference, {"name": "", "sha256": ""}
    if not isinstance(reference, str | PathLike):
        msg = f"{running(function)} needs a reference or the path of a saved one. Received {type(reference).__name__}."
        raise ArgumentError(msg)
    loaded = Reference.load(reference)
    # The name alone: the full path would tell others about the user's machine.
    return loaded, {"name": Path(reference).name, "sha256": bundle.digest(reference)}


class ReferenceNotFoundError(BundleError):
    """A Dask worker finds no such reference under the path that it was given."""


class SavedReference:
    """A reference that is sent to Dask workers as a path and a hash; each process opens it once.

    Attributes
    ----------
    path
        Where the reference is saved.
    sha256
        Its :func:`scquery_ae.reference.digest`.
    """

    def __init__(self, path: Path, sha256: str, loaded: Reference | None = None) -> None:
        self.path, self.sha256 = path, sha256
        self._loaded = loaded

    def __reduce__(self) -> tuple[type[SavedReference], tuple[Path, str]]:
        return SavedReference, (self.path, self.sha256)

    def open(self) -> Reference:
        """Return the reference; its large arrays are memory-mapped.

        Raises
        ------
        ReferenceNotFoundError
            If there is no reference under the path, or another one.
        """
        if self._loaded is not None:
            return self._loaded
        # One thread of a worker opens it, and the others wait.
        with _OPENING:
            return _opened(self.path, self.sha256)


@lru_cache(maxsize=1)
def _opened(path: Path, sha256: str) -> Reference:
    try:
        reference = Reference.load(path)
        if bundle.digest(path) == sha256:
            return prepare_for_threads(reference)
        reason = "another reference has been saved there since"
    except (BundleError, OSError) as error:
        reason = str(error)
    msg = f"A Dask worker cannot open the reference {path}: {reason}"
    raise ReferenceNotFoundError(msg)


def prepare_for_threads(reference: Reference) -> Reference:
    """Compute what several threads would otherwise compute at the same time, and return the reference."""
    _ = reference.search_index, reference.predictors
    return reference
