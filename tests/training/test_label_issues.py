"""Labels that cells contradict: planted ones are found, and others are left alone."""

import numpy as np
import pytest
import sklearn.ensemble

from scquery_ae.training import find_label_issues, label_issues


def cloud(sizes, seed=0, distance=5.0, d=8):
    """Return points of types that lie apart, and their true types."""
    rng = np.random.default_rng(seed)
    centres = distance * np.linalg.qr(rng.standard_normal((d, d)))[0][: len(sizes)]
    types = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (centres[types] + rng.standard_normal((len(types), d))).astype(np.float32), types


def planted(types, share, n_types, seed=1):
    """Return labels of which a share is another type's, and which those are."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(types), dtype=bool)
    wrong[rng.choice(len(types), int(share * len(types)), replace=False)] = True
    return np.where(wrong, (types + rng.integers(1, n_types, len(types))) % n_types, types), wrong


@pytest.mark.parametrize("share", [0.03, 0.1, 0.25])
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_labels_are_found(share, seed):
    x, types = cloud([150, 100, 60, 40], seed)
    labels, wrong = planted(types, share, 4, seed)
    found = find_label_issues(x, labels, 4, seed)
    assert found.label_issue.dtype == bool
    assert found.label_issue.shape == (350,)
    assert found.label_issue[wrong].mean() >= 0.9
    assert wrong[found.label_issue].mean() >= 0.95


@pytest.mark.parametrize("seed", [0, 1])
def test_widely_wrong_labels_are_noticed(seed):
    x, types = cloud([300, 250, 200, 150, 80, 50, 40, 30], seed, distance=7.0)
    labels, wrong = planted(types, 0.05, 8, seed)
    found = find_label_issues(x, labels, 8, seed)
    assert found.widespread is True
    # Only wrong labels have nothing that speaks for them.
    assert 0.2 * wrong.sum() <= found.n_contradicted <= wrong.sum()


@pytest.mark.parametrize("seed", range(3))
def test_wrong_labels_that_vouch_for_each_other_are_noticed(seed, monkeypatch):
    monkeypatch.setattr(label_issues, "MIN_CONTRADICTED", 10_000)
    x, types = cloud([150, 100, 60, 40], seed)
    labels, wrong = planted(types, 0.3, 4, seed)
    found = find_label_issues(x, labels, 4, seed)
    assert found.widespread is True
    assert wrong[found.label_issue].mean() > 0.9
    assert find_label_issues(x, planted(types, 0.05, 4, seed)[0], 4, seed).widespread is False


@pytest.mark.parametrize("seed", range(3))
def test_right_labels_are_not_widely_wrong(seed):
    x, types = cloud([300, 200, 60, 12], seed)
    found = find_label_issues(x, types, 4, seed)
    assert found.widespread is False
    assert found.label_issue.mean() < 0.01
    assert found.n_contradicted < 3


def test_types_that_shade_into_each_other_are_not_widely_wrong():
    x, types = cloud([300, 300, 100], distance=1.2)
    found = find_label_issues(x, types, 3, 0)
    # Many are doubtful, none absurd.
    assert found.label_issue.mean() > 0.05
    assert found.widespread is False


@pytest.mark.parametrize(("n", "judged"), [(9, False), (10, True)])
def test_types_of_few_cells_are_not_judged(n, judged):
    """Two of the rare type's cells lie in the middle of others."""
    x, types = cloud([120, 120, 2, n - 2], distance=6.0)
    x[types == 2] = [x[types == kind].mean(axis=0) for kind in (0, 1)]
    found = find_label_issues(x, np.where(types == 3, 2, types), 3, 0)
    assert found.label_issue[types == 2].any() == judged
    assert not found.label_issue[types == 3].any()
    # Those around them are judged, by neighbors that are nearly all of their type.
    assert found.label_issue[types < 2].mean() < 0.05


def test_rare_labels_teach_though_they_are_not_judged():
    """Cells in the place of a rare type, under another label, are found by what nine cells say."""
    x, types = cloud([200, 200, 17])
    labels = types.copy()
    misnamed = np.flatnonzero(types == 2)[:8]
    labels[misnamed] = 0
    found = find_label_issues(x, labels, 3, 0)
    assert not found.label_issue[(types == 2) & (labels == 2)].any()
    assert not found.label_issue[labels == 1].any()


def test_a_type_does_not_lose_its_last_label():
    x, types = cloud([200, 200, 15])
    rng = np.random.default_rng(0)
    lost = types == 2
    x[lost] = x[rng.choice(np.flatnonzero(types == 0), 15)] + 0.1 * rng.standard_normal((15, 8))
    kept = find_label_issues(x, types, 3, 0)
    assert not kept.label_issue[lost].any()
    # With some cells in a place of their own the others are label_issue.
    own, _ = cloud([1, 1, 40], seed=0)
    own = np.full((40, 8), -9, np.float32) + own[:40] * 0.1
    found = find_label_issues(np.concatenate([x, own]), np.concatenate([types, np.full(40, 2)]), 3, 0)
    assert found.label_issue[: len(x)][lost].mean() > 0.9
    assert not found.label_issue[len(x) :].any()


def test_cells_without_a_label_are_never_suspect_and_teach_nothing():
    x, types = cloud([150, 100, 60])
    labels, _ = planted(types, 0.1, 3)
    bare = np.random.default_rng(2).random(310) < 0.3
    labels[bare] = -1
    found = find_label_issues(x, labels, 3, 0)
    assert found.label_issue.any()
    assert not found.label_issue[bare].any()
    moved = np.where(bare[:, None], np.float32(100), x)
    np.testing.assert_array_equal(find_label_issues(moved, labels, 3, 0).label_issue, found.label_issue)


@pytest.mark.parametrize(
    "labels", [np.full(50, -1), np.zeros(50, int), np.arange(50) % 7, np.r_[np.zeros(41), np.ones(9)]]
)
def test_without_two_types_to_judge_nothing_is_suspect(labels):
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    found = find_label_issues(x, labels.astype(int), 7, 0)
    assert (found.label_issue.sum(), found.n_contradicted, found.widespread) == (0, 0, False)


def test_a_few_wrong_labels_are_no_mix_up():
    x, types = cloud([300, 300])
    labels = types.copy()
    labels[:4] = 1 - labels[:4]
    found = find_label_issues(x, labels, 2, 0)
    assert found.label_issue[:4].all()
    assert found.n_contradicted == 4
    assert not found.widespread


def test_the_seed_decides():
    x, types = cloud([150, 100, 60], distance=3.0)
    labels, _ = planted(types, 0.1, 3)
    one, again, other = (find_label_issues(x, labels, 3, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.label_issue, again.label_issue)
    assert one.n_contradicted == again.n_contradicted
    either = (one.label_issue | other.label_issue).sum()
    assert either > (one.label_issue & other.label_issue).sum() > 0.7 * either


@pytest.fixture
def judges(monkeypatch):
    """Rows that each judge of the test has learnt from and judged."""
    made = []

    class Watched(sklearn.ensemble.ExtraTreesClassifier):
        def fit(self, x, y):
            made.append({"seen": x, "labels": y, "classes": None})
            return super().fit(x, y)

        def predict_proba(self, x):
            made[-1]["judged"] = x
            return super().predict_proba(x)

    monkeypatch.setattr(sklearn.ensemble, "ExtraTreesClassifier", Watched)
    return made


def rows_of(some, x):
    return {int(np.flatnonzero((x == row).all(axis=1))[0]) for row in some}


def test_each_cell_is_judged_once_by_judges_that_have_not_seen_it(judges):
    x, types = cloud([60, 40])
    find_label_issues(x, types, 2, 0)
    assert len(judges) == 5
    judged = [rows_of(judge["judged"], x) for judge in judges]
    assert sorted(row for rows in judged for row in rows) == list(range(100))
    for rows, judge in zip(judged, judges, strict=True):
        seen = rows_of(judge["seen"], x)
        assert not rows & seen
        assert rows | seen == set(range(100))


def test_many_cells_are_thinned_out(judges, monkeypatch):
    x, types = cloud([300, 200, 100])
    labels, wrong = planted(types, 0.1, 3)
    monkeypatch.setattr(label_issues, "MAX_CELLS", 120)
    found = find_label_issues(x, labels, 3, 0)
    assert [len(judge["seen"]) for judge in judges] == [120] * 5
    for judge in judges:
        assert len(rows_of(judge["seen"], x)) == 120
    assert found.label_issue[wrong].mean() >= 0.9
    assert wrong[found.label_issue].mean() >= 0.8


def test_rare_types_outlast_the_thinning(judges, monkeypatch):
    """An even draw of 200 of 6,020 cells would hold none of the rare type, and all its labels would be absurd."""
    x, types = cloud([3000, 3000, 20], distance=8.0)
    monkeypatch.setattr(label_issues, "MAX_CELLS", 200)
    found = find_label_issues(x, types, 3, 0)
    for judge in judges:
        assert len(judge["labels"]) == 200
        assert (judge["labels"] == 2).sum() == 16
    assert not found.label_issue.any()
    assert found.n_contradicted == 0
