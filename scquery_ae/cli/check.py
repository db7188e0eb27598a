"""``scquery-ae check``: what a query will meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scquery_ae.cli import echo
from scquery_ae.cli.failures import Problem, TooFewGenes, spoken
from scquery_ae.cli.options import (
    PATH,
    QUERY,
    command,
    like,
    matching,
    read_orthologs,
    reading,
    reporting,
)

CHECK = "pp.check.check"


@command("check")
@click.argument("cells", type=PATH)
@click.argument("reference", type=PATH)
@matching
@like(QUERY, "min_gene_overlap", "Least share of the model genes that a query needs.")
@like(CHECK, "simulate", "Name the reference's own held-out cells as they would look in this query.")
@like(CHECK, "random_state", "Seed of the expected_accuracy.", option="seed")
@click.option("--strict", is_flag=True, help="Exit with 1 if there is anything to look at.")
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
    r"""Look at a query before asking: genes, values, depth, and what accuracy to expect.

    CELLS is what you would query, REFERENCE a saved reference. Nothing is written. Exits with 4 where a query would be
    refused for want of genes.

    \b
    Examples:
      scquery-ae check mine.h5ad islets.scq
      scquery-ae check filtered_feature_bc_matrix.h5 islets.scq --json | jq .problems
      scquery-ae check mouse.h5ad islets.scq --ignore-case --strict
    """
    from scquery_ae import pp
    from scquery_ae.cli.cells import load_reference, read_cells

    loaded = load_reference(reference)
    matched["orthologs"] = read_orthologs(matched["orthologs"])
    adata = read_cells(cells, lazy=lazy, use_raw=use_raw, make_unique=make_unique)
    echo.note("looking")
    report = pp.check(adata, loaded, **matched, simulate=simulate, random_state=seed)
    found, total = report.genes["n_found"], report.genes["n_genes"]
    problems = [spoken(problem) for problem in report.problems]
    plenty = found >= min_gene_overlap * total
    result = {
        "cells": cells,
        "reference": reference,
        **report.to_dict(),
        "problems": problems,
        "enough_genes": plenty,
        "warnings": click.get_current_context().obj,
    }
    echo.answer("check", result, spoken(str(report)), as_json=as_json)
    if not plenty:
        msg = (
            f"Only {found} of {total} model genes are in {cells} ({found / total:.1%}), and --min-gene-overlap is "
            f"{min_gene_overlap:g}: a query would be refused."
        )
        raise TooFewGenes(msg)
    if strict and problems:
        msg = f"There is something to look at ({len(problems)}), and --strict was asked for."
        raise Problem(msg)
