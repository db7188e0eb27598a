"""Variable genes in one pass over blocks, against scanpy on the whole matrix."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import scquery_ae as scq
from scquery_ae.pp.variable_genes import choose_genes_on_disk, variable_genes

pytestmark = [
    # Fewer genes vary than were asked for: scanpy says so, and takes all that do.
    pytest.mark.filterwarnings("ignore:`n_top_genes` > number of normalized dispersions"),
    # Rounding gives constant genes a variance just below zero; what it makes of that is NaN, as for zero.
    pytest.mark.filterwarnings("ignore:invalid value encountered in log:RuntimeWarning"),
]


def values_of(seed):
    """Return scaled values, batches and a number of genes, with all that real files have of odd genes."""
    rng = np.random.default_rng(seed)
    n, d, n_batches = int(rng.integers(8, 60)), int(rng.integers(8, 60)), int(rng.integers(1, 5))
    x = rng.poisson(rng.gamma(0.5, 2, d) * np.exp(rng.normal(size=(n, d)))).astype(float)
    # Two cells at least of each batch.
    batches = rng.permutation(np.arange(n) % n_batches)
    if rng.random() < 0.5:
        x[:, rng.integers(0, d, 3)] = 0
    if n_batches > 1 and rng.random() < 0.7:
        for _ in range(4):
            x[np.ix_(batches == rng.integers(n_batches), rng.integers(0, d, 3))] = 0
    x[:, 7] += 1e-3
    x *= rng.uniform(0.5, 2, n)[:, None]
    if rng.random() < 0.5:
        x[:, d // 2] = x[:, d // 3]
    if rng.random() < 0.3:
        x[:, 5] = 2.0
    return x, batches, int(rng.choice([1, 3, d // 2, d - 2, d - 1, d]))


def by_scanpy(x, batches, n_top_genes, names):
    obs = pd.DataFrame({"batch": pd.Categorical(batches)}, index=[f"c{i}" for i in range(len(x))])
    adata = anndata.AnnData(np.log1p(x), obs=obs, var=pd.DataFrame(index=names))
    key = "batch" if len(np.unique(batches)) > 1 else None
    sc.pp.highly_variable_genes(adata, flavor="seurat", n_top_genes=n_top_genes, batch_key=key)
    return adata.var


def is_decided_by_rounding(x, batches, n_top_genes, names):
    """Whether scanpy's own choice changes with the last digits: two genes alone in a bin are alike but for those."""
    parts = [x] if len(np.unique(batches)) == 1 else [x[batches == batch] for batch in np.unique(batches)]
    for part in parts:
        shown = part[:, (part > 0).any(axis=0)] if len(parts) > 1 else part
        norm = by_scanpy(shown, np.zeros(len(part)), min(n_top_genes, shown.shape[1]), names[: shown.shape[1]])
        ranked = np.sort(norm["dispersions_norm"].dropna())[::-1]
        cut = ranked[min(n_top_genes, len(ranked)) - 1]
        # One gene in a bin gives exactly one, and copies of a gene are equal to the last digit.
        if cut != 1 and (np.abs(ranked - cut) < 1e-5).sum() > 1:
            return True
    table = by_scanpy(x, batches, n_top_genes, names)
    if len(parts) == 1 or n_top_genes == len(table):
        return False
    last, next_one = (
        table.sort_values(["highly_variable_nbatches", "dispersions_norm"], ascending=False)
        .iloc[n_top_genes - 1 : n_top_genes + 1][["highly_variable_nbatches", "dispersions_norm"]]
        .to_numpy()
    )
    return 0 < abs(last[1] - next_one[1]) < 1e-5 or (last[1] == next_one[1] and last[1] != 0)


def assert_same(received, expected):
    assert set(received.columns) == set(expected.columns)
    for name, column in expected.items():
        assert received[name].dtype == column.dtype, name
        # NaN where scanpy has NaN.
        np.testing.assert_allclose(
            received[name].astype(float), column.astype(float), rtol=1e-6, atol=1e-6, err_msg=name
        )


def blocks_of(x, size):
    return (sparse.csr_matrix(x[start : start + size]) for start in range(0, len(x), size))


@pytest.mark.parametrize("first_seed", range(0, 160, 20))
def test_the_choice_equals_scanpys(first_seed):
    compared = 0
    for seed in range(first_seed, first_seed + 20):
        x, batches, n_top_genes = values_of(seed)
        rng = np.random.default_rng(seed)
        names = pd.Index([f"g{i}" for i in rng.permutation(x.shape[1])])
        if is_decided_by_rounding(x, batches, n_top_genes, names):
            continue
        compared += 1
        expected = by_scanpy(x, batches, n_top_genes, names)
        # Through float32's logarithm and back, which is what scanpy sees.
        blocks = blocks_of(np.expm1(np.log1p(x)), int(rng.integers(1, len(x) + 1)))
        assert_same(variable_genes(blocks, n_top_genes, batches, names), expected)
    assert compared >= 10


@pytest.mark.parametrize("n_top_genes", [2, 4, 5])
def test_ties_are_broken_by_name_as_in_scanpy(n_top_genes):
    """Three copies of one gene, and two that no cell has."""
    x, _, _ = values_of(0)
    x = np.column_stack([x[:, 8:11], x[:, [11, 11, 11]], np.zeros((len(x), 2))])
    x[:, 3:6] += x[:, 3:6].max() * np.arange(len(x))[:, None]
    batches = np.arange(len(x)) % 2
    names = pd.Index(["b", "z", "m", "y", "a", "k", "x", "c"])
    expected = by_scanpy(x, batches, n_top_genes, names)
    received = variable_genes(blocks_of(np.expm1(np.log1p(x)), 7), n_top_genes, batches, names)
    assert list(received["highly_variable"]) == list(expected["highly_variable"])
    assert received["highly_variable"].sum() == n_top_genes


def test_dispersions_by_hand():
    """Two bins, of one and of two genes."""
    x = np.array([[1.0, 4, 100], [3, 0, 300]])
    table = variable_genes([sparse.csr_matrix(x)], 1, np.zeros(2, int), pd.Index(list("abc")))
    dispersions = np.log([2 / 2, 8 / 2, 20_000 / 200])
    np.testing.assert_allclose(table["means"], np.log1p([2, 2, 200]))
    np.testing.assert_allclose(table["dispersions"], dispersions)
    # The spread of two values is their distance over the root of two; a gene alone counts as one.
    np.testing.assert_allclose(table["dispersions_norm"], [-np.sqrt(0.5), np.sqrt(0.5), 1], rtol=1e-6)
    assert list(table["highly_variable"]) == [False, False, True]


def test_cells_without_a_batch_do_not_count():
    x, _, _ = values_of(3)
    names = pd.Index([f"g{i}" for i in range(x.shape[1])])
    batches = np.where(np.arange(len(x)) % 3 == 2, -1, np.arange(len(x)) % 3)
    counted = batches >= 0
    assert_same(
        variable_genes(blocks_of(x, 4), 5, batches, names),
        variable_genes(blocks_of(x[counted], 9), 5, batches[counted], names),
    )


@pytest.mark.parametrize("batches", [None, "two", "with lonely ones", "lonely ones alone", "one and a lonely one"])
@pytest.mark.parametrize("fmt", ["csr", "dense"])
@pytest.mark.parametrize("target_sum", [None, 500.0])
def test_counts_on_disk_and_in_memory_choose_the_same(make_adata, tmp_path, fmt, batches, target_sum):
    adata = make_adata(70, 90, fmt=fmt, seed=4)
    # Genes that no cell has: they are there, and come last.
    x = adata.X.toarray() if fmt == "csr" else adata.X
    x[:, [3, 50]] = 0
    adata.X = sparse.csr_matrix(x) if fmt == "csr" else x
    n = np.arange(70)
    adata.obs["study"] = {
        None: n * 0,
        "two": n % 2,
        "with lonely ones": np.where(n < 3, 10 + n, n % 2),
        "lonely ones alone": n,
        "one and a lonely one": (n == 7) * 1,
    }[batches]
    adata.write_h5ad(tmp_path / "a.h5ad")
    settings = {"n_top_genes": 30, "batch_key": None if batches is None else "study", "target_sum": target_sum}
    backed, lazy = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r"), scq.read(tmp_path / "a.h5ad", rows=16, lazy=True)
    scq.pp.normalize(adata, **settings)
    for other in (backed, lazy):
        scq.pp.normalize(other, **settings)
        assert set(other.var.columns) == set(adata.var.columns)
        assert list(other.var["highly_variable"]) == list(adata.var["highly_variable"])
        for name in adata.var.columns[1:]:
            assert other.var[name].dtype == adata.var[name].dtype
            # float32 holds the sums of scanpy's cells.
            np.testing.assert_allclose(
                other.var[name].astype(float), adata.var[name].astype(float), rtol=1e-5, atol=1e-5, err_msg=name
            )
    backed.file.close()


def test_genes_that_do_not_vary():
    x = sparse.csr_matrix(np.tile([1.0, 2, 4], (5, 1)))
    totals = np.full(5, 7.0)
    with pytest.raises(scq.ArgumentError, match=r"cannot choose .*: no gene varies.*`n_top_genes=3` takes all"):
        choose_genes_on_disk(x, totals, pd.Index(list("abc")), None, 2, None)
    assert choose_genes_on_disk(x, totals, pd.Index(list("abc")), None, 3, None)["highly_variable"].all()


def test_one_cell():
    with pytest.raises(scq.ArgumentError, match=r"needs at least two cells to choose variable genes\. Received one"):
        choose_genes_on_disk(sparse.csr_matrix([[1.0, 2, 3]]), np.array([6.0]), pd.Index(list("abc")), None, 2, None)
