"""Average precision, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from scquery_ae import ArgumentError
from scquery_ae.stats import average_precision


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
