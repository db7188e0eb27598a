"""``scq.settings``: what the package says, and how much of it."""

from __future__ import annotations

import logging
import numbers

from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger, show

#: Levels of Python's logging, by verbosity.
LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)

#: Verbosities by name.
NAMES = {"error": 0, "warning": 1, "info": 2, "hint": 3, "debug": 3}

DEFAULT = NAMES["warning"]


class Settings:
    """What holds for all calls of a session.

    There is one, ``scq.settings``. Messages go through Python's logger ``"scquery_ae"``, also to handlers that you
    add to it or above it; where one of these writes to the screen, lines are not written twice.

    Attributes
    ----------
    verbosity
        How much is said on stderr. ``0`` or ``"error"``, and ``1`` or ``"warning"`` (the default): nothing beside
        exceptions and warnings. ``2`` or ``"info"``: one line at the end of each call, with what it wrote where. ``3``,
        ``"hint"`` or ``"debug"``: also what it did on the way. Warnings are Python's, shown and silenced by its
        `warnings` module whatever the verbosity, and progress bars have an argument of their own. Until it is set, the
        logger is as Python has it, or as you set it up.

    Raises
    ------
    ArgumentError
        If `verbosity` is set to anything else.

    Examples
    --------
    >>> import scquery_ae as scq
    >>> scq.settings.verbosity
    1
    """

    # No other name can be set by a slip of the finger.
    __slots__ = ()

    @property
    def verbosity(self) -> int:
        """How much is said on stderr, 0 to 3."""
        level = logger.level
        return sum(known >= level for known in LEVELS[1:]) if level else DEFAULT

    @verbosity.setter
    def verbosity(self, value: int | str) -> None:
        found: object = NAMES.get(value.lower()) if isinstance(value, str) else value
        # Not by `_checks`, which imports NumPy.
        if not isinstance(found, numbers.Integral) or isinstance(found, bool) or not 0 <= int(found) < len(LEVELS):
            msg = (
                f"`scq.settings.verbosity` must be 0, 1, 2 or 3, or one of {', '.join(map(repr, NAMES))}. "
                f"Received {value!r}; with 2, each call says what it wrote where."
            )
            raise ArgumentError(msg)
        show(LEVELS[int(found)])

    def __repr__(self) -> str:
        return f"Settings(verbosity={self.verbosity})"


settings = Settings()
