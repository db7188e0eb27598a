"""Retrieval metrics, against cases computed by hand and scikit-learn."""

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
        # Of ten relevant cells, a perfect search returns four among four neighbors.
        ([1, 1, 1, 1], 10, 1),
        ([1, 0, 0, 0], 10, 1 / 4),
        # One of three relevant cells is found.
        ([0, 1, 0, 0], 3, (1 / 2) / 3),
    ],
)
def test_hand_worked_average_precision(relevant, n_relevant, expected):
    assert average_precision(np.array([relevant]), np.array([n_relevant]))[0] == pytest.approx(expected)


def test_average_precision_is_nan_without_relevant_cells():
    received = average_precision(np.array([[0, 0], [1, 0]]), np.array([0, 1]))
    assert np.isnan(received[0])
    assert received[1] == 1


def test_equal_to_scikit_learn_on_full_rankings():
    # The two definitions agree if every item is ranked.
    rng = np.random.default_rng(0)
    relevant = rng.random((40, 30)) < rng.uniform(0.05, 0.9, (40, 1))
    relevant[:, 7] = True
    expected = [average_precision_score(row, -np.arange(30)) for row in relevant]
    np.testing.assert_allclose(average_precision(relevant, relevant.sum(axis=1)), expected)


def test_shape_and_plain_lists():
    received = average_precision(np.ones((3, 2), bool), np.array([1, 2, 3]))
    assert received.shape == (3,)
    assert average_precision([[1, 0]], [1])[0] == 1


@pytest.mark.parametrize(
    ("relevant", "n_relevant"), [((3,), (3,)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3, 1), (2,))]
)
def test_wrong_shapes_are_refused(relevant, n_relevant):
    with pytest.raises(
        ArgumentError, match=r"`relevant` must be \(n_queries, k\) and `n_relevant` \(n_queries,\)\. Received"
    ):
        average_precision(np.ones(relevant), np.ones(n_relevant))


# Graded relevance.


@pytest.mark.parametrize(
    ("similarity", "best", "expected"),
    [
        # Precisions 1, .75, .5 and similarities 1, .5, 0; the best list (1, 1, .5) has precisions 1, 1, 2.5/3.
        ([1, 0.5, 0], [0.5, 1, 1], (1 + 0.75 * 0.5) / (1 + 1 + (2.5 / 3) * 0.5)),
        ([0, 0.5], [0.5, 0.5], (0.25 * 0.5) / (0.5 * 0.5 + 0.5 * 0.5)),
        ([0.5, 0.5], [0.5, 0.5], 1),
        ([0, 0], [1, 0.2], 0),
        # The best neighbors in reverse order.
        ([0.5, 1], [1, 0.5], (0.5 * 0.5 + 0.75 * 1) / (1 * 1 + 0.75 * 0.5)),
    ],
)
def test_hand_worked_flexible_precision(similarity, best, expected):
    assert average_flexible_precision(np.array([similarity]), np.array([best]))[0] == pytest.approx(expected)


def test_flexible_precision_is_nan_if_all_best_similarities_are_zero():
    received = average_flexible_precision(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert np.isnan(received[0])
    assert received[1] == 1


@pytest.mark.parametrize("seed", range(4))
def test_flexible_precision_of_binary_similarities_is_the_average_precision(seed):
    rng = np.random.default_rng(seed)
    n, k = 50, 12
    relevant = rng.random((n, k)) < rng.random((n, 1))
    # Fewer than k, k, and more than k relevant cells.
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
    # Descending order is optimal.
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


def test_hand_worked_means_by_type():
    values = [1.0, 0.0, np.nan, 0.4, np.nan]
    by_type, over_queries, over_types = mean_by_type(values, ["b", "b", "a", "a", "c"])
    assert by_type == {"a": 0.4, "b": 0.5}
    assert over_queries == pytest.approx(1.4 / 3)
    assert over_types == pytest.approx(0.45)
    none = mean_by_type([np.nan], ["a"])
    assert none[0] == {}
    assert np.isnan(none[1:]).all()


@pytest.mark.parametrize("types", [["a"], "ab", 3])
def test_types_that_do_not_match_the_values_are_refused(types):
    with pytest.raises(ArgumentError, match=r"`types` must have one entry for each of the 2 values\. Received shape"):
        mean_by_type([1.0, 0.0], types)
