"""Held-out cells: the right fraction of each stratum, never all of one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scquery_ae.training import stratified_split

ALPHA = 1e-4


def test_whole_fractions_are_exact():
    strata = np.repeat(["a", "b", "c"], [10, 20, 40])
    held_out = stratified_split(strata, 0.2, 0)
    assert held_out.dtype == bool
    assert held_out.shape == (70,)
    assert [held_out[strata == s].sum() for s in "abc"] == [2, 4, 8]


def test_singletons_are_never_held_out():
    strata = np.arange(200)
    for random_state in range(5):
        assert not stratified_split(strata, 0.9, random_state).any()


@pytest.mark.parametrize(("n", "fraction", "expected"), [(2, 0.99, 1), (5, 0.99, 4), (3, 0.9, 2)])
def test_one_of_each_stratum_stays(n, fraction, expected):
    strata = np.tile(np.arange(100), n)
    held_out = stratified_split(strata, fraction, 0)
    np.testing.assert_array_equal(np.bincount(strata[held_out]), expected)


def test_fraction_zero_holds_out_nothing():
    assert not stratified_split(np.repeat([0, 1], 50), 0.0, 0).any()


def test_no_cells():
    assert stratified_split(np.array([], dtype=int), 0.1, 0).shape == (0,)


@pytest.mark.parametrize(
    ("n", "fraction", "expected"),
    # A tenth of 4 is nearer to none than to one, of 6 nearer to one; a fifth of 7 is 1.4, of 8 is 1.6.
    [(4, 0.1, 0), (6, 0.1, 1), (14, 0.1, 1), (16, 0.1, 2), (7, 0.2, 1), (8, 0.2, 2)],
)
def test_each_stratum_lends_the_nearest_whole_number(n, fraction, expected):
    strata = np.tile(np.arange(50), n)
    held_out = stratified_split(strata, fraction, 3)
    assert set(np.bincount(strata[held_out], minlength=50)) == {expected}


def test_each_member_is_as_likely():
    strata = np.repeat(np.arange(2000), 4)
    held_out = stratified_split(strata, 0.25, 5).reshape(-1, 4)
    assert (held_out.sum(axis=1) == 1).all()
    assert stats.chisquare(held_out.sum(axis=0)).pvalue > ALPHA


def test_random_state():
    strata = np.random.default_rng(0).integers(0, 5, 200)
    first = stratified_split(strata, 0.2, 7)
    np.testing.assert_array_equal(stratified_split(strata, 0.2, 7), first)
    assert (stratified_split(strata, 0.2, 8) != first).any()


def test_strata_are_left_alone():
    strata = np.array(["b", "a", "b", "b"])
    stratified_split(strata, 0.5, 0)
    assert strata.tolist() == ["b", "a", "b", "b"]


@given(
    sizes=st.lists(st.integers(1, 25), max_size=8),
    fraction=st.floats(0, 0.999),
    random_state=st.integers(0, 2**32),
    as_text=st.booleans(),
)
def test_every_stratum(sizes, fraction, random_state, as_text):
    strata = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    names = np.array([f"type {s}" for s in strata]) if as_text else strata
    held_out = stratified_split(names, fraction, random_state)
    assert held_out.shape == strata.shape
    for stratum, size in enumerate(sizes):
        number = held_out[strata == stratum].sum()
        assert number < size
        # The nearest whole number; one less where that would be all.
        assert abs(number - fraction * size) <= 0.5 or number == size - 1
    # In all, the fraction is met up to half a cell a stratum, and one where a stratum would have been left empty.
    assert abs(held_out.sum() - fraction * len(strata)) <= len(sizes)


def test_many_small_batches_still_lend_their_fraction():
    # Fifty batches of four cells: a tenth of each would round to nothing.
    types, batches = np.zeros(200, dtype=int), np.repeat(np.arange(50).astype(str), 4)
    held_out = stratified_split(types, 0.1, 0, batches)
    assert held_out.sum() == 20
    assert np.unique(batches[held_out], return_counts=True)[1].max() == 1


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    fraction=st.floats(0, 0.9),
    seed=st.integers(0, 100),
)
def test_batches_lend_to_within_one_cell(sizes, fraction, seed):
    batches = np.repeat([f"b{i}" for i in range(len(sizes))], sizes)
    n = len(batches)
    held_out = stratified_split(np.zeros(n, dtype=int), fraction, seed, batches)
    total = min(round(fraction * n), n - 1)
    assert held_out.sum() == total
    for i, size in enumerate(sizes):
        assert abs(held_out[batches == f"b{i}"].sum() - total * size / n) <= 1 + 1e-9
