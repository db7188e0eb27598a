"""Options and results of the commands that change a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scquery_ae.cli.console import print_result
from scquery_ae.cli.layout import format_table
from scquery_ae.cli.options import PATH, overwrite, together
from scquery_ae.cli.outputs import check_reference_output

if TYPE_CHECKING:
    from scquery_ae.reference import Reference

#: One of the two is required, because a change cannot be undone.
target = together(
    click.option("-o", "--output", type=PATH, help="Write the changed reference here."),
    click.option(
        "--in-place", is_flag=True, help="Change the reference itself; programs that have it open keep the old one."
    ),
    overwrite,
)


#: What each command did, and what a dry run says that it would do.
DONE = {"add": "added", "remove": "removed", "relabel": "relabelled", "merge": "merged in"}
WOULD = {"remove": "would remove", "relabel": "would relabel", "merge": "would merge in"}


def check_target(reference: Path, output: Path | None, inputs: list[Path], *, in_place: bool, overwrite: bool) -> Path:
    """Return the path of the changed reference, after checking that it can be written."""
    if (output is None) is not in_place:
        msg = "Choose where to write the changed reference: either --output NEW.scq, or --in-place."
        raise click.UsageError(msg)
    if output is None:
        check_reference_output(reference, inputs, overwrite=True)
        return reference
    check_reference_output(output, [reference, *inputs], overwrite=overwrite)
    return output


def find_target(
    reference: Path, output: Path | None, inputs: list[Path], *, in_place: bool, overwrite: bool, dry_run: bool
) -> Path | None:
    """Return the path of the changed reference; None in a dry run, which needs no output but checks a given one."""
    if dry_run and output is None and not in_place:
        return None
    path = check_target(reference, output, inputs, in_place=in_place, overwrite=overwrite)
    return None if dry_run else path


def type_counts(reference: Reference) -> dict[str, int]:
    """Return the number of cells of each type."""
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
    """Print how a reference changed.

    Parameters
    ----------
    command
        One of :data:`DONE`.
    reference
        The changed reference.
    before
        Number of cells of each type before the change.
    path
        Where it was written; None in a dry run.
    n_cells
        Number of cells that were added, removed or renamed.
    as_json
        Whether to print one JSON object.
    asked
        Further entries of the JSON object.
    """
    after = type_counts(reference)
    # A type without cells stays in the reference; a renamed type does not.
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
    }
    rows = [("type", "before", "after")]
    for row in types:
        mark = " (new)" if row["new"] else " (gone)" if row["label"] in gone else ""
        if mark or row["n_before"] != row["n_after"]:
            rows.append((row["label"] + mark, str(row["n_before"]), str(row["n_after"])))
    did, has = (WOULD[command], "would have") if path is None else (DONE[command], "has")
    lines = [f"{did} {n_cells} cells; the reference {has} {reference.n_obs} cells of {len(after)} types"]
    if len(rows) > 1:
        lines += ["", format_table(rows)]
    lines += ["", f"wrote {path}" if path is not None else "nothing was written (--dry-run)"]
    print_result(command, found, "\n".join(lines), as_json=as_json)
