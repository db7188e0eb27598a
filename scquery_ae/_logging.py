"""The logger of the package, and the handler that shows its messages.

Each call logs one line at its end: what it wrote, and where.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

logger = logging.getLogger("scquery_ae")

#: Name by which the handler is found again, also after a reload of this module.
HANDLER = "scquery_ae.settings"


class Stderr(logging.Handler):
    """Writes to the current stderr, unless another handler already shows the line."""

    def __init__(self) -> None:
        super().__init__()
        self.set_name(HANDLER)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message as one line."""
        # A process without a console has no stderr.
        if sys.stderr is None or _shown_by_another(record):
            return
        # A closed stderr must not stop the work.
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()


def show(level: int) -> None:
    """Show messages of the package from a level on."""
    if not any(handler.name == HANDLER for handler in logger.handlers):
        logger.addHandler(Stderr())
    logger.setLevel(level)
    # `logging.config` disables loggers that it does not list.
    logger.disabled = False


@contextmanager
def shown(level: int) -> Iterator[None]:
    """Show messages from a level on, or more if more are shown already, and restore the logger at the end."""
    before, handlers, disabled = logger.level, list(logger.handlers), logger.disabled
    show(min(level, logger.getEffectiveLevel()))
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.handlers[:], logger.disabled = handlers, disabled


def _shown_by_another(record: logging.LogRecord) -> bool:
    """Return whether another handler, of this logger or one above it, shows the record on the screen."""
    at: logging.Logger | None = logger
    while at is not None:
        if any(_on_screen(handler) for handler in at.handlers if record.levelno >= handler.level):
            return True
        at = at.parent if at.propagate else None
    return False


def _on_screen(handler: logging.Handler) -> bool:
    if isinstance(handler, logging.StreamHandler):  # files are streams too
        return any(handler.stream is one for one in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__))
    # Handlers of other kinds, such as the one of rich, count as showing every record.
    return handler.name != HANDLER and not isinstance(handler, logging.NullHandler)
