"""``pp.check``: what to expect of a query."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._caller import argument, current
from scquery_ae._checks import check_flag, check_integer, shown
from scquery_ae._docs import shared_parameters
from scquery_ae._logging import logger
from scquery_ae.genes import GeneMatch, likely_species
from scquery_ae.loaders import OpenedCells, open_cells
from scquery_ae.pp._report import CheckReport
from scquery_ae.reference import Reference, open_reference, simulate_query

if TYPE_CHECKING:
    from anndata import AnnData

#: Missing genes that the report names, those with the largest weights in the encoder first.
NAMED_MISSING = 20


@shared_parameters
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
    """Report what to expect of a query, without running it.

    The report covers genes, values and sequencing depth, and estimates the accuracy: it labels the reference's held-out
    cells with the genes and the depth of the query. This simulates missing genes and sequencing depth only. Other
    differences, such as laboratory, protocol or species, are not simulated, so the estimate is an upper bound.

    Nothing is changed, and a query with too few genes is reported rather than refused.

    Parameters
    ----------
    adata
        Query cells, ``(n_obs, n_vars)``.
    %(reference)s
    %(layer)s
    %(gene_key)s
    %(input_state)s
    %(ignore_case)s
    %(orthologs)s
    simulate
        Estimate the accuracy with a simulated query.
    random_state
        Random seed of the simulation.

    Returns
    -------
    A report. Print it, show it in a notebook, or read its attributes.

    Raises
    ------
    InputStateError
        If values are scaled, NaN, infinite, or of a kind that cannot be detected.
    BundleError
        If the saved reference cannot be read.
    ArgumentError
        If an argument is invalid.
    MissingKeyError
        If `layer` or `gene_key` is not there.

    Warns
    -----
    ScqueryWarning
        If genes occur more than once, or the kind of values is uncertain.
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
    # Reference cells have this fraction of their counts in the genes that are present.
    fraction = 1.0 if present is None else float(loaded.encoder.transform.fraction[present].sum())
    expected = loaded.depth["counts"] * fraction
    result = None
    if simulate and opened.match.n_found and seen.any():
        depth = counts if opened.state.kind == "counts" else None
        result = simulate_query(loaded, present=present, depth=depth, random_state=random_state)
    empty = tuple(str(name) for name in adata.obs_names[~seen])
    species = likely_species(opened.match.sample), likely_species(loaded.encoder.genes)
    # Users who translate names know that the species differ.
    compared = ("", "") if ignore_case or orthologs is not None else species
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
        problems=tuple(_problems(adata, opened, counts, expected, empty, compared)),
    )
    logger.info(
        "checked %d cells from %s (%s, %s): %d problems; returned a report and wrote nothing into the AnnData",
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
        problems.append(
            f"{len(match.missing)} model genes are missing ({shown(match.missing)}); the cells name genes as "
            f"{shown(match.examples)}. If the cells have no more genes, {current().common_genes()}"
        )
    if all(species) and species[0] != species[1]:
        problems.append(
            f"the gene names look like {species[0]} genes, and the reference has {species[1]} genes; pass "
            f"{argument('ignore_case', True)}, or a table as {argument('orthologs')}"
        )
    if match.ambiguous:
        problems.append(f"{len(match.ambiguous)} model gene(s) occur more than once: {shown(match.ambiguous)}")
    if empty:
        problems.append(f"{len(empty)} cell(s) have no counts in the model genes: {shown(empty)}")
    if opened.state.kind == "counts" and 0 < counts < expected / 4:
        problems.append(f"the cells have {expected / counts:.1f} times fewer counts than those of the reference")
    if not adata.obs_names.is_unique:
        problems.append(f"cell names repeat; {current().make_unique('obs')}")
    return problems
