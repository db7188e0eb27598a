"""``scquery-ae query``: labels for cells, in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scquery_ae.cli.console import print_result, show_progress
from scquery_ae.cli.exit_codes import MANY_UNKNOWN, CommandError
from scquery_ae.cli.options import (
    PATH,
    QUERY,
    Number,
    Prefix,
    command,
    like,
    matching,
    overwrite,
    reading,
    reporting,
    together,
    values_by_column,
    where,
)
from scquery_ae.cli.outputs import check_outputs
from scquery_ae.cli.signatures import constant

#: Suffixes of results and of the report.
RESULTS = (".h5ad", ".csv", ".csv.gz", ".parquet")
PAGES = (".html", ".htm")

#: Arguments that ``tl.query`` and ``pp.check`` both have.
MATCHED = ("layer", "gene_key", "input_state", "ignore_case", "orthologs")

_searching = together(
    like(QUERY, "n_neighbors", "Reference cells to find for each cell."),
    like(QUERY, "alpha", "Fraction of cells of known types that may be called unknown."),
    like(
        QUERY,
        "corr_method",
        "Correct p-values for testing all cells of the query, to control the false discovery rate.",
        type=click.Choice(constant("stats.conformal.CORR_METHODS")),
    ),
    like(QUERY, "coverage", "Fraction of prediction sets that should contain the true type."),
    where,
    like(
        QUERY,
        "exclude_key",
        "Column of obs of both: leave out reference cells with the value of the cell, such as its donor.",
        metavar="COLUMN",
    ),
    like(
        QUERY,
        "diversify_key",
        "Column of obs of the reference: spread neighbors evenly over its values.",
        metavar="COLUMN",
    ),
    like(QUERY, "min_gene_overlap", "Smallest accepted fraction of the model genes."),
    like(QUERY, "key_added", "Prefix of new columns and slots.", type=Prefix()),
)


@command("query")
@click.argument("cells", type=PATH)
@click.argument("reference", type=PATH)
@click.option(
    "-o",
    "--output",
    type=PATH,
    multiple=True,
    help="File to write; its suffix sets the format: .h5ad for the cells with all results, .csv, .csv.gz or .parquet "
    "for one row per cell. May be repeated.  [default: NAME.scquery.h5ad and NAME.scquery.csv in this folder]",
)
@click.option("--report", "page", type=PATH, help="Write an HTML report on the query to this file.")
@click.option("--batch-key", metavar="COLUMN", help="Column of obs of the reference with its batches, for --report.")
@click.option(
    "--max-unknown",
    type=Number(0, 1),
    metavar="FRACTION",
    help="Exit with 6 if a larger fraction of the cells is unknown, after all results are written.",
)
@overwrite
@_searching
@matching
@reading
@reporting
def query(
    cells: Path,
    reference: Path,
    output: tuple[Path, ...],
    page: Path | None,
    *,
    batch_key: str | None,
    max_unknown: float | None,
    overwrite: bool,
    where: tuple[tuple[str, str], ...],
    as_json: bool,
    lazy: bool | None,
    use_raw: bool,
    make_unique: bool,
    **asked: Any,
) -> None:
    r"""Label cells: type, confidence, novelty, and the nearest reference cells.

    CELLS is an .h5ad file, a .zarr folder, a 10x .h5 file or a folder with a 10x matrix.mtx. It holds counts or
    log-normalised values, with genes in any order; some may be missing. REFERENCE is a saved reference.

    \b
    New columns of obs and of the tables:
      scquery_label           most probable type
      scquery_confidence      calibrated probability of that type
      scquery_pvalue          p-value of the cell being of the type near which it lies in the embedding
      scquery_novelty         how far it lies from that type; ranks cells with equal p-values
      scquery_unknown         whether the p-value is at most --alpha
      scquery_prediction_set  types among which the true one is with probability --coverage, joined by |

    \b
    Further columns of the tables:
      scquery_nearest         name of the nearest reference cell
      scquery_nearest_label   type of the nearest reference cell
      scquery_distance        cosine distance to the nearest reference cell

    The .h5ad has the embedding and all neighbors in obsm. --key-added replaces the prefix scquery.

    \b
    Examples:
      scquery-ae query mine.h5ad islets.scq
      scquery-ae query mine.h5ad islets.scq -o labels.csv --max-unknown 0.2
      scquery-ae query mine.h5ad islets.scq --report mine.html --batch-key study
      scquery-ae query filtered_feature_bc_matrix/ islets.scq -o mine.h5ad -o mine.parquet --alpha 0.01
      scquery-ae query mine.h5ad atlas.scq --where tissue=liver --where tissue=lung --exclude-key donor --json
    """
    from scquery_ae import pp, report, tl
    from scquery_ae._checks import shown
    from scquery_ae.cli.cells import load_reference, read_cells, require_cells
    from scquery_ae.cli.query_result import compose, make_table, summarize, warn_of_many_unknown
    from scquery_ae.cli.tables import read_orthologs
    from scquery_ae.io import write_h5ad, write_table
    from scquery_ae.reference import check_filter, digest

    require_cells([cells])
    files = list(output) or [Path(f"{_stem(cells)}.scquery{suffix}") for suffix in (".h5ad", ".csv")]
    check_outputs(files, [cells, reference], overwrite=overwrite, suffixes=RESULTS)
    if page is not None:
        check_outputs([page], [cells, reference], overwrite=overwrite, suffixes=PAGES)
    elif batch_key is not None:
        msg = "--batch-key is for --report. Add --report FILE, or leave out --batch-key."
        raise click.UsageError(msg)
    loaded = load_reference(reference, after_cells=True)
    if batch_key is not None and batch_key not in loaded.obs:
        msg = f"--batch-key {batch_key} is not a column of the reference. Expected one of {shown(loaded.obs, 20)}."
        raise CommandError(msg)
    filtered = values_by_column(where)
    check_filter(loaded.obs, filtered, [key for key in [asked["exclude_key"]] if key], asked["diversify_key"])
    asked["orthologs"] = read_orthologs(asked["orthologs"])
    adata = read_cells(cells, lazy=lazy, use_raw=use_raw, make_unique=make_unique)
    show_progress(f"querying {loaded.n_obs} reference cells with {adata.n_obs} cells")
    tl.query(adata, loaded, where=filtered, **asked)
    prefix = asked["key_added"]
    # tl.query was given an open reference and does not know its path.
    identity = {"name": reference.name, "sha256": digest(reference)}
    adata.uns[prefix]["reference"] = identity
    table = make_table(adata, loaded, prefix)
    warn_of_many_unknown(table, prefix, asked["alpha"])

    if page is not None:
        show_progress(f"writing {page}")
        checked = pp.check(adata, loaded, **{name: asked[name] for name in MATCHED})
        told = {"reference": loaded, "check": checked, "batch_key": batch_key, "key_added": prefix}
        report.write(adata, page, overwrite=overwrite, **told)
    # Tables first: they are small, and are there if the large file fails.
    for path in sorted(files, key=lambda path: path.suffix == ".h5ad"):
        show_progress(f"writing {path}")
        if path.suffix == ".h5ad":
            write_h5ad(path, adata, cells)
        else:
            write_table(path, table)
    provenance = adata.uns[prefix]
    found = {
        "cells": cells,
        "reference": {**identity, "n_obs": loaded.n_obs, "label_key": loaded.label_key},
        "n_obs": adata.n_obs,
        "n_unknown": int(table[f"{prefix}_unknown"].sum()),
        "n_unlabelled": int(table[f"{prefix}_label"].isna().sum()),
        "genes": {name: provenance["genes"][name] for name in ("n_genes", "n_found", "key")},
        "parameters": provenance["parameters"],
        "types": compose(table, prefix),
        "outputs": files if page is None else [*files, page],
    }
    print_result("query", found, summarize(found), as_json=as_json)
    fraction = found["n_unknown"] / found["n_obs"]
    if max_unknown is not None and fraction > max_unknown:
        msg = (
            f"{fraction:.1%} of the cells are unknown to the reference, and --max-unknown is {max_unknown:g}. All "
            "results were written."
        )
        raise CommandError(msg, MANY_UNKNOWN)


def _stem(path: Path) -> str:
    """Return the name of a file or folder without its suffix, also of ``folder/`` and ``.``."""
    name = path.resolve().name
    return name.rsplit(".", 1)[0] if name.endswith((".h5ad", ".zarr", ".h5")) else name
