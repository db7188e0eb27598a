"""Where a changed reference goes, and what is said of the change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scquery_ae.cli import echo
from scquery_ae.cli.options import PATH, overwrite, together
from scquery_ae.cli.outputs import check_reference_output

if TYPE_CHECKING:
    from scquery_ae.reference import Reference

#: Where to write; one of the two is needed, since a change cannot be taken back.
target = together(
    click.option("-o", "--output", type=PATH, help="The changed reference, as another one."),
    click.option(
        "--in-place", is_flag=True, help="Change the reference itself; whoever has it open keeps the old one."
    ),
    overwrite,
)


#: What each command did with cells.
DONE = {"add": "added", "remove": "removed", "relabel": "relabelled", "merge": "merged in"}


def check_target(reference: Path, output: Path | None, inputs: list[Path], *, in_place: bool, overwrite: bool) -> Path:
    """Return where the changed reference goes, having looked whether it can be written."""
    if (output is None) is not in_place:
        msg = "Say where the changed reference goes: either --output NEW.scq, or --in-place."
        raise click.UsageError(msg)
    if output is None:
        check_reference_output(reference, inputs, overwrite=True)
        return reference
    check_reference_output(output, [reference, *inputs], overwrite=overwrite)
    return output


def type_counts(reference: Reference) -> dict[str, int]:
    """Return how many cells each type has."""
    import numpy as np

    codes = reference.label_codes
    counts = np.bincount(codes[codes >= 0], minlength=len(reference.types))
    return {kind: int(n) for kind, n in zip(reference.types, counts, strict=True)}


def report(
    command: str,
    reference: Reference,
    before: dict[str, int],
    path: Path | None,
    *,
    n_cells: int,
    as_json: bool,
    **asked: Any,
) -> None:
    """Say what became of a reference.

    Parameters
    ----------
    command
        One of :data:`DONE`.
    reference
        The changed reference.
    before
        Cells of each type that it had.
    path
        Where it was written; None for nowhere.
    n_cells
        How many cells were added, removed or renamed.
    as_json
        Whether to print one JSON object.
    asked
        What else the object is to hold.
    """
    after = type_counts(reference)
    # Types without cells stay, but those that got another name are gone.
    gone = [kind for kind in before if kind not in after]
    types: list[dict[str, Any]] = [
        {"label": kind, "n_before": before.get(kind, 0), "n_after": after.get(kind, 0), "new": kind not in before}
        for kind in [*after, *gone]
    ]
    found = {
        "output": path,
        **asked,
        "n_cells": n_cells,
        "n_obs": reference.n_obs,
        "types": types,
        "calibration": {"method": reference.calibration.method, "n_cells": len(reference.calibration.scores)},
        "warnings": click.get_current_context().obj,
    }
    rows = [("type", "before", "after")]
    for row in types:
        mark = " (new)" if row["new"] else " (gone)" if row["label"] in gone else ""
        if mark or row["n_before"] != row["n_after"]:
            rows.append((row["label"] + mark, str(row["n_before"]), str(row["n_after"])))
    lines = [f"{DONE[command]} {n_cells} cells; the reference has {reference.n_obs} of {len(after)} types"]
    if len(rows) > 1:
        lines += ["", echo.table(rows)]
    lines += ["", f"wrote {path}" if path is not None else "nothing was written (--dry-run)"]
    echo.answer(command, found, "\n".join(lines), as_json=as_json)
