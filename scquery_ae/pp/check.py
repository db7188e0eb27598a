"""``pp.check``: what a query will meet, before it does."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from scquery_ae._checks import shown
from scquery_ae.loaders import open_cells
from scquery_ae.reference import Reference, open_reference

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, repr=False)
class CheckReport:
    """What :func:`check` found; print it to read it.

    Attributes
    ----------
    n_obs
        Query cells.
    genes
        Gene report: ``n_genes``, ``n_found``, ``key``, ``missing``, ``ambiguous``.
    source, input_state, evidence
        Which matrix would be read, what it holds, and why.
    counts, reference_counts
        Median over cells of the counts in the model genes, here and in the reference. For a query that is not counts
        the figure is not comparable.
    detected, reference_detected
        Median over cells of the model genes detected.
    empty
        Names of cells without any value in the model genes.
    problems
        What to look at before querying, in words; empty if all is well.
    """

    n_obs: int
    genes: dict[str, Any]
    source: str
    input_state: str
    evidence: str
    counts: float
    reference_counts: float
    detected: float
    reference_detected: float
    empty: tuple[str, ...]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    def __str__(self) -> str:
        found, total = self.genes["n_found"], self.genes["n_genes"]
        lines = [
            f"{self.n_obs} query cells, read from {self.source}: {self.input_state} ({self.evidence})",
            f"genes     {found} of {total} model genes ({found / total:.0%}), matched by {self.genes['key']}",
            f"depth     {self.counts:.4g} in the model genes of a median cell; reference {self.reference_counts:.4g}",
            f"detected  {self.detected:.4g} model genes in a median cell; reference {self.reference_detected:.4g}",
        ]
        lines += [f"look at   {problem}" for problem in self.problems] or ["nothing stands in the way of a query"]
        return "\n".join(lines)

    # A notebook shows the last value of a cell by its repr.
    __repr__ = __str__


def check(
    adata: AnnData,
    reference: Reference | str | PathLike[str],
    *,
    layer: str | None = None,
    gene_key: str | None = None,
    input_state: str = "auto",
) -> CheckReport:
    """Look at a query the way :func:`scquery_ae.tl.query` will, and report what it would meet.

    Nothing is changed and no cell is embedded. Too few genes are reported, not refused.

    Parameters
    ----------
    adata
        Query cells, ``(n_obs, n_vars)``.
    reference
        A reference, or the path of a saved one.
    layer, gene_key, input_state
        As for :func:`scquery_ae.tl.query`.

    Returns
    -------
    A report, to be printed or read field by field.

    Raises
    ------
    InputStateError
        If values are scaled, NaN or infinite.
    BundleError
        If the saved reference cannot be read.
    """
    loaded, _ = open_reference(reference, "pp.check")
    opened = open_cells(
        adata,
        loaded.encoder.genes,
        function="pp.check",
        layer=layer,
        gene_key=gene_key,
        input_state=input_state,
        warn_overlap=False,
    )
    total, n_detected = opened.cells.depth()
    empty = tuple(str(name) for name in adata.obs_names[total == 0])
    counts, reference_counts = float(np.median(total)), loaded.depth["counts"]

    problems = []
    match = opened.match
    if match.fraction < 0.5:
        missing = f"{len(match.missing)} model genes are missing ({shown(match.missing)}); names here look like"
        fix = "if the query has no more genes, build a reference on those that both share"
        problems.append(f"{missing} {shown(match.examples)}; {fix}")
    if match.ambiguous:
        problems.append(f"{len(match.ambiguous)} genes are named more than once: {shown(match.ambiguous)}")
    if empty:
        problems.append(f"{len(empty)} cells have nothing in the model genes: {shown(empty)}")
    if opened.state.kind == "counts" and 0 < counts < reference_counts / 4:
        problems.append(f"cells are {reference_counts / counts:.1f} times shallower than the reference's")
    if not adata.obs_names.is_unique:
        problems.append("cell names repeat; call `adata.obs_names_make_unique()`")
    return CheckReport(
        n_obs=adata.n_obs,
        genes=match.to_dict(),
        source=opened.source,
        input_state=opened.state.kind,
        evidence=opened.state.evidence,
        counts=counts,
        reference_counts=reference_counts,
        detected=float(np.median(n_detected)),
        reference_detected=loaded.depth["genes"],
        empty=empty,
        problems=tuple(problems),
    )
