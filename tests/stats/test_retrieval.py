"""Average precision, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from scquery_ae import ArgumentError
from scquery_ae.stats import average_flexible_precision, average_precision, mean_by_type


@pytest.mark.parametrize(
    ("relevant", "n_relevant", "expected"),
    [
        ([1, 0, 1, 0], 2, (1 + 2 / 3) / 2),
        ([1, 1, 1, 1], 4, 1),
        ([0, 0, 0, 1], 1, 1 / 4),
        ([0, 0, 0, 0], 3, 0),
        # Ten could have been found, four were shown: four are the most that a perfect search has.
        ([1, 1, 1, 1], 10, 1),
        ([1, 0, 0, 0], 10, 1 / 4),
        # Three exist and one was found.
        ([0, 1, 0, 0], 3, (1 / 2) / 3),
    ],
)
def test_hand_worked(relevant, n_relevant, expected):
    assert average_precision(np.array([relevant]), np.array([n_relevant]))[0] == pytest.approx(expected)


def test_nothing_to_find_is_not_a_number():
    received = average_precision(np.array([[0, 0], [1, 0]]), np.array([0, 1]))
    assert np.isnan(received[0])
    assert received[1] == 1


def test_equal_to_scikit_learn_on_full_rankings():
    # The definitions agree where every item is ranked.
    rng = np.random.default_rng(0)
    relevant = rng.random((40, 30)) < rng.uniform(0.05, 0.9, (40, 1))
    relevant[:, 7] = True
    expected = [average_precision_score(row, -np.arange(30)) for row in relevant]
    np.testing.assert_allclose(average_precision(relevant, relevant.sum(axis=1)), expected)


def test_shapes_and_types():
    received = average_precision(np.ones((3, 2), bool), np.array([1, 2, 3]))
    assert received.shape == (3,)
    assert average_precision([[1, 0]], [1])[0] == 1


@pytest.mark.parametrize(
    ("relevant", "n_relevant"), [((3,), (3,)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3, 1), (2,))]
)
def test_shapes_that_do_not_fit_are_refused(relevant, n_relevant):
    with pytest.raises(
        ArgumentError, match=r"`relevant` must be \(n_queries, k\) and `n_relevant` \(n_queries,\)\. Received"
    ):
        average_precision(np.ones(relevant), np.ones(n_relevant))


# Hits that are right in part.


@pytest.mark.parametrize(
    ("similarity", "best", "expected"),
    [
        # Precisions 1, .75, .5 times similarities 1, .5, 0: 1.375; at best 1, 1, 1 * 2/3 + ... of (1, 1, .5).
        ([1, 0.5, 0], [0.5, 1, 1], (1 + 0.75 * 0.5) / (1 + 1 + (2.5 / 3) * 0.5)),
        ([0, 0.5], [0.5, 0.5], (0.25 * 0.5) / (0.5 * 0.5 + 0.5 * 0.5)),
        ([0.5, 0.5], [0.5, 0.5], 1),
        ([0, 0], [1, 0.2], 0),
        # The same neighbors in a worse order.
        ([0.5, 1], [1, 0.5], (0.5 * 0.5 + 0.75 * 1) / (1 * 1 + 0.75 * 0.5)),
    ],
)
def test_flexible_precision_by_hand(similarity, best, expected):
    assert average_flexible_precision(np.array([similarity]), np.array([best]))[0] == pytest.approx(expected)


def test_flexible_precision_of_nothing_to_find_is_not_a_number():
    received = average_flexible_precision(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert np.isnan(received[0])
    assert received[1] == 1


@pytest.mark.parametrize("seed", range(4))
def test_with_similarities_of_0_and_1_it_is_the_average_precision(seed):
    rng = np.random.default_rng(seed)
    n, k = 50, 12
    relevant = rng.random((n, k)) < rng.random((n, 1))
    # Fewer than k relevant cells, as many, and more.
    n_relevant = relevant.sum(axis=1) + rng.integers(0, 15, n)
    best = np.arange(k) < np.minimum(n_relevant, k)[:, None]
    expected = average_precision(relevant, n_relevant)
    received = average_flexible_precision(relevant, rng.permuted(best, axis=1))
    np.testing.assert_allclose(received, expected, rtol=1e-12)
    assert np.isnan(expected).any() == (n_relevant == 0).any()


def test_flexible_precision_lies_between_0_and_1():
    rng = np.random.default_rng(0)
    pool = rng.random((200, 30))
    best = -np.sort(-pool, axis=1)[:, :8]
    chosen = np.take_along_axis(pool, np.argsort(rng.random((200, 30)), axis=1)[:, :8], axis=1)
    received = average_flexible_precision(chosen, best)
    assert received.min() >= 0
    assert received.max() <= 1
    # Never better than with the same neighbors in descending order.
    assert (received <= average_flexible_precision(-np.sort(-chosen, axis=1), best) + 1e-12).all()


@pytest.mark.parametrize(
    ("similarity", "best"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4))),
        (np.zeros(3), np.zeros(3)),
        (np.full((1, 2), 1.1), np.ones((1, 2))),
        (np.ones((1, 2)), np.full((1, 2), -0.1)),
        (np.full((1, 2), np.nan), np.ones((1, 2))),
    ],
)
def test_wrong_similarities_are_refused(similarity, best):
    with pytest.raises(ArgumentError, match=r"have one shape, \(n_queries, k\), and values in \[0, 1\]\. Received"):
        average_flexible_precision(similarity, best)


def test_means_by_type():
    values = [1.0, 0.0, np.nan, 0.4, np.nan]
    by_type, over_queries, over_types = mean_by_type(values, ["b", "b", "a", "a", "c"])
    assert by_type == {"a": 0.4, "b": 0.5}
    assert over_queries == pytest.approx(1.4 / 3)
    assert over_types == pytest.approx(0.45)
    none = mean_by_type([np.nan], ["a"])
    assert none[0] == {}
    assert np.isnan(none[1:]).all()
