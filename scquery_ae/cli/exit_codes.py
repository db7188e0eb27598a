"""Errors as one line on stderr, and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from scquery_ae._errors import BundleError, GeneOverlapError, ReadError, ScqueryError

FAILED, WRONG_USAGE, UNREADABLE, FEW_GENES, FINDINGS, MANY_UNKNOWN = 1, 2, 3, 4, 5, 6
#: 128 plus the number of the signal, as in a shell.
INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143

#: What each exit code means, for the help of ``scquery-ae`` and for the documentation.
EXIT_CODES = {
    0: "success",
    FAILED: "the content of an input is wrong, an option does not fit the inputs or another option, or an output "
    "cannot be written; the message says how to fix it. Also an error of the program itself, which prints a traceback",
    WRONG_USAGE: "wrong usage: an unknown option, a missing argument, or a value that the option never accepts",
    UNREADABLE: "an input is missing, damaged or of another format: cells, a reference or a table",
    FEW_GENES: "the cells have too few of the model genes",
    FINDINGS: "check --strict found something to look at",
    MANY_UNKNOWN: "query --max-unknown: the fraction of unknown cells is larger; all results are written",
    INTERRUPTED: "interrupted (Ctrl-C)",
    BROKEN_PIPE: "the reader of the output went away",
    TERMINATED: "terminated (SIGTERM)",
}


class CommandError(click.ClickException):
    """An error that the user can fix, shown in one line.

    Parameters
    ----------
    message
        What failed, what was expected, what was received, how to fix it.
    exit_code
        One of :data:`EXIT_CODES`.
    """

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code  # type: ignore[misc] # click documents it as an attribute of an instance too

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line to stderr."""
        click.echo(f"Error: {self.format_message()}", file=file, err=file is None)


@contextmanager
def exit_with_code() -> Iterator[None]:
    """Turn exceptions of the package into one line and an exit code. Other exceptions pass."""
    try:
        with _exit_on_termination():
            yield
    except KeyboardInterrupt as error:
        click.echo("\nInterrupted.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from error
    except ScqueryError as error:
        raise CommandError(str(error), _exit_code(error)) from error
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        # Python would complain when it closes a stdout that nobody reads.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(BROKEN_PIPE) from error


def _exit_code(error: ScqueryError) -> int:
    if isinstance(error, BundleError | ReadError):
        return UNREADABLE
    return FEW_GENES if isinstance(error, GeneOverlapError) else FAILED


@contextmanager
def _exit_on_termination() -> Iterator[None]:
    """Let SIGTERM, which schedulers of clusters send, raise as Ctrl-C does, so that drafts of files are removed."""

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
