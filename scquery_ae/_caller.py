"""Names of calls and arguments in messages, as the user wrote them.

A fault is often found several modules below the call that the user made, and that call may be a Python function or a
command. Messages therefore name arguments and calls through :func:`argument` and :func:`call`: as they are written in
Python by default, and as options and commands inside :func:`calling`, with which the command line begins. A context
variable carries the choice, as it carries the language in gettext, so that functions in between need no argument for
it and threads of a server do not share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

#: Marks that an argument is named without a value.
NO_VALUE: Any = object()


class Caller:
    """Words for somebody who calls Python. The command line overrides each method."""

    def argument(self, name: str, value: Any = NO_VALUE) -> str:
        """Name an argument, with its value if there is one."""
        return f"`{name}`" if value is NO_VALUE else f"`{name}={value!r}`"

    def running(self, function: str) -> str:
        """Name the call that is running, given as ``"tl.query"``."""
        return f"`{function}`"

    def call(self, name: str) -> str:
        """Name another public call, given as ``"pp.check"``."""
        return f"`scq.{name}`"

    def slot(self, name: str) -> str:
        """Name a slot of the cells, given as ``"obs"``."""
        return f"`adata.{name}`"

    def make_unique(self, axis: Literal["obs", "var"]) -> str:
        """Return how to number the names of cells or genes that repeat."""
        return f"call `adata.{axis}_names_make_unique()`"

    def raw(self) -> str:
        """Name the raw matrix of the cells."""
        return "`adata.raw.to_adata()`"

    def no_layer(self) -> str:
        """Return how to read no layer."""
        return "None for X"

    def common_genes(self) -> str:
        """Return how to get a reference that needs no more genes than the cells have."""
        return "build a reference on the genes that both have"


_PYTHON = Caller()
_caller: ContextVar[Caller] = ContextVar("scquery_ae_caller", default=_PYTHON)


def current() -> Caller:
    """Return the words for whoever made the call that is running."""
    return _caller.get()


def argument(name: str, value: Any = NO_VALUE) -> str:
    """Name an argument of the running call: ``gene_key='symbol'`` or ``--gene-key symbol``, in backticks."""
    return current().argument(name, value)


def running(function: str) -> str:
    """Name the call that is running, given as ``"tl.query"``: ``tl.query`` or ``scquery-ae query``, in backticks."""
    return current().running(function)


def call(name: str) -> str:
    """Name another public call, given as ``"pp.check"``: ``scq.pp.check`` or ``scquery-ae check``, in backticks."""
    return current().call(name)


def slot(name: str) -> str:
    """Name a slot of the cells, given as ``"obs"``: ``adata.obs`` or ``obs``, in backticks."""
    return current().slot(name)


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Let messages use the words of `caller` until the context ends."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)
