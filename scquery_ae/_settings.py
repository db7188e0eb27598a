"""``scq.settings``: which messages the package shows."""

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
    """Settings for all calls of a session.

    The only instance is ``scq.settings``. Messages go through the logger ``"scquery_ae"``, and reach handlers that you
    add to it or to a logger above it. If one of them writes to the screen, each line still appears once.

    Attributes
    ----------
    verbosity
        Which messages appear on stderr. ``0`` or ``"error"``, and ``1`` or ``"warning"`` (the default): none, apart
        from exceptions and warnings. ``2`` or ``"info"``: one line at the end of each call, with what it wrote and
        where. ``3``, ``"hint"`` or ``"debug"``: also intermediate steps. Warnings are controlled by Python's `warnings`
        module, and progress bars by the argument `progress`. The logger is left as it is until the verbosity is set.

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

    # A misspelt attribute raises instead of being set.
    __slots__ = ()

    @property
    def verbosity(self) -> int:
        """Which messages appear on stderr, 0 to 3."""
        level = logger.level
        return sum(known >= level for known in LEVELS[1:]) if level else DEFAULT

    @verbosity.setter
    def verbosity(self, value: int | str) -> None:
        found: object = NAMES.get(value.lower()) if isinstance(value, str) else value
        # `_checks` is not used because it imports NumPy.
        if not isinstance(found, numbers.Integral) or isinstance(found, bool) or not 0 <= int(found) < len(LEVELS):
            msg = (
                f"`scq.settings.verbosity` must be 0, 1, 2 or 3, or one of {', '.join(map(repr, NAMES))}. "
                f"Received {value!r}; 2 shows what each call wrote, and where."
            )
            raise ArgumentError(msg)
        show(LEVELS[int(found)])

    def __repr__(self) -> str:
        return f"Settings(verbosity={self.verbosity})"


settings = Settings()
