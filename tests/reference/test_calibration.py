"""Calibration of a reference on its held-out cells."""

import numpy as np
import pytest

from scquery_ae.index import Neighbors
from scquery_ae.reference import Calibration
from scquery_ae.reference.calibration import NOVELTY_HITS, nonconformity
from scquery_ae.stats import Combination, fit_combination


def neighbors_at(distances):
    distances = np.asarray(distances, dtype=np.float32)
    return Neighbors(np.zeros(distances.shape, np.int64), distances)


@pytest.fixture
def held_out():
    rng = np.random.default_rng(0)
    opinions = [rng.dirichlet(np.ones(3), 80) for _ in range(3)]
    truth = rng.integers(0, 3, 80)
    return opinions, neighbors_at(np.sort(rng.random((80, 10)), axis=1)), truth


def test_fit_is_its_parts_put_together(held_out):
    opinions, neighbors, truth = held_out
    calibration = Calibration.fit(opinions, neighbors, truth)
    combination = fit_combination(opinions, truth)
    probabilities = combination(opinions)
    assert calibration.combination == combination
    np.testing.assert_array_equal(calibration.groups, probabilities.argmax(axis=1))
    np.testing.assert_array_equal(
        calibration.true_probabilities, [p[t] for p, t in zip(probabilities, truth, strict=True)]
    )
    similarity = 1 - neighbors.distances[:, :5].mean(axis=1)
    np.testing.assert_allclose(calibration.scores, 1 - similarity * probabilities.max(axis=1), rtol=1e-5)


def test_strangeness_grows_with_distance_and_with_doubt():
    near, far = neighbors_at([[0.1] * 5]), neighbors_at([[0.6] * 5])
    sure, torn = np.array([[0.9, 0.1]]), np.array([[0.5, 0.5]])
    assert nonconformity(sure, near) < nonconformity(sure, far)
    assert nonconformity(sure, near) < nonconformity(torn, near)


def test_strangeness_stays_between_zero_and_one():
    rng = np.random.default_rng(0)
    scores = nonconformity(rng.dirichlet(np.ones(4), 200), neighbors_at(np.sort(2 * rng.random((200, 8)), axis=1)))
    assert ((scores >= 0) & (scores <= 1)).all()


def test_only_the_nearest_hits_say_how_far_a_cell_is():
    distances = np.full((1, NOVELTY_HITS + 5), 0.2)
    distances[:, NOVELTY_HITS:] = 1.9
    sure = np.array([[1.0]])
    np.testing.assert_allclose(nonconformity(sure, neighbors_at(distances)), [0.2], rtol=1e-6)
    # Fewer hits than five are all used.
    np.testing.assert_allclose(nonconformity(sure, neighbors_at([[0.1, 0.3]])), [0.2], rtol=1e-6)


def test_pvalues_by_hand():
    scores = np.linspace(0.1, 0.9, 39)
    calibration = Calibration(Combination(), scores, np.zeros(39, np.int64), np.full(39, 0.5))
    # A cell at distance .25 with probability .8: strangeness 1 - .75 * .8 = .4; 25 of 39 are stranger or as strange.
    received = calibration.pvalues(np.array([[0.8, 0.2]]), neighbors_at([[0.25] * 5]))
    at_least = (scores >= 0.4 - 1e-9).sum()
    assert received == pytest.approx([(1 + at_least) / 40])


def test_label_sets_by_hand():
    true_probabilities = np.linspace(0.1, 0.9, 9)
    calibration = Calibration(Combination(), np.zeros(9), np.zeros(9, np.int64), true_probabilities)
    probabilities = np.array([[0.5, 0.31, 0.19], [0.29, 0.28, 0.25], [0.9, 0.06, 0.04]])
    # Coverage .7 of nine points: the third least, .3. The likeliest type is in the set even below it.
    sets = calibration.label_sets(probabilities, 0.7)
    np.testing.assert_array_equal(sets, [[True, True, False], [True, False, False], [True, False, False]])
    assert sets.dtype == bool


def test_without_held_out_cells_nothing_is_ruled_out():
    calibration = Calibration.empty()
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5]])
    assert calibration.combination == Combination()
    np.testing.assert_array_equal(calibration.pvalues(probabilities, neighbors_at([[1.0] * 5] * 2)), [1, 1])
    assert calibration.label_sets(probabilities, 0.9).all()


def test_held_out_cells_of_the_reference_are_covered(trained):
    """On its own held-out cells the promise holds by construction; a wrong index or sign would break it."""
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
