"""Library-size normalisation, log1p and variable genes, with the fitted transform kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

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
    """Normalise counts, choose variable genes, and fit the transform that an encoder will carry.

    ``X`` becomes what ``sc.pp.normalize_total``, ``sc.pp.log1p`` give, over all genes, for use with scanpy. Where the
    counts are not in memory (backed, Dask, :func:`scquery_ae.read_lazy`), they are read block by block, and ``X`` and
    the files stay as they are.
    The encoder is trained on the counts of the variable genes, which it normalises by itself (see
    :class:`scquery_ae.transform.Transform`), so that a query with other genes gets the same treatment.

    Parameters
    ----------
    adata
        Cells with counts, ``(n_obs, n_vars)``, dense, CSR or CSC, of any number type, in memory, backed or Dask.
    n_top_genes
        Variable genes to choose; all genes where there are no more than this.
    batch_key
        Column of ``obs``: genes are chosen by how many batches they vary in.
    layer
        Layer with the counts; None for ``X``.
    target_sum
        Counts per cell in ``X`` after scaling; None for the median over cells.
    input_state
        ``"auto"`` decides from the values whether they are counts; ``"counts"`` says that they are (or that they are
        on a linear scale such as TPM, and may be treated so).
    drop_empty
        Drop cells without a single count instead of raising. For cells in memory.
    copy
        Return a changed copy and leave `adata` as it is. For cells in memory.

    Returns
    -------
    None, or the changed copy. Writes

    ``X`` : float32, as dense or sparse as before
        Log-normalised values, of cells in memory.
    ``layers["counts"]``
        The counts, not copied, of cells in memory.
    ``var["highly_variable"]`` : bool
        The model genes.
    ``uns["scquery_transform"]`` : dict
        The fitted transform.
    ``uns["log1p"]`` : dict
        As scanpy leaves it, of cells in memory.

    Raises
    ------
    InputStateError
        If values are negative, NaN, infinite, already normalised, logged or scaled, or cells are without counts.
    ArgumentError
        If there are no cells or genes, or gene names repeat.
    MissingKeyError
        If `batch_key` or `layer` is not there, or a cell's batch is missing.

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
    check_unique(adata.var_names, "`adata.var_names`", "call `adata.var_names_make_unique()`.")
    if batch_key is not None:
        _check_batches(check_obs_key(adata, batch_key, "batch_key"), batch_key)
    # Layers of a backed AnnData are in memory, but its X is the file's.
    held = in_memory(counts) and not adata.isbacked
    check_writable(adata, "pp.normalize")
    if not held and (copy or drop_empty):
        asked, kind = "copy" if copy else "drop_empty", "a backed AnnData" if adata.isbacked else "a Dask array"
        msg = (
            f"`{asked}=True` is for cells in memory. Received {kind}, whose X stays as it is; "
            f"leave `{asked}` out, or call it on `adata.to_memory()`."
        )
        raise ArgumentError(msg)
    lowest, _ = check_expression(counts, adata.var_names, "pp.normalize")
    _check_counts(counts, lowest, input_state, logged=layer is None and "log1p" in adata.uns)
    totals = row_sums(counts) if held else np.concatenate([row_sums(b) for b in row_blocks(counts, CHUNK)])
    empty = totals == 0
    if empty.all() or (empty.any() and not drop_empty):
        msg = (
            f"`pp.normalize` needs at least one count in every cell. Received {int(empty.sum())} of {len(empty)} cells "
            f"without any, such as {shown(adata.obs_names[empty])}; pass `drop_empty=True` to drop them, or filter "
            "with `sc.pp.filter_cells(adata, min_counts=1)`."
        )
        raise InputStateError(msg)

    # All that can fail comes first, on a thin AnnData of its own; the user's is changed at the end.
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
            "read %d cells, and left X as it is: %d model genes; wrote var['highly_variable'], uns[%r]",
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
            f"`pp.normalize` needs counts, which are never negative. Received values down to {lowest:.3g}: the "
            "matrix looks scaled or corrected; use the raw counts, often in `adata.raw.X` or a layer."
        )
        raise InputStateError(msg)
    if input_state == "counts":
        return
    state = detect_state(matrix)
    if logged and state.kind == "counts":
        msg = (
            '`pp.normalize` needs counts. `adata.uns["log1p"]` says that X is logged already; '
            'name the layer with the counts (`layer="counts"`), or pass `input_state="counts"` if X holds counts.'
        )
        raise InputStateError(msg)
    if state.kind != "counts":
        fix = _UNDO.get(state.kind, "")
        msg = (
            f"`pp.normalize` needs counts. Received a matrix that looks {_WORDS[state.kind]}: {state.reason}. Use "
            f"the raw counts, often in `adata.raw.X` or a layer (`layer=`); or, if none exist, {fix}pass "
            '`input_state="counts"`.'
        )
        raise InputStateError(msg)


_WORDS = {
    "normalized": "normalised already",
    "log1p": "log-normalised already",
    "log2p1": "logged to base 2 already",
    "scaled": "scaled already",
    "unknown": "like neither whole counts nor anything that was made of them",
}
_UNDO = {
    "log1p": "take `np.expm1` of the values and ",
    "log2p1": "take `np.exp2` of the values less one and ",
}


def _check_batches(batches: Any, batch_key: str) -> None:
    missing = batches.isna()
    if missing.any():
        msg = (
            f"`batch_key={batch_key!r}` must give a batch for every cell. Received {int(missing.sum())} missing "
            f"value(s), in cells such as {shown(batches.index[missing])}; fill them, for example with `'unknown'`."
        )
        raise MissingKeyError(msg)


def _log_normalized(counts: Any, genes: pd.Index, target_sum: float | None) -> AnnData:
    """Return a bare AnnData with log-normalised X; `counts` is not touched."""
    import anndata
    import pandas as pd
    import scanpy as sc

    if isinstance(counts, sparse.sparray):  # which scanpy does not take everywhere
        counts = sparse.csr_matrix(counts) if counts.format == "csr" else sparse.csc_matrix(counts)
    # astype copies, also where the type is float32 already: scanpy works in place.
    work = anndata.AnnData(counts.astype(np.float32), var=pd.DataFrame(index=genes))
    sc.pp.normalize_total(work, target_sum=target_sum)
    sc.pp.log1p(work)
    return work
