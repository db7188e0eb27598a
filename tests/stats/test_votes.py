"""Distance-weighted votes of neighbors, against cases computed by hand and a loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scquery_ae.stats import vote_probabilities

E = np.exp(1)


def votes(distances, labels, n_types):
    return vote_probabilities(np.array([distances], dtype=np.float32), np.array([labels]), n_types)[0]


def test_hand_worked():
    # The distance of the third neighbor, .3, is the bandwidth: weights exp(-1/3), exp(-2/3), exp(-1), exp(-2).
    received = votes([0.1, 0.2, 0.3, 0.6], [0, 1, 1, 0], 3)
    a, b = np.exp(-1 / 3) + np.exp(-2), np.exp(-2 / 3) + np.exp(-1)
    np.testing.assert_allclose(received, [a / (a + b), b / (a + b), 0], rtol=1e-6)


def test_unlabelled_neighbors_are_ignored_for_votes_and_bandwidth():
    received = votes([0.05, 0.1, 0.2, 0.25, 0.3, 0.6], [-1, 0, 1, -1, 1, 0], 3)
    np.testing.assert_allclose(received, votes([0.1, 0.2, 0.3, 0.6], [0, 1, 1, 0], 3), rtol=1e-6)


def test_bandwidth_with_fewer_than_three_labelled_neighbors():
    # The bandwidth is the distance of the last labelled neighbor, .4.
    received = votes([0.1, 0.2, 0.4, 0.5], [-1, 1, 0, -1], 2)
    np.testing.assert_allclose(received, np.array([1 / E, np.exp(-0.5)]) / (1 / E + np.exp(-0.5)), rtol=1e-6)
    np.testing.assert_allclose(votes([0.1, 0.2], [-1, 1], 2), [0, 1])


def test_probabilities_are_uniform_without_labelled_neighbors():
    np.testing.assert_allclose(votes([0.1, 0.2, 0.3], [-1, -1, -1], 4), np.full(4, 0.25))


def test_copies_of_the_query_have_weight_one():
    np.testing.assert_allclose(votes([0, 0, 0, 0], [0, 1, 1, 1], 2), [0.25, 0.75])
    # With three copies the bandwidth is zero, and the other neighbors have no weight.
    np.testing.assert_allclose(
        votes([0, 0, 0, 0.5, 0.5, 0.5, 0.5], [0, 0, 1, 1, 1, 1, 1], 2), [2 / 3, 1 / 3], atol=1e-9
    )


def test_two_copies_and_two_distant_neighbors():
    # The third labelled neighbor sets the bandwidth: both distant neighbors weigh 1/e.
    received = votes([0, 0, 0.5, 0.5], [0, 0, 1, 1], 2)
    np.testing.assert_allclose(received, np.array([2, 2 / E]) / (2 + 2 / E))


def test_close_cells_of_a_rare_type_outweigh_distant_cells_of_a_common_type():
    # Three cells of a rare type, then twelve of a common type at ten times the distance. Unweighted votes give .2.
    received = votes([0.01] * 3 + [0.1] * 12, [0] * 3 + [1] * 12, 2)
    assert received[0] > 0.99


def test_bandwidth_is_per_query():
    near = np.array([0.01, 0.02, 0.03, 0.06])
    both = vote_probabilities(np.vstack([near, 10 * near]), np.array([[0, 1, 1, 0]] * 2), 2)
    np.testing.assert_allclose(both[0], both[1])


@given(seed=st.integers(0, 10_000), n=st.integers(1, 8), k=st.integers(1, 20), n_types=st.integers(1, 6))
def test_equal_to_a_loop(seed, n, k, n_types):
    rng = np.random.default_rng(seed)
    distances = np.sort(rng.random((n, k)) * rng.choice([1e-3, 1, 2]), axis=1)
    labels = rng.integers(-1, n_types, (n, k))
    received = vote_probabilities(distances, labels, n_types)
    for row in range(n):
        weights, labelled = np.zeros(n_types), [i for i in range(k) if labels[row, i] >= 0]
        for i in labelled:
            weights[labels[row, i]] += np.exp(-distances[row, i] / max(distances[row, labelled[:3][-1]], 1e-6))
        expected = weights / weights.sum() if labelled else np.full(n_types, 1 / n_types)
        np.testing.assert_allclose(received[row], expected, rtol=1e-9)
    np.testing.assert_allclose(received.sum(axis=1), 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_are_float64(dtype):
    assert vote_probabilities(np.ones((1, 2), dtype=dtype), np.zeros((1, 2), int), 2).dtype == np.float64
