"""Exceptions and warnings. Each exception is a builtin exception too, so that ``except ValueError`` works."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parent) + os.sep


class ScqueryError(Exception):
    """Base class of the exceptions of this package."""


class ArgumentError(ScqueryError, ValueError):
    """An argument has the wrong type, range or shape."""


class InputStateError(ScqueryError, ValueError):
    """The expression matrix does not hold the kind of values that the call needs."""


class GeneOverlapError(ScqueryError, ValueError):
    """The cells have too few of the model genes."""


class NotFittedError(ScqueryError, ValueError):
    """A call needs the result of another call that has not run."""


class TrainingError(ScqueryError, ArithmeticError):
    """Training diverged."""


class MissingKeyError(ScqueryError, KeyError):
    """A column, layer or slot is missing."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would put the message in quotes.
        return str(self.args[0]) if self.args else ""


class BundleError(ScqueryError, ValueError):
    """A saved reference is damaged, incomplete, foreign or of a newer format."""


class ReadError(ScqueryError, OSError):
    """A file of cells is missing, damaged, or of a format that is not read."""


class StorageError(ScqueryError, OSError):
    """A file cannot be written, or Dask cannot read a block of cells."""


class SearchServiceError(ScqueryError, ConnectionError):
    """A search server cannot be reached, is not installed, or refuses a request."""


class DatasetError(ScqueryError, OSError):
    """A dataset is not installed, cannot be downloaded, or has the wrong hash."""


class ScqueryWarning(UserWarning):
    """A value was guessed, or a result is less certain than it looks."""


def warn(message: str) -> None:
    """Issue a warning at the user's line: the first frame outside this package."""
    level = 1
    frame = sys._getframe(0)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    warnings.warn(message, ScqueryWarning, stacklevel=level)
