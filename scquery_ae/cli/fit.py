"""``scquery-ae fit``: a saved reference from labelled cells."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from scquery_ae.cli.console import print_result
from scquery_ae.cli.layout import to_json
from scquery_ae.cli.options import PATH, command, like, overwrite, reading, reporting, together
from scquery_ae.cli.outputs import check_reference_output, save_reference
from scquery_ae.cli.signatures import constant

NORMALIZE, PRETRAIN, FINETUNE, BUILD, READ = (
    "pp.normalize.normalize",
    "tl.pretrain.pretrain",
    "tl.finetune.finetune",
    "tl.build_reference.build_reference",
    "io.read.read",
)

#: ``scquery_ae.index.choose.INDEXES``, which is no literal.
INDEXES = ("auto", "exact", "hnsw", "ivf", "int8", "pq")

_cells = together(
    click.option("--label-key", metavar="COLUMN", help="Column of obs with the cell types.  [required]"),
    like(FINETUNE, "batch_key", "Column of obs with the batches, such as donors or studies.", metavar="COLUMN"),
    click.option(
        "--unlabelled",
        multiple=True,
        metavar="LABEL",
        help="Treat cells with this label, such as unknown, as unlabelled, so that only pretraining uses them; may be "
        "repeated.",
    ),
    like(NORMALIZE, "layer", "Layer with the counts.  [default: X]"),
    click.option(
        "--gene-key",
        metavar="COLUMN",
        help="Column of var with the gene names for the reference.  [default: var_names]",
    ),
    like(
        NORMALIZE,
        "input_state",
        "Detect from the values whether they are counts (auto), or treat them as counts.",
        type=click.Choice(("auto", "counts")),
    ),
    like(NORMALIZE, "drop_empty", "Drop cells without a count."),
    like(READ, "file_key", "Column of obs to write the name of each cell's file into.", metavar="COLUMN"),
    like(
        READ,
        "join",
        "Genes of several files: those that every file has (inner), or any file has (outer).",
        type=click.Choice(("inner", "outer")),
    ),
)

_training = together(
    like(NORMALIZE, "n_top_genes", "Number of variable genes to choose as model genes."),
    click.option(
        "--genes-of",
        type=PATH,
        multiple=True,
        metavar="CELLS",
        help="Choose among genes that these cells, which you want to query, have too; may be repeated.",
    ),
    like(PRETRAIN, "layer_sizes", "Widths of the layers; the last is the width of the embedding."),
    like(
        PRETRAIN,
        "corruption",
        "Corruption in pretraining.",
        type=click.Choice(constant("nn.corruption.CORRUPTIONS")),
    ),
    like(
        PRETRAIN, "corruption_level", "Fraction of values that are corrupted, or the standard deviation of the noise."
    ),
    like(
        PRETRAIN,
        "gene_sets",
        "GMT file: the first layer gets one unit per gene set.",
        type=PATH,
        metavar="FILE",
    ),
    like(PRETRAIN, "epochs", "Maximum number of epochs per layer of pretraining.", option="pretrain_epochs"),
    like(FINETUNE, "epochs", "Maximum number of epochs of fine-tuning.", option="finetune_epochs"),
    click.option("--epochs", type=click.IntRange(1), help="Set both numbers of epochs.", metavar="INTEGER"),
    like(
        FINETUNE,
        "gene_masking",
        "Largest fraction of genes that fine-tuning hides, to prepare for queries with fewer genes.",
    ),
    like(FINETUNE, "class_weight_power", "0 weights all cells alike, 1 all types."),
    like(
        FINETUNE,
        "metric_loss",
        "Loss on the embedding, in addition to the loss of the classifier.",
        type=click.Choice(("triplet", "contrastive")),
    ),
    like(FINETUNE, "adversarial_weight", "Weight of the adversarial loss that removes batch effects; 0 for none."),
    like(
        FINETUNE,
        "label_issues",
        "How to handle labels that contradict the other cells.",
        type=click.Choice(constant("training.finetune_settings.LABEL_ISSUES")),
    ),
    like(
        BUILD,
        "calibration",
        "Cells on which confidence is calibrated; the last two choices fine-tune again.",
        type=click.Choice(constant("tl.build_reference.CALIBRATIONS")),
    ),
    like(BUILD, "index", "Neighbor search.", type=click.Choice(INDEXES)),
    like(
        PRETRAIN,
        "random_state",
        "Random seed; the same seed on the same machine gives the same reference.",
        option="seed",
    ),
    click.option(
        "--checkpoint",
        type=PATH,
        metavar="FOLDER",
        help="Save the training here after each epoch; the same command resumes it after an interruption.",
    ),
)


@command("fit")
@click.argument("cells", type=PATH, nargs=-1, required=True)
@click.option("-o", "--output", type=PATH, required=True, help="Reference to write: a .scq folder or a .zip file.")
@overwrite
@_cells
@_training
@reading
@reporting
def fit(cells: tuple[Path, ...], output: Path, *, overwrite: bool, as_json: bool, **options: Any) -> None:
    r"""Train a reference on labelled cells and save it.

    CELLS is one or several files of cells with raw counts: .h5ad files, .zarr folders, 10x .h5 files or folders with a
    10x matrix.mtx. The command chooses variable genes, pretrains a stack of denoising autoencoders on all cells,
    fine-tunes it on the labelled cells, and calibrates confidence on cells that training does not see.

    \b
    Examples:
      scquery-ae fit islets.h5ad --label-key cell_type -o islets.scq
      scquery-ae fit atlas.h5ad --label-key cell_type --batch-key donor --checkpoint atlas.steps -o atlas.scq
      scquery-ae fit a.h5ad b.zarr --file-key study --batch-key study --label-key cell_type -o both.scq
      scquery-ae fit counts.h5ad --label-key cluster --unlabelled unknown --layer counts --json -o counts.scq
    """
    from scquery_ae.cli.fitting import check_labels, describe_reference, prepare_cells, summarize, train

    started = time.monotonic()
    check_reference_output(output, cells, overwrite=overwrite)
    adata = prepare_cells(cells, options)
    check_labels(adata, options)
    reference = train(adata, options)
    seconds = round(time.monotonic() - started, 1)
    reference.provenance["fit"] = to_json(
        {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
            # A reference is shared, so it names files without their folders.
            "cells": [path.name for path in cells],
            "options": {name: _without_folders(value) for name, value in options.items()},
        }
    )
    save_reference(reference, output, overwrite=overwrite)
    found = {"output": output, **describe_reference(reference), "seconds": seconds}
    print_result("fit", found, summarize(found), as_json=as_json)


def _without_folders(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_without_folders(item) for item in value]
    return value.name if isinstance(value, Path) else value
