"""Label issues: replaced labels are found, and right ones are not."""

import numpy as np
import pytest
import sklearn.ensemble

from scquery_ae.training import find_label_issues, is_label_issue, label_issues


def cloud(sizes, seed=0, distance=5.0, d=8):
    """Return points of types that lie apart, and their true types."""
    rng = np.random.default_rng(seed)
    centres = distance * np.linalg.qr(rng.standard_normal((d, d)))[0][: len(sizes)]
    types = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (centres[types] + rng.standard_normal((len(types), d))).astype(np.float32), types


def planted(types, fraction, n_types, seed=1):
    """Return labels of which a fraction is another type's, and which those are."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(types), dtype=bool)
    wrong[rng.choice(len(types), int(fraction * len(types)), replace=False)] = True
    return np.where(wrong, (types + rng.integers(1, n_types, len(types))) % n_types, types), wrong


def test_an_issue_is_a_label_that_another_type_exceeds_by_far():
    p_label, p_suggested = np.array([0.6, 0.35, 0.34, 0.1, 0.0]), np.array([0.6, 0.6, 0.66, 0.45, 1.0])
    np.testing.assert_array_equal(is_label_issue(p_label, p_suggested), [False, False, True, True, True])


@pytest.mark.parametrize("fraction", [0.03, 0.1, 0.25])
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_labels_are_found(fraction, seed):
    x, types = cloud([150, 100, 60, 40], seed)
    labels, wrong = planted(types, fraction, 4, seed)
    found = find_label_issues(x, labels, 4, seed)
    assert found.is_label_issue.dtype == bool
    assert found.is_label_issue.shape == (350,)
    # Many wrong labels flatten the probabilities that the trees predict.
    assert found.is_label_issue[wrong].mean() >= (0.85 if fraction > 0.2 else 0.9)
    assert wrong[found.is_label_issue].mean() >= 0.95


@pytest.mark.parametrize("seed", [0, 1])
def test_widespread_issues_are_noticed(seed):
    x, types = cloud([300, 250, 200, 150, 80, 50, 40, 30], seed, distance=7.0)
    labels, wrong = planted(types, 0.05, 8, seed)
    found = find_label_issues(x, labels, 8, seed)
    assert found.widespread is True
    # Only wrong labels are contradicted.
    assert 0.2 * wrong.sum() <= found.n_contradicted <= wrong.sum()


@pytest.mark.parametrize("seed", range(3))
def test_wrong_labels_that_support_each_other_are_noticed(seed, monkeypatch):
    monkeypatch.setattr(label_issues, "MIN_CONTRADICTED", 10_000)
    x, types = cloud([150, 100, 60, 40], seed)
    labels, wrong = planted(types, 0.3, 4, seed)
    found = find_label_issues(x, labels, 4, seed)
    assert found.widespread is True
    assert wrong[found.is_label_issue].mean() > 0.9
    assert find_label_issues(x, planted(types, 0.05, 4, seed)[0], 4, seed).widespread is False


@pytest.mark.parametrize("seed", range(3))
def test_right_labels_are_not_widespread_issues(seed):
    x, types = cloud([300, 200, 60, 12], seed)
    found = find_label_issues(x, types, 4, seed)
    assert found.widespread is False
    assert found.is_label_issue.mean() < 0.01
    assert found.n_contradicted < 3


def test_types_that_shade_into_each_other_are_not_widespread_issues():
    x, types = cloud([300, 300, 100], distance=1.2)
    found = find_label_issues(x, types, 3, 0)
    # Many are doubtful, none is contradicted.
    assert found.is_label_issue.mean() > 0.05
    assert found.widespread is False


@pytest.mark.parametrize(("n", "examined"), [(9, False), (10, True)])
def test_types_of_few_cells_are_not_examined(n, examined):
    """Two of the rare type's cells lie in the middle of others."""
    x, types = cloud([120, 120, 2, n - 2], distance=6.0)
    x[types == 2] = [x[types == kind].mean(axis=0) for kind in (0, 1)]
    found = find_label_issues(x, np.where(types == 3, 2, types), 3, 0)
    assert found.is_label_issue[types == 2].any() == examined
    assert not found.is_label_issue[types == 3].any()
    # The cells around them are examined, and their neighbors are nearly all of their type.
    assert found.is_label_issue[types < 2].mean() < 0.05


def test_rare_labels_are_fitted_to_though_they_are_not_examined():
    """Cells in the place of a rare type, under another label, are found from the nine cells with the right label."""
    x, types = cloud([200, 200, 17])
    labels = types.copy()
    misnamed = np.flatnonzero(types == 2)[:8]
    labels[misnamed] = 0
    found = find_label_issues(x, labels, 3, 0)
    assert not found.is_label_issue[(types == 2) & (labels == 2)].any()
    assert not found.is_label_issue[labels == 1].any()


def test_a_type_does_not_lose_its_last_label():
    x, types = cloud([200, 200, 15])
    rng = np.random.default_rng(0)
    lost = types == 2
    x[lost] = x[rng.choice(np.flatnonzero(types == 0), 15)] + 0.1 * rng.standard_normal((15, 8))
    kept = find_label_issues(x, types, 3, 0)
    assert not kept.is_label_issue[lost].any()
    # With some cells in a place of their own, the labels of the others are issues.
    own, _ = cloud([1, 1, 40], seed=0)
    own = np.full((40, 8), -9, np.float32) + own[:40] * 0.1
    found = find_label_issues(np.concatenate([x, own]), np.concatenate([types, np.full(40, 2)]), 3, 0)
    assert found.is_label_issue[: len(x)][lost].mean() > 0.9
    assert not found.is_label_issue[len(x) :].any()


def test_cells_without_a_label_are_never_issues_and_never_fitted_to():
    x, types = cloud([150, 100, 60])
    labels, _ = planted(types, 0.1, 3)
    bare = np.random.default_rng(2).random(310) < 0.3
    labels[bare] = -1
    found = find_label_issues(x, labels, 3, 0)
    assert found.is_label_issue.any()
    assert not found.is_label_issue[bare].any()
    moved = np.where(bare[:, None], np.float32(100), x)
    np.testing.assert_array_equal(find_label_issues(moved, labels, 3, 0).is_label_issue, found.is_label_issue)


@pytest.mark.parametrize(
    "labels", [np.full(50, -1), np.zeros(50, int), np.arange(50) % 7, np.r_[np.zeros(41), np.ones(9)]]
)
def test_without_two_types_there_are_no_issues(labels):
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    found = find_label_issues(x, labels.astype(int), 7, 0)
    assert (found.is_label_issue.sum(), found.n_contradicted, found.widespread) == (0, 0, False)


def test_a_few_wrong_labels_are_not_widespread():
    x, types = cloud([300, 300])
    labels = types.copy()
    labels[:4] = 1 - labels[:4]
    found = find_label_issues(x, labels, 2, 0)
    assert found.is_label_issue[:4].all()
    assert found.n_contradicted == 4
    assert not found.widespread


def test_the_seed_changes_the_result():
    x, types = cloud([150, 100, 60], distance=3.0)
    labels, _ = planted(types, 0.1, 3)
    one, again, other = (find_label_issues(x, labels, 3, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.is_label_issue, again.is_label_issue)
    assert one.n_contradicted == again.n_contradicted
    either = (one.is_label_issue | other.is_label_issue).sum()
    assert either > (one.is_label_issue & other.is_label_issue).sum() > 0.7 * either


@pytest.fixture
def forests(monkeypatch):
    """Rows that each forest of the test was fitted to and has predicted."""
    made = []

    class Watched(sklearn.ensemble.ExtraTreesClassifier):
        def fit(self, x, y):
            made.append({"seen": x, "labels": y, "classes": None})
            return super().fit(x, y)

        def predict_proba(self, x):
            made[-1]["predicted"] = x
            return super().predict_proba(x)

    monkeypatch.setattr(sklearn.ensemble, "ExtraTreesClassifier", Watched)
    return made


def rows_of(some, x):
    return {int(np.flatnonzero((x == row).all(axis=1))[0]) for row in some}


def test_each_cell_is_predicted_once_by_trees_that_have_not_seen_it(forests):
    x, types = cloud([60, 40])
    find_label_issues(x, types, 2, 0)
    assert len(forests) == 5
    predicted = [rows_of(forest["predicted"], x) for forest in forests]
    assert sorted(row for rows in predicted for row in rows) == list(range(100))
    for rows, forest in zip(predicted, forests, strict=True):
        seen = rows_of(forest["seen"], x)
        assert not rows & seen
        assert rows | seen == set(range(100))


def test_many_cells_are_subsampled(forests, monkeypatch):
    x, types = cloud([300, 200, 100])
    labels, wrong = planted(types, 0.1, 3)
    monkeypatch.setattr(label_issues, "MAX_CELLS", 120)
    found = find_label_issues(x, labels, 3, 0)
    assert [len(forest["seen"]) for forest in forests] == [120] * 5
    for forest in forests:
        assert len(rows_of(forest["seen"], x)) == 120
    assert found.is_label_issue[wrong].mean() >= 0.9
    assert wrong[found.is_label_issue].mean() >= 0.8


def test_rare_types_are_kept_in_the_subsample(forests, monkeypatch):
    """An even draw of 200 of 6,020 cells would hold none of the rare type, and all its labels would be contradicted."""
    x, types = cloud([3000, 3000, 20], distance=8.0)
    monkeypatch.setattr(label_issues, "MAX_CELLS", 200)
    found = find_label_issues(x, types, 3, 0)
    for forest in forests:
        assert len(forest["labels"]) == 200
        assert (forest["labels"] == 2).sum() == 16
    assert not found.is_label_issue.any()
    assert found.n_contradicted == 0
