"""Calibration: probabilities, p-values, novelty scores and prediction sets, fitted to held-out cells."""

import numpy as np
import pytest

from scquery_ae.annotate import Calibration, MemberProbabilities, combine
from scquery_ae.annotate.predictors import member_weights
from scquery_ae.stats import Combination, Standardization, fit_combination

PLAIN = Standardization(np.zeros(2), np.ones(2))


@pytest.fixture
def held_out():
    rng = np.random.default_rng(0)
    members = MemberProbabilities(*(rng.dirichlet(np.ones(3), 80) for _ in range(3)))
    return members, rng.normal(size=(80, 3)) * [1, 5, 2] + [0, 20, 9], rng.integers(0, 3, 80)


def test_fit_by_hand(held_out):
    members, measures, truth = held_out
    calibration = Calibration.fit(members, measures, truth, "held_out")
    combination = fit_combination(members, truth, (1, 1, 1.6))
    classifier, neighbors, discriminant = members
    mixed = 0.999 * (classifier + neighbors + 1.6 * discriminant) / 3.6 + 0.001 / 3
    probabilities = mixed ** (1 / combination.temperature)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert calibration.combination == combination
    assert calibration.method == "held_out"
    # Groups are the types of classifier and neighbors; here the discriminant often prefers another type.
    np.testing.assert_array_equal(calibration.groups, (classifier + neighbors).argmax(axis=1))
    assert (calibration.groups != probabilities.argmax(axis=1)).any()
    np.testing.assert_allclose(
        calibration.true_probabilities, [p[t] for p, t in zip(probabilities, truth, strict=True)]
    )
    # The sum of the measures, each standardized within its type. Every type has at least ten cells here.
    standardized = np.zeros((3, 80))
    for i, measure in enumerate(measures.T):
        for group in range(3):
            mine = calibration.groups == group
            assert mine.sum() >= 10
            spread = measure[mine].std() + 0.1 * measure.std()
            standardized[i, mine] = (measure[mine] - measure[mine].mean()) / spread
    expected = standardized.sum(axis=0)
    np.testing.assert_allclose(calibration.scores, expected)
    np.testing.assert_allclose(calibration.nonconformity(measures, calibration.groups), calibration.scores)
    # In the novelty score, which ranks cells of all types, the last measure has weight 2 and the unit of all cells.
    last = measures[:, 2]
    novelty = standardized[0] / 2 + standardized[1] + 2 * (last - last.mean()) / last.std()
    np.testing.assert_allclose(calibration.novelty(measures, calibration.groups), novelty)


@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_classifier_and_neighbors_have_the_weight_of_the_fraction_of_genes(held_out, fraction):
    members, measures, truth = held_out
    calibration = Calibration.fit(members, measures, truth, "held_out")
    assert member_weights(fraction) == (fraction, fraction, 1.6)
    assert member_weights() == (1, 1, 1.6)
    classifier, neighbors, discriminant = members
    mixed = 0.999 * (fraction * (classifier + neighbors) + 1.6 * discriminant) / (2 * fraction + 1.6) + 0.001 / 3
    expected = mixed ** (1 / calibration.combination.temperature)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(combine(calibration.combination, members, fraction), expected)


def test_the_unit_of_a_measure_does_not_matter(held_out):
    members, measures, truth = held_out
    one = Calibration.fit(members, measures, truth, "held_out")
    other = Calibration.fit(members, measures * [1000, 0.1, 3] + [-5, 7, 1], truth, "held_out")
    np.testing.assert_allclose(other.scores, one.scores)


def test_pvalues_by_hand():
    scores = np.linspace(0.1, 0.9, 39)
    scales = (PLAIN, Standardization(np.array([2.0, 0.0]), np.array([10.0, 1.0])))
    calibration = Calibration(Combination(), scales, scores, np.zeros(39, np.int64), np.full(39, 0.5), "held_out")
    # (.3 - 0) / 1 + (3 - 2) / 10 = .4; 24 of 39 held-out cells have at least this score.
    measures = np.array([[0.3 - 1e-9, 3.0]])
    np.testing.assert_allclose(calibration.nonconformity(measures, np.array([0])), [0.4])
    at_least = (scores >= 0.4 - 1e-6).sum()
    assert at_least == 24
    scored = calibration.nonconformity(measures, np.array([0]))
    assert calibration.pvalues(scored, np.array([0])) == pytest.approx([25 / 40])


def test_pvalues_fall_with_each_measure():
    scores = np.linspace(0, 2, 99)
    calibration = Calibration(
        Combination(), (PLAIN, PLAIN), scores, np.zeros(99, np.int64), np.full(99, 0.5), "held_out"
    )
    groups = np.zeros(3, int)
    scored = calibration.nonconformity(np.array([[0.2, 0.2], [1.0, 0.2], [0.2, 1.0]]), groups)
    base, first, second = calibration.pvalues(scored, groups)
    assert base > first == second


def test_prediction_sets_by_hand():
    true_probabilities = np.linspace(0.1, 0.9, 9)
    calibration = Calibration(
        Combination(), (PLAIN,), np.zeros(9), np.zeros(9, np.int64), true_probabilities, "held_out"
    )
    probabilities = np.array([[0.5, 0.31, 0.19], [0.29, 0.28, 0.25], [0.9, 0.06, 0.04]])
    # Coverage .7 of nine points: the third smallest, .3. The most probable type is in the set even below it.
    sets = calibration.prediction_sets(probabilities, 0.7)
    np.testing.assert_array_equal(sets, [[True, True, False], [True, False, False], [True, False, False]])
    assert sets.dtype == bool


def test_without_held_out_cells_nothing_is_ruled_out():
    calibration = Calibration.empty(2)
    assert calibration.method == "none"
    assert calibration.combination == Combination()
    assert len(calibration.scales) == 4
    far = np.array([[1.0, 2.0, 0.0], [100.0, 1e6, 0.0]])
    np.testing.assert_array_equal(calibration.nonconformity(far, np.array([0, 1])), [3, 1e6 + 100])
    np.testing.assert_array_equal(calibration.pvalues(np.array([3, 1e6 + 100]), np.array([0, 1])), [1, 1])
    assert calibration.prediction_sets(np.array([[0.9, 0.1], [0.5, 0.5]]), 0.9).all()


def test_held_out_cells_of_the_reference_are_covered(trained):
    """Coverage holds by construction on these cells; a wrong index or sign would break it."""
    reference = trained.reference
    true_probabilities = reference.calibration.true_probabilities
    for coverage in (0.5, 0.8, 0.9):
        threshold = np.sort(true_probabilities)[
            int(np.floor((len(true_probabilities) + 1) * (1 - coverage) + 1e-9)) - 1
        ]
        assert (true_probabilities >= threshold).mean() >= coverage
    held_out = (trained.adata.obs["scquery_split"] == "validation").to_numpy()
    assert len(reference.calibration.scores) == held_out.sum()
    predicted = np.array(reference.types)[reference.calibration.groups]
    truth = trained.adata.obs["cell_type"].astype(str).to_numpy()[held_out]
    assert (predicted == truth).mean() > 0.9
