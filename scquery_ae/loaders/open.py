"""From an AnnData to the counts of the model genes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from scquery_ae._caller import argument, call, current, running, slot
from scquery_ae._checks import check_adata, check_choice, check_flag, check_layer, check_number, check_writable, shown
from scquery_ae._errors import ArgumentError, InputStateError, MissingKeyError, NotFittedError, warn
from scquery_ae._slots import COUNTS_LAYER, Slots
from scquery_ae.genes import GeneMatch, match_genes, require_overlap
from scquery_ae.input_state import BASES, MAX_LOGGED, InputState, Kind, check_expression, detect_state
from scquery_ae.loaders.cells import GeneColumns
from scquery_ae.transform import Transform

if TYPE_CHECKING:
    from anndata import AnnData

INPUT_STATES = ("auto", "counts", "log1p", "log2p1")

#: Fraction of the model genes below which a call warns.
WARN_OVERLAP = 0.5


@dataclass(frozen=True)
class OpenedCells:
    """Cells that can be read, and how they are read.

    Attributes
    ----------
    cells
        Counts of the model genes.
    match
        The columns of the model genes.
    state
        The kind of values in the matrix.
    source
        Slot of the matrix, such as ``'layers["counts"]'``.
    """

    cells: GeneColumns
    match: GeneMatch
    state: InputState
    source: str


def open_cells(
    adata: AnnData,
    genes: np.ndarray,
    *,
    function: str,
    layer: str | None = None,
    gene_key: str | None = None,
    input_state: str = "auto",
    min_gene_overlap: float = 0.0,
    warn_overlap: bool = True,
    ignore_case: bool = False,
    orthologs: Mapping[str, str] | None = None,
    prefer_counts: bool = True,
) -> OpenedCells:
    """Find the model genes in an AnnData and detect the kind of its values. Nothing is changed.

    Parameters
    ----------
    adata
        Cells, ``(n_obs, n_vars)``, in memory, backed or Dask.
    genes
        Names of the model genes.
    function
        Name of the public call, for messages.
    layer, gene_key, input_state, min_gene_overlap, ignore_case, orthologs
        As in :func:`scquery_ae.tl.query`.
    warn_overlap
        Warn if few genes match, or a match is ambiguous. Calls that report both turn it off.
    prefer_counts
        Whether None for `layer` reads ``layers["counts"]`` if it is there.

    Raises
    ------
    GeneOverlapError, InputStateError, MissingKeyError, ArgumentError
        If the cells cannot be read.
    """
    check_adata(adata, function)
    check_choice("input_state", input_state, INPUT_STATES)
    check_number("min_gene_overlap", min_gene_overlap, 0, 1)
    check_flag("ignore_case", ignore_case)
    orthologs = _as_mapping(orthologs)
    check_writable(adata, function)
    if layer is None and prefer_counts and COUNTS_LAYER in adata.layers:
        layer = COUNTS_LAYER
    matrix = check_layer(adata, layer)
    match = match_genes(genes, gene_names(adata, gene_key), ignore_case=ignore_case, orthologs=orthologs)
    require_overlap(match, min_gene_overlap)
    state = _input_state(matrix, adata.var_names, input_state, function)
    if warn_overlap and match.fraction < WARN_OVERLAP:
        warn(
            f"The cells have only {match.n_found} of the {len(match.genes)} model genes ({match.fraction:.0%}), so "
            f"results are less certain. If the cells have no more genes, {current().common_genes()}."
        )
    if warn_overlap and match.ambiguous:
        warn(f"Genes that occur more than once among the cells; the first column is used: {shown(match.ambiguous)}.")
    source = "X" if layer is None else f'layers["{layer}"]'
    base = BASES.get(state.kind)
    cells = GeneColumns(matrix, match.columns, logged=base is not None, base=base or np.e)
    return OpenedCells(cells, match, state, source)


def _input_state(matrix: Any, names: Any, stated: str, function: str) -> InputState:
    """Return the kind of values in a matrix; raise if a query cannot use it."""
    lowest, highest = check_expression(matrix, names, function)
    state = detect_state(matrix) if stated == "auto" else InputState(cast("Kind", stated), "as stated")
    if lowest < 0:
        state = InputState("scaled", f"there are negative values (smallest {lowest:.3g})")
    choices = f"{argument('input_state', 'counts')} (for any linear scale), 'log1p' or 'log2p1'"
    if state.kind == "unknown":
        msg = (
            f"{running(function)} cannot detect the kind of the values: {state.reason}. Expected counts, or normalised "
            f"values, logged or not. Pass {choices}."
        )
        raise InputStateError(msg)
    if not state.certain:
        warn(
            f"{running(function)} guesses that the values are log-normalised: {state.reason}. Pass {choices} if you "
            "know what they are."
        )
    if stated in BASES and highest > MAX_LOGGED:
        msg = (
            f"{running(function)} received {argument('input_state', stated)}, but no logarithm of a count is above "
            f"{MAX_LOGGED:g}. Received values up to {highest:.4g}; pass {argument('input_state', 'counts')} or "
            f"{argument('input_state', 'auto')}."
        )
        raise InputStateError(msg)
    if state.kind == "scaled":
        msg = (
            f"{running(function)} needs counts or log-normalised values. Received a matrix that looks scaled: "
            f"{state.reason}. Scaling cannot be inverted; use the values before scaling, often in {current().raw()} or "
            f"a layer ({argument('layer')})."
        )
        raise InputStateError(msg)
    return state


def _as_mapping(orthologs: Any) -> Mapping[str, str] | None:
    """Return a table of orthologs as a mapping."""
    if orthologs is None or isinstance(orthologs, Mapping):
        return orthologs
    if hasattr(orthologs, "to_dict") and getattr(orthologs, "ndim", 0) == 1:  # a pandas Series
        return {str(own): str(other) for own, other in orthologs.to_dict().items()}
    msg = (
        f"{argument('orthologs')} must map gene names of the cells to gene names of the reference: a dictionary, or a "
        f"pandas Series. Received {type(orthologs).__name__}."
    )
    raise ArgumentError(msg)


def open_training(adata: AnnData, transform: Transform, function: str) -> GeneColumns:
    """Return the counts on which `transform` was fitted, for training."""
    check_adata(adata, function)
    layer = counts_layer(adata)
    if layer is not None and layer not in adata.layers:
        place = slot(f'layers["{layer}"]')
        msg = (
            f"{running(function)} trains on {place}, which is missing. Call {call('pp.normalize')} on the counts first."
        )
        raise NotFittedError(msg)
    if layer is None and "log1p" in adata.uns:
        place = slot('uns["log1p"]')
        msg = (
            f"{running(function)} trains on the counts that {call('pp.normalize')} found in X, but "
            f"{place} says that X was logged since. Call {call('pp.normalize')} on counts again."
        )
        raise NotFittedError(msg)
    opened = open_cells(
        adata,
        transform.genes,
        function=function,
        layer=layer,
        input_state="counts",
        warn_overlap=False,
        prefer_counts=False,
    )
    if len(opened.match.missing):
        msg = (
            f"{running(function)} needs all {transform.n_genes} model genes that {call('pp.normalize')} chose. "
            f"{len(opened.match.missing)} are missing, such as {shown(opened.match.missing)}; normalise again after "
            "dropping genes."
        )
        raise NotFittedError(msg)
    return opened.cells


def counts_layer(adata: AnnData) -> str | None:
    """Return the layer in which ``pp.normalize`` left the counts; None for ``X`` of cells that are not in memory."""
    stored = adata.uns.get(Slots().transform)
    layer = stored.get("layer", COUNTS_LAYER) if isinstance(stored, Mapping) else COUNTS_LAYER
    return str(layer) or None


def fitted_transform(adata: AnnData, function: str) -> Transform:
    """Return the transform that ``pp.normalize`` stored in `adata`."""
    check_adata(adata, function)
    place = slot(f'uns["{Slots().transform}"]')
    stored = adata.uns.get(Slots().transform)
    if stored is None:
        msg = (
            f"{running(function)} needs the transform that {call('pp.normalize')} fits "
            f"({place}), which is missing. Call {call('pp.normalize')} on the counts first."
        )
        raise NotFittedError(msg)
    try:
        return Transform.from_dict(stored)
    except (ArgumentError, KeyError, TypeError, ValueError) as error:
        msg = (
            f"{running(function)} cannot read the transform in {place} ({error!r}). Call {call('pp.normalize')} again."
        )
        raise NotFittedError(msg) from error


def gene_names(adata: AnnData, gene_key: str | None) -> dict[str, Any]:
    """Return the gene names under `gene_key`, or for None ``var_names`` and all text columns of ``var``, by key."""
    names: dict[str, Any] = {"var_names": adata.var_names}
    for column in adata.var.columns:
        if adata.var[column].dtype.kind == "O" or adata.var[column].dtype.name in ("category", "string", "str"):
            names[str(column)] = adata.var[column]
    if gene_key is None:
        return names
    if not isinstance(gene_key, str) or gene_key not in names:
        msg = f"{argument('gene_key', gene_key)} holds no gene names. Expected one of {shown(names, limit=20)}."
        raise MissingKeyError(msg)
    return {gene_key: names[gene_key]}
