"""The command line."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import click

from scquery_ae._errors import ScqueryError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="scquery-ae", prog_name="scquery-ae")
def main() -> None:
    """Ask a labelled single-cell reference what your cells are."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("scquery_ae").setLevel(logging.INFO)


@main.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("scquery_demo"),
    show_default=True,
    help="Directory for the annotated cells, the reference and the figure; made if it is not there.",
)
@click.option(
    "--seeds", type=click.IntRange(1, 50), default=3, show_default=True, help="Random splits to average over."
)
def demo(output: Path, seeds: int) -> None:
    r"""Hold out some of 700 PBMC, query the rest for their types, and compare with PCA + kNN.

    \b
    Examples:
      scquery-ae demo
      scquery-ae demo --seeds 10 --output /tmp/demo
    """
    from scquery_ae._demo import run_demo

    _import_keras_quietly()
    try:
        run_demo(output, n_seeds=seeds, say=click.echo)
    except ScqueryError as error:
        raise click.ClickException(str(error)) from error


def _import_keras_quietly() -> None:
    """Import Keras without the lines about processors and drivers that TensorFlow writes past Python's stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            import keras  # noqa: F401
        finally:
            os.dup2(kept, 2)
            os.close(kept)
