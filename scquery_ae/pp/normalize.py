"""``pp.normalize``: library-size normalisation, log1p and variable genes, with the fitted transform stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from scquery_ae._caller import argument, current, running, slot
from scquery_ae._checks import (
    check_adata,
    check_choice,
    check_flag,
    check_integer,
    check_layer,
    check_number,
    check_obs_key,
    check_unique,
    check_writable,
    shown,
)
from scquery_ae._errors import ArgumentError, InputStateError, MissingKeyError
from scquery_ae._logging import logger
from scquery_ae._slots import COUNTS_LAYER, Slots
from scquery_ae.input_state import check_expression, detect_state, in_memory, row_blocks
from scquery_ae.loaders import CHUNK, GeneColumns
from scquery_ae.pp.variable_genes import choose_genes, choose_genes_on_disk
from scquery_ae.transform import Transform, row_sums

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def normalize(
    adata: AnnData,
    *,
    n_top_genes: int = 2000,
    batch_key: str | None = None,
    layer: str | None = None,
    target_sum: float | None = None,
    input_state: str = "auto",
    drop_empty: bool = False,
    copy: bool = False,
) -> AnnData | None:
    """Normalise counts, choose variable genes, and fit the transform of an encoder.

    ``X`` becomes the result of ``sc.pp.normalize_total`` and ``sc.pp.log1p`` on all genes, for use with scanpy. Counts
    that are not in memory (backed, or :func:`scquery_ae.read` with ``lazy=True``) are read block by block, and ``X``
    and the files stay as they are.

    The encoder is trained on the counts of the variable genes, and normalises them itself (see
    :class:`scquery_ae.transform.Transform`), so a query with other genes is normalised the same way.

    Parameters
    ----------
    adata
        Cells with counts, ``(n_obs, n_vars)``: dense, CSR or CSC, of any number type, in memory, backed or Dask.
    n_top_genes
        Number of variable genes. All genes are chosen if there are no more.
    batch_key
        Column of ``obs`` with the batches. Genes that vary in most batches are chosen.
    layer
        Layer with the counts. None reads ``X``.
    target_sum
        Total counts per cell in ``X`` after scaling. None takes the median over cells.
    input_state
        ``"auto"`` detects from the values whether they are counts. ``"counts"`` treats them as counts, which also suits
        other linear scales such as TPM.
    drop_empty
        Drop cells without a count instead of raising an error. For cells in memory.
    copy
        Change and return a copy, and leave `adata` as it is. For cells in memory.

    Returns
    -------
    None, or the changed copy. Writes

    ``X`` : float32, as dense or sparse as before
        Log-normalised values, for cells in memory.
    ``layers["counts"]``
        The counts, not copied, for cells in memory.
    ``var["highly_variable"]`` : bool
        The model genes.
    ``uns["scquery_transform"]`` : dict
        The fitted transform.
    ``uns["log1p"]`` : dict
        As scanpy writes it, for cells in memory.

    Raises
    ------
    InputStateError
        If values are negative, NaN, infinite, already normalised, logged or scaled, or a cell has no counts.
    ArgumentError
        If there are no cells or genes, or gene names repeat.
    MissingKeyError
        If `batch_key` or `layer` is missing, or a cell has no batch.

    Notes
    -----
    Variable genes: Satija et al., Nature Biotechnology 33, 495 (2015), through
    :func:`scanpy.pp.highly_variable_genes`.

    Examples
    --------
    >>> import scquery_ae as scq
    >>> adata = scq.datasets.pbmc68k_reduced()
    >>> scq.pp.normalize(adata, n_top_genes=500)
    >>> int(adata.var["highly_variable"].sum())
    500
    """
    check_adata(adata, "pp.normalize")
    check_integer("n_top_genes", n_top_genes)
    check_choice("input_state", input_state, ("auto", "counts"))
    check_flag("drop_empty", drop_empty)
    check_flag("copy", copy)
    if target_sum is not None:
        check_number("target_sum", target_sum, 0, np.inf, closed="neither")
    counts = check_layer(adata, layer)
    check_unique(adata.var_names, slot("var_names"), f"{current().make_unique('var')}.")
    if batch_key is not None:
        _check_batches(check_obs_key(adata, batch_key, "batch_key"), batch_key)
    # Layers of a backed AnnData are in memory, but its X is in the file.
    held = in_memory(counts) and not adata.isbacked
    check_writable(adata, "pp.normalize")
    if not held and (copy or drop_empty):
        asked, kind = "copy" if copy else "drop_empty", "a backed AnnData" if adata.isbacked else "a Dask array"
        msg = (
            f"{argument(asked, True)} is for cells in memory. Received {kind}, whose X stays as it is; leave out "
            f"{argument(asked, True)}, or load the cells into memory."
        )
        raise ArgumentError(msg)
    lowest, _ = check_expression(counts, adata.var_names, "pp.normalize")
    _check_counts(counts, lowest, input_state, logged=layer is None and "log1p" in adata.uns)
    totals = row_sums(counts) if held else np.concatenate([row_sums(b) for b in row_blocks(counts, CHUNK)])
    empty = totals == 0
    if empty.all() or (empty.any() and not drop_empty):
        msg = (
            f"{running('pp.normalize')} needs at least one count in every cell. Received {int(empty.sum())} of "
            f"{len(empty)} cells without any, such as {shown(adata.obs_names[empty])}; pass "
            f"{argument('drop_empty', True)} to drop them."
        )
        raise InputStateError(msg)

    # Everything that can fail runs on another AnnData first; `adata` is changed at the end.
    keep = ~empty
    counts_kept = counts[keep] if empty.any() else counts
    batches = None if batch_key is None else adata.obs[batch_key].to_numpy()[keep]
    names = adata.var_names.astype(str)
    if held:
        work = _log_normalized(counts_kept, names, target_sum)
        variable = choose_genes(work, n_top_genes, batches)
    else:
        variable = choose_genes_on_disk(counts, totals, names, target_sum, n_top_genes, batches)
    columns = np.flatnonzero(variable["highly_variable"].to_numpy())
    transform = Transform.fit(GeneColumns(counts_kept, columns), adata.var_names.to_numpy()[columns])
    if not held:
        if adata.is_view:
            adata._init_as_actual(adata.copy())
        for name in variable:
            adata.var[name] = variable[name].to_numpy()
        adata.uns[Slots().transform] = {**transform.to_dict(), "layer": layer or ""}
        logger.info(
            "read %d cells and left X as it is: %d model genes; wrote var['highly_variable'], uns[%r]",
            adata.n_obs,
            transform.n_genes,
            Slots().transform,
        )
        return None

    target = adata.copy() if copy else adata
    if target.is_view:
        target._init_as_actual(target.copy())
    if empty.any():
        target._inplace_subset_obs(keep)
    target.layers[COUNTS_LAYER] = check_layer(target, layer)
    target.X = work.X
    for name in variable:
        target.var[name] = variable[name].to_numpy()
    target.uns["log1p"] = {"base": None}
    target.uns[Slots().transform] = {**transform.to_dict(), "layer": COUNTS_LAYER}
    logger.info(
        "normalised %d cells%s: %d model genes; wrote X, layers[%r], var['highly_variable'], uns[%r], uns['log1p']%s",
        target.n_obs,
        f" and dropped {empty.sum()} without counts" if empty.any() else "",
        transform.n_genes,
        COUNTS_LAYER,
        Slots().transform,
        " of the copy" if copy else "",
    )
    return target if copy else None


def _check_counts(matrix: Any, lowest: float, input_state: str, *, logged: bool) -> None:
    if lowest < 0:
        msg = (
            f"{running('pp.normalize')} needs counts, which are never negative. Received values down to {lowest:.3g}: "
            f"the matrix looks scaled or corrected; use the raw counts, often in {current().raw()} or a layer."
        )
        raise InputStateError(msg)
    if input_state == "counts":
        return
    state = detect_state(matrix)
    if logged and state.kind == "counts":
        place = slot('uns["log1p"]')
        msg = (
            f"{running('pp.normalize')} needs counts. {place} says that X is already logged; name the layer with the "
            f"counts with {argument('layer')}, or pass {argument('input_state', 'counts')} if X holds counts."
        )
        raise InputStateError(msg)
    if state.kind != "counts":
        fix = _UNDO.get(state.kind, "")
        msg = (
            f"{running('pp.normalize')} needs counts. Received a matrix that looks {_WORDS[state.kind]}: "
            f"{state.reason}. Use the raw counts, often in {current().raw()} or a layer ({argument('layer')}). If "
            f"there are none, {fix}pass {argument('input_state', 'counts')}."
        )
        raise InputStateError(msg)


_WORDS = {
    "normalized": "already normalised",
    "log1p": "already log-normalised",
    "log2p1": "already logged to base 2",
    "scaled": "already scaled",
    "unknown": "neither like counts nor like normalised counts",
}
_UNDO = {
    "log1p": "invert the logarithm (exp(x) - 1) and ",
    "log2p1": "invert the logarithm (2^x - 1) and ",
}


def _check_batches(batches: Any, batch_key: str) -> None:
    missing = batches.isna()
    if missing.any():
        msg = (
            f"{argument('batch_key', batch_key)} must give a batch for every cell. Received {int(missing.sum())} "
            f"missing value(s), in cells such as {shown(batches.index[missing])}; fill them, for example with "
            "'unknown'."
        )
        raise MissingKeyError(msg)


def _log_normalized(counts: Any, genes: pd.Index, target_sum: float | None) -> AnnData:
    """Return an AnnData with log-normalised X and nothing else. `counts` is not changed."""
    import anndata
    import pandas as pd
    import scanpy as sc

    if isinstance(counts, sparse.sparray):  # scanpy does not take sparse arrays everywhere
        counts = sparse.csr_matrix(counts) if counts.format == "csr" else sparse.csc_matrix(counts)
    # scanpy works in place, and astype copies even if the type is float32 already.
    work = anndata.AnnData(counts.astype(np.float32), var=pd.DataFrame(index=genes))
    sc.pp.normalize_total(work, target_sum=target_sum)
    sc.pp.log1p(work)
    return work
