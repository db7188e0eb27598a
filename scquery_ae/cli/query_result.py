"""Results of ``scquery-ae query`` as a table and as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scquery_ae._caller import argument
from scquery_ae._errors import warn
from scquery_ae._slots import Slots
from scquery_ae.cli.layout import format_percent, format_table
from scquery_ae.reference import Reference

#: Types that are listed as the least certain.
LEAST_CERTAIN = 3

#: A fraction of unknown cells above this multiple of `alpha` gives a warning.
MANY = 2


def make_table(adata: AnnData, reference: Reference, prefix: str) -> pd.DataFrame:
    """Return one row per cell: the columns that ``tl.query`` wrote into ``obs``, and the nearest reference cell."""
    slots = Slots(prefix)
    names = (slots.label, slots.confidence, slots.pvalue, slots.novelty, slots.unknown, slots.prediction_set)
    table: pd.DataFrame = adata.obs[list(names)].copy()
    nearest = np.asarray(adata.obsm[slots.neighbors])[:, 0]
    table[f"{prefix}_nearest"] = reference.obs.index.to_numpy()[nearest]
    table[f"{prefix}_nearest_label"] = reference.obs[reference.label_key].to_numpy()[nearest]
    table[f"{prefix}_distance"] = np.asarray(adata.obsm[slots.distances])[:, 0]
    table.index.name = "cell"
    return table


def warn_of_many_unknown(table: pd.DataFrame, prefix: str, alpha: float) -> None:
    """Warn if many more cells are unknown than `alpha` allows for cells like those of the reference."""
    n, n_unknown = len(table), int(table[f"{prefix}_unknown"].sum())
    if n_unknown > MANY * alpha * n and n_unknown > 1:
        warn(
            f"{format_percent(n_unknown, n)} of the cells are unknown to the reference; with "
            f"{argument('alpha', alpha)}, {alpha:.1%} are expected among cells like the reference's. These cells, or "
            "the way they were measured, differ from the reference; check their labels."
        )


def compose(table: pd.DataFrame, prefix: str) -> list[dict[str, Any]]:
    """Return for each type, the most frequent first, its cells, the unknown among them, and the median confidence."""
    rows = []
    for label, cells in table.groupby(f"{prefix}_label", observed=True):
        rows.append(
            {
                "label": str(label),
                "n_cells": len(cells),
                "fraction": len(cells) / len(table),
                "n_unknown": int(cells[f"{prefix}_unknown"].sum()),
                "median_confidence": float(cells[f"{prefix}_confidence"].median()),
            }
        )
    return sorted(rows, key=lambda row: (-row["n_cells"], row["label"]))


def summarize(found: dict[str, Any]) -> str:
    """Return the result of the command as text."""
    n, genes, reference = found["n_obs"], found["genes"], found["reference"]
    matched = f"{genes['n_found']} of {genes['n_genes']} model genes matched by {genes['key']}"
    lines = [
        f"{n} cells, {matched}; queried {reference['n_obs']} cells of {reference['name']}",
        f"{found['n_unknown']} of them ({format_percent(found['n_unknown'], n)}) unknown to the reference",
        "",
    ]
    rows = [("type", "cells", "fraction", "unknown", "median confidence")]
    rows += [
        (
            row["label"],
            str(row["n_cells"]),
            format_percent(row["n_cells"], n),
            format_percent(row["n_unknown"], row["n_cells"]),
            f"{row['median_confidence']:.2f}",
        )
        for row in found["types"]
    ]
    if found["n_unlabelled"]:
        rows.append(("(no label)", str(found["n_unlabelled"]), format_percent(found["n_unlabelled"], n), "100.0%", "-"))
    lines.append(format_table(rows))
    if len(found["types"]) > LEAST_CERTAIN:
        doubtful = sorted(found["types"], key=lambda row: (row["median_confidence"], row["label"]))[:LEAST_CERTAIN]
        named = ", ".join(f"{row['label']} ({row['median_confidence']:.2f})" for row in doubtful)
        lines += ["", f"least certain: {named}"]
    lines += ["", *(f"wrote {path}" for path in found["outputs"])]
    return "\n".join(lines)
