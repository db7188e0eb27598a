"""From a user's AnnData to the counts of the model genes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

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

#: Overlap below which a result is still given, with a warning.
WARN_OVERLAP = 0.5


@dataclass(frozen=True)
class OpenedCells:
    """Cells ready to be read, and what was decided on the way.

    Attributes
    ----------
    cells
        Counts of the model genes.
    match
        Which genes were found, and where.
    state
        What the matrix holds.
    source
        Where the matrix came from, such as ``'layers["counts"]'``.
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
    """Find the model genes in an AnnData and decide what its values are; nothing is changed.

    Parameters
    ----------
    adata
        Cells, ``(n_obs, n_vars)``, in memory, backed or Dask.
    genes
        Names of the model genes.
    function
        Name of the public call, for messages.
    layer
        Layer to read; None for ``layers["counts"]`` where there is one, else ``X``.
    gene_key
        ``"var_names"`` or a column of ``var``; None for whichever fits best.
    input_state
        ``"counts"`` for any linear scale, ``"log1p"`` for its natural logarithm, ``"log2p1"`` for that to base 2,
        ``"auto"`` to decide.
    min_gene_overlap
        Least share of the model genes, 0 to 1.
    warn_overlap
        Warn when genes are few or ambiguous; off for calls that report it.
    ignore_case, orthologs
        How names are matched; see :func:`scquery_ae.genes.match_genes`.
    prefer_counts
        Whether None as `layer` means ``layers["counts"]`` where there is one.

    Raises
    ------
    GeneOverlapError, InputStateError, MissingKeyError, ArgumentError
        If the cells cannot be read as asked.
    """
    check_adata(adata, function)
    check_choice("input_state", input_state, INPUT_STATES)
    check_number("min_gene_overlap", min_gene_overlap, 0, 1)
    check_flag("ignore_case", ignore_case)
    orthologs = _orthologs(orthologs)
    check_writable(adata, function)
    if layer is None and prefer_counts and COUNTS_LAYER in adata.layers:
        layer = COUNTS_LAYER
    matrix = check_layer(adata, layer)
    match = match_genes(genes, gene_names(adata, gene_key), ignore_case=ignore_case, orthologs=orthologs)
    require_overlap(match, min_gene_overlap)
    lowest, highest = check_expression(matrix, adata.var_names, function)
    state = detect_state(matrix) if input_state == "auto" else InputState(cast("Kind", input_state), "as stated")
    if lowest < 0:
        state = InputState("scaled", f"there are negative values (least {lowest:.3g})")
    if state.kind == "unknown":
        msg = (
            f"`{function}` cannot tell what the values are: {state.reason}. Expected counts, or values that "
            'were normalised and maybe logged. Pass `input_state="counts"` (for any linear scale), "log1p" or "log2p1".'
        )
        raise InputStateError(msg)
    if not state.certain:
        warn(
            f"`{function}` takes the values for log-normalised, which is a guess: {state.reason}. "
            'Pass `input_state="counts"`, "log1p" or "log2p1" to say what they are.'
        )
    if input_state in BASES and highest > MAX_LOGGED:
        msg = (
            f'`{function}` was told `input_state="{input_state}"`, but no logarithm of a count is above '
            f'{MAX_LOGGED:g}. Received values up to {highest:.4g}; pass `input_state="counts"` or "auto".'
        )
        raise InputStateError(msg)
    if state.kind == "scaled":
        msg = (
            f"`{function}` needs counts or log-normalised values. Received a matrix that looks scaled: "
            f"{state.reason}. Scaling cannot be undone; use the values from before it, often in "
            "`adata.raw.to_adata()` or a layer (`layer=`)."
        )
        raise InputStateError(msg)
    if warn_overlap and match.fraction < WARN_OVERLAP:
        warn(
            f"Only {match.n_found} of {len(match.genes)} model genes ({match.fraction:.0%}) are in the query: "
            "labels will be less certain than the reference's own. If the query has no more genes, build a reference "
            "on those that both share."
        )
    if warn_overlap and match.ambiguous:
        warn(f"Genes named more than once in the query; the first column was taken: {shown(match.ambiguous)}.")
    source = "X" if layer is None else f'layers["{layer}"]'
    base = BASES.get(state.kind)
    cells = GeneColumns(matrix, match.columns, logged=base is not None, base=base or np.e)
    return OpenedCells(cells, match, state, source)


def _orthologs(orthologs: Any) -> Mapping[str, str] | None:
    """Return a table of orthologs as a mapping from the query's names to the reference's."""
    if orthologs is None or isinstance(orthologs, Mapping):
        return orthologs
    if hasattr(orthologs, "to_dict") and getattr(orthologs, "ndim", 0) == 1:  # a pandas Series
        return {str(own): str(other) for own, other in orthologs.to_dict().items()}
    msg = (
        "`orthologs` must map the query's gene names to the reference's: a dictionary, or a Series. "
        f"Received {type(orthologs).__name__}."
    )
    raise ArgumentError(msg)


def open_training(adata: AnnData, transform: Transform, function: str) -> GeneColumns:
    """Return the counts that `transform` was fitted on, for training."""
    check_adata(adata, function)
    layer = counts_layer(adata)
    if layer is not None and layer not in adata.layers:
        msg = (
            f'`{function}` trains on `adata.layers["{layer}"]`, which is not there. '
            "Call `scq.pp.normalize(adata)` on the counts first."
        )
        raise NotFittedError(msg)
    if layer is None and "log1p" in adata.uns:
        msg = (
            f"`{function}` trains on the counts in X, where `scq.pp.normalize` found them, but "
            '`adata.uns["log1p"]` says that X was logged since. Call `scq.pp.normalize` again on counts.'
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
            f"`{function}` needs all {transform.n_genes} model genes. {len(opened.match.missing)} that "
            f"`scq.pp.normalize` chose are not in `adata` any more, such as {shown(opened.match.missing)}; normalise "
            "again after dropping genes."
        )
        raise NotFittedError(msg)
    return opened.cells


def counts_layer(adata: AnnData) -> str | None:
    """Return the layer that ``pp.normalize`` found or left the counts in, None for X, which it leaves if on disk."""
    stored = adata.uns.get(Slots().transform)
    layer = stored.get("layer", COUNTS_LAYER) if isinstance(stored, Mapping) else COUNTS_LAYER
    return str(layer) or None


def fitted_transform(adata: AnnData, function: str) -> Transform:
    """Return the transform that ``pp.normalize`` left in `adata`."""
    check_adata(adata, function)
    stored = adata.uns.get(Slots().transform)
    if stored is None:
        msg = (
            f'`{function}` needs the normalisation that `scq.pp.normalize` fits (`adata.uns["{Slots().transform}"]`), '
            "which is not there. Call `scq.pp.normalize(adata)` on the counts first."
        )
        raise NotFittedError(msg)
    try:
        return Transform.from_dict(stored)
    except (ArgumentError, KeyError, TypeError, ValueError) as error:
        msg = (
            f'`{function}` cannot read the normalisation in `adata.uns["{Slots().transform}"]` ({error!r}). '
            "Call `scq.pp.normalize(adata)` again."
        )
        raise NotFittedError(msg) from error


def gene_names(adata: AnnData, gene_key: str | None) -> dict[str, Any]:
    """Return the names that may be matched, by key: those asked for, or all text columns of ``var``."""
    names: dict[str, Any] = {"var_names": adata.var_names}
    for column in adata.var.columns:
        if adata.var[column].dtype.kind == "O" or adata.var[column].dtype.name in ("category", "string", "str"):
            names[str(column)] = adata.var[column]
    if gene_key is None:
        return names
    if not isinstance(gene_key, str) or gene_key not in names:
        msg = f"`gene_key={gene_key!r}` holds no gene names. Expected one of {shown(names, limit=20)}."
        raise MissingKeyError(msg)
    return {gene_key: names[gene_key]}
