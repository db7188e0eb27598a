"""Search results compared with exact search and NumPy."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from milvus.synthetic import AMONG, WIDTH, N, same, table
from scquery_ae import ArgumentError, SearchServiceError
from scquery_ae.index import ExactIndex, MilvusIndex, NeighborIndex
from scquery_ae.index.milvus import search


def test_the_same_as_exact_search(index, items, queries):
    kept: NeighborIndex = index
    assert kept.n_items == N
    assert index.kind == "exact"
    same(index.search(queries, 15), ExactIndex(items).search(queries, 15))
    whole = index.search(queries[:2], N)
    assert all(sorted(row) == list(range(N)) for row in whole.indices)
    assert (np.diff(whole.distances, axis=1) >= 0).all()
    none = index.search(np.empty((0, WIDTH)), 3)
    assert none.indices.shape == none.distances.shape == (0, 3)


def test_a_vector_finds_itself_at_a_distance_of_zero(index, items):
    found = index.search(items, 1)
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(N))
    assert 0 <= found.distances.min() <= found.distances.max() < 1e-5


@pytest.mark.parametrize(("limit", "value"), [("REQUEST_QUERIES", 7), ("REQUEST_NEIGHBORS", 7 * 5 + 4)])
def test_queries_are_sent_in_batches(index, items, queries, monkeypatch, limit, value):
    monkeypatch.setattr(search, limit, value)
    sizes = []
    client = index._opened.service.client
    ask = client.search
    monkeypatch.setattr(client, "search", lambda *a, data, **k: sizes.append(len(data)) or ask(*a, data=data, **k))
    same(index.search(queries, 5), ExactIndex(items).search(queries, 5))
    assert sizes == [7] * 5 + [5]


@pytest.mark.parametrize(
    ("kind", "n_lists", "n_neighbors", "widening", "expected"),
    [
        ("exact", 0, 10, 3.0, {}),
        ("hnsw", 0, 10, 1.0, {"ef": 128}),
        ("hnsw", 0, 100, 1.5, {"ef": 300}),
        ("hnsw", 0, 10, math.inf, {"ef": 32_768}),
        ("ivf", 160, 10, 1.0, {"nprobe": 16}),
        ("int8", 1600, 10, 2.01, {"nprobe": 201}),
        ("ivf", 160, 10, math.inf, {"nprobe": 160}),
    ],
)
def test_the_breadth_of_a_search(kind, n_lists, n_neighbors, widening, expected):
    assert search.breadth(SimpleNamespace(kind=kind, n_lists=n_lists), n_neighbors, widening) == expected


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "int8"])
def test_approximate_search_finds_nearly_all(file, index, items, queries, monkeypatch, kind):
    with MilvusIndex.build(items, file, collection=kind, metadata=table(N), kind=kind, overwrite=True):
        pass
    with MilvusIndex.open(file, collection=kind) as built:
        assert built.kind == kind
        # 300 // 39
        assert built._opened.n_lists == (0 if kind == "hnsw" else 7)
        parameters = []
        client = built._opened.service.client
        ask = client.search
        monkeypatch.setattr(
            client, "search", lambda *a, **k: parameters.append(k["search_params"]["params"]) or ask(*a, **k)
        )
        for max_fetched in (10_000, 0):
            monkeypatch.setattr(search, "MAX_FETCHED", max_fetched)
            for among, where in ((None, None), (AMONG["half"], None), (None, {"kind": "kind 1"}), (AMONG["few"], None)):
                allowed = np.isin(np.arange(N), among) if among is not None else np.ones(N, dtype=bool)
                allowed &= table(N)["kind"].eq("kind 1").to_numpy() if where else True
                found = built.search(queries, 10, among=among, where=where)
                expected = ExactIndex(items).search(queries, 10, among=np.flatnonzero(allowed))
                assert allowed[found.indices].all()
                n_found = [len(set(a) & set(b)) for a, b in zip(found.indices, expected.indices, strict=True)]
                assert np.mean(n_found) > 9
                true = 1 - np.einsum("ij,ikj->ik", queries, items[found.indices])
                np.testing.assert_allclose(found.distances, true, atol=0.05 if kind == "int8" else 1e-5)
        # If few vectors are left they are fetched. Otherwise the search is wider the fewer are left, up to 16 times.
        expected = [128, 128, 256, 640, 2048] if kind == "hnsw" else [7] * 5
        assert [next(iter(how.values())) for how in parameters] == expected
        with pytest.raises(ArgumentError, match=r"`n_neighbors=13` is more than there are reference cells \(12\)"):
            built.search(queries, 13, among=AMONG["few"])


def test_lists_that_run_out_are_searched_to_the_end(file, index, items, queries, monkeypatch):
    monkeypatch.setattr(search, "N_PROBES", 1)
    with MilvusIndex.build(items, file, collection="short", kind="ivf", overwrite=True) as built:
        everywhere = built.search(queries[:3], N)
        assert all(sorted(row) == list(range(N)) for row in everywhere.indices)
        monkeypatch.setattr(search, "breadth", lambda *_: {"nprobe": 1})
        with pytest.raises(SearchServiceError, match=r"found fewer than 300 neighbors in 'short'.*`kind=\"exact\"`"):
            built.search(queries[:3], N)


def test_more_neighbors_than_milvus_returns_are_refused(index, queries, monkeypatch):
    monkeypatch.setattr(search, "MAX_NEIGHBORS", 200)
    with pytest.raises(ArgumentError, match=r"at most 200 neighbors per query\. Received `n_neighbors=201`"):
        index.search(queries, 201)
    with pytest.raises(ArgumentError, match=r"`n_neighbors=301` is more than there are reference cells \(300\)"):
        index.search(queries, 301)
