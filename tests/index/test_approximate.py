"""Approximate search compared with exact search, the choice between them, and the transformer for scanpy."""

import pickle
import re

import anndata
import faiss
import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import KNeighborsTransformer

from scquery_ae import ArgumentError
from scquery_ae.index import (
    INDEXES,
    ApproximateIndex,
    ExactIndex,
    NeighborIndex,
    build_index,
    choose_index,
    usable_index,
)
from scquery_ae.index.transformer import NeighborsTransformer

KINDS = ("hnsw", "ivf", "int8", "pq")
WIDTH = 8


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def clustered(n, seed, width=WIDTH):
    """Return unit vectors around twenty centres, like embeddings of twenty cell types."""
    centres = np.random.default_rng(0).standard_normal((20, width))
    rng = np.random.default_rng(seed)
    return unit(centres[rng.integers(20, size=n)] + 0.3 * rng.standard_normal((n, width)))


@pytest.fixture(scope="module")
def items():
    # The smallest number that product quantization accepts.
    return clustered(9984, 1)


@pytest.fixture(scope="module")
def queries():
    return clustered(100, 2)


@pytest.fixture(scope="module")
def built(items):
    return {kind: ApproximateIndex.build(items, kind) for kind in KINDS}


def recall(found, expected):
    """Return the fraction of the true neighbors that were found."""
    pairs = zip(found.indices, expected.indices, strict=True)
    return np.mean([len(set(one) & set(other)) / len(other) for one, other in pairs])


@pytest.mark.parametrize(("kind", "least"), [("hnsw", 0.98), ("ivf", 0.95), ("int8", 0.9), ("pq", 0.3)])
def test_recall_against_exact_search(built, items, queries, kind, least):
    found, expected = built[kind].search(queries, 15), ExactIndex(items).search(queries, 15)
    assert found.indices.shape == found.distances.shape == (100, 15)
    assert (np.diff(found.distances, axis=1) >= 0).all()
    assert found.indices.min() >= 0
    assert all(len(set(row)) == 15 for row in found.indices)
    assert recall(found, expected) > least
    if kind in ("hnsw", "ivf"):
        true = 1 - np.einsum("ij,ikj->ik", queries, items[found.indices])
        np.testing.assert_allclose(found.distances, true, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_among", [20, 400, 5000])
def test_only_the_rows_among_are_found(built, items, queries, kind, n_among):
    among = np.sort(np.random.default_rng(n_among).choice(len(items), n_among, replace=False))
    found = built[kind].search(queries, 10, among=among)
    assert np.isin(found.indices, among).all()
    assert all(len(set(row)) == 10 for row in found.indices)
    expected = ExactIndex(items).search(queries, 10, among=among)
    assert recall(found, expected) > (0.4 if kind == "pq" else 0.9)


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_neighbors_as_rows_among(built, queries, kind):
    # These rows are spread over lists and regions of the graph that a narrow search does not reach.
    among = np.arange(3, 9984, 999)
    found = built[kind].search(queries, len(among), among=among)
    assert all(sorted(row) == list(among) for row in found.indices)
    with pytest.raises(ArgumentError, match=rf"`n_neighbors={len(among) + 1}` is more than there are"):
        built[kind].search(queries, len(among) + 1, among=among)


def test_exact_search_among_is_exact_search_of_those_rows(items, queries):
    among = np.random.default_rng(0).permutation(len(items))[:300]
    found = ExactIndex(items).search(queries, 7, among=among)
    distances = 1 - queries.astype(float) @ items[among].T.astype(float)
    np.testing.assert_array_equal(found.indices, among[np.argsort(distances, axis=1)[:, :7]])
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :7], atol=2e-6)
    with pytest.raises(ArgumentError, match=r"`n_neighbors=3` is more than there are reference cells \(2\)"):
        ExactIndex(items).search(queries, 3, among=np.array([4, 9]))


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_read_from_a_file_finds_the_same_neighbors(built, items, queries, kind, tmp_path):
    built[kind].write(tmp_path / "i.faiss")
    back = ApproximateIndex.read(tmp_path / "i.faiss", kind, (9984, items.shape[1]))
    assert (back.kind, back.n_items) == (kind, 9984)
    for among in (None, np.arange(0, 9984, 7)):
        one, other = built[kind].search(queries, 5, among=among), back.search(queries, 5, among=among)
        np.testing.assert_array_equal(one.indices, other.indices)
        np.testing.assert_array_equal(one.distances, other.distances)
    for shape in ((9983, items.shape[1]), (9984, items.shape[1] + 1)):
        with pytest.raises(ArgumentError, match=rf"i\.faiss indexes vectors of shape \(9984, .*, but \({shape[0]}, "):
            ApproximateIndex.read(tmp_path / "i.faiss", kind, shape)
    other = "hnsw" if kind == "ivf" else "ivf"
    with pytest.raises(ArgumentError, match=rf"i\.faiss is a Index\w+, not the Index\w+ of '{other}'"):
        ApproximateIndex.read(tmp_path / "i.faiss", other, (9984, items.shape[1]))


def test_an_index_by_another_distance_is_refused(tmp_path):
    index = faiss.index_factory(4, "HNSW32,Flat", faiss.METRIC_L2)
    index.add(np.eye(4, dtype=np.float32))
    faiss.write_index(index, str(tmp_path / "i.faiss"))
    with pytest.raises(ArgumentError, match="by inner product"):
        ApproximateIndex.read(tmp_path / "i.faiss", "hnsw", (4, 4))


def test_too_few_vectors_are_searched_exactly():
    assert [usable_index(39, kind) for kind in ("hnsw", "ivf", "int8", "pq", "exact", "auto")] == [
        "hnsw",
        *["exact"] * 5,
    ]
    assert usable_index(40, "int8") == "int8"
    assert usable_index(9983, "pq") == "exact"
    assert usable_index(9984, "pq") == "pq"


def test_a_file_that_is_not_an_index_is_refused(tmp_path):
    (tmp_path / "i.faiss").write_bytes(b"no index of any kind at all")
    with pytest.raises(ArgumentError, match=r"i\.faiss is not a faiss index: "):
        ApproximateIndex.read(tmp_path / "i.faiss", "ivf", (3, 2))
    with pytest.raises(ArgumentError, match=r"i\.faiss is not a faiss index: "):
        ApproximateIndex.read(tmp_path / "i.faiss", "hnsw", (3, 2))
    with pytest.raises(ArgumentError, match=r"`index` must be one of 'hnsw', .*Received 'lsh'"):
        ApproximateIndex.read(tmp_path / "i.faiss", "lsh", (3, 2))


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "int8"])
@pytest.mark.parametrize("n", [40, 150])
@pytest.mark.parametrize("width", [1, 7])
def test_few_vectors_of_odd_widths(kind, n, width):
    items = clustered(n, 3, width)
    found = build_index(items, kind).search(items[:9], n)
    assert all(sorted(row) == list(range(n)) for row in found.indices)
    assert found.distances.min() >= 0
    assert found.distances.max() <= 2


@pytest.mark.parametrize(("kind", "least"), [("ivf", 40), ("int8", 40), ("pq", 9984)])
def test_too_few_vectors_are_refused(kind, least):
    with pytest.raises(
        ArgumentError,
        match=rf"`index='{kind}'` needs at least {least} vectors\. Received {least - 1}; use `index='exact'`",
    ):
        build_index(clustered(least - 1, 0, 2), kind)


def test_training_of_lists_is_deterministic(items, queries, built):
    again = ApproximateIndex.build(items, "int8")
    np.testing.assert_array_equal(again.search(queries, 5).indices, built["int8"].search(queries, 5).indices)


def test_compressed_vectors_are_smaller(built, tmp_path):
    sizes = {}
    for kind, index in built.items():
        index.write(tmp_path / kind)
        sizes[kind] = (tmp_path / kind).stat().st_size
    assert sizes["pq"] < sizes["int8"] < sizes["ivf"] < sizes["hnsw"]


@pytest.mark.parametrize(
    ("n_items", "kind"),
    [(1, "exact"), (100_000, "exact"), (100_001, "hnsw"), (2_000_000, "hnsw"), (2_000_001, "int8")],
)
def test_the_default_kind_depends_on_the_number_of_vectors(n_items, kind):
    assert choose_index(n_items) == kind
    assert choose_index(n_items, "ivf") == "ivf"


def test_kinds_of_index(items):
    assert set(INDEXES) == {"auto", "exact", *KINDS}
    exact: NeighborIndex = build_index(items[:50])
    assert isinstance(exact, ExactIndex)
    assert build_index(items[:50], "hnsw").kind == "hnsw"
    for call in (lambda: build_index(items, "annoy"), lambda: choose_index(3, "annoy")):
        with pytest.raises(ArgumentError, match=r"`index` must be one of 'auto', 'exact', 'hnsw'.*Received 'annoy'"):
            call()


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (2, 2, 2)])
def test_vectors_of_a_wrong_shape_are_refused(kind, shape):
    expected = rf"Vectors to search must have shape \(n_items, n_latent\)\. Received {re.escape(str(shape))}"
    with pytest.raises(ArgumentError, match=expected):
        build_index(np.zeros(shape), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_queries_of_another_width_are_refused(built, kind):
    with pytest.raises(ArgumentError, match=rf"Queries must have shape \(n_queries, {WIDTH}\)"):
        built[kind].search(np.ones((2, 3)), 1)


# The transformer for scanpy and scikit-learn


@pytest.mark.parametrize("length", [1.0, 40.0])
def test_the_graph_equals_that_of_scikit_learn(items, length):
    x = items[:200] * length
    received = NeighborsTransformer(n_neighbors=6).fit_transform(x)
    expected = KNeighborsTransformer(n_neighbors=6, metric="cosine").fit_transform(x)
    assert sparse.isspmatrix_csr(received)
    assert received.shape == (200, 200)
    # Each row finds itself and six others.
    np.testing.assert_array_equal(np.diff(received.indptr), 7)
    np.testing.assert_array_equal(received.indices[::7], np.arange(200))
    assert [set(row) for row in received.indices.reshape(200, 7)] == [set(r) for r in expected.indices.reshape(200, 7)]
    np.testing.assert_allclose(received.toarray(), expected.toarray(), atol=1e-5)


def test_new_rows_find_fitted_rows(items):
    fitted = NeighborsTransformer(n_neighbors=3, index="hnsw").fit(items[:500])
    graph = fitted.transform(items[500:520])
    assert graph.shape == (20, 500)
    expected = ExactIndex(items[:500]).search(items[500:520], 4)
    assert np.mean(graph.indices.reshape(20, 4) == expected.indices) > 0.95


def test_more_neighbors_than_rows_returns_all_rows():
    graph = NeighborsTransformer(n_neighbors=10).fit_transform(np.eye(4))
    assert graph.nnz == 16
    with pytest.raises(ArgumentError, match="`n_neighbors` must be an integer of at least 1"):
        NeighborsTransformer(n_neighbors=0).fit(np.eye(4))


@pytest.mark.parametrize("index", ["exact", "hnsw"])
def test_scanpy_accepts_the_transformer(items, index):
    import scanpy as sc

    adata = anndata.AnnData(np.zeros((300, 1), np.float32), obsm={"X_scquery": items[:300]})
    # UMAP's own graph would be compiled first, which takes longer than the rest of the test.
    arguments = {"use_rep": "X_scquery", "method": "gauss"}
    sc.pp.neighbors(adata, transformer=NeighborsTransformer(n_neighbors=10, index=index), **arguments)
    exact = 1 - items[:300].astype(float) @ items[:300].T.astype(float)
    near = np.argsort(exact, axis=1)[:, 1:11]
    graph = adata.obsp["distances"]
    found = np.array([len(set(near[i]) & set(graph[i].indices)) / 10 for i in range(300)])
    assert found.mean() > 0.95
    assert adata.obsp["connectivities"].shape == (300, 300)


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "int8"])
def test_an_index_read_from_a_file_can_be_written_and_pickled(tmp_path, kind):
    vectors = clustered(2000, 1)
    first, second = tmp_path / "first", tmp_path / "second"
    ApproximateIndex.build(vectors, kind).write(first)
    opened = ApproximateIndex.read(first, kind, vectors.shape)
    expected = opened.search(vectors[:20], 5)
    opened.write(second)
    pickled = pickle.dumps(opened)
    # faiss would write lists on disk as the path of their file.
    first.rename(tmp_path / "elsewhere")
    for again in (ApproximateIndex.read(second, kind, vectors.shape), pickle.loads(pickled)):
        np.testing.assert_array_equal(again.search(vectors[:20], 5).indices, expected.indices)
