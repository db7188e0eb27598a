"""Results of a query as tables, files and text."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scquery_ae._slots import Slots
from scquery_ae.cli import echo
from scquery_ae.cli.outputs import write
from scquery_ae.input_state import is_lazy
from scquery_ae.reference import Reference

#: Types that are named as the least certain.
LEAST_CERTAIN = 3

#: How many times the error rate is remarkable.
MANY = 2


def cell_table(adata: AnnData, reference: Reference, prefix: str) -> pd.DataFrame:
    """Return one row a cell: what ``tl.query`` wrote into ``obs``, and the nearest reference cell."""
    slots = Slots(prefix)
    names = (slots.label, slots.confidence, slots.pvalue, slots.novelty, slots.unknown, slots.prediction_set)
    table: pd.DataFrame = adata.obs[list(names)].copy()
    nearest = np.asarray(adata.obsm[slots.neighbors])[:, 0]
    table[f"{prefix}_nearest"] = reference.obs.index.to_numpy()[nearest]
    table[f"{prefix}_nearest_label"] = reference.obs[reference.label_key].to_numpy()[nearest]
    table[f"{prefix}_distance"] = np.asarray(adata.obsm[slots.distances])[:, 0]
    table.index.name = "cell"
    return table


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table with its index, by the ending of the path."""
    if path.suffix == ".parquet":
        write(path, table.reset_index().to_parquet)
    elif path.suffix == ".gz":
        write(path, lambda draft: table.to_csv(draft, compression="gzip"))
    else:
        write(path, table.to_csv)


def write_result(path: Path, adata: AnnData, table: pd.DataFrame, source: Path) -> None:
    """Write one of the files that were asked for."""
    if path.suffix != ".h5ad":
        write_table(path, table)
    elif is_lazy(adata.X) and source.is_file():
        write(path, lambda draft: _write_beside_matrix(draft, adata, source))
    else:
        write(path, adata.write_h5ad)


def _write_beside_matrix(draft: Path, adata: AnnData, source: Path) -> None:
    """Copy a file that is too large for memory, and put the results into the copy."""
    import anndata
    import h5py

    shutil.copyfile(source, draft)
    with h5py.File(draft, "r+") as file:
        anndata.io.write_elem(file, "obs", adata.obs)
        for slot, values in (("obsm", adata.obsm), ("uns", adata.uns)):
            if slot not in file:
                anndata.io.write_elem(file, slot, {})
            for name, value in values.items():
                anndata.io.write_elem(file[slot], name, value)


def composition(table: pd.DataFrame, prefix: str) -> list[dict[str, Any]]:
    """Return for each type, the most frequent first, its cells, those called unknown, and the median confidence."""
    rows = []
    for label, cells in table.groupby(f"{prefix}_label", observed=True):
        rows.append(
            {
                "label": str(label),
                "n_cells": len(cells),
                "share": len(cells) / len(table),
                "n_unknown": int(cells[f"{prefix}_unknown"].sum()),
                "median_confidence": float(cells[f"{prefix}_confidence"].median()),
            }
        )
    return sorted(rows, key=lambda row: (-row["n_cells"], row["label"]))


def summary(found: dict[str, Any]) -> str:
    """Return the report as text."""
    n, genes, reference = found["n_obs"], found["genes"], found["reference"]
    matched = f"{genes['n_found']} of {genes['n_genes']} model genes, by {genes['key']}"
    lines = [
        f"{n} cells, {matched}; asked {reference['n_obs']} cells of {reference['name']}",
        f"{found['n_unknown']} ({echo.share(found['n_unknown'], n)}) are unknown to the reference",
    ]
    allowed = found["parameters"]["alpha"]
    if found["n_unknown"] > MANY * allowed * n and found["n_unknown"] > 1:
        lines.append(
            f"that is more than the {allowed:.1%} that --alpha allows for cells like the reference's: these\n"
            "cells, or how they were measured, differ from it. Labels may hold all the same; look at them with care"
        )
    lines.append("")
    rows = [("type", "cells", "share", "unknown", "median confidence")]
    rows += [
        (
            row["label"],
            str(row["n_cells"]),
            echo.share(row["n_cells"], n),
            echo.share(row["n_unknown"], row["n_cells"]),
            f"{row['median_confidence']:.2f}",
        )
        for row in found["types"]
    ]
    if found["n_unlabelled"]:
        rows.append(("(no label)", str(found["n_unlabelled"]), echo.share(found["n_unlabelled"], n), "100.0%", "-"))
    lines.append(echo.table(rows))
    doubtful = sorted(found["types"], key=lambda row: (row["median_confidence"], row["label"]))[:LEAST_CERTAIN]
    named = [f"{row['label']} ({row['median_confidence']:.2f})" for row in doubtful]
    if len(found["types"]) > LEAST_CERTAIN:
        lines += ["", f"least certain: {', '.join(named)}"]
    lines += ["", *(f"wrote {path}" for path in found["outputs"])]
    return "\n".join(lines)
