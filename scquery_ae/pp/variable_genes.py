"""Choice of variable genes as in scanpy, also for cells that are read block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from scquery_ae._caller import argument, running
from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger
from scquery_ae.input_state import row_blocks
from scquery_ae.loaders import CHUNK

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

#: Bins of mean expression within which dispersions are compared.
N_BINS = 20


def choose_genes(work: AnnData, n_top_genes: int, batches: np.ndarray | None) -> pd.DataFrame:
    """Return columns for ``var``, including ``highly_variable``, for log-normalised cells in memory."""
    import pandas as pd
    import scanpy as sc

    if n_top_genes >= work.n_vars:
        return _all_genes(work.var_names)
    codes = _usable_batches(batches, work.n_obs, work.n_vars)
    if (codes < 0).any():
        work = work[codes >= 0].copy()
    work.obs["batch"] = pd.Categorical(codes[codes >= 0])
    try:
        sc.pp.highly_variable_genes(work, n_top_genes=n_top_genes, batch_key="batch" if codes.max() else None)
    except IndexError as error:  # scanpy indexes an empty list of dispersions
        raise _nothing_varies(work.n_vars) from error
    variable: pd.DataFrame = work.var
    return variable


def choose_genes_on_disk(
    counts: Any,
    totals: np.ndarray,
    genes: pd.Index,
    target_sum: float | None,
    n_top_genes: int,
    batches: np.ndarray | None,
) -> pd.DataFrame:
    """Return the same columns for counts, ``(n_obs, n_vars)``, read block by block; `totals` are the sums of cells."""
    if n_top_genes >= len(genes):
        return _all_genes(genes)
    codes = _usable_batches(batches, len(totals), len(genes))
    factors = (np.median(totals) if target_sum is None else target_sum) / totals

    def scaled() -> Iterator[sparse.csr_matrix]:
        start = 0
        for block in row_blocks(counts, CHUNK):
            stop = start + block.shape[0]
            yield sparse.diags(factors[start:stop]) @ sparse.csr_matrix(block, dtype=np.float32)
            start = stop

    variable = variable_genes(scaled(), n_top_genes, codes, genes)
    if not variable["highly_variable"].any():
        raise _nothing_varies(len(genes))
    return variable


def variable_genes(
    blocks: Iterable[sparse.csr_matrix], n_top_genes: int, batches: np.ndarray, genes: pd.Index
) -> pd.DataFrame:
    """Choose variable genes as ``sc.pp.highly_variable_genes`` does, in one pass over blocks of cells.

    Checked first: the function of scanpy, which takes a matrix in memory, or a Dask array that it reads once per batch.

    Parameters
    ----------
    blocks
        Cells scaled to the same sum, not logged, CSR ``(n, n_genes)`` each.
    n_top_genes
        Number of genes to choose, at most the number of genes.
    batches
        Batch of each cell, int ``(n_obs,)``; negative for cells to ignore.
    genes
        Names of the genes.

    Returns
    -------
    Columns for ``var``, including ``highly_variable``, which is all False if no gene varies.

    References
    ----------
    Satija et al., Nature Biotechnology 33, 495 (2015).
    """
    import pandas as pd

    sizes = np.bincount(batches[batches >= 0])
    sums, squares = np.zeros((len(sizes), len(genes))), np.zeros((len(sizes), len(genes)))
    start = 0
    for block in blocks:
        own = batches[start : start + block.shape[0]]
        start += block.shape[0]
        members = sparse.csr_matrix(
            (np.ones(np.count_nonzero(own >= 0)), (own[own >= 0], np.flatnonzero(own >= 0))),
            shape=(len(sizes), block.shape[0]),
        )
        values = block.astype(np.float64)
        sums += (members @ values).toarray()
        values.data **= 2
        squares += (members @ values).toarray()
    # With several batches, a gene without counts in a batch has dispersion zero there; with one, it is ranked too.
    only = len(sizes) == 1
    seen = sums > (-1 if only else 0)
    tables = [_dispersions(*moments, n_top_genes) for moments in zip(sizes, sums, squares, seen, strict=True)]
    if only:
        return tables[0].set_index(genes).astype({"dispersions_norm": np.float32})
    columns = ["means", "dispersions", "dispersions_norm"]
    stacked = np.stack([table[columns].to_numpy() for table in tables])
    filled = np.where(np.isnan(stacked), 0, stacked).sum(axis=0)
    with np.errstate(invalid="ignore"):
        table = pd.DataFrame(filled / (~np.isnan(stacked)).sum(axis=0), index=genes, columns=columns)
    counted = np.sum([table["highly_variable"].to_numpy() for table in tables], axis=0)
    table["highly_variable_nbatches"] = counted
    table["highly_variable_intersection"] = counted == len(sizes)
    # Ties are broken by name.
    by_name = np.argsort(np.argsort(genes.to_numpy(dtype=str), kind="stable"))
    order = np.lexsort((by_name, -table["dispersions_norm"].fillna(-np.inf), -counted))
    table["highly_variable"] = np.isin(np.arange(len(genes)), order[:n_top_genes]) & (counted.sum() > 0)
    return table.astype({"dispersions_norm": np.float32})


def _dispersions(n: int, sums: np.ndarray, squares: np.ndarray, seen: np.ndarray, n_top_genes: int) -> pd.DataFrame:
    """Return the dispersion of each gene in one batch, standardised among genes of similar mean expression."""
    import pandas as pd

    mean = sums / n
    variance = (squares / n - mean**2) * n / (n - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        dispersion = np.where(variance > 0, np.log(variance / mean), np.nan)
    table = pd.DataFrame({"means": np.log1p(mean), "dispersions": dispersion})
    inside = table[seen]
    # A bin of one gene has no spread; the normalised dispersion of that gene is one, as in scanpy.
    bins = inside.groupby(pd.cut(inside["means"], N_BINS), observed=True)["dispersions"]
    average, spread = bins.transform("mean"), bins.transform("std")
    alone = spread.isna()
    normalized = (inside["dispersions"] - average.mask(alone, 0)) / spread.mask(alone, average)
    table["dispersions_norm"] = normalized.reindex(table.index)
    table.loc[~seen, ["dispersions", "dispersions_norm"]] = 0.0
    ranked = np.sort(normalized.dropna().to_numpy())[::-1]
    table["highly_variable"] = False
    if len(ranked):
        least = ranked[min(n_top_genes, len(ranked)) - 1]
        table.loc[seen, "highly_variable"] = (normalized >= least).to_numpy()
    return table


def _all_genes(genes: pd.Index) -> pd.DataFrame:
    import pandas as pd

    logger.debug("all %d genes are model genes: there are no more than n_top_genes", len(genes))
    return pd.DataFrame({"highly_variable": np.ones(len(genes), dtype=bool)}, index=genes)


def _usable_batches(batches: np.ndarray | None, n_obs: int, n_vars: int) -> np.ndarray:
    """Return the batch code of each cell, -1 for a batch of one cell, which has no variance.

    All cells form one batch if no batches are given, or each batch has one cell.
    """
    if n_obs < 2:
        msg = (
            f"{running('pp.normalize')} needs at least two cells to choose variable genes. Received one; "
            f"{argument('n_top_genes', n_vars)} takes all genes."
        )
        raise ArgumentError(msg)
    if batches is None:
        return np.zeros(n_obs, dtype=int)
    _, codes, sizes = np.unique([str(batch) for batch in batches], return_inverse=True, return_counts=True)
    several = sizes > 1
    if not several.any():
        return np.zeros(n_obs, dtype=int)
    if not several.all():
        logger.debug("%d batch(es) of one cell are ignored in the choice of genes", int((~several).sum()))
    return np.where(several, np.cumsum(several) - 1, -1)[codes]


def _nothing_varies(n_vars: int) -> ArgumentError:
    msg = (
        f"{running('pp.normalize')} cannot choose variable genes: no gene varies between the normalised cells. "
        f"{argument('n_top_genes', n_vars)} takes all genes; check that the matrix holds counts."
    )
    return ArgumentError(msg)
