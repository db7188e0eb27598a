"""Queries block by block: the results are those of all cells at once."""

import dataclasses
import functools
import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import anndata
import dask
import dask.array as da
import faiss
import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.loaders import CHUNK, GeneColumns, open_cells
from scquery_ae.reference import SearchFilter
from scquery_ae.tl import _query_blocks
from scquery_ae.tl._query_blocks import CELLS, QueryResult, query_cells
from scquery_ae.tl.query import _named_sets


@pytest.fixture
def threads():
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


@pytest.fixture
def small_blocks(monkeypatch):
    """Cells in memory and backed cells are annotated in blocks of 14, 14 and 2, each read in chunks of 7."""
    chunks = GeneColumns.chunks
    monkeypatch.setattr(GeneColumns, "chunks", lambda self, size=7: chunks(self, size))
    monkeypatch.setattr(_query_blocks, "CELLS", 14)


def in_dask(matrix, rows=4096):
    blocks = [matrix[start : start + rows] for start in range(0, matrix.shape[0], rows)]
    return da.concatenate([da.from_array(block, chunks=block.shape, asarray=False) for block in blocks])


def opened(adata, reference):
    return open_cells(adata, reference.encoder.genes, function="test", input_state="counts").cells


def assert_results(adata, reference, found, exactly):
    """Compare the results of a query with an annotation of all cells at once."""
    compare = np.testing.assert_array_equal if exactly else functools.partial(np.testing.assert_allclose, atol=1e-6)
    np.testing.assert_array_equal(adata.obs["scquery_label"].cat.codes, found.labels)
    compare(adata.obs["scquery_confidence"], found.probabilities.astype(np.float32).max(axis=1))
    compare(adata.obs["scquery_pvalue"], found.pvalues.astype(np.float32))
    # Single precision of values above 1.
    more = {} if exactly else {"rtol": 1e-6}
    compare(adata.obs["scquery_novelty"], found.novelty.astype(np.float32), **more)
    np.testing.assert_array_equal(adata.obs["scquery_unknown"], found.pvalues <= 0.05)
    np.testing.assert_array_equal(adata.obsm["scquery_neighbors"], found.neighbors.indices)
    compare(adata.obsm["scquery_distances"], found.neighbors.distances)
    sets = []
    for row, inside in zip(found.probabilities.astype(np.float32), found.prediction_sets, strict=True):
        ordered = sorted(np.flatnonzero(inside), key=lambda i, row=row: (-row[i], i))
        sets.append("|".join(reference.types[i] for i in ordered))
    assert list(adata.obs["scquery_prediction_set"]) == sets


@pytest.mark.parametrize("coverage", [0.9, 0.999])
@pytest.mark.parametrize("way", ["csr", "csc", "dense", "backed", "dask"])
@pytest.mark.usefixtures("threads")
def test_results_are_those_of_all_cells_at_once(make_adata, reference, tmp_path, way, coverage):
    adata = make_adata(30, 120, seed=2, fmt=way if way in ("csc", "dense") else "csr")
    expected = reference.embed(opened(adata, reference))
    found = reference.annotate(expected, coverage=coverage)
    if way == "backed":
        adata.write_h5ad(tmp_path / "a.h5ad")
        adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    if way == "dask":
        adata.X = in_dask(adata.X)
    scq.tl.query(adata, reference, coverage=coverage, input_state="counts")
    np.testing.assert_array_equal(adata.obsm["X_scquery"], expected.embedding)
    assert_results(adata, reference, found, exactly=True)


@pytest.mark.parametrize("way", ["csr", "csc", "backed", "dask"])
@pytest.mark.usefixtures("threads", "small_blocks")
def test_several_blocks_give_the_results_of_one(make_adata, reference, tmp_path, way, monkeypatch):
    adata = make_adata(30, 120, seed=2, fmt="csc" if way == "csc" else "csr")
    expected = reference.embed(opened(adata, reference))
    found = reference.annotate(expected)
    if way == "backed":
        adata.write_h5ad(tmp_path / "a.h5ad")
        adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    if way == "dask":
        # The second Dask block is annotated in two blocks.
        adata.X = da.concatenate([in_dask(adata.X[:14]), in_dask(adata.X[14:])])
    sizes, annotate = [], scq.Reference.annotate

    def counted(self, cells, **arguments):
        sizes.append(cells.n_obs)
        return annotate(self, cells, **arguments)

    monkeypatch.setattr(scq.Reference, "annotate", counted)
    scq.tl.query(adata, reference, input_state="counts")
    assert sorted(sizes) == [2, 14, 14]
    np.testing.assert_allclose(adata.obsm["X_scquery"], expected.embedding, atol=1e-6)
    assert_results(adata, reference, found, exactly=False)


def test_blocks_are_of_whole_chunks():
    assert CELLS % CHUNK == 0


@pytest.mark.parametrize("size", [7, 14, 21, 30])
@pytest.mark.usefixtures("small_blocks")
def test_cells_are_embedded_block_by_block(query_adata, reference, size):
    cells = opened(query_adata, reference)
    blocks = list(reference.embed_blocks(cells, size))
    assert [len(block.totals) for block in blocks] == [size] * (30 // size) + [30 % size] * (30 % size > 0)
    whole = reference.embed(cells)
    for name, values in whole.arrays.items():
        np.testing.assert_array_equal(np.concatenate([getattr(block, name) for block in blocks]), values, err_msg=name)
    np.testing.assert_allclose(whole.totals, query_adata[:, reference.encoder.genes].X.sum(axis=1).A1)


def test_too_many_neighbors_are_refused_before_any_cell_is_embedded(query_adata, reference, monkeypatch):
    monkeypatch.setattr(scq.Reference, "embed_blocks", lambda *_: pytest.fail("cells were embedded"))
    with pytest.raises(scq.ArgumentError, match=r"`n_neighbors=241` is more than"):
        scq.tl.query(query_adata, reference, n_neighbors=241)


VALUES = {
    "numbers": np.array([1, True, 0, 1.0, None, np.nan] * 5, dtype=object),
    "text": np.array(["a", "b", None, "c", "nan", "a"] * 5, dtype=object),
}


@pytest.mark.parametrize("keys", [["numbers"], ["text"], ["numbers", "text"]])
@pytest.mark.usefixtures("threads", "small_blocks")
def test_each_block_excludes_the_values_of_its_own_cells(query_adata, reference, keys):
    rng = np.random.default_rng(0)
    columns = {"numbers": rng.choice(["1", "True", "1.0", "0"], 240), "text": rng.choice(["a", "b", "nan"], 240)}
    cells = dataclasses.replace(reference.cells, obs=reference.obs.assign(**columns))
    other = dataclasses.replace(reference, cells=cells)
    rules = SearchFilter(excluded={key: VALUES[key] for key in keys})
    whole = query_cells(other, other, "", opened(query_adata, reference), n_neighbors=9, coverage=0.9, rules=rules)
    query_adata.X = in_dask(query_adata.X, 7)
    received = query_cells(other, other, "", opened(query_adata, reference), n_neighbors=9, coverage=0.9, rules=rules)
    np.testing.assert_array_equal(received.indices, whole.indices)
    for key in keys:
        own = pd.Series(VALUES[key]).map(str, na_action="ignore").to_numpy()[:, None]
        assert not (other.obs[key].to_numpy()[whole.indices] == own).any()


@pytest.mark.usefixtures("threads")
def test_results_are_held_once(make_adata, reference):
    """With 200 neighbors per cell, results take far more memory than the annotation of a block."""
    cells = opened(make_adata(100, 120, seed=2), reference)
    cells = dataclasses.replace(cells, matrix=da.concatenate([in_dask(cells.matrix)] * 60))
    query_cells(reference, reference, "", cells, n_neighbors=200, coverage=0.9, rules=SearchFilter())
    tracemalloc.start()
    found = query_cells(reference, reference, "", cells, n_neighbors=200, coverage=0.9, rules=SearchFilter())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = sum(array.nbytes for array in vars(found).values())
    assert size > 6_000 * 200 * 12
    # Twice the size would mean that some results are held twice.
    assert peak < 1.5 * size
    np.testing.assert_array_equal(found.indices, np.tile(found.indices[:100], (60, 1)))


def test_the_shared_result_is_not_sent_to_workers(reference):
    result = QueryResult.allocate(3, {"n_latent": 8, "n_neighbors": 2})
    task = _query_blocks._BlockQuery(2, 0.9, SearchFilter(), result, 1)
    sent = pickle.loads(pickle.dumps(task))
    assert sent.result is None
    assert task.result is result
    assert (sent.n_neighbors, sent.coverage, sent.rules, sent.n_blocks) == (2, 0.9, SearchFilter(), 1)


@pytest.mark.parametrize(("rows", "threads_each"), [(30, 6), (15, 3), (7, 1), (3, 1)])
def test_blocks_divide_the_threads_of_the_search(query_adata, reference, monkeypatch, rows, threads_each):
    cells = opened(query_adata, reference)
    cells = dataclasses.replace(cells, matrix=in_dask(cells.matrix, rows))
    before, used, annotate = faiss.omp_get_max_threads(), [], scq.Reference.annotate

    def watched(self, cells, **arguments):
        used.append(faiss.omp_get_max_threads())
        return annotate(self, cells, **arguments)

    monkeypatch.setattr(scq.Reference, "annotate", watched)
    with ThreadPoolExecutor(2, initializer=faiss.omp_set_num_threads, initargs=(6,)) as pool:
        with dask.config.set(scheduler="threads", pool=pool):
            query_cells(reference, reference, "", cells, n_neighbors=5, coverage=0.9, rules=SearchFilter())
        after = [pool.submit(faiss.omp_get_max_threads).result() for _ in range(4)]
    assert used == [threads_each] * -(-30 // rows)
    # Afterwards all threads have their former setting.
    assert after == [6] * 4
    assert faiss.omp_get_max_threads() == before


def test_prediction_sets_of_types_with_bars_in_their_names():
    found = QueryResult.allocate(4, {"n_latent": 1, "n_neighbors": 1})
    found.detected[:] = [True, True, True, False]
    found.prediction_sets[:] = [(1, 2), (0,), (2,), (2, 1)]
    named = _named_sets(found, ("a|b", "a", "b"), pd.Index(list("wxyz")))
    assert list(named[:3]) == ["a|b", "a|b", "b"]
    assert pd.isna(named["z"])
    assert list(named.cat.categories) == ["a|b", "b", "b|a"]
