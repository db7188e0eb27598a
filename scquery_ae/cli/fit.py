"""``scquery-ae fit``: from labelled cells to a saved reference."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from scquery_ae.cli import echo
from scquery_ae.cli.options import PATH, command, like, overwrite, reading, reporting, together
from scquery_ae.cli.outputs import check_reference_output, save_reference
from scquery_ae.cli.signatures import constant

NORMALIZE, PRETRAIN, FINETUNE, BUILD = (
    "pp.normalize.normalize",
    "tl.pretrain.pretrain",
    "tl.finetune.finetune",
    "tl.build_reference.build_reference",
)
READ_LAZY = "loaders.files.read_lazy"

_cells = together(
    click.option("--label-key", metavar="COLUMN", help="Column of obs with the cell types.  [required]"),
    like(FINETUNE, "batch_key", "Column of obs with the batches, such as donors or studies.", metavar="COLUMN"),
    click.option(
        "--unlabelled",
        multiple=True,
        metavar="LABEL",
        help="A label that says there is none, such as unknown; may be repeated. Such cells help pretraining alone.",
    ),
    like(NORMALIZE, "layer", "Layer with the counts.  [default: X]"),
    click.option(
        "--gene-key",
        metavar="COLUMN",
        help="Column of var to name the reference's genes by.  [default: the names of var]",
    ),
    like(
        NORMALIZE,
        "input_state",
        "Decide whether the values are counts, or say that they are, or may be treated so.",
        type=click.Choice(("auto", "counts")),
    ),
    like(NORMALIZE, "drop_empty", "Drop cells without a single count."),
    like(
        READ_LAZY,
        "file_key",
        "Column of obs to write each cell's file into, where there are several.",
        metavar="COLUMN",
    ),
    like(
        READ_LAZY,
        "join",
        "Which genes several files give: those that all have, or those that any has.",
        type=click.Choice(("inner", "outer")),
    ),
)

_training = together(
    like(NORMALIZE, "n_top_genes", "Variable genes that the model sees."),
    click.option(
        "--genes-of",
        type=PATH,
        multiple=True,
        metavar="CELLS",
        help="Choose among genes that these cells have too, which are to be queried; may be repeated.",
    ),
    like(PRETRAIN, "layer_sizes", "Widths of the layers; the last is that of the embedding."),
    like(PRETRAIN, "corruption", "Noise of pretraining: masking, gaussian, salt_and_pepper or none."),
    like(PRETRAIN, "corruption_level", "Share of values that it corrupts, or its standard deviation."),
    like(
        PRETRAIN,
        "gene_sets",
        "GMT file: the first layer gets a unit for each gene set.",
        type=PATH,
        metavar="FILE",
    ),
    like(PRETRAIN, "epochs", "Most epochs of pretraining, a layer.", option="pretrain_epochs"),
    like(FINETUNE, "epochs", "Most epochs of fine-tuning.", option="finetune_epochs"),
    click.option("--epochs", type=click.IntRange(1), help="Both of these.", metavar="INTEGER"),
    like(FINETUNE, "gene_masking", "Largest share of genes hidden in fine-tuning, for queries with fewer genes."),
    like(FINETUNE, "class_weight_power", "0 weighs all cells alike, 1 all types."),
    like(
        FINETUNE,
        "metric_loss",
        "A loss on the embedding beside the classifier's.",
        type=click.Choice(("triplet", "contrastive")),
    ),
    like(FINETUNE, "adversarial_weight", "Strength of unlearning the batches; 0 for none."),
    like(
        FINETUNE,
        "label_issues",
        "What to do with labels that the other cells speak against.",
        type=click.Choice(constant("training.finetune_settings.LABEL_ISSUES")),
    ),
    like(
        BUILD,
        "calibration",
        "What confidence is calibrated on; the last two fine-tune again.",
        type=click.Choice(constant("tl.build_reference.CALIBRATIONS")),
    ),
    like(BUILD, "index", "Neighbor search: exact, hnsw, ivf, int8 or pq."),
    like(PRETRAIN, "random_state", "Seed; the same seed on the same machine gives the same reference.", option="seed"),
    click.option(
        "--checkpoint",
        type=PATH,
        metavar="FOLDER",
        help="Keep training here after each epoch: the same command goes on after an interruption.",
    ),
)


@command("fit")
@click.argument("cells", type=PATH, nargs=-1, required=True)
@click.option("-o", "--output", type=PATH, required=True, help="The reference to write: a .scq folder, or a .zip file.")
@overwrite
@_cells
@_training
@reading
@reporting
def fit(cells: tuple[Path, ...], output: Path, *, overwrite: bool, as_json: bool, **options: Any) -> None:
    r"""Train a reference on labelled cells and save it.

    CELLS is an .h5ad file, a .zarr folder, a 10x .h5 file or a folder with a 10x matrix.mtx, with raw counts; or
    several of the first two. Variable genes are chosen, a stack of denoising autoencoders is pretrained on all cells
    and fine-tuned on those with a label, and confidence is calibrated on some that training does not see.

    \b
    Examples:
      scquery-ae fit islets.h5ad --label-key cell_type -o islets.scq
      scquery-ae fit atlas.h5ad --label-key cell_type --batch-key donor --checkpoint atlas.steps -o atlas.scq
      scquery-ae fit a.h5ad b.zarr --file-key study --batch-key study --label-key cell_type -o both.scq
      scquery-ae fit counts.h5ad --label-key cluster --unlabelled unknown --layer counts --json -o counts.scq
    """
    from scquery_ae.cli.fitting import check_labels, found_out, read_all, summary, train

    started = time.monotonic()
    check_reference_output(output, cells, overwrite=overwrite)
    adata = read_all(cells, options)
    check_labels(adata, options)
    reference = train(adata, options)
    seconds = round(time.monotonic() - started, 1)
    reference.provenance["fit"] = echo.plain(
        {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
            # Names alone: paths say more of the user's machine than belongs in a file to share.
            "cells": [path.name for path in cells],
            "options": {name: _without_folders(value) for name, value in options.items()},
        }
    )
    save_reference(reference, output, overwrite=overwrite)
    found = {"output": output, **found_out(reference), "seconds": seconds}
    echo.answer("fit", found, summary(found), as_json=as_json)


def _without_folders(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_without_folders(item) for item in value]
    return value.name if isinstance(value, Path) else value
