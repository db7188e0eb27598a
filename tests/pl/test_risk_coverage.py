"""``pl.risk_coverage``: curves, areas and the cells that are not called unknown."""

from itertools import permutations

import numpy as np
import pytest

import scquery_ae as scq
from scquery_ae import ArgumentError, MissingKeyError
from scquery_ae.pl.risk_coverage import _selective_risk


def lines(ax):
    return {line.get_label().split(" (")[0]: line for line in ax.lines}


def test_the_curve_is_the_fraction_of_errors_among_the_most_certain(queried):
    ax = scq.pl.risk_coverage(queried, "truth", show=False)
    wrong = (queried.obs["truth"].astype(str) != queried.obs["scquery_label"].astype(str)).to_numpy()
    confidence = queried.obs["scquery_confidence"].to_numpy()
    assert len(np.unique(confidence)) == len(confidence)
    order = np.argsort(-confidence)
    expected = [wrong[order[:k]].mean() for k in range(1, 201)]
    line = lines(ax)["by confidence"]
    np.testing.assert_allclose(line.get_ydata(), expected)
    np.testing.assert_allclose(line.get_xdata(), np.arange(1, 201) / 200)
    assert line.get_label() == f"by confidence (area {np.mean(expected):.3f})"


def test_the_best_ranking_puts_all_errors_last(queried):
    ax = scq.pl.risk_coverage(queried, "truth", show=False)
    n_wrong = int((queried.obs["truth"].astype(str) != queried.obs["scquery_label"].astype(str)).sum())
    expected = [max(0, k - (200 - n_wrong)) / k for k in range(1, 201)]
    np.testing.assert_allclose(lines(ax)["best possible"].get_ydata(), expected)


@pytest.mark.parametrize("seed", range(4))
def test_ties_count_as_the_mean_over_all_their_orders(seed):
    rng = np.random.default_rng(seed)
    score, wrong = rng.integers(0, 3, 6) / 2, rng.random(6) < 0.5
    risks = [
        np.cumsum(wrong[list(order)]) / np.arange(1, 7)
        for order in permutations(range(6))
        if (np.diff(score[list(order)]) <= 0).all()
    ]
    np.testing.assert_allclose(_selective_risk(score, wrong), np.mean(risks, axis=0))


def test_p_values_in_hundredths_are_the_mean_over_random_orders(queried):
    ax = scq.pl.risk_coverage(queried, "truth", show=False)
    wrong = (queried.obs["truth"].astype(str) != queried.obs["scquery_label"].astype(str)).to_numpy()
    pvalue = queried.obs["scquery_pvalue"].to_numpy()
    rng = np.random.default_rng(0)
    risks = []
    for _ in range(2000):
        order = np.lexsort((rng.random(200), -pvalue))
        risks.append(np.cumsum(wrong[order]) / np.arange(1, 201))
    np.testing.assert_allclose(lines(ax)["by p-value"].get_ydata()[10:], np.mean(risks, axis=0)[10:], atol=0.01)


def test_the_diamond_marks_the_cells_not_called_unknown(queried):
    ax = scq.pl.risk_coverage(queried, "truth", show=False)
    known = ~queried.obs["scquery_unknown"].to_numpy()
    wrong = (queried.obs["truth"].astype(str) != queried.obs["scquery_label"].astype(str)).to_numpy()
    marker = lines(ax)["not called unknown"]
    assert marker.get_marker() == "D"
    np.testing.assert_allclose([marker.get_xdata()[0], marker.get_ydata()[0]], [known.mean(), wrong[known].mean()])
    queried.obs["scquery_unknown"] = True
    assert "not called unknown" not in lines(scq.pl.risk_coverage(queried, "truth", show=False))


def test_without_errors_all_curves_are_zero(queried):
    queried.obs["truth"] = queried.obs["scquery_label"]
    ax = scq.pl.risk_coverage(queried, "truth", show=False)
    assert all((np.asarray(line.get_ydata()) == 0).all() for line in ax.lines)
    assert ax.get_ylim() == (0, 0.05)


def test_a_curve_of_many_cells_is_thinned_and_keeps_both_ends(make_queried):
    ax = scq.pl.risk_coverage(make_queried(5000), "truth", show=False)
    line = lines(ax)["by confidence"]
    assert len(line.get_xdata()) == 2000
    assert (line.get_xdata()[0], line.get_xdata()[-1]) == (1 / 5000, 1)


def test_one_cell(queried):
    assert len(scq.pl.risk_coverage(queried[:1], "truth", show=False).lines) in (3, 4)


def test_missing_columns_and_other_names_are_refused(queried):
    with pytest.raises(MissingKeyError, match=r"`pl.risk_coverage` needs the columns that `scq.tl.query` writes"):
        scq.pl.risk_coverage(queried, "truth", key_added="x", show=False)
    with pytest.raises(ArgumentError, match=r"`pl.risk_coverage` compares type names"):
        scq.pl.risk_coverage(queried, "donor", show=False)
