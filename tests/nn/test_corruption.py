"""Noise: how much, where, and from which seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats

from scquery_ae._errors import ArgumentError
from scquery_ae.nn import CORRUPTIONS, GaussianNoise, MaskingNoise, NoCorruption, get_corruption

pytestmark = pytest.mark.backend

#: Chance of a false alarm of each interval below; the seeds are fixed, so an alarm does not come and go.
ALPHA = 1e-4


def counts(n=200, d=50, density=0.2, seed=0):
    """Return a CSR batch of positive values and the same batch dense."""
    batch = sparse.random(n, d, density=density, format="csr", rng=np.random.default_rng(seed), dtype=np.float32)
    batch.data += 0.5
    return batch, batch.toarray()


@pytest.mark.parametrize("level", [0.05, 0.3, 0.9])
def test_masked_share_is_binomial(level):
    batch = np.ones((300, 40), np.float32)
    masked = (MaskingNoise(level)(batch, np.random.default_rng(1)) == 0).sum()
    low, high = stats.binom.interval(1 - ALPHA, batch.size, level)
    assert low <= masked <= high


@pytest.mark.parametrize("level", [0.1, 0.5])
def test_masking_spares_no_row_or_column(level):
    """The number masked in each row and in each column is binomial too: no draw is shared or left out."""
    batch = np.ones((400, 60), np.float32)
    masked = MaskingNoise(level)(batch, np.random.default_rng(2)) == 0
    for axis in (0, 1):
        numbers, n = masked.sum(axis=axis), batch.shape[axis]
        # The sum of squared deviations over the binomial variance is about chi-squared.
        chi2 = np.square(numbers - n * level).sum() / (n * level * (1 - level))
        low, high = stats.chi2.interval(1 - ALPHA, len(numbers))
        assert low <= chi2 <= high


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csr_array])
def test_masking_csr_touches_stored_values_only(container):
    batch, dense = counts()
    batch = container(batch)
    masked = MaskingNoise(0.3)(batch, np.random.default_rng(3))
    assert type(masked) is type(batch)
    np.testing.assert_array_equal(masked.indices, batch.indices)
    np.testing.assert_array_equal(masked.indptr, batch.indptr)
    result = masked.toarray()
    gone = (result == 0) & (dense != 0)
    np.testing.assert_array_equal(result[~gone], dense[~gone])
    low, high = stats.binom.interval(1 - ALPHA, batch.nnz, 0.3)
    assert low <= gone.sum() <= high


@pytest.mark.parametrize("as_csr", [True, False])
def test_csr_and_dense_keep_the_same_distribution(as_csr):
    """Of a cell with 8 expressed genes of 20, the number that stays is binomial(8, 0.7) either way."""
    dense = np.zeros((3000, 20), np.float32)
    dense[:, ::3] = 2
    dense[:, 1] = 3
    batch = sparse.csr_matrix(dense) if as_csr else dense
    result = MaskingNoise(0.3)(batch, np.random.default_rng(4))
    kept = ((result.toarray() if as_csr else result) != 0).sum(axis=1)
    observed = np.bincount(kept, minlength=9)
    expected = stats.binom.pmf(np.arange(9), 8, 0.7) * len(dense)
    # Rare outcomes are put together, as the chi-squared test needs about five in each.
    observed, expected = np.append(observed[:3].sum(), observed[3:]), np.append(expected[:3].sum(), expected[3:])
    assert stats.chisquare(observed, expected).pvalue > ALPHA


def test_clean_batch_is_untouched():
    batch, dense = counts()
    for noise in (MaskingNoise(0.5), GaussianNoise(1.0), NoCorruption()):
        for clean in (batch, dense):
            before = clean.copy()
            noise(clean, np.random.default_rng(5))
            assert abs(clean - before).max() == 0
    dense.flags.writeable = False
    assert (MaskingNoise(0.5)(dense, np.random.default_rng(5)) != dense).any()


def test_noise_follows_the_generator():
    batch, dense = counts()
    for noise in (MaskingNoise(0.5), GaussianNoise(1.0)):
        for clean in (batch, dense):
            first, again, other = (noise(clean, np.random.default_rng(seed)) for seed in (6, 6, 7))
            assert abs(first - again).max() == 0
            assert abs(first - other).max() > 0
        # One generator does not repeat itself.
        rng = np.random.default_rng(6)
        assert abs(noise(dense, rng) - noise(dense, rng)).max() > 0


def test_noise_leaves_the_global_generator_alone():
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    _, dense = counts()
    for noise in (MaskingNoise(0.5), GaussianNoise(1.0)):
        noise(dense, np.random.default_rng(6))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize("level", [0.1, 2.0])
def test_gaussian_standard_deviation(level):
    batch = np.full((300, 40), 5, np.float32)
    noise = GaussianNoise(level)(batch, np.random.default_rng(8)) - batch
    low, high = stats.chi2.interval(1 - ALPHA, batch.size)
    assert low <= np.square(noise / level).sum() <= high
    assert abs(noise.mean()) < stats.norm.isf(ALPHA / 2) * level / np.sqrt(batch.size)
    assert stats.kstest(noise.ravel() / level, "norm").pvalue > ALPHA


def test_gaussian_on_csr_is_that_of_the_dense_batch():
    batch, dense = counts()
    noisy = GaussianNoise(0.5)(batch, np.random.default_rng(9))
    assert isinstance(noisy, np.ndarray)
    np.testing.assert_array_equal(noisy, GaussianNoise(0.5)(dense, np.random.default_rng(9)))
    # Zeros are noisy as well.
    assert np.abs(noisy[dense == 0]).mean() > 0.3


@pytest.mark.parametrize("noise", [MaskingNoise(0), MaskingNoise(0.0), GaussianNoise(0), NoCorruption()])
def test_level_zero_changes_nothing(noise):
    batch, dense = counts()
    np.testing.assert_array_equal(noise(dense, np.random.default_rng(10)), dense)
    assert abs(noise(batch, np.random.default_rng(10)) - batch).max() == 0


@given(
    level=st.floats(0, 0.99),
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(0, 8), st.integers(1, 8)),
    dtype=st.sampled_from([np.float32, np.float64, np.int32]),
    as_csr=st.booleans(),
)
def test_masking_keeps_a_value_or_clears_it(level, seed, shape, dtype, as_csr):
    dense = np.random.default_rng(seed).integers(0, 4, shape).astype(dtype)
    batch = sparse.csr_matrix(dense) if as_csr else dense.copy()
    result = MaskingNoise(level)(batch, np.random.default_rng(seed))
    assert type(result) is type(batch)
    assert (result.shape, result.dtype) == (batch.shape, batch.dtype)
    values = result.toarray() if as_csr else result
    assert ((values == 0) | (values == dense)).all()
    np.testing.assert_array_equal(batch.toarray() if as_csr else batch, dense)


def test_get_corruption():
    assert get_corruption("masking", 0.3) == MaskingNoise(0.3)
    assert get_corruption("gaussian", 3) == GaussianNoise(3)
    assert get_corruption("none", 0.3) == NoCorruption()
    assert CORRUPTIONS == ("masking", "gaussian", "salt_and_pepper", "none")


@pytest.mark.parametrize("name", ["Masking", "dropout", "", None, 3, ["masking"]])
def test_unknown_corruption(name):
    with pytest.raises(ArgumentError, match=r"`corruption` must be one of 'masking', .*'none'\. Received"):
        get_corruption(name, 0.3)


@pytest.mark.parametrize("level", [1, 1.0, -0.1, 30, "0.3", None, True, float("nan")])
def test_bad_masking_level(level):
    with pytest.raises(ArgumentError, match=r"^`level` must be a number in \[0, 1\)\. Received"):
        MaskingNoise(level)
    with pytest.raises(ArgumentError, match=r"^`corruption_level` must be a number in \[0, 1\)\. Received"):
        get_corruption("masking", level)


@pytest.mark.parametrize("level", [-0.1, "0.3", None, True, float("nan"), float("inf")])
def test_bad_gaussian_level(level):
    with pytest.raises(ArgumentError, match=r"^`level` must be a number in \[0, inf\)\. Received"):
        GaussianNoise(level)
    with pytest.raises(ArgumentError, match=r"^`corruption_level` must be a number in \[0, inf\)\. Received"):
        get_corruption("gaussian", level)
