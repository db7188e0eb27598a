"""Printing: results to stdout, everything else to stderr, and no progress into a pipe."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from scquery_ae._errors import ScqueryWarning
from scquery_ae._logging import shown
from scquery_ae.cli.layout import to_json


def show_progress(text: str) -> None:
    """Print what the command is doing, if stderr is a terminal."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


def print_result(command: str, found: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print the result of a command, as text or as one JSON object, which lists all warnings so far."""
    if not as_json:
        click.echo(text)
        return
    first = {"command": command, "scquery_ae": version("scquery-ae")}
    warned = {"warnings": list(click.get_current_context().obj or [])}
    click.echo(json.dumps(to_json({**first, **found, **warned}), indent=2, allow_nan=False))


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Write each warning once, as a line on stderr, and collect the lines.

    Warnings of other libraries are hidden, unless ``PYTHONWARNINGS`` or ``python -W`` ask for them.
    """
    kept: list[str] = []

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text in kept or not (issubclass(category, ScqueryWarning) or sys.warnoptions):
            return
        kept.append(text)
        click.echo(f"Warning: {text}", err=True)

    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("default")
        warnings.simplefilter("always", ScqueryWarning)
        warnings.showwarning = show
        yield kept


def set_verbose(context: click.Context, _: click.Parameter, value: bool) -> None:
    """Write the package's log messages to stderr until the command ends, as ``scq.settings.verbosity = 2`` does."""
    if value:
        context.with_resource(shown(logging.INFO))


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Hide what compiled libraries write to stderr while they are imported, as TensorFlow does."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed
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
    """Import Keras without TensorFlow's messages on processors, drivers and tracing."""
    with silence_libraries():
        import keras  # noqa: F401
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
