"""Batches of P types by K cells: which cells, and how often."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scquery_ae.nn import BalancedBatches, MaskingNoise, as_rows

#: Five types of very unlike numbers, mixed: 40, 20, 10, 5 and 3 cells.
SIZES = (40, 20, 10, 5, 3)
TYPES = np.random.default_rng(0).permutation(np.repeat(np.arange(5), SIZES))
N = len(TYPES)
#: Row i holds i + 1 throughout, so that a batch tells which rows it is made of.
X = np.repeat(np.arange(1, N + 1, dtype=np.float32)[:, None], 4, axis=1)


def balanced(types=TYPES, **kwargs):
    kwargs = {"batch_size": 12, "n_cells": 4, "seed": [3, 1], **kwargs}
    return BalancedBatches(as_rows(X), np.arange(len(types)), types=types, **kwargs)


def epoch(b):
    """Return the rows of each batch of an epoch."""
    return [b[i][1][:, 0].round().astype(int) - 1 for i in range(b.num_batches)]


def test_each_batch_has_p_types_of_k_cells():
    b = balanced()
    drawn = set()
    for _ in range(5):
        for rows in epoch(b):
            kinds, numbers = np.unique(TYPES[rows], return_counts=True)
            assert len(kinds) == 3
            np.testing.assert_array_equal(numbers, 4)
            drawn.add(tuple(kinds))
        b.on_epoch_end()
    # Any three of five: ten sets, of which a few dozen batches see most.
    assert len(drawn) >= 7


@pytest.mark.parametrize(
    ("batch_size", "n_cells", "p", "k"),
    [
        (12, 4, 3, 4),
        (20, 4, 5, 4),
        # All types are there: more cells of each.
        (40, 4, 5, 8),
        # Less than two types will not do, nor less than two cells.
        (12, 8, 2, 6),
        (6, 100, 2, 3),
        (4, 2, 2, 2),
        # What is left over is left out: a batch is never larger than asked for.
        (14, 4, 3, 4),
        (23, 4, 5, 4),
    ],
)
def test_shape_of_a_batch(batch_size, n_cells, p, k):
    b = balanced(batch_size=batch_size, n_cells=n_cells)
    for rows in epoch(b):
        kinds, numbers = np.unique(TYPES[rows], return_counts=True)
        assert len(kinds) == p
        assert set(numbers) == {k}
    assert b.batch_size == p * k <= batch_size
    # As many batches as it takes to read as many rows as there are.
    assert abs(b.num_batches * p * k - N) <= p * k / 2


def test_rare_types_are_repeated():
    b = balanced(batch_size=20)
    visits = np.zeros(N, int)
    for _ in range(10):
        visits += np.bincount(np.concatenate(epoch(b)), minlength=N)
        b.on_epoch_end()
    by_type = np.bincount(TYPES, weights=visits)
    # All five types are in every batch, so all give equally many, whatever their size.
    np.testing.assert_array_equal(by_type, by_type[0])
    per_cell = by_type / SIZES
    np.testing.assert_allclose(per_cell, by_type[0] / np.array(SIZES))
    assert per_cell[4] > 10 * per_cell[0]


def test_cells_of_a_type_are_visited_evenly():
    """A cell comes again only when all others of its type have come: numbers differ by one at most."""
    b = balanced()
    for _ in range(4):
        visits = np.bincount(np.concatenate(epoch(b)), minlength=N)
        for kind in range(5):
            own = visits[kind == TYPES]
            assert own.max() - own.min() <= 1
        b.on_epoch_end()


def test_over_epochs_every_cell_is_read():
    b = balanced()
    seen = set()
    # Of the 40 cells of the largest type, an epoch reads about 16.
    for _ in range(30):
        seen.update(np.concatenate(epoch(b)).tolist())
        b.on_epoch_end()
    assert seen == set(range(N))


def test_types_are_drawn_equally_often():
    b = balanced(batch_size=8)
    batches_of = np.zeros(5, int)
    for _ in range(60):
        for rows in epoch(b):
            batches_of[np.unique(TYPES[rows])] += 1
        b.on_epoch_end()
    fraction = batches_of / batches_of.sum()
    # 600 batches of two: four standard deviations of a fraction of 1/5 are about 0.04.
    np.testing.assert_allclose(fraction, 0.2, atol=0.04)


def test_epochs_differ_and_seeds_make_them_again():
    one, same, other = balanced(), balanced(), balanced(seed=[3, 2])
    epochs = []
    for _ in range(3):
        epochs.append(np.concatenate(epoch(one)).tolist())
        assert np.concatenate(epoch(same)).tolist() == epochs[-1]
        assert np.concatenate(epoch(other)).tolist() != epochs[-1]
        for b in (one, same, other):
            b.on_epoch_end()
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_fixed_batches_stay():
    b = balanced(fixed=True, corruption=MaskingNoise(0.4))
    first = [b[i] for i in range(b.num_batches)]
    for _ in range(2):
        b.on_epoch_end()
    for i, (noisy, clean) in enumerate(first):
        np.testing.assert_array_equal(b[i][0], noisy)
        np.testing.assert_array_equal(b[i][1], clean)
        numbers = np.unique(TYPES[clean[:, 0].round().astype(int) - 1], return_counts=True)[1]
        assert numbers.tolist() == [4, 4, 4]


def test_a_repeated_cell_comes_under_other_noise():
    rare = np.array([0] * 20 + [1])
    b = balanced(rare, batch_size=8, corruption=MaskingNoise(0.5))
    for i in range(b.num_batches):
        noisy, clean = b[i]
        alone = noisy[clean[:, 0].round() == 21]
        assert len(alone) == 4
        assert len(np.unique(alone, axis=0)) > 1


def test_only_the_chosen_rows_with_their_targets_and_weights():
    """Types, targets and weights are given for the indices, not for the rows of the matrix."""
    chosen = np.array([70, 3, 41, 12, 55, 8, 27, 60])
    types = np.array([5, 5, 5, 9, 9, 9, 7, 7])
    targets = {"classifier": types, "latent": chosen}
    b = BalancedBatches(
        as_rows(X), chosen, types=types, batch_size=6, n_cells=2, seed=1, targets=targets, weights=chosen * 2.0
    )
    assert b.num_batches == 1
    seen = set()
    for _ in range(6):
        cells, target, weight = b[0]
        rows = cells[:, 0].round().astype(int) - 1
        np.testing.assert_array_equal(target["latent"], rows)
        np.testing.assert_array_equal(weight, rows * 2.0)
        np.testing.assert_array_equal(np.unique(target["classifier"], return_counts=True), ([5, 7, 9], [2, 2, 2]))
        seen.update(rows.tolist())
        b.on_epoch_end()
    assert seen == set(chosen)


def test_one_type_alone():
    rows = np.concatenate(epoch(balanced(np.zeros(30, int), batch_size=10)))
    assert sorted(rows) == list(range(30))


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    batch_size=st.integers(4, 20),
    n_cells=st.integers(2, 8),
    seed=st.integers(0, 2**32 - 1),
    epochs=st.integers(0, 2),
)
def test_structure(sizes, batch_size, n_cells, seed, epochs):
    types = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    b = BalancedBatches(
        as_rows(X), np.arange(len(types)), types=types, batch_size=batch_size, n_cells=n_cells, seed=seed
    )
    for _ in range(epochs):
        b.on_epoch_end()
    visits = np.zeros(len(types), int)
    assert b.num_batches >= 1
    for rows in epoch(b):
        kinds, numbers = np.unique(types[rows], return_counts=True)
        assert len(kinds) >= min(2, len(sizes))
        assert len(set(numbers)) == 1
        assert numbers[0] >= 2
        assert len(rows) <= batch_size
        visits += np.bincount(rows, minlength=len(types))
    for kind in range(len(sizes)):
        assert np.ptp(visits[types == kind]) <= 1
