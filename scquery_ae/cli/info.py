"""``scquery-ae info``: what a reference holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scquery_ae.cli import echo
from scquery_ae.cli.options import PATH, command, reporting

if TYPE_CHECKING:
    from scquery_ae.reference import Reference

#: Values of a column that are listed.
LISTED = 20


@command("info")
@click.argument("reference", type=PATH)
@reporting
def info(reference: Path, *, as_json: bool) -> None:
    r"""Say what a reference holds.

    Its cells and types, genes, network, calibration, annotation, and what was done to it.

    \b
    Examples:
      scquery-ae info islets.scq
      scquery-ae info islets.scq --json | jq '.types[].label'
    """
    from scquery_ae.cli.cells import load_reference

    loaded = load_reference(reference)
    found = describe(loaded, reference)
    echo.answer("info", found, _text(found), as_json=as_json)


def describe(reference: Reference, path: Path) -> dict[str, Any]:
    """Return what a reference holds."""
    import numpy as np

    from scquery_ae.genes import likely_species
    from scquery_ae.reference import digest

    codes = reference.label_codes
    n_cells = np.bincount(codes[codes >= 0], minlength=len(reference.types))
    n_held_out = np.bincount(codes[(codes >= 0) & reference.cells.held_out], minlength=len(reference.types))
    in_classifier = set(reference.classifier_columns[reference.classifier_columns >= 0].tolist())
    genes = [str(gene) for gene in reference.encoder.genes]
    return {
        "path": path,
        "sha256": digest(path),
        "n_obs": reference.n_obs,
        "n_unlabelled": int((codes < 0).sum()),
        "label_key": reference.label_key,
        "types": [
            {
                "label": kind,
                "n_cells": int(n_cells[i]),
                "n_held_out": int(n_held_out[i]),
                # Types added later are named by their neighborhood alone.
                "trained": i in in_classifier,
            }
            for i, kind in enumerate(reference.types)
        ],
        "genes": {"n": len(genes), "species": likely_species(genes), "names": genes},
        "layers": [int(layer.kernel.shape[1]) for layer in reference.encoder.layers],
        "calibration": {"method": reference.calibration.method, "n_cells": len(reference.calibration.scores)},
        "depth": reference.depth,
        "index": reference.index_kind,
        "columns": [_column(reference, name) for name in reference.obs.columns],
        "provenance": reference.provenance,
        "training": reference.encoder.parameters,
    }


def _column(reference: Reference, name: str) -> dict[str, Any]:
    column = reference.obs[name]
    values = column.dropna().unique()
    listed = sorted(map(str, values)) if len(values) <= LISTED else []
    return {"name": str(name), "n_values": len(values), "values": listed}


def _text(found: dict[str, Any]) -> str:
    genes, calibration, provenance = found["genes"], found["calibration"], found["provenance"]
    sizes = " -> ".join(str(n) for n in (genes["n"], *found["layers"]))
    shown = ", ".join(genes["names"][:5])
    rows = [
        ("reference", f"{found['path']}"),
        ("sha256", found["sha256"]),
        ("cells", f"{found['n_obs']}, {found['n_unlabelled']} of them without a label"),
        ("genes", f"{genes['n']}{' of ' + genes['species'] if genes['species'] else ''}, such as {shown}"),
        ("depth", f"{found['depth']['counts']:.4g} counts in the model genes of a median cell"),
        ("network", sizes),
        ("calibrated", f"{calibration['method'].replace('_', ' ')}, on {calibration['n_cells']} cells"),
        ("search", found["index"]),
        ("made by", f"scquery_ae {provenance.get('scquery_ae', '(unknown)')}"),
    ]
    fitted = provenance.get("fit")
    if fitted:
        rows.append(("made of", f"{', '.join(fitted['cells'])} on {fitted['time'][:10]}, in {fitted['seconds']:.0f} s"))
    rows += [
        (step["step"], f"{step['n_cells']} cells on {step['time'][:10]}" if "n_cells" in step else step["time"][:10])
        for step in provenance.get("steps", [])
    ]
    types = [("type", "cells", "held out", "")]
    types += [
        (row["label"], str(row["n_cells"]), str(row["n_held_out"]), "" if row["trained"] else "added later")
        for row in sorted(found["types"], key=lambda row: (-row["n_cells"], row["label"]))
    ]
    columns = [
        (column["name"], ", ".join(column["values"]) or f"{column['n_values']} values") for column in found["columns"]
    ]
    return "\n\n".join(
        [
            echo.pairs(rows),
            f"types, in {found['label_key']}:\n{echo.table(types)}",
            f"annotation:\n{echo.pairs(columns)}",
        ]
    )
