"""Minibatches: every row once an epoch, reproducible order and noise."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from scquery_ae.nn import Batches, GaussianNoise, MaskingNoise, SquaredError, as_rows, fitting

pytestmark = [
    pytest.mark.backend,
]

#: Row i holds i + 1 throughout, so that a batch tells which rows it is made of.
N = 23
X = np.repeat(np.arange(1, N + 1, dtype=np.float32)[:, None], 6, axis=1)


def batches(x=X, indices=None, **kwargs):
    kwargs = {"batch_size": 5, "seed": [3, 1], **kwargs}
    return Batches(as_rows(x), np.arange(N) if indices is None else indices, **kwargs)


def epoch(b):
    return [b[i] for i in range(b.num_batches)]


def row_numbers(batch_targets):
    return [round(float(row[0])) - 1 for row in batch_targets]


def order(b):
    return [row for batch in epoch(b) for row in row_numbers(batch[1])]


def test_every_row_once_an_epoch():
    b = batches()
    orders = []
    for _ in range(4):
        orders.append(order(b))
        assert sorted(orders[-1]) == list(range(N))
        b.on_epoch_end()
    # The rows of the first batch differ between epochs, not only their order in it.
    assert len({frozenset(o[:5]) for o in orders}) == 4


def test_only_the_chosen_rows():
    chosen = np.array([20, 3, 7, 11])
    assert sorted(order(batches(indices=chosen, batch_size=3))) == sorted(chosen)


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(5, [5, 5, 5, 5, 3]), (23, [23]), (22, [22, 1]), (100, [23]), (1, [1] * 23)]
)
def test_last_batch_is_short(batch_size, sizes):
    b = batches(batch_size=batch_size)
    assert b.num_batches == len(sizes)
    assert [len(noisy) for noisy, _ in epoch(b)] == sizes


def test_target_is_the_clean_row_and_input_the_noisy_one():
    for noisy, clean in epoch(batches(corruption=MaskingNoise(0.4))):
        assert (noisy.dtype, clean.dtype) == (np.float32, np.float32)
        assert (clean == clean[:, :1]).all()
        masked = noisy == 0
        assert 0 < masked.mean() < 1
        np.testing.assert_array_equal(noisy[~masked], clean[~masked])


def test_without_corruption_input_is_target():
    for noisy, clean in epoch(batches()):
        np.testing.assert_array_equal(noisy, clean)


def noise_by_row(b):
    """Return what each row was turned into, in the order of the rows."""
    parts = epoch(b)
    found = np.argsort([row for _, clean in parts for row in row_numbers(clean)])
    return np.concatenate([noisy for noisy, _ in parts])[found]


@pytest.mark.parametrize("corruption", [MaskingNoise(0.4), GaussianNoise(0.1)])
def test_noise_is_fresh_each_epoch(corruption):
    b = batches(corruption=corruption)
    first = noise_by_row(b)
    np.testing.assert_array_equal(noise_by_row(b), first)
    b.on_epoch_end()
    second = noise_by_row(b)
    assert (first != second).any(axis=1).mean() > 0.7


def test_noise_differs_between_batches_of_an_epoch():
    b = batches(np.ones((N, 6), np.float32), corruption=GaussianNoise(1.0))
    parts = [noisy for noisy, _ in epoch(b)]
    assert all(np.abs(parts[0] - other).max() > 0.1 for other in parts[1:4])


@pytest.mark.parametrize("seed", [7, [7], [3, 1, 2], np.array([4, 5])])
def test_equal_seeds_give_equal_epochs(seed):
    one, other = (batches(corruption=MaskingNoise(0.4), seed=seed) for _ in range(2))
    for _ in range(3):
        for first, second in zip(epoch(one), epoch(other), strict=True):
            np.testing.assert_array_equal(first[0], second[0])
            np.testing.assert_array_equal(first[1], second[1])
        one.on_epoch_end()
        other.on_epoch_end()


def test_a_numpy_integer_is_a_seed():
    np.testing.assert_array_equal(order(batches(seed=np.int64(7))), order(batches(seed=7)))


def test_another_seed_gives_another_order_and_noise():
    one, other = (batches(corruption=MaskingNoise(0.4), seed=[3, s]) for s in (1, 2))
    assert order(one) != order(other)
    assert (noise_by_row(one) != noise_by_row(other)).any()


def test_epochs_do_not_depend_on_the_order_of_reading():
    """Keras may peek at the first batch, or read from several threads."""
    straight, wild = batches(corruption=MaskingNoise(0.4)), batches(corruption=MaskingNoise(0.4))
    wild[0], wild[0], wild[3]
    for _ in range(2):
        expected = epoch(straight)
        for i in [4, 0, 2, 2, 1, 3]:
            np.testing.assert_array_equal(wild[i][0], expected[i][0])
            np.testing.assert_array_equal(wild[i][1], expected[i][1])
        straight.on_epoch_end()
        wild.on_epoch_end()


def test_fixed_batches_stay():
    b = batches(corruption=MaskingNoise(0.4), fixed=True)
    first = epoch(b)
    assert order(b) == list(range(N))
    b.on_epoch_end()
    b.on_epoch_end()
    for before, after in zip(first, epoch(b), strict=True):
        np.testing.assert_array_equal(before[0], after[0])
        np.testing.assert_array_equal(before[1], after[1])
    assert any((noisy != clean).any() for noisy, clean in first)


def test_targets_and_weights_follow_their_rows():
    """Both are given for `indices`, not for all rows of the matrix."""
    chosen = np.array([20, 3, 7, 11, 0, 22, 9])
    b = batches(indices=chosen, targets=chosen * 10.0, weights=chosen + 0.5, batch_size=3)
    for _ in range(3):
        seen = []
        for cells, target, weight in epoch(b):
            rows = np.array(row_numbers(cells))
            np.testing.assert_array_equal(target, rows * 10.0)
            np.testing.assert_array_equal(weight, rows + 0.5)
            seen += rows.tolist()
        assert sorted(seen) == sorted(chosen)
        assert seen != sorted(seen)
        b.on_epoch_end()


def test_rows_and_targets_of_more_dimensions():
    one_hot = np.eye(N, dtype=np.float32)
    for cells, target in epoch(batches(targets=one_hot)):
        np.testing.assert_array_equal(target.argmax(axis=1), row_numbers(cells))


def test_weights_without_targets():
    for noisy, clean, weight in epoch(batches(weights=np.arange(N), corruption=MaskingNoise(0.4))):
        np.testing.assert_array_equal(weight, row_numbers(clean))
        assert noisy.shape == clean.shape


def test_sparse_rows_arrive_dense():
    x = sparse.random(N, 6, density=0.5, format="csr", rng=np.random.default_rng(0), dtype=np.float32)
    dense = x.toarray()
    b = batches(x, corruption=MaskingNoise(0.4), targets=np.arange(N))
    for noisy, rows in epoch(b):
        assert isinstance(noisy, np.ndarray)
        masked = noisy != dense[rows]
        assert (noisy[masked] == 0).all()
        assert masked.any()


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 45),
    seed=st.integers(0, 2**40),
    epochs=st.integers(0, 4),
    fixed=st.booleans(),
)
def test_partition(n, batch_size, seed, epochs, fixed):
    rows = np.arange(n, dtype=np.float32)[:, None]
    b = Batches(as_rows(rows), np.arange(n), batch_size=batch_size, seed=seed, fixed=fixed)
    for _ in range(epochs):
        b.on_epoch_end()
    parts = [target[:, 0] for _, target in epoch(b)]
    assert all(len(part) == batch_size for part in parts[:-1])
    assert 1 <= len(parts[-1]) <= batch_size
    assert sorted(np.concatenate(parts)) == list(range(n))


def test_fit_reads_every_row_once_an_epoch_and_moves_on():
    """What Keras makes of it: the epochs it trains on are those that the batches give by themselves."""
    seen = []

    class Spy(Batches):
        def __getitem__(self, index):
            batch = super().__getitem__(index)
            seen.append((self._epoch, index, row_numbers(batch[1])))
            return batch

    spy = Spy(as_rows(X), np.arange(N), corruption=MaskingNoise(0.4), batch_size=5, seed=[3, 1])
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])
    model.compile("sgd", "mse")
    model.fit(spy, epochs=3, verbose=0, shuffle=False)

    # Keras peeks at a batch or two and ends an epoch before the first begins; neither must disturb the rest.
    read = {e: {i: rows for number, i, rows in seen if number == e} for e, _, _ in seen}
    complete = [e for e, parts in read.items() if len(parts) == spy.num_batches]
    assert len(complete) == 3
    alone = batches(corruption=MaskingNoise(0.4))
    for e in range(max(complete) + 1):
        if e in complete:
            expected = [row_numbers(clean) for _, clean in epoch(alone)]
            assert [read[e][i] for i in range(spy.num_batches)] == expected
        alone.on_epoch_end()


# Weights of elements


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("emphasis", [(1.0, 0.0), (2.0, 0.5), (0.0, 1.0)])
def test_emphasis_weighs_what_the_noise_changed(container, emphasis):
    x = X.copy()
    x[np.random.default_rng(0).random(X.shape) < 0.3] = 0
    changed, untouched = emphasis
    seen = []
    for noisy, clean, weight in epoch(batches(container(x), corruption=MaskingNoise(0.4), emphasis=emphasis)):
        assert weight.shape == clean.shape
        assert weight.dtype == np.float32
        np.testing.assert_array_equal(weight[noisy != clean], changed)
        # What was zero already has not changed, drawn or not.
        np.testing.assert_array_equal(weight[noisy == clean], untouched)
        assert (weight[clean == 0] == untouched).all()
        seen.append(weight == changed)
    low, high = 0.25, 0.55
    assert low < np.concatenate(seen).sum() / (x != 0).sum() < high


def test_emphasis_with_targets_of_their_own():
    """The noise is told from the clean row; the target is what was given."""
    kwargs = {"corruption": MaskingNoise(0.4), "emphasis": (3.0, 1.0)}
    plain, other = batches(**kwargs), batches(targets=X * 100, **kwargs)
    for (noisy, clean, weight), (same, target, same_weight) in zip(epoch(plain), epoch(other), strict=True):
        np.testing.assert_array_equal(same, noisy)
        np.testing.assert_array_equal(same_weight, weight)
        np.testing.assert_array_equal(target, clean * 100)


def test_emphasis_without_noise_is_all_untouched():
    assert all((weight == 0.25).all() for _, _, weight in epoch(batches(emphasis=(1.0, 0.25))))
    # Noise of real values changes every element.
    noisy = batches(corruption=GaussianNoise(1.0), emphasis=(1.0, 0.25))
    assert all((weight == 1).all() for _, _, weight in epoch(noisy))


class MaskColumns:
    """Noise that clears some columns of every batch, so that it is known which elements it never touches."""

    def __init__(self, columns):
        self.columns = columns

    def __call__(self, batch, rng):
        noisy = batch.copy()
        noisy[:, self.columns] = 0
        return noisy


def test_untouched_elements_of_weight_zero_have_gradient_zero():
    class Biases(keras.layers.Layer):
        """A linear model with fixed weights and trainable output biases."""

        def build(self, input_shape):
            self.bias = self.add_weight(shape=(6,), initializer="zeros")

        def call(self, inputs):
            return keras.ops.matmul(inputs, keras.ops.convert_to_tensor(fixed)) + self.bias

    fixed = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)

    def biases(emphasis):
        model = keras.Sequential([keras.Input((6,)), Biases()])
        model.compile(keras.optimizers.SGD(0.1), SquaredError(), run_eagerly=True)
        b = batches(corruption=MaskColumns([1, 4]), emphasis=emphasis, batch_size=N)
        model.fit(b, epochs=1, verbose=0, shuffle=False)
        return model.get_weights()[0]

    untouched = [0, 2, 3, 5]
    moved = biases((1.0, 0.0))
    np.testing.assert_array_equal(moved[untouched], 0)
    noisy = X.copy()
    noisy[:, [1, 4]] = 0
    # By hand: minus the rate times the mean over all elements of twice the residual, for the changed ones.
    expected = 0.1 * 2 * (X - noisy @ fixed).sum(axis=0) / X.size
    np.testing.assert_allclose(moved[[1, 4]], expected[[1, 4]], rtol=1e-4)
    assert np.abs(moved[[1, 4]]).min() > 1e-3
    # With both weights at one all of them move, by what plain denoising moves them.
    np.testing.assert_allclose(biases((1.0, 1.0)), expected, rtol=1e-4)
    np.testing.assert_allclose(biases(None), expected, rtol=1e-4)
    # And with the weights the other way round, the other ones.
    other_way = biases((0.0, 1.0))
    np.testing.assert_array_equal(other_way[[1, 4]], 0)
    np.testing.assert_allclose(other_way[untouched], expected[untouched], rtol=1e-4)


# Named and sparse targets


def test_dictionaries_of_targets_and_weights():
    chosen = np.array([20, 3, 7, 11, 0, 22, 9])
    targets = {"classifier": np.eye(N, dtype=np.float32)[chosen], "batch": chosen % 2}
    weights = {"classifier": chosen + 0.5, "batch": chosen * 2.0}
    b = batches(indices=chosen, targets=targets, weights=weights, batch_size=3)
    seen = []
    for cells, target, weight in epoch(b):
        rows = np.array(row_numbers(cells))
        assert set(target) == set(weight) == {"classifier", "batch"}
        np.testing.assert_array_equal(target["classifier"].argmax(axis=1), rows)
        np.testing.assert_array_equal(target["batch"], rows % 2)
        np.testing.assert_array_equal(weight["classifier"], rows + 0.5)
        np.testing.assert_array_equal(weight["batch"], rows * 2.0)
        seen += rows.tolist()
    assert sorted(seen) == sorted(chosen)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix, sparse.csr_array])
@pytest.mark.parametrize("emphasis", [None, (2.0, 0.5)])
def test_targets_may_be_other_rows(container, emphasis):
    """They are numbered as the rows of the input are, not as the chosen ones, and come dense and without noise."""
    chosen = np.array([20, 3, 7, 11, 0, 22, 9])
    values = np.where(np.arange(6) % 2, X * 7, 0)
    b = batches(
        indices=chosen,
        targets=as_rows(container(values)),
        corruption=MaskingNoise(0.4),
        emphasis=emphasis,
        batch_size=3,
    )
    seen = []
    for cells, target, *weights in epoch(b):
        assert isinstance(target, np.ndarray)
        assert target.dtype == np.float32
        numbers = row_numbers(target[:, 1:] / 7)
        seen += numbers
        np.testing.assert_array_equal(target, values[numbers])
        changed = cells != X[numbers]
        assert changed.any()
        assert len(weights) == (emphasis is not None)
        for weight in weights:
            np.testing.assert_array_equal(weight, np.where(changed, 2, 0.5))
    assert sorted(seen) == sorted(chosen)


class SlowRows:
    """Rows that claim to be on a disk, and count how often they are read."""

    on_disk = True
    shape = X.shape

    def __init__(self, failing=None):
        self.reads, self.failing = [], failing

    def take(self, indices):
        self.reads.append(indices)
        if len(self.reads) == self.failing:
            raise OSError(5, "the disk is gone")
        return X[indices]

    def dense(self, batch):
        return np.array(batch)


def test_batches_that_are_read_ahead_are_the_same_and_in_order():
    rows = SlowRows()
    slow, fast = batches(rows, corruption=MaskingNoise(0.4)), batches(corruption=MaskingNoise(0.4))
    assert slow.on_disk
    assert not fast.on_disk
    for _ in range(2):
        for received, expected in zip(fitting.read_batches(slow), epoch(fast), strict=True):
            for one, other in zip(received, expected, strict=True):
                np.testing.assert_array_equal(one, other)
        slow.on_epoch_end()
        fast.on_epoch_end()
    assert len(rows.reads) == 2 * fast.num_batches
    for one, other in zip(fitting.read_batches(fast), epoch(fast), strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def test_an_error_while_reading_ahead_is_raised():
    with pytest.raises(OSError, match="the disk is gone"):
        list(fitting.read_batches(batches(SlowRows(failing=3))))


def test_fit_takes_named_targets_and_weights():
    """Keras gives each output its own target and weight: constant outputs of zero show them in the losses."""
    inputs = keras.Input((6,))
    zeros = [keras.layers.Dense(1, kernel_initializer="zeros", name=name)(inputs) for name in ("one", "two")]
    model = keras.Model(inputs, {"one": zeros[0], "two": zeros[1]})
    losses = {"one": SquaredError(), "two": SquaredError()}
    model.compile(keras.optimizers.SGD(0.0), losses, run_eagerly=True)
    rows = np.arange(N, dtype=np.float32)
    targets = {"one": rows[:, None], "two": np.full((N, 1), 3.0)}
    b = batches(targets=targets, weights={"one": rows, "two": np.ones(N)}, batch_size=N)
    history = model.fit(b, epochs=1, verbose=0, shuffle=False).history
    np.testing.assert_allclose(history["one_loss"][0], (rows * rows**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(history["two_loss"][0], 9, rtol=1e-5)
