"""``scquery-ae demo``: the whole path on data that need no download."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from scquery_ae.cli.console import import_keras, print_result, show_progress
from scquery_ae.cli.options import PATH, command, reporting


@command("demo")
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=Path("scquery_demo"),
    show_default=True,
    help="Folder for the labelled cells, the reference and the figure. It is made if it does not exist.",
)
@click.option(
    "--seeds", type=click.IntRange(1, 50), default=3, show_default=True, help="Number of random splits to average over."
)
@reporting
def demo(output: Path, seeds: int, *, as_json: bool) -> None:
    r"""Label held-out PBMC, and compare with PCA + kNN.

    The demo trains a reference on three quarters of 700 cells, labels the others, and compares with their labels.

    \b
    Examples:
      scquery-ae demo
      scquery-ae demo --seeds 10 --output /tmp/demo
    """
    from scquery_ae._demo import run_demo

    import_keras()
    table = run_demo(output, n_seeds=seeds, echo=show_progress if as_json else partial(click.echo))
    if as_json:
        outputs = [output / name for name in ("query.h5ad", "pbmc.scq", "query.png")]
        print_result("demo", {"rows": table.to_dict("records"), "outputs": outputs}, "", as_json=True)
