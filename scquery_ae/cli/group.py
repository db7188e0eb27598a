"""``scquery-ae`` itself: which commands there are. Each is imported when it is asked for."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from scquery_ae.cli.echo import laid_out
from scquery_ae.cli.failures import EXIT_CODES, reported
from scquery_ae.cli.options import verbose

#: Commands in the order of their use, with what each does.
COMMANDS = {
    "demo": "Hold out some of 700 PBMC, query the rest for their types, and compare with PCA + kNN.",
    "fit": "Train a reference on labelled cells and save it.",
    "check": "Look at a query before asking: genes, values, depth, and what accuracy to expect.",
    "query": "Say what type each cell is, how sure that is, and which reference cells are nearest.",
    "info": "Say what a reference holds.",
    "add": "Add labelled cells to a reference, without training.",
    "remove": "Take cells out of a reference, without training.",
    "relabel": "Give types of a reference other names, without training.",
    "merge": "Join references that one encoder made, without training.",
    "export": "Write an embedding for clustering elsewhere, or an .h5ad that cellxgene opens.",
    "completion": "Print the script that completes commands and options in your shell.",
}


class Commands(click.Group):
    """Commands that are imported when they are asked for: listing them costs nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = laid_out(self.help)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the names in order."""
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
        """Find the command, or name the one that was probably meant."""
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
        """Read the arguments."""
        with reported():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with reported():
            return super().invoke(ctx)


@click.group(
    cls=Commands,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="scquery-ae", prog_name="scquery-ae")
@verbose
def main() -> None:
    r"""Ask a labelled single-cell reference what your cells are.

    Files of cells are .h5ad files, .zarr folders, 10x .h5 files and folders with a 10x matrix.mtx.

    \b
    Examples:
      scquery-ae fit islets.h5ad --label-key cell_type --batch-key donor -o islets.scq
      scquery-ae check mine.h5ad islets.scq
      scquery-ae query mine.h5ad islets.scq -o mine_annotated.h5ad -o mine.csv
      scquery-ae query --help
    """
