"""Restricted and diversified neighbor search, against a brute-force search."""

import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.index import build_index
from scquery_ae.reference import SearchFilter
from scquery_ae.reference.search import filtered_search

N, WIDTH = 200, 6


def unit(rng, n):
    x = rng.normal(size=(n, WIDTH))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def vectors():
    return unit(np.random.default_rng(0), N)


@pytest.fixture
def queries():
    return unit(np.random.default_rng(1), 9)


@pytest.fixture
def obs():
    rng = np.random.default_rng(2)
    tissue = pd.Categorical(rng.choice(["liver", "lung", "skin"], N, p=[0.7, 0.2, 0.1]))
    donor = pd.Series(rng.choice(["a", "b", "c"], N), dtype=object)
    donor[::7] = None
    return pd.DataFrame({"tissue": tissue, "donor": donor, "lane": rng.integers(0, 4, N)})


def brute_force(vectors, queries, n, allowed):
    """Return the nearest allowed cells of each query; `allowed` is bool, one row per query or one for all."""
    distances = 1 - queries.astype(np.float64) @ vectors.T.astype(np.float64)
    distances[~np.broadcast_to(allowed, distances.shape)] = np.inf
    nearest = np.argsort(distances, axis=1)[:, :n]
    return nearest, np.take_along_axis(distances, nearest, axis=1)


def check(neighbors, expected):
    np.testing.assert_array_equal(neighbors.indices, expected[0])
    np.testing.assert_allclose(neighbors.distances, expected[1], atol=1e-6)
    assert neighbors.indices.dtype == np.int64
    assert neighbors.distances.dtype == np.float32


def search(vectors, obs, queries, n, **rules):
    return filtered_search(build_index(vectors, "exact"), obs, queries, n, SearchFilter(**rules))


def test_search_without_restrictions(vectors, obs, queries):
    check(search(vectors, obs, queries, 7), brute_force(vectors, queries, 7, np.ones(N, bool)))


@pytest.mark.parametrize(
    ("where", "allowed"),
    [
        ({"tissue": "lung"}, lambda o: o["tissue"] == "lung"),
        ({"tissue": ["lung", "skin"]}, lambda o: o["tissue"] != "liver"),
        ({"tissue": ("lung", "nowhere")}, lambda o: o["tissue"] == "lung"),
        ({"tissue": "liver", "donor": ["a", "b"]}, lambda o: (o["tissue"] == "liver") & o["donor"].isin(["a", "b"])),
        ({"lane": 3}, lambda o: o["lane"] == 3),
        ({"lane": [0, np.int64(1)]}, lambda o: o["lane"] < 2),
        ({"lane": np.array([0, 1])}, lambda o: o["lane"] < 2),
        ({"lane": "2"}, lambda o: o["lane"] == 2),
    ],
)
@pytest.mark.parametrize("kind", ["exact", "hnsw", "int8"])
def test_where_restricts_the_search(vectors, obs, queries, where, allowed, kind):
    neighbors = filtered_search(build_index(vectors, kind), obs, queries, 5, SearchFilter(where=where))
    allowed = allowed(obs).to_numpy(dtype=bool)
    assert 5 <= allowed.sum() < N
    assert allowed[neighbors.indices].all()
    if kind != "int8":  # compressed vectors have other distances
        check(neighbors, brute_force(vectors, queries, 5, allowed))


def test_cells_with_the_querys_own_value_are_excluded(vectors, obs, queries):
    donors = np.array(["a", "b", "c", "a", "nobody", "c", "b", "a", "a"], dtype=object)
    allowed = obs["donor"].to_numpy()[None, :] != donors[:, None]
    check(search(vectors, obs, queries, 8, excluded={"donor": donors}), brute_force(vectors, queries, 8, allowed))
    # Without the restriction, some of them are neighbors.
    plain = search(vectors, obs, queries, 8).indices
    assert not allowed[np.arange(9)[:, None], plain].all()


def test_cells_are_excluded_by_two_columns(vectors, obs, queries):
    donors = np.array(["a", "b", "c"] * 3)
    lanes = np.arange(9) % 4
    allowed = (obs["donor"].to_numpy()[None, :] != donors[:, None]) & (
        obs["lane"].to_numpy()[None, :] != lanes[:, None]
    )
    received = search(vectors, obs, queries, 6, excluded={"donor": donors, "lane": lanes})
    check(received, brute_force(vectors, queries, 6, allowed))


def test_where_and_excluded_together(vectors, obs, queries):
    donors = np.array(["a", "b", "c"] * 3)
    allowed = (obs["donor"].to_numpy()[None, :] != donors[:, None]) & (obs["tissue"] == "liver").to_numpy()
    received = search(vectors, obs, queries, 6, where={"tissue": "liver"}, excluded={"donor": donors})
    check(received, brute_force(vectors, queries, 6, allowed))


@pytest.mark.parametrize("n", [1, 3, 6, 7, 30])
def test_diversified_neighbors_are_the_nearest_of_each_value(vectors, obs, queries, n):
    neighbors = search(vectors, obs, queries, n, diversify_key="tissue")
    distances = 1 - queries.astype(np.float64) @ vectors.T.astype(np.float64)
    tissue = obs["tissue"].to_numpy(dtype=object)
    quota = -(-n // 3)
    for row, received in enumerate(neighbors.indices):
        # The nearest cells of each tissue up to its quota, then the nearest of all of these.
        pool = np.concatenate(
            [
                sorted(np.flatnonzero(tissue == value), key=lambda i: distances[row, i])[:quota]
                for value in ("liver", "lung", "skin")
            ]
        )
        expected = sorted(pool, key=lambda i: distances[row, i])[:n]
        np.testing.assert_array_equal(received, expected)
    assert (np.diff(neighbors.distances, axis=1) >= 0).all()
    np.testing.assert_allclose(neighbors.distances, np.take_along_axis(distances, neighbors.indices, axis=1), atol=1e-6)


def test_diversified_neighbors_if_a_value_has_too_few_cells(vectors, queries):
    rare = np.array(["common"] * 150 + ["other"] * 48 + ["rare"] * 2)
    obs = pd.DataFrame({"study": rare})
    neighbors = search(vectors, obs, queries, 15, diversify_key="study")
    distances = 1 - queries.astype(np.float64) @ vectors.T.astype(np.float64)
    for row, received in enumerate(neighbors.indices):
        own = {
            v: sorted(np.flatnonzero(rare == v), key=lambda i: distances[row, i]) for v in ("common", "other", "rare")
        }
        first = [*own["common"][:5], *own["other"][:5], *own["rare"]]
        # The three remaining neighbors are the nearest cells beyond the quotas.
        rest = sorted([*own["common"][5:], *own["other"][5:]], key=lambda i: distances[row, i])[:3]
        assert set(received) == {*first, *rest}
        assert len(set(received)) == 15
    assert (np.diff(neighbors.distances, axis=1) >= 0).all()


def test_diversified_neighbors_with_where_and_excluded(vectors, obs, queries):
    donors = np.array(["a", "b", "c"] * 3)
    neighbors = search(
        vectors, obs, queries, 6, where={"tissue": "liver"}, excluded={"donor": donors}, diversify_key="lane"
    )
    tissue, donor, lane = (obs[name].to_numpy(dtype=object) for name in ("tissue", "donor", "lane"))
    assert (tissue[neighbors.indices] == "liver").all()
    assert (donor[neighbors.indices] != donors[:, None]).all()
    assert all(max(np.bincount(row)) <= 2 for row in lane[neighbors.indices].astype(int))


def test_all_cells_as_neighbors(vectors, obs, queries):
    for rules in ({}, {"diversify_key": "tissue"}):
        neighbors = search(vectors, obs, queries, N, **rules)
        assert (np.sort(neighbors.indices, axis=1) == np.arange(N)).all()


def test_too_few_remaining_cells_are_refused(vectors, obs, queries):
    n_skin = int((obs["tissue"] == "skin").sum())
    search(vectors, obs, queries, n_skin, where={"tissue": "skin"})
    match = rf"`n_neighbors={n_skin + 1}` is more than the {n_skin} reference cells that the filter leaves\. Ask for"
    for key in (None, "donor"):
        with pytest.raises(scq.ArgumentError, match=match):
            search(vectors, obs, queries, n_skin + 1, where={"tissue": "skin"}, diversify_key=key)
    with pytest.raises(scq.ArgumentError, match=r"is more than the \d+ reference cells that the filter leaves"):
        search(vectors, obs, queries, N, excluded={"donor": np.array(["a"] * 9)})
    with pytest.raises(scq.ArgumentError, match=r"`n_neighbors=201` is more than there are reference cells \(200\)"):
        search(vectors, obs, queries, N + 1, diversify_key="tissue")


def test_values_without_cells_are_refused(vectors, obs, queries):
    with pytest.raises(
        scq.ArgumentError,
        match=r"No reference cell matches `where=\{'tissue': \['brain', 'gut'\]\}`\. Expected some of .*'liver'",
    ):
        search(vectors, obs, queries, 3, where={"tissue": ["brain", "gut"]})
    # Cells have either value, but no cell has both.
    obs["side"] = np.where(obs["tissue"] == "lung", "left", "right")
    with pytest.raises(scq.ArgumentError, match=r"is more than the 0 reference cells that the filter leaves"):
        search(vectors, obs, queries, 3, where={"tissue": "lung", "side": "right"})


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"where": {"organ": "liver"}}, r"`where=\{'organ': 'liver'\}`"),
        ({"excluded": {"organ": np.array(["x"] * 9)}}, "`exclude_key='organ'`"),
        ({"diversify_key": "organ"}, "`diversify_key='organ'`"),
    ],
)
def test_missing_columns_are_refused(vectors, obs, queries, rules, named):
    with pytest.raises(
        scq.MissingKeyError,
        match=rf"{named} needs the column 'organ' in the reference's `obs`\. Expected one of 'tissue', 'donor', 'lane'",
    ):
        search(vectors, obs, queries, 3, **rules)


def test_annotation_uses_the_restrictions(reference):
    rows = np.arange(5)
    cells = reference.cells.take(rows)
    found = reference.annotate(cells, n_neighbors=4, rules=SearchFilter(where={"batch": "batch 1"}))
    allowed = (reference.obs["batch"] == "batch 1").to_numpy()
    expected = brute_force(np.asarray(reference.embedding), cells.embedding, 4, allowed)
    np.testing.assert_allclose(found.neighbors.distances, expected[1], atol=1e-6)
    assert allowed[found.neighbors.indices].all()
