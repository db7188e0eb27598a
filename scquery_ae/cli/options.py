"""Options that several commands have. Their names and defaults are those of the Python calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from scquery_ae._caller import calling
from scquery_ae.cli.caller import CommandCaller
from scquery_ae.cli.console import collect_warnings, set_verbose
from scquery_ae.cli.exit_codes import exit_with_code
from scquery_ae.cli.layout import keep_lines
from scquery_ae.cli.signatures import constant, defaults

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)

QUERY = "tl.query.query"


class ReportingCommand(click.Command):
    """A command that exits with a line and a code on an error, and collects warnings in the object of its context."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = keep_lines(self.help)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; messages name its options."""
        with exit_with_code(), calling(CommandCaller(self)), collect_warnings() as ctx.obj:
            return super().invoke(ctx)


class Assignment(click.ParamType):  # type: ignore[type-arg]
    """Two texts with ``=`` between them.

    Parameters
    ----------
    form
        The form that the help shows, such as ``COLUMN=VALUE``.
    example
        An example for the error message.
    may_be_empty
        Whether the second text may be empty.
    """

    def __init__(self, form: str, example: str, *, may_be_empty: bool = False) -> None:
        self.form, self.example, self.may_be_empty = form, example, may_be_empty
        self.name = form.lower()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return both texts."""
        if isinstance(value, tuple):
            return value
        first, equals, second = str(value).partition("=")
        if not (equals and first and (second or self.may_be_empty)):
            self.fail(f"expected {self.form}, such as {self.example}; received {value!r}", param, ctx)
        return first, second


class LayerSizes(click.ParamType):  # type: ignore[type-arg]
    """Widths of layers, such as ``512,64``."""

    name = "integers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the widths."""
        if isinstance(value, tuple):
            return value
        try:
            sizes = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            sizes = ()
        if not sizes or min(sizes) < 1:
            self.fail(f"expected widths of layers, such as 512,64; received {value!r}", param, ctx)
        return sizes


class Number(click.FloatRange):
    """A number in a range. Unlike :class:`click.FloatRange`, it refuses NaN and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Prefix(click.ParamType):  # type: ignore[type-arg]
    """A prefix for names of columns and slots."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the prefix."""
        text = str(value)
        if not text or not text.isprintable() or "/" in text:
            self.fail(f"expected a prefix without / and control characters; received {text!r}", param, ctx)
        return text


#: Ranges of the arguments that are numbers, so that click refuses other values before any work.
RANGES: dict[str, click.ParamType] = {  # type: ignore[type-arg]
    "n_neighbors": click.IntRange(1),
    "n_top_genes": click.IntRange(1),
    "epochs": click.IntRange(1),
    "random_state": click.IntRange(0),
    "alpha": Number(0, 1, min_open=True, max_open=True),
    "coverage": Number(0, 1, min_open=True, max_open=True),
    "min_gene_overlap": Number(0, 1),
    "gene_masking": Number(0, 1, max_open=True),
    "class_weight_power": Number(0, 1),
    "adversarial_weight": Number(0),
    # The standard deviation of Gaussian noise may be above 1.
    "corruption_level": Number(0),
}


def like(function: str, name: str, help: str, *, option: str | None = None, **settings: Any) -> Callable[[F], F]:  # noqa: A002
    """Return an option for an argument of a Python call, with the default of the argument.

    Parameters
    ----------
    function
        Path of the call in the package, such as ``"tl.query.query"``.
    name
        Name of the argument.
    help
        Description of the option.
    option
        Name of the option, if it differs.
    settings
        Passed to :func:`click.option`.
    """
    default = defaults(function)[name]
    text = option or name
    flag = "--" + text.replace("_", "-")
    if isinstance(default, bool):
        settings = {"is_flag": True, **settings}
    elif isinstance(default, tuple):
        default = ",".join(map(str, default))
        settings = {"type": LayerSizes(), "show_default": True, **settings}
    elif default is not None:
        settings = {"show_default": True, **settings}
        if not isinstance(default, str):
            settings = {"type": RANGES[name], **settings}
    declared = (f"{flag}/--no-{flag[2:]}",) if default is True else (flag,)
    return click.option(*declared, text, default=default, help=help, **settings)


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Combine options to one decorator; the help lists them in this order."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def command(name: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Return the decorator that makes a command of a function."""
    return click.command(name, cls=ReportingCommand, epilog="Exit codes: see scquery-ae --help.", **settings)


#: Every command has it.
verbose = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=set_verbose,
    help="Report each step on stderr, and where its results are.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
#: Every command that prints a result has both.
reporting = together(as_json, verbose)

overwrite = click.option("--overwrite", is_flag=True, help="Replace files that exist.")

#: How a file of cells is read.
reading = together(
    click.option(
        "--lazy/--no-lazy",
        default=None,
        help="Leave the matrix in its file and read it in blocks, or load it.  [default: in blocks above 2 GB]",
    ),
    click.option("--use-raw", is_flag=True, help="Read the raw matrix of the file and its genes instead of X."),
    click.option("--make-unique", is_flag=True, help="Number the names of cells and genes that repeat."),
)

#: How the cells are matched with a reference.
matching = together(
    like(QUERY, "layer", 'Layer to read.  [default: "counts" if it is there, otherwise X]'),
    like(
        QUERY,
        "gene_key",
        "Column of var with the gene names, or var_names.  [default: the one that matches best]",
        metavar="COLUMN",
    ),
    like(
        QUERY,
        "input_state",
        "What the values are; counts stands for any linear scale.",
        type=click.Choice(constant("loaders.open.INPUT_STATES")),
    ),
    like(QUERY, "ignore_case", "Match gene names regardless of case, as needed between human and mouse."),
    like(
        QUERY,
        "orthologs",
        "CSV or TSV of two columns with a heading: a gene of the cells, and its name in the reference.",
        type=PATH,
        metavar="FILE",
    ),
)

where = click.option(
    "--where",
    multiple=True,
    type=Assignment("COLUMN=VALUE", "tissue=liver", may_be_empty=True),
    metavar="COLUMN=VALUE",
    help="Only reference cells with this value in a column of obs; may be repeated, also for one column.",
)


def values_by_column(assignments: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    """Return the values of ``--where`` in the form of the Python calls."""
    found: dict[str, list[str]] = {}
    for column, value in assignments:
        found.setdefault(column, []).append(value)
    return found
