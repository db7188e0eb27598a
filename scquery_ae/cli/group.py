"""``scquery-ae``: the list of commands. A command is imported when it is called."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from textwrap import wrap
from typing import Any

import click

from scquery_ae.cli.exit_codes import EXIT_CODES, exit_with_code
from scquery_ae.cli.layout import keep_lines
from scquery_ae.cli.options import verbose

#: Commands in the order of their use, with the first line of their help.
COMMANDS = {
    "demo": "Label held-out PBMC, and compare with PCA + kNN.",
    "fit": "Train a reference on labelled cells and save it.",
    "check": "Report what to expect of a query: genes, values, depth and accuracy.",
    "query": "Label cells: type, confidence, novelty, and the nearest reference cells.",
    "info": "Show what a reference contains.",
    "add": "Add labelled cells to a reference, without training.",
    "remove": "Remove cells from a reference, without training.",
    "relabel": "Rename types of a reference, without training.",
    "merge": "Merge references that share an encoder, without training.",
    "export": "Write an embedding as a table, or as an .h5ad that cellxgene opens.",
    "completion": "Print the script that completes commands and options in your shell.",
}


class Commands(click.Group):
    """A group whose commands are imported when they are called, so that the help is fast."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = keep_lines(self.help)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the names of the commands, in order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"scquery_ae.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest one of a similar name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1)
            meant = f"Did you mean {near[0]!r}?" if near else f"Expected one of {', '.join(COMMANDS)}."
            ctx.fail(f"No such command {args[0]!r}. {meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments."""
        with exit_with_code():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with exit_with_code():
            return super().invoke(ctx)


def _list_exit_codes() -> str:
    """Return the exit codes as the end of the help; click keeps the lines."""
    lines = ["Exit codes:"]
    for code, meaning in EXIT_CODES.items():
        first, *rest = wrap(meaning, 100)
        lines += [f"  {code:<4} {first}", *(f"       {line}" for line in rest)]
    return "\b\n" + "\n".join(lines)


@click.group(
    cls=Commands,
    epilog=_list_exit_codes(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="scquery-ae", prog_name="scquery-ae")
@verbose
def main() -> None:
    r"""Label single cells by a reference.

    Cells are read from .h5ad files, .zarr folders, 10x .h5 files and folders with a 10x matrix.mtx.

    \b
    Examples:
      scquery-ae fit islets.h5ad --label-key cell_type --batch-key donor -o islets.scq
      scquery-ae check mine.h5ad islets.scq
      scquery-ae query mine.h5ad islets.scq -o mine_annotated.h5ad -o mine.csv
      scquery-ae query --help
    """
