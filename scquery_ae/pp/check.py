"""``pp.check``: what a query will meet, before it does."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._checks import check_flag, check_integer, shown
from scquery_ae._logging import logger
from scquery_ae.genes import GeneMatch, likely_species
from scquery_ae.loaders import OpenedCells, open_cells
from scquery_ae.pp._report import CheckReport
from scquery_ae.reference import Reference, open_reference, simulate_query

if TYPE_CHECKING:
    from anndata import AnnData

#: Missing genes that are named, those first whose weights in the encoder are largest.
NAMED_MISSING = 20


def check(
    adata: AnnData,
    reference: Reference | str | PathLike[str],
    *,
    layer: str | None = None,
    gene_key: str | None = None,
    input_state: str = "auto",
    ignore_case: bool = False,
    orthologs: Mapping[str, str] | None = None,
    simulate: bool = True,
    random_state: int = 0,
) -> CheckReport:
    """Look at a query the way :func:`scquery_ae.tl.query` will, and report what it would meet.

    Nothing is changed. Too few genes are reported, not refused. The expected_accuracy shows the reference's own held-out cells
    through the query's genes, and at its depth, and says how well their types are then told apart. What else sets the
    query apart (its laboratory, protocol, species) is not in it: take it for the best that can be hoped for.

    Parameters
    ----------
    adata
        Query cells, ``(n_obs, n_vars)``.
    reference
        A reference, or the path of a saved one.
    layer, gene_key, input_state, ignore_case, orthologs
        As for :func:`scquery_ae.tl.query`.
    simulate
        Whether to simulate.
    random_state
        Seed of the thinning in the expected_accuracy.

    Returns
    -------
    A report, to be printed, shown in a notebook, or read field by field.

    Raises
    ------
    InputStateError
        If values are scaled, NaN, infinite or of no kind that can be told.
    BundleError
        If the saved reference cannot be read.
    ArgumentError
        If an argument is out of its range.
    """
    check_flag("simulate", simulate)
    check_integer("random_state", random_state, 0)
    loaded, _ = open_reference(reference, "pp.check")
    opened = open_cells(
        adata,
        loaded.encoder.genes,
        function="pp.check",
        layer=layer,
        gene_key=gene_key,
        input_state=input_state,
        ignore_case=ignore_case,
        orthologs=orthologs,
        warn_overlap=False,
    )
    total, n_detected = opened.cells.depth()
    seen = total > 0
    counts = float(np.median(total[seen])) if seen.any() else 0.0
    present = opened.cells.present
    # What the reference's cells have in the genes that are there.
    share = 1.0 if present is None else float(loaded.encoder.transform.fraction[present].sum())
    expected = loaded.depth["counts"] * share
    result = None
    if simulate and opened.match.n_found and seen.any():
        depth = counts if opened.state.kind == "counts" else None
        result = simulate_query(loaded, present=present, depth=depth, random_state=random_state)
    empty = tuple(str(name) for name in adata.obs_names[~seen])
    species = likely_species(opened.match.sample), likely_species(loaded.encoder.genes)
    # Who translates the names knows of it.
    told = ("", "") if ignore_case or orthologs is not None else species
    report = CheckReport(
        n_obs=adata.n_obs,
        genes=opened.match.to_dict(),
        important_missing=_important_missing(opened.match, loaded),
        source=opened.source,
        input_state=opened.state.kind,
        reason=opened.state.reason,
        counts=counts,
        reference_counts=expected,
        detected=float(np.median(n_detected)),
        reference_detected=loaded.depth["genes"],
        species=species[0],
        reference_species=species[1],
        empty=empty,
        expected_accuracy=result,
        problems=tuple(_problems(adata, opened, counts, expected, empty, told)),
    )
    logger.info(
        "checked %d cells from %s (%s, %s): %d problems; returned a report, and wrote nothing into the AnnData",
        adata.n_obs,
        opened.source,
        opened.state.kind,
        opened.match,
        len(report.problems),
    )
    return report


def _important_missing(match: GeneMatch, reference: Reference) -> tuple[str, ...]:
    weight = reference.encoder.gene_weights()
    missing = np.flatnonzero(match.columns < 0)
    order = missing[np.argsort(-weight[missing], kind="stable")]
    return tuple(str(gene) for gene in match.genes[order[:NAMED_MISSING]])


def _problems(
    adata: AnnData,
    opened: OpenedCells,
    counts: float,
    expected: float,
    empty: tuple[str, ...],
    species: tuple[str, str],
) -> list[str]:
    match, problems = opened.match, []
    if match.fraction < 0.5:
        missing = f"{len(match.missing)} model genes are missing ({shown(match.missing)}); names here look like"
        fix = "if the query has no more genes, build a reference on those that both share"
        problems.append(f"{missing} {shown(match.examples)}; {fix}")
    if all(species) and species[0] != species[1]:
        problems.append(
            f"genes are written as those of {species[0]}, and the reference's as those of {species[1]}; "
            "pass `ignore_case=True` or a table as `orthologs=`"
        )
    if match.ambiguous:
        problems.append(f"{len(match.ambiguous)} genes are named more than once: {shown(match.ambiguous)}")
    if empty:
        problems.append(f"{len(empty)} cells have nothing in the model genes: {shown(empty)}")
    if opened.state.kind == "counts" and 0 < counts < expected / 4:
        problems.append(f"cells are {expected / counts:.1f} times shallower than the reference's")
    if not adata.obs_names.is_unique:
        problems.append("cell names repeat; call `adata.obs_names_make_unique()`")
    return problems
