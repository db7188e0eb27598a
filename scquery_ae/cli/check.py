"""``scquery-ae check``: what to expect of a query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scquery_ae.cli.console import print_result, show_progress
from scquery_ae.cli.exit_codes import FEW_GENES, FINDINGS, CommandError
from scquery_ae.cli.options import PATH, QUERY, command, like, matching, reading, reporting

CHECK = "pp.check.check"


@command("check")
@click.argument("cells", type=PATH)
@click.argument("reference", type=PATH)
@matching
@like(QUERY, "min_gene_overlap", "Smallest fraction of the model genes that a query accepts.")
@like(
    CHECK, "simulate", "Estimate the accuracy: label the reference's held-out cells with the genes and depth of CELLS."
)
@like(CHECK, "random_state", "Random seed of the simulation.", option="seed")
@click.option("--strict", is_flag=True, help="Exit with 5 if there is anything to look at.")
@reading
@reporting
def check(
    cells: Path,
    reference: Path,
    *,
    min_gene_overlap: float,
    simulate: bool,
    seed: int,
    strict: bool,
    as_json: bool,
    lazy: bool | None,
    use_raw: bool,
    make_unique: bool,
    **matched: Any,
) -> None:
    r"""Report what to expect of a query: genes, values, depth and accuracy.

    CELLS is a file of cells that you want to query, REFERENCE a saved reference. Nothing is written. The exit code is
    4 if a query would refuse the cells because too few genes match, and 5 with --strict if there is anything to look
    at.

    \b
    Examples:
      scquery-ae check mine.h5ad islets.scq
      scquery-ae check filtered_feature_bc_matrix.h5 islets.scq --json | jq .problems
      scquery-ae check mouse.h5ad islets.scq --ignore-case --strict
    """
    from scquery_ae import pp
    from scquery_ae.cli.cells import load_reference, read_cells, require_cells
    from scquery_ae.cli.tables import read_orthologs

    require_cells([cells])
    loaded = load_reference(reference, after_cells=True)
    matched["orthologs"] = read_orthologs(matched["orthologs"])
    adata = read_cells(cells, lazy=lazy, use_raw=use_raw, make_unique=make_unique)
    show_progress("checking")
    report = pp.check(adata, loaded, **matched, simulate=simulate, random_state=seed)
    found, total = report.genes["n_found"], report.genes["n_genes"]
    enough = found >= min_gene_overlap * total
    result = {"cells": cells, "reference": reference, **report.to_dict(), "enough_genes": enough}
    print_result("check", result, str(report), as_json=as_json)
    if not enough:
        msg = (
            f"Only {found} of {total} model genes are in {cells} ({found / total:.1%}), and --min-gene-overlap is "
            f"{min_gene_overlap:g}: a query would refuse these cells."
        )
        raise CommandError(msg, FEW_GENES)
    if strict and report.problems:
        msg = f"--strict: there is something to look at ({len(report.problems)})."
        raise CommandError(msg, FINDINGS)
