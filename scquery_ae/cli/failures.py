"""What goes wrong, as one line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from scquery_ae._errors import BundleError, GeneOverlapError, ScqueryError

PROBLEM, DAMAGED, FEW_GENES = 1, 3, 4
#: 128 and the number of the signal, as a shell has it.
INTERRUPTED, CUT_OFF, TERMINATED = 130, 141, 143

EXIT_CODES = """\b
Exit codes:
  0    done
  1    something in the input, the options or the place to write to that you can fix; also an error of the
       program, which shows a traceback
  2    the command was not called rightly
  3    the reference is damaged, incomplete, or of a newer version
  4    too few genes in common with the reference
  130  interrupted (Ctrl-C); 143 terminated; 141 the reader of the output went away
"""


class Problem(click.ClickException):
    """Something that the user can fix, in one line.

    Parameters
    ----------
    message
        What failed, what was expected, what was received, how to fix it.
    """

    exit_code = PROBLEM

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line to stderr."""
        click.echo(f"Error: {self.format_message()}", file=file, err=file is None)


class DamagedReference(Problem):
    """A reference that cannot be read."""

    exit_code = DAMAGED


class TooFewGenes(Problem):
    """Cells that share too few genes with the reference."""

    exit_code = FEW_GENES


@contextmanager
def reported() -> Iterator[None]:
    """Turn what the package raises on purpose into one line and an exit code; let all else pass."""
    try:
        with _termination_unwinds():
            yield
    except KeyboardInterrupt as error:
        click.echo("\nInterrupted.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from error
    except ScqueryError as error:
        raise _problem(error)(spoken(str(error))) from error
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        # Whoever read the output has enough. Python would complain when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(CUT_OFF) from error


def _problem(error: ScqueryError) -> type[Problem]:
    if isinstance(error, BundleError):
        return DamagedReference
    return TooFewGenes if isinstance(error, GeneOverlapError) else Problem


@contextmanager
def _termination_unwinds() -> Iterator[None]:
    """Let SIGTERM, as schedulers of clusters send it, leave as Ctrl-C does: drafts of files are removed."""

    def leave(number: int, frame: Any) -> None:  # noqa: ARG001 (the signature of the standard library)
        raise SystemExit(TERMINATED)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


#: What a message says to Python, and what to type instead; options of the command are found by their names.
_PHRASES = {
    r"; see `scq\.pp\.check\(query, reference\)`": "; see `scquery-ae check`",
    r"call `adata\.\w+_names_make_unique\(\)`": "pass `--make-unique`",
    r"`adata\.raw(\.to_adata\(\)|\.X)`": "`raw` (`--use-raw`)",
    r"Pass the same `batch_key`": "Pass `--batch-key`",
    r"See them with `scq\.tl\.audit`; ": "",
    r"with `reference\.add\(adata\)`": "with `scquery-ae add`",
    r"build a reference on those that both share": "fit a reference with `--genes-of` these cells",
    r"`(?:adata|query)\.(\w+)": r"`\1",
}
_CODE = re.compile(r"`(\w+)(?:=([^`]*))?`")


def spoken(message: str) -> str:
    """Return a message of a Python call in words of the command line: ``label_key="x"`` as ``--label-key x``."""
    for pattern, words in _PHRASES.items():
        message = re.sub(pattern, words, message)
    context = click.get_current_context(silent=True)
    options = {
        parameter.name: next((o for o in parameter.opts if o.startswith("--")), "")
        for parameter in (context.command.params if context else [])
        if isinstance(parameter, click.Option)
    }

    def typed(match: re.Match[str]) -> str:
        name, value = match.groups()
        option = options.get("seed" if name == "random_state" else name)
        if not option:
            return match.group()
        value = "" if value in (None, "", "True", "...") else " " + value.strip("'\"")
        return f"`{option}{value}`"

    return _CODE.sub(typed, message)
