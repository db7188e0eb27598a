"""What is said: results on stdout, everything else on stderr, and nothing beside results in a pipe."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import click

from scquery_ae._errors import ScqueryWarning
from scquery_ae._logging import shown
from scquery_ae.cli.failures import spoken


def note(text: str) -> None:
    """Say what is going on, if somebody is looking."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


def answer(command: str, found: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print the result of a command: as one JSON object, or as text."""
    if as_json:
        head = {"command": command, "scquery_ae": version("scquery-ae")}
        click.echo(json.dumps(plain({**head, **found}), indent=2, allow_nan=False))
    else:
        click.echo(text)


def plain(value: Any) -> Any:
    """Return a value as JSON has it: NumPy's numbers as Python's, paths as text, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | bool) or value is None:
        return value
    if isinstance(value, PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def table(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return rows of text in columns, the first `left` of them flush left and the others flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if i < left else cell.rjust(width) for i, (cell, width) in enumerate(cells))
        for cells in (zip(row, widths, strict=True) for row in rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Return words and what is said of each, one a line."""
    width = max(len(word) for word, _ in rows)
    return "\n".join(f"{word:{width}}  {text}" for word, text in rows)


def share(part: int, whole: int) -> str:
    """Return a share in per cent."""
    return f"{part / whole:.1%}" if whole else "-"


def laid_out(text: str | None) -> str | None:
    r"""Return the text of a docstring for click, to which a written ``\b`` says that lines stay as they are."""
    return None if text is None else text.replace("\\b\n", "\b\n")


@contextmanager
def heard() -> Iterator[list[str]]:
    """Write warnings as lines on stderr, and collect those of the package.

    Others' say nothing to somebody who typed a command; with ``PYTHONWARNINGS`` or ``python -W`` they are shown.
    """
    kept: list[str] = []

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if issubclass(category, ScqueryWarning):
            text = spoken(text)
            if text in kept:
                return
            kept.append(text)
        elif not sys.warnoptions:
            return
        click.echo(f"Warning: {text}", err=True)

    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("default")
        warnings.simplefilter("always", ScqueryWarning)
        warnings.showwarning = show
        yield kept


def set_verbose(context: click.Context, _: click.Parameter, value: bool) -> None:
    """Send the package's messages to stderr until the command ends, as with ``scq.settings.verbosity = 2``."""
    if value:
        context.with_resource(shown(logging.INFO))


@contextmanager
def hushed() -> Iterator[None]:
    """Keep from stderr what libraries write past Python's while they are imported, as TensorFlow does."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # closed by whoever called
        yield
        return
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def import_keras() -> None:
    """Import Keras without what TensorFlow has to say of processors, drivers and its tracing."""
    with hushed():
        import keras  # noqa: F401
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
