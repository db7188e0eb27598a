"""Corruptions: how much noise, where, and from which seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats

from scquery_ae._errors import ArgumentError
from scquery_ae.nn import (
    CORRUPTIONS,
    FeatureMaskingNoise,
    GaussianNoise,
    MaskingNoise,
    NoCorruption,
    SaltAndPepperNoise,
    get_corruption,
)

pytestmark = pytest.mark.backend

#: Chance of a false alarm of each interval below; the seeds are fixed, so an alarm does not come and go.
ALPHA = 1e-4

NOISES = [
    MaskingNoise(0.5),
    GaussianNoise(1.0),
    SaltAndPepperNoise(0.4),
    SaltAndPepperNoise(0.4, 0.0, 2.0),
    FeatureMaskingNoise(0.3, 0.6),
]


def counts(n=200, d=50, density=0.2, seed=0):
    """Return a CSR batch of positive values and the same batch dense."""
    batch = sparse.random(n, d, density=density, format="csr", rng=np.random.default_rng(seed), dtype=np.float32)
    batch.data += 0.5
    return batch, batch.toarray()


@pytest.mark.parametrize("level", [0.05, 0.3, 0.9])
def test_masked_fraction_is_binomial(level):
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


@pytest.mark.parametrize("noise", NOISES)
def test_noise_leaves_the_clean_batch_and_the_global_generator(noise):
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    batch, dense = counts()
    dense.flags.writeable = False
    for clean in (batch, dense):
        before = clean.copy()
        noisy = noise(clean, np.random.default_rng(5))
        assert abs(clean - before).max() == 0
        assert abs(noisy - before).max() > 0
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize("noise", NOISES)
def test_noise_follows_the_generator(noise):
    for clean in counts():
        first, again, other = (noise(clean, np.random.default_rng(seed)) for seed in (6, 6, 7))
        assert abs(first - again).max() == 0
        assert abs(first - other).max() > 0
        # One generator does not repeat itself.
        rng = np.random.default_rng(6)
        assert abs(noise(clean, rng) - noise(clean, rng)).max() > 0


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


@pytest.mark.parametrize(
    "noise",
    [
        MaskingNoise(0),
        GaussianNoise(0),
        SaltAndPepperNoise(0),
        FeatureMaskingNoise(0, 0),
        FeatureMaskingNoise(0.5, 0.5, 0),
        NoCorruption(),
    ],
)
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


@pytest.mark.parametrize("as_csr", [True, False])
def test_each_gene_is_masked_at_its_rate(as_csr):
    """Fraction masked of the values of every gene and of all, for both forms of one batch."""
    batch, dense = counts(n=2000, d=20, density=0.4)
    masked = MaskingNoise(0.35)(batch if as_csr else dense, np.random.default_rng(11))
    gone = ((masked.toarray() if as_csr else masked) == 0) & (dense != 0)
    expressed = (dense != 0).sum(axis=0)
    low, high = stats.binom.interval(1 - ALPHA / len(expressed), expressed, 0.35)
    assert (low <= gone.sum(axis=0)).all()
    assert (gone.sum(axis=0) <= high).all()
    low, high = stats.binom.interval(1 - ALPHA, expressed.sum(), 0.35)
    assert low <= gone.sum() <= high


# Salt and pepper


def real_values(n=300, d=40, seed=0):
    """Return values all different, so that each tells whether it was replaced."""
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("level", [0.05, 0.3, 0.9])
def test_salt_and_pepper_fraction_and_coin(level):
    batch = real_values()
    noisy = SaltAndPepperNoise(level, low=-10, high=10)(batch, np.random.default_rng(1))
    salt, pepper = (noisy == 10).sum(), (noisy == -10).sum()
    np.testing.assert_array_equal(noisy[np.abs(noisy) < 10], batch[np.abs(noisy) < 10])
    low, high = stats.binom.interval(1 - ALPHA, batch.size, level)
    assert low <= salt + pepper <= high
    low, high = stats.binom.interval(1 - ALPHA, salt + pepper, 0.5)
    assert low <= salt <= high
    assert (noisy.dtype, noisy.shape) == (batch.dtype, batch.shape)


def test_salt_and_pepper_is_drawn_for_each_value():
    """The numbers in each row and in each column are binomial: no draw is shared or left out."""
    batch = real_values(400, 60)
    changed = SaltAndPepperNoise(0.3, low=-10, high=10)(batch, np.random.default_rng(2)) != batch
    for axis in (0, 1):
        numbers, n = changed.sum(axis=axis), batch.shape[axis]
        chi2 = np.square(numbers - n * 0.3).sum() / (n * 0.3 * 0.7)
        low, high = stats.chi2.interval(1 - ALPHA, len(numbers))
        assert low <= chi2 <= high


def test_salt_and_pepper_takes_the_extremes_of_each_feature():
    batch = real_values() * np.arange(1, 41, dtype=np.float32)
    noisy = SaltAndPepperNoise(0.4)(batch, np.random.default_rng(3))
    changed = noisy != batch
    extreme = (noisy == batch.min(axis=0)) | (noisy == batch.max(axis=0))
    assert extreme[changed].all()
    for bound in (batch.min(axis=0), batch.max(axis=0)):
        assert ((noisy == bound) & changed).any(axis=0).all()


def test_salt_and_pepper_takes_given_extremes():
    batch = real_values(50, 3)
    low, high = np.array([-5, -6, -7]), np.array([5, 6, 7])
    noisy = SaltAndPepperNoise(0.5, low, high)(batch, np.random.default_rng(3))
    for j in range(3):
        assert set(noisy[:, j][noisy[:, j] != batch[:, j]]) == {low[j], high[j]}
    # One may be given alone.
    half = SaltAndPepperNoise(0.5, low=-9)(batch, np.random.default_rng(3))
    np.testing.assert_array_equal(half == -9, np.isin(noisy, low))
    np.testing.assert_array_equal(half[np.isin(noisy, high)], np.tile(batch.max(axis=0), (50, 1))[np.isin(noisy, high)])


def test_salt_and_pepper_on_csr_is_that_of_the_dense_batch():
    batch, dense = counts()
    noisy = SaltAndPepperNoise(0.4)(batch, np.random.default_rng(4))
    assert isinstance(noisy, np.ndarray)
    np.testing.assert_array_equal(noisy, SaltAndPepperNoise(0.4)(dense, np.random.default_rng(4)))
    # Zeros become high as well: half of the level.
    low, high = stats.binom.interval(1 - ALPHA, (dense == 0).sum(), 0.2)
    assert low <= ((noisy != 0) & (dense == 0)).sum() <= high


@pytest.mark.parametrize("level", [1, -0.1, "0.3", None, True, float("nan")])
def test_bad_salt_and_pepper_level(level):
    with pytest.raises(ArgumentError, match=r"^`level` must be a number in \[0, 1\)\. Received"):
        SaltAndPepperNoise(level)
    with pytest.raises(ArgumentError, match=r"^`corruption_level` must be a number in \[0, 1\)\. Received"):
        get_corruption("salt_and_pepper", level)


# Features as a whole


def test_whole_columns_are_masked():
    batch = np.random.default_rng(0).uniform(1, 2, (30, 50)).astype(np.float32)
    noisy = FeatureMaskingNoise(0.3, 0.6)(batch, np.random.default_rng(1))
    gone = noisy == 0
    assert (gone == gone[:1]).all(), "a feature is masked in all rows or in none"
    assert 0.1 < gone[0].mean() < 0.8
    np.testing.assert_array_equal(noisy[:, ~gone[0]], batch[:, ~gone[0]])


def test_masked_fraction_is_drawn_from_the_range():
    noise, rng = FeatureMaskingNoise(0.2, 0.6), np.random.default_rng(2)
    batch = np.ones((1, 4000), np.float32)
    fractions = np.array([(noise(batch, rng) == 0).mean() for _ in range(300)])
    # Each is binomial about its own draw: four standard deviations of 4000 features are 3 %.
    assert fractions.min() > 0.2 - 0.031
    assert fractions.max() < 0.6 + 0.031
    # Evenly: the draws fill the range, but for the little that the binomial blurs its ends.
    assert stats.kstest(fractions, stats.uniform(0.2, 0.4).cdf).pvalue > ALPHA
    # One fraction where low and high are the same.
    fixed = [(FeatureMaskingNoise(0.5, 0.5)(batch, rng) == 0).sum() for _ in range(50)]
    low, high = stats.binom.interval(1 - ALPHA / 50, 4000, 0.5)
    assert low <= min(fixed)
    assert max(fixed) <= high


def test_each_feature_is_masked_equally_often():
    noise, rng = FeatureMaskingNoise(0.4, 0.4), np.random.default_rng(3)
    masked = np.array([noise(np.ones((1, 30)), rng)[0] == 0 for _ in range(1000)]).sum(axis=0)
    low, high = stats.binom.interval(1 - ALPHA / 30, 1000, 0.4)
    assert low <= masked.min()
    assert masked.max() <= high


@pytest.mark.parametrize("rate", [0.25, 0.8])
def test_rate_is_the_fraction_of_batches(rate):
    noise, rng = FeatureMaskingNoise(0.5, 0.9, rate), np.random.default_rng(4)
    batch = np.ones((2, 60), np.float32)
    masked = sum((noise(batch, rng) == 0).any() for _ in range(500))
    low, high = stats.binom.interval(1 - ALPHA, 500, rate)
    assert low <= masked <= high
    assert all((FeatureMaskingNoise(0.5, 0.9)(batch, rng) == 0).any() for _ in range(50))


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_feature_masking_of_csr_is_that_of_the_dense_batch(container, dtype):
    batch, dense = counts()
    batch, dense = container((batch * 10).astype(dtype)), (dense * 10).astype(dtype)
    noisy = FeatureMaskingNoise(0.3, 0.6)(batch, np.random.default_rng(5))
    assert type(noisy) is type(batch)
    assert noisy.dtype == dtype
    expected = FeatureMaskingNoise(0.3, 0.6)(dense, np.random.default_rng(5))
    np.testing.assert_array_equal(noisy.toarray(), expected)
    assert 0 < (expected.any(axis=0)).sum() < 50


def test_present_features_are_those_that_are_kept():
    noise = FeatureMaskingNoise(0.3, 0.6)
    present = noise.present(50, np.random.default_rng(6))
    assert present.shape == (50,)
    assert present.dtype == bool
    kept = noise(np.ones((2, 50)), np.random.default_rng(6))[0] != 0
    np.testing.assert_array_equal(present, kept)
    assert FeatureMaskingNoise(0, 0).present(50, np.random.default_rng(6)) is None
    assert FeatureMaskingNoise(0.3, 0.6, 0).present(50, np.random.default_rng(6)) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-0.1, 0.5), r"^`low` must be a number in \[0, 1\)\. Received -0\.1"),
        ((0.1, 1.0), r"^`high` must be a number in \[0, 1\)\. Received 1\.0"),
        ((None, 0.5), r"^`low` must be a number in \[0, 1\)\. Received None"),
        ((0.1, float("nan")), r"^`high` must be a number in \[0, 1\)\. Received nan"),
        ((0.6, 0.5), r"^`low` must not be above `high`\. Received 0\.6 and 0\.5"),
        ((0.1, 0.5, 1.1), r"^`rate` must be a number in \[0, 1\]\. Received 1\.1"),
        ((0.1, 0.5, True), r"^`rate` must be a number in \[0, 1\]\. Received True"),
    ],
)
def test_bad_feature_masking(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        FeatureMaskingNoise(*arguments)


# Noise of one's own


def test_get_corruption_takes_an_object():
    assert get_corruption("salt_and_pepper", 0.3) == SaltAndPepperNoise(0.3)

    def halve(batch, rng):
        return batch / 2

    for own in (halve, FeatureMaskingNoise(0.1, 0.2), MaskingNoise(0.7)):
        # The level is that of names alone.
        assert get_corruption(own, "no level at all") is own
