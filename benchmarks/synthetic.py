"""Simulated counts with the sparsity, depth and cell-type structure of real data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse


def blocks(
    n_obs: int, n_vars: int, *, n_types: int = 20, depth: float = 600.0, seed: int = 0, size: int = 20_000
) -> Iterator[tuple[sparse.csr_matrix, np.ndarray]]:
    """Yield blocks of counts, CSR float32 ``(size, n_vars)``, and the types of their cells, in random order.

    Genes have log-normal means. In each type a twentieth of the genes has a mean up to thirty times higher. The number
    of counts of a cell is log-normal, and the counts are multinomial. With the default depth, about a tenth of 2,000
    genes is detected in a cell.
    """
    biology = np.random.default_rng([seed, n_vars])
    base = np.exp(1.5 * biology.standard_normal(n_vars))
    profiles = np.tile(base, (n_types, 1))
    for profile in profiles:
        profile[biology.permutation(n_vars)[: n_vars // 20]] *= biology.uniform(3, 30, n_vars // 20)
    profiles /= profiles.sum(axis=1, keepdims=True)
    fractions = biology.dirichlet(np.full(n_types, 2.0))
    for start in range(0, n_obs, size):
        rng = np.random.default_rng([seed, n_vars, start])
        n = min(size, n_obs - start)
        types = rng.choice(n_types, n, p=fractions)
        totals = np.maximum(rng.lognormal(np.log(depth), 0.5, n), 20).astype(int)
        order = np.argsort(types, kind="stable")
        genes = np.empty(totals.sum(), dtype=np.int32)
        cells = np.repeat(order, totals[order])
        done = 0
        for kind in range(n_types):
            count = int(totals[order][types[order] == kind].sum())
            # Draw how often each gene occurs in the type, then distribute the draws over its cells.
            drawn = np.repeat(np.arange(n_vars, dtype=np.int32), rng.multinomial(count, profiles[kind]))
            genes[done : done + count] = rng.permutation(drawn)
            done += count
        ones = np.ones(len(genes), dtype=np.float32)
        # tocsr adds repeated entries.
        counts = sparse.coo_matrix((ones, (cells, genes)), shape=(n, n_vars)).tocsr()
        yield counts, types


def cells(n_obs: int, n_vars: int, *, seed: int = 0, **settings: float) -> anndata.AnnData:
    """Return simulated cells with ``obs["cell_type"]``."""
    counts, types = zip(*blocks(n_obs, n_vars, seed=seed, **settings), strict=True)
    names = [f"type {kind}" for kind in np.concatenate(types)]
    return anndata.AnnData(
        sparse.vstack(counts, format="csr"),
        obs=pd.DataFrame({"cell_type": pd.Categorical(names)}, index=[f"c{i}" for i in range(n_obs)]),
        var=pd.DataFrame(index=[f"G{i}" for i in range(n_vars)]),
    )


def write_h5ad(path: Path, n_obs: int, n_vars: int, *, seed: int = 0, **settings: float) -> None:
    """Write simulated cells to a file block by block, so that only one block is in memory."""
    import h5py

    labels = []
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [n_obs, n_vars]})
        values, columns = (
            group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(2**18,))
            for name, dtype in (("data", "f4"), ("indices", "i4"))
        )
        lengths = [np.zeros(1, dtype=np.int64)]
        for counts, types in blocks(n_obs, n_vars, seed=seed, **settings):
            start = values.shape[0]
            for stored, new in ((values, counts.data), (columns, counts.indices)):
                stored.resize((start + len(new),))
                stored[start:] = new
            lengths.append(np.diff(counts.indptr).astype(np.int64))
            labels.append(types)
        group["indptr"] = np.cumsum(np.concatenate(lengths))
        names = pd.Categorical([f"type {kind}" for kind in np.concatenate(labels)])
        obs = pd.DataFrame({"cell_type": names}, index=[f"c{i}" for i in range(n_obs)])
        anndata.io.write_elem(file, "obs", obs)
        anndata.io.write_elem(file, "var", pd.DataFrame(index=[f"G{i}" for i in range(n_vars)]))
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
