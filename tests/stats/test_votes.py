"""Votes of neighbors, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scquery_ae.stats import vote_probabilities

E = np.exp(1)


def votes(distances, labels, n_types):
    return vote_probabilities(np.array([distances], dtype=np.float32), np.array([labels]), n_types)[0]


def test_hand_worked():
    # The third hit, at .3, sets the scale: weights exp(-1/3), exp(-2/3), exp(-1), exp(-2).
    received = votes([0.1, 0.2, 0.3, 0.6], [0, 1, 1, 0], 3)
    a, b = np.exp(-1 / 3) + np.exp(-2), np.exp(-2 / 3) + np.exp(-1)
    np.testing.assert_allclose(received, [a / (a + b), b / (a + b), 0], rtol=1e-6)


def test_unlabelled_hits_neither_vote_nor_set_the_scale():
    # Without the unlabelled ones this is the case above.
    received = votes([0.05, 0.1, 0.2, 0.25, 0.3, 0.6], [-1, 0, 1, -1, 1, 0], 3)
    np.testing.assert_allclose(received, votes([0.1, 0.2, 0.3, 0.6], [0, 1, 1, 0], 3), rtol=1e-6)


def test_fewer_than_three_labelled_hits():
    # The scale is the distance of the last labelled one: .4.
    received = votes([0.1, 0.2, 0.4, 0.5], [-1, 1, 0, -1], 2)
    np.testing.assert_allclose(received, np.array([1 / E, np.exp(-0.5)]) / (1 / E + np.exp(-0.5)), rtol=1e-6)
    np.testing.assert_allclose(votes([0.1, 0.2], [-1, 1], 2), [0, 1])


def test_no_labelled_hit_gives_equal_shares():
    np.testing.assert_allclose(votes([0.1, 0.2, 0.3], [-1, -1, -1], 4), np.full(4, 0.25))


def test_copies_of_the_query_count_fully():
    np.testing.assert_allclose(votes([0, 0, 0, 0], [0, 1, 1, 1], 2), [0.25, 0.75])
    # Three copies leave no scale: whatever is not a copy has no say.
    np.testing.assert_allclose(
        votes([0, 0, 0, 0.5, 0.5, 0.5, 0.5], [0, 0, 1, 1, 1, 1, 1], 2), [2 / 3, 1 / 3], atol=1e-9
    )


def test_two_copies_and_a_crowd():
    # The third labelled neighbor is the first of the crowd; its members weigh 1/e each.
    received = votes([0, 0, 0.5, 0.5], [0, 0, 1, 1], 2)
    np.testing.assert_allclose(received, np.array([2, 2 / E]) / (2 + 2 / E))


def test_a_rare_type_is_not_drowned():
    # Three close cells of a rare type, then twelve of a common one ten times as far.
    received = votes([0.01] * 3 + [0.1] * 12, [0] * 3 + [1] * 12, 2)
    assert received[0] > 0.99
    # Plain counting would have given it a fifth.


def test_the_scale_is_each_querys_own():
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
        shares, labelled = np.zeros(n_types), [i for i in range(k) if labels[row, i] >= 0]
        for i in labelled:
            shares[labels[row, i]] += np.exp(-distances[row, i] / max(distances[row, labelled[:3][-1]], 1e-6))
        expected = shares / shares.sum() if labelled else np.full(n_types, 1 / n_types)
        np.testing.assert_allclose(received[row], expected, rtol=1e-9)
    np.testing.assert_allclose(received.sum(axis=1), 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shares_are_float64(dtype):
    assert vote_probabilities(np.ones((1, 2), dtype=dtype), np.zeros((1, 2), int), 2).dtype == np.float64
