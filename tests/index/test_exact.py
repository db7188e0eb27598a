"""Exact search compared with brute force in NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scquery_ae import ArgumentError
from scquery_ae.index import ExactIndex, NeighborIndex, Neighbors


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@given(
    seed=st.integers(0, 10_000),
    n_items=st.integers(1, 60),
    n_queries=st.integers(1, 40),
    width=st.integers(1, 12),
    data=st.data(),
)
def test_equal_to_brute_force(seed, n_items, n_queries, width, data):
    rng = np.random.default_rng(seed)
    items, queries = (unit(rng.standard_normal((n, width)) + 1e-3) for n in (n_items, n_queries))
    k = data.draw(st.integers(1, n_items))
    found = ExactIndex(items).search(queries, k)
    distances = 1 - queries.astype(np.float64) @ items.T.astype(np.float64)
    assert found.indices.dtype == np.int64
    assert found.distances.dtype == np.float32
    assert found.indices.shape == found.distances.shape == (n_queries, k)
    assert (np.diff(found.distances, axis=1) >= 0).all()
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :k], atol=2e-6)
    # The order of ties is open, but every neighbor has its true distance and none occurs twice.
    np.testing.assert_allclose(np.take_along_axis(distances, found.indices, axis=1), found.distances, atol=2e-6)
    assert all(len(set(row)) == k for row in found.indices)


def test_hand_worked():
    items = np.array([[1, 0], [0, 1], [-1, 0], [0.6, 0.8]], dtype=np.float32)
    found = ExactIndex(items).search(np.array([[1.0, 0.0]]), 4)
    np.testing.assert_array_equal(found.indices, [[0, 3, 1, 2]])
    np.testing.assert_allclose(found.distances, [[0, 0.4, 1, 2]], atol=1e-7)


def test_distances_are_never_negative():
    items = unit(np.random.default_rng(0).standard_normal((500, 7)))
    found = ExactIndex(items).search(items, 1)
    assert found.distances.min() >= 0
    assert found.distances.max() < 1e-6
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(500))
    assert ExactIndex(items).search(-items, 500).distances.max() <= 2


def test_a_memory_mapped_embedding_is_searched_in_place(tmp_path):
    items = unit(np.random.default_rng(0).standard_normal((50, 4)))
    np.save(tmp_path / "e.npy", items)
    mapped = np.load(tmp_path / "e.npy", mmap_mode="r")
    one, other = ExactIndex(mapped).search(items[:5], 3), ExactIndex(items).search(items[:5], 3)
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.distances, other.distances)
    assert ExactIndex(mapped).vectors is mapped


def test_queries_of_other_types_and_orders():
    items = unit(np.random.default_rng(0).standard_normal((50, 4)))
    index = ExactIndex(items)
    expected = index.search(items[:6], 5)
    for queries in (
        items[:6].astype(np.float64),
        np.asfortranarray(items[:6]),
        items[:12:2][[0, 0, 1, 1, 2, 2]] * 0 + items[:6],
    ):
        np.testing.assert_array_equal(index.search(queries, 5).indices, expected.indices)


def test_it_follows_the_protocol():
    index: NeighborIndex = ExactIndex(np.eye(3, dtype=np.float32))
    assert index.n_items == 3


@pytest.mark.parametrize("k", [4, 1000])
def test_more_neighbors_than_vectors_are_refused(k):
    with pytest.raises(
        ArgumentError, match=rf"`n_neighbors={k}` is more than there are reference cells \(3\)\. Ask for at most 3\."
    ):
        ExactIndex(np.eye(3, dtype=np.float32)).search(np.eye(3), k)


@pytest.mark.parametrize("k", [0, -1, 1.0, None])
def test_invalid_numbers_of_neighbors_are_refused(k):
    with pytest.raises(ArgumentError, match="`n_neighbors` must be an integer of at least 1"):
        ExactIndex(np.eye(3, dtype=np.float32)).search(np.eye(3), k)


@pytest.mark.parametrize("shape", [(2, 4), (2, 2), (3,)])
def test_queries_of_another_width_are_refused(shape):
    with pytest.raises(
        ArgumentError, match=r"Queries must have shape \(n_queries, 3\).*embed them with the reference's own encoder"
    ):
        ExactIndex(np.eye(3, dtype=np.float32)).search(np.ones(shape), 1)


@pytest.mark.parametrize(
    ("indices", "distances"),
    [
        (np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32)),
        (np.zeros((2, 3), np.int64), np.zeros((2, 3), np.float64)),
        (np.zeros((2, 3), np.int64), np.zeros((3, 2), np.float32)),
        (np.zeros(3, np.int64), np.zeros(3, np.float32)),
    ],
)
def test_neighbors_are_checked_on_creation(indices, distances):
    with pytest.raises(ArgumentError, match="int64 indices and float32 distances of one shape"):
        Neighbors(indices, distances)
