"""The package's logger, which says once, at the end of each call, what was written where; and who shows it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

logger = logging.getLogger("scquery_ae")

#: By which the handler is found again, also by a module that was reloaded.
HANDLER = "scquery_ae.settings"


class Stderr(logging.Handler):
    """Writes to whatever stderr is now, unless a handler that was set up by hand shows the line already."""

    def __init__(self) -> None:
        super().__init__()
        self.set_name(HANDLER)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message as one line."""
        # There is no stderr where there is no console.
        if sys.stderr is None or _shown_by_another(record):
            return
        # Where it is closed, the work goes on without a word.
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()


def show(level: int) -> None:
    """Show the package's messages from a level on."""
    if not any(handler.name == HANDLER for handler in logger.handlers):
        logger.addHandler(Stderr())
    logger.setLevel(level)
    # `logging.config` disables what it was not told of.
    logger.disabled = False


@contextmanager
def shown(level: int) -> Iterator[None]:
    """Show messages from a level on, or more where more is shown already, and leave the logger as it was."""
    before, handlers, disabled = logger.level, list(logger.handlers), logger.disabled
    show(min(level, logger.getEffectiveLevel()))
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.handlers[:], logger.disabled = handlers, disabled


def _shown_by_another(record: logging.LogRecord) -> bool:
    """Whether a handler of the user's, here or on a logger above, brings the record to the same screen."""
    at: logging.Logger | None = logger
    while at is not None:
        if any(_on_screen(handler) for handler in at.handlers if record.levelno >= handler.level):
            return True
        at = at.parent if at.propagate else None
    return False


def _on_screen(handler: logging.Handler) -> bool:
    if isinstance(handler, logging.StreamHandler):  # files are streams too
        return any(handler.stream is one for one in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__))
    # Handlers of other kinds, such as that of rich, are taken to show what they are given.
    return handler.name != HANDLER and not isinstance(handler, logging.NullHandler)
