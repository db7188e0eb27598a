"""``scquery-ae demo``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from scquery_ae.cli import echo
from scquery_ae.cli.options import PATH, command, reporting


@command("demo")
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=Path("scquery_demo"),
    show_default=True,
    help="Folder for the annotated cells, the reference and the figure; made if it is not there.",
)
@click.option(
    "--seeds", type=click.IntRange(1, 50), default=3, show_default=True, help="Random splits to average over."
)
@reporting
def demo(output: Path, seeds: int, *, as_json: bool) -> None:
    r"""Hold out some of 700 PBMC, query the rest for their types, and compare with PCA + kNN.

    \b
    Examples:
      scquery-ae demo
      scquery-ae demo --seeds 10 --output /tmp/demo
    """
    from scquery_ae._demo import run_demo

    echo.import_keras()
    table = run_demo(output, n_seeds=seeds, say=echo.note if as_json else partial(click.echo))
    if as_json:
        outputs = [output / name for name in ("query.h5ad", "pbmc.scq", "query.png")]
        echo.answer("demo", {"rows": table.to_dict("records"), "outputs": outputs}, "", as_json=True)
