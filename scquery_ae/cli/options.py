"""Options that commands share. Names and defaults are those of the Python calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from scquery_ae.cli.echo import heard, laid_out, set_verbose
from scquery_ae.cli.failures import reported
from scquery_ae.cli.signatures import constant, defaults

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)

QUERY = "tl.query.query"


class Step(click.Command):
    """A command whose failures are one line, and whose warnings are lines that it can also pass on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = laid_out(self.help)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it. Warnings so far are the context's object, a list of text."""
        with reported(), heard() as ctx.obj:
            return super().invoke(ctx)


class Assignment(click.ParamType):  # type: ignore[type-arg]
    """Two texts with ``=`` between them.

    Parameters
    ----------
    form
        What they are, such as ``COLUMN=VALUE``.
    example
        Shown to who gets it wrong.
    may_be_empty
        Whether nothing may stand behind the sign.
    """

    def __init__(self, form: str, example: str, *, may_be_empty: bool = False) -> None:
        self.form, self.example, self.may_be_empty = form, example, may_be_empty
        self.name = form.lower()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the two."""
        if isinstance(value, tuple):
            return value
        first, equals, second = str(value).partition("=")
        if not (equals and first and (second or self.may_be_empty)):
            self.fail(f"expected {self.form}, such as {self.example}, and received {value!r}", param, ctx)
        return first, second


class Sizes(click.ParamType):  # type: ignore[type-arg]
    """``512,64``."""

    name = "integers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            sizes = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            sizes = ()
        if not sizes or min(sizes) < 1:
            self.fail(f"expected widths of layers such as 512,64, and received {value!r}", param, ctx)
        return sizes


def like(function: str, name: str, help: str, *, option: str | None = None, **settings: Any) -> Callable[[F], F]:  # noqa: A002
    """Return an option for an argument of a Python call, with its default.

    Parameters
    ----------
    function
        Such as ``"tl.query.query"``.
    name
        The argument.
    help
        What it does.
    option
        Its name on the command line if it is another one.
    settings
        Passed on to click.
    """
    default = defaults(function)[name]
    text = option or name
    flag = "--" + text.replace("_", "-")
    if isinstance(default, bool):
        settings = {"is_flag": True, **settings}
    elif isinstance(default, tuple):
        default = ",".join(map(str, default))
        settings = {"type": Sizes(), "show_default": True, **settings}
    elif default is not None:
        settings = {"show_default": True, **settings}
    declared = (f"{flag}/--no-{flag[2:]}",) if default is True else (flag,)
    return click.option(*declared, text, default=default, help=help, **settings)


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return several options as one decorator, in their order in the help."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def command(name: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Return the decorator of a command."""
    return click.command(name, cls=Step, epilog="Exit codes: see scquery-ae --help.", **settings)


#: Of every command.
verbose = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=set_verbose,
    help="Say on stderr what each step did, and what it wrote where.",
)
#: Of every command that reports.
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
reporting = together(as_json, verbose)

overwrite = click.option("--overwrite", is_flag=True, help="Replace files that are there.")

#: How a file of cells is read, whatever for.
reading = together(
    click.option(
        "--lazy/--no-lazy",
        default=None,
        help="Leave the matrix in its file and read it in blocks, or load it.  [default: in blocks above 2 GB]",
    ),
    click.option("--use-raw", is_flag=True, help="Read the file's raw matrix and its genes instead of X."),
    click.option("--make-unique", is_flag=True, help="Number the names of cells and genes that repeat."),
)

#: How the cells are matched with a reference.
matching = together(
    like(QUERY, "layer", 'Layer to read.  [default: "counts" where there is one, else X]'),
    like(QUERY, "gene_key", "Column of var with the gene names, or var_names.  [default: what fits best]"),
    like(
        QUERY,
        "input_state",
        "What the values are; counts means any linear scale.",
        type=click.Choice(constant("loaders.open.INPUT_STATES")),
    ),
    like(QUERY, "ignore_case", "Match gene names that differ in letter case alone, as those of man and mouse do."),
    like(
        QUERY,
        "orthologs",
        "CSV or TSV of two columns with a heading: a gene of the query, and the reference's name for it.",
        type=PATH,
        metavar="FILE",
    ),
)

where = click.option(
    "--where",
    multiple=True,
    type=Assignment("COLUMN=VALUE", "tissue=liver", may_be_empty=True),
    metavar="COLUMN=VALUE",
    help="Only reference cells with this value in their annotation; may be repeated, also for one column.",
)


def values_by_column(assignments: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    """Return what ``--where`` asks for as the Python calls take it."""
    found: dict[str, list[str]] = {}
    for column, value in assignments:
        found.setdefault(column, []).append(value)
    return found


def read_orthologs(path: Path | None) -> Mapping[str, str] | None:
    """Return the table of ``--orthologs``."""
    if path is None:
        return None
    import pandas as pd

    from scquery_ae.cli.cells import existing
    from scquery_ae.cli.failures import Problem

    file = existing(path, "table of gene names")
    try:
        with file.open(encoding="utf-8") as lines:
            heading = lines.readline()
        # pandas' own guess takes any letter of a single column for what is between two.
        between = next((mark for mark in "\t;" if mark in heading), ",")
        table = pd.read_csv(file, sep=between, dtype=str)
    except (OSError, ValueError) as error:
        msg = f"{file} cannot be read as a table: {error}. Expected a CSV or TSV of two columns with a heading."
        raise Problem(msg) from error
    if table.shape[1] < 2 or table.empty:
        msg = (
            f"{file} must have two columns and a heading: a gene of the query, and the reference's name for it. "
            f"Received {table.shape[1]} column(s) and {len(table)} row(s)."
        )
        raise Problem(msg)
    pairs = table.iloc[:, :2].dropna()
    return dict(zip(pairs.iloc[:, 0], pairs.iloc[:, 1], strict=True))
