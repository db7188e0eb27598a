"""``scquery-ae query``: what type each cell is, in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scquery_ae.cli import echo
from scquery_ae.cli.failures import Problem
from scquery_ae.cli.options import (
    PATH,
    QUERY,
    command,
    like,
    matching,
    overwrite,
    read_orthologs,
    reading,
    reporting,
    together,
    values_by_column,
    where,
)
from scquery_ae.cli.outputs import check_outputs, write
from scquery_ae.cli.signatures import constant

#: What can be written, by its ending.
ENDINGS = (".h5ad", ".csv", ".csv.gz", ".parquet")
PAGES = (".html", ".htm")

#: What a query and its check are told of the cells.
MATCHED = ("layer", "gene_key", "input_state", "ignore_case", "orthologs")

_searching = together(
    like(QUERY, "n_neighbors", "Reference cells to find for each cell."),
    like(QUERY, "alpha", "Share of cells like the reference's that may be called unknown."),
    like(
        QUERY,
        "corr_method",
        "What the error rate is of: each known cell, or all cells called unknown.",
        type=click.Choice(constant("stats.conformal.CORR_METHODS")),
    ),
    like(QUERY, "coverage", "Share of prediction sets that are to hold the true type."),
    where,
    like(
        QUERY,
        "exclude_key",
        "Column of both: reference cells with the cell's own value, say its donor, are not found.",
        metavar="COLUMN",
    ),
    like(
        QUERY,
        "diversify_key",
        "Column of the reference over whose values neighbors are spread evenly.",
        metavar="COLUMN",
    ),
    like(QUERY, "min_gene_overlap", "Least share of the model genes that must be there."),
    like(QUERY, "key_added", "What the names of new columns start with."),
)


@command("query")
@click.argument("cells", type=PATH)
@click.argument("reference", type=PATH)
@click.option(
    "-o",
    "--output",
    type=PATH,
    multiple=True,
    help="What to write, by its ending: .h5ad for the cells with all results, .csv, .csv.gz or .parquet for one row a "
    "cell; may be repeated.  [default: NAME.scquery.h5ad and NAME.scquery.csv here]",
)
@click.option(
    "--report",
    "page",
    type=PATH,
    help="Write an HTML page about the query to this file, with the check: to read, keep and print.",
)
@click.option("--batch-key", metavar="COLUMN", help="Column of the reference with studies, for the page of --report.")
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
    overwrite: bool,
    where: tuple[tuple[str, str], ...],
    as_json: bool,
    lazy: bool | None,
    use_raw: bool,
    make_unique: bool,
    **asked: Any,
) -> None:
    r"""Say what type each cell is, how sure that is, and which reference cells are nearest.

    CELLS is an .h5ad file, a .zarr folder, a 10x .h5 file or a folder with a 10x matrix.mtx; counts or log-normalised,
    genes in any order, some missing. REFERENCE is a saved reference.

    \b
    New columns of obs, and of the tables (with --key-added scquery):
      scquery_label          most probable type
      scquery_confidence     its probability
      scquery_pvalue         how plausible it is that the cell belongs to that type
      scquery_novelty    how unlike the cells of that type it is, where p-values tie
      scquery_unknown        whether that is at most --alpha
      scquery_prediction_set      types that cannot be ruled out, joined by |

    Tables also name the nearest reference cell, its type and its distance: scquery_nearest, scquery_nearest_label,
    scquery_distance. The .h5ad has the embedding and all neighbors in obsm.

    \b
    Examples:
      scquery-ae query mine.h5ad islets.scq
      scquery-ae query mine.h5ad islets.scq -o labels.csv
      scquery-ae query mine.h5ad islets.scq --report mine.html --batch-key study
      scquery-ae query filtered_feature_bc_matrix/ islets.scq -o mine.h5ad -o mine.parquet --alpha 0.01
      scquery-ae query mine.h5ad atlas.scq --where tissue=liver --where tissue=lung --exclude-key donor --json
    """
    from scquery_ae import pp, report, tl
    from scquery_ae._checks import shown
    from scquery_ae.cli.annotated import cell_table, composition, summary, write_result
    from scquery_ae.cli.cells import existing, load_reference, read_cells
    from scquery_ae.reference import digest

    existing(cells, "file of cells")
    files = list(output) or [Path(f"{_stem(cells)}.scquery{ending}") for ending in (".h5ad", ".csv")]
    check_outputs(files, [cells, reference], overwrite=overwrite, endings=ENDINGS)
    if page is not None:
        check_outputs([page], [cells, reference], overwrite=overwrite, endings=PAGES)
    elif batch_key is not None:
        msg = "--batch-key is for the page of --report. Give both or neither."
        raise click.UsageError(msg)
    loaded = load_reference(reference)
    if batch_key is not None and batch_key not in loaded.obs:
        msg = f"--batch-key {batch_key} is not a column of the reference. Expected one of {shown(loaded.obs, 20)}."
        raise Problem(msg)
    asked["orthologs"] = read_orthologs(asked["orthologs"])
    adata = read_cells(cells, lazy=lazy, use_raw=use_raw, make_unique=make_unique)
    echo.note(f"asking {loaded.n_obs} reference cells about {adata.n_obs}")
    tl.query(adata, loaded, where=values_by_column(where), **asked)
    prefix = asked["key_added"]
    # The call was given what was opened already, and so does not know where from.
    identity = {"name": reference.name, "sha256": digest(reference)}
    adata.uns[prefix]["reference"] = identity

    if page is not None:
        echo.note("looking at the query for the page")
        check = pp.check(adata, loaded, **{name: asked[name] for name in MATCHED})
        told = {"reference": loaded, "check": check, "batch_key": batch_key, "key_added": prefix}
        write(page, lambda draft: report.write(adata, draft, **told))
    table = cell_table(adata, loaded, prefix)
    # Tables first: they are small, and are there whatever happens to the large file.
    for path in sorted(files, key=lambda path: path.suffix == ".h5ad"):
        write_result(path, adata, table, cells)
    provenance = adata.uns[prefix]
    found = {
        "cells": cells,
        "reference": {**identity, "n_obs": loaded.n_obs, "label_key": loaded.label_key},
        "n_obs": adata.n_obs,
        "n_unknown": int(table[f"{prefix}_unknown"].sum()),
        "n_unlabelled": int(table[f"{prefix}_label"].isna().sum()),
        "genes": {name: provenance["genes"][name] for name in ("n_genes", "n_found", "key")},
        "parameters": provenance["parameters"],
        "types": composition(table, prefix),
        "outputs": files if page is None else [*files, page],
        "warnings": click.get_current_context().obj,
    }
    echo.answer("query", found, summary(found), as_json=as_json)


def _stem(path: Path) -> str:
    """Return what is left of a name without its ending, also of a folder given as ``folder/`` or ``.``."""
    name = path.resolve().name
    return name.rsplit(".", 1)[0] if name.endswith((".h5ad", ".zarr", ".h5")) else name
