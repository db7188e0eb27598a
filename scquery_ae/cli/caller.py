"""Names of calls and arguments as somebody at the command line writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import click

from scquery_ae._caller import NO_VALUE, Caller

#: The command that does what a public call does.
COMMAND_OF_CALL = {
    "pp.check": "check",
    "tl.query": "query",
    "tl.embed": "export",
    "pp.normalize": "fit",
    "tl.pretrain": "fit",
    "tl.finetune": "fit",
    "tl.build_reference": "fit",
    "Reference.add": "add",
    "Reference.remove": "remove",
    "Reference.relabel": "relabel",
    "Reference.merge": "merge",
}

#: Arguments whose option has another name.
OPTION_OF_ARGUMENT = {"random_state": "seed"}


class CommandCaller(Caller):
    """Words for somebody who runs a command. Arguments without an option keep their Python name.

    Parameters
    ----------
    command
        The command that runs.
    """

    def __init__(self, command: click.Command) -> None:
        self._options = {
            str(parameter.name): parameter for parameter in command.params if isinstance(parameter, click.Option)
        }
        self._name = command.name

    def argument(self, name: str, value: Any = NO_VALUE) -> str:
        """Name an option, with its value if there is one."""
        option = self._options.get(OPTION_OF_ARGUMENT.get(name, name))
        if option is None:
            return super().argument(name, value)
        flag = next(text for text in option.opts if text.startswith("--"))
        if value is NO_VALUE or value is True or value is None:
            return f"`{flag}`"
        if value is False and option.secondary_opts:
            return f"`{option.secondary_opts[0]}`"
        if option.multiple:
            items = _pairs(value) if isinstance(value, Mapping) else _items(value)
            return f"`{' '.join(f'{flag} {item}' for item in items)}`"
        text = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
        return f"`{flag} {text}`"

    def running(self, function: str) -> str:
        """Name the command that runs."""
        return f"`scquery-ae {self._name}`" if function in COMMAND_OF_CALL else super().running(function)

    def call(self, name: str) -> str:
        """Name the command that does what a call does."""
        return f"`scquery-ae {COMMAND_OF_CALL[name]}`" if name in COMMAND_OF_CALL else super().call(name)

    def slot(self, name: str) -> str:
        """Name a slot of a file of cells."""
        return f"`{name}`"

    def make_unique(self, axis: Literal["obs", "var"]) -> str:
        """Return the option that numbers names that repeat."""
        return "pass `--make-unique`" if "make_unique" in self._options else super().make_unique(axis)

    def raw(self) -> str:
        """Name the raw matrix of a file of cells."""
        return "`raw` (`--use-raw`)" if "use_raw" in self._options else "`raw`"

    def no_layer(self) -> str:
        """Return how to read no layer."""
        return "no `--layer`"

    def common_genes(self) -> str:
        """Return how to get a reference that needs no more genes than the cells have."""
        return "fit a reference with `--genes-of` these cells"


def _items(value: Any) -> list[Any]:
    """Return the items of a collection, or a list of the value if it is one text or number."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def _pairs(values: Mapping[str, Any]) -> list[str]:
    """Return a mapping as ``key=value``, once for each of several values."""
    return [f"{key}={item}" for key, value in values.items() for item in _items(value)]
