"""``scquery-ae info``: the contents of a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scquery_ae.cli.console import print_result
from scquery_ae.cli.layout import format_pairs, format_table
from scquery_ae.cli.options import PATH, command, reporting

if TYPE_CHECKING:
    from scquery_ae.reference import Reference

#: The values of a column are listed up to this number.
LISTED = 20


@command("info")
@click.argument("reference", type=PATH)
@reporting
def info(reference: Path, *, as_json: bool) -> None:
    r"""Show what a reference contains.

    The output lists its cells and types, genes, network, calibration, columns of obs, and history.

    \b
    Examples:
      scquery-ae info islets.scq
      scquery-ae info islets.scq --json | jq '.types[].label'
    """
    from scquery_ae.cli.cells import load_reference

    loaded = load_reference(reference)
    found = describe(loaded, reference)
    print_result("info", found, _text(found), as_json=as_json)


def describe(reference: Reference, path: Path) -> dict[str, Any]:
    """Return the contents of a reference."""
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
                # Types added later are predicted by neighbors only.
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
        ("cells", f"{found['n_obs']}, {found['n_unlabelled']} without a label"),
        ("genes", f"{genes['n']}{' of ' + genes['species'] if genes['species'] else ''}, such as {shown}"),
        ("depth", f"{found['depth']['counts']:.4g} counts in the model genes (median over cells)"),
        ("network", sizes),
        ("calibration", f"{calibration['method'].replace('_', ' ')}, on {calibration['n_cells']} cells"),
        ("search", found["index"]),
        ("made by", f"scquery_ae {provenance.get('scquery_ae', '(unknown)')}"),
    ]
    fitted = provenance.get("fit")
    if fitted:
        rows.append(
            ("fitted on", f"{', '.join(fitted['cells'])} on {fitted['time'][:10]}, in {fitted['seconds']:.0f} s")
        )
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
            format_pairs(rows),
            f"types, in {found['label_key']}:\n{format_table(types)}",
            f"columns of obs:\n{format_pairs(columns)}",
        ]
    )
