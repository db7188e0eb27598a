"""Exceptions and warnings. Each exception subclasses a builtin, so that ``except ValueError`` keeps working."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parent) + os.sep


class ScqueryError(Exception):
    """Base of every exception that this package raises on purpose."""


class ArgumentError(ScqueryError, ValueError):
    """An argument has the wrong type, range or shape."""


class InputStateError(ScqueryError, ValueError):
    """The expression matrix is not in the state that the call needs (counts, log-normalised, ...)."""


class GeneOverlapError(ScqueryError, ValueError):
    """Too few of the reference's genes are present in the query."""


class NotFittedError(ScqueryError, ValueError):
    """A step was called before the step that it builds on."""


class TrainingError(ScqueryError, ArithmeticError):
    """Training diverged."""


class MissingKeyError(ScqueryError, KeyError):
    """A column, layer or slot is not there."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which turns a sentence into a quoted string.
        return str(self.args[0]) if self.args else ""


class BundleError(ScqueryError, ValueError):
    """A saved reference is damaged, incomplete, foreign or of a newer format."""


class StorageError(ScqueryError, OSError):
    """A temporary file or a checkpoint cannot be written, or cells cannot be read where Dask works."""


class SearchServiceError(ScqueryError, ConnectionError):
    """A search server cannot be reached, is not installed, or refuses what it is asked."""


class DatasetError(ScqueryError, OSError):
    """A dataset cannot be had: not installed, not cached, or its hash is wrong."""


class ScqueryWarning(UserWarning):
    """A guess was made, or a result is weaker than it looks."""


def warn(message: str) -> None:
    """Warn at the user's line: the first frame outside this package."""
    level = 1
    frame = sys._getframe(0)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    warnings.warn(message, ScqueryWarning, stacklevel=level)
