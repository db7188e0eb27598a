"""Noise for denoising autoencoders, drawn on arrays or on the stored values of CSR batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from scquery_ae._checks import check_choice, check_number, check_range, check_rate

CORRUPTIONS = ("masking", "gaussian", "salt_and_pepper", "none")


class Corruption(Protocol):
    """Callable that returns a noisy copy of a batch."""

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        """Return a corrupted copy of `batch`, ``(n, d)``, an array or a CSR matrix."""
        ...


@dataclass(frozen=True)
class MaskingNoise:
    """Set each value to zero with probability `level` (Vincent et al. 2010, section 3.3).

    For a CSR batch, noise is drawn for the stored values only. The other values are zero already, so the result has the
    same distribution as for a dense batch.
    """

    level: float

    def __post_init__(self) -> None:
        check_rate("level", self.level)

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        """Return a copy of `batch` with some values set to zero; a CSR batch stays CSR."""
        corrupted = batch.copy()
        # A CSR matrix keeps its values in `data`; an array's own `data` is a raw buffer.
        values = corrupted if isinstance(corrupted, np.ndarray) else corrupted.data
        values[rng.random(values.shape, dtype=np.float32) < self.level] = 0
        return corrupted


@dataclass(frozen=True)
class GaussianNoise:
    """Add Gaussian noise with standard deviation `level` to each value; the result is dense."""

    level: float

    def __post_init__(self) -> None:
        check_number("level", self.level, 0, np.inf, closed="left")

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        """Return `batch` with added noise, as a dense array."""
        dense = batch if isinstance(batch, np.ndarray) else batch.toarray()
        return dense + self.level * rng.standard_normal(dense.shape, dtype=np.float32)


@dataclass(frozen=True)
class SaltAndPepperNoise:
    """Set each value with probability `level` to the lowest or the highest value, with equal probability.

    The result is dense, because zeros are corrupted too (Vincent et al. 2010, section 3.3).

    Attributes
    ----------
    level
        Fraction of corrupted values, in [0, 1).
    low, high
        Lowest and highest value: a number, or one number for each feature. None uses the values of the batch.
    """

    level: float
    low: Any = None
    high: Any = None

    def __post_init__(self) -> None:
        check_rate("level", self.level)

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        """Return `batch` with some values at their extremes, as a dense array."""
        dense = batch if isinstance(batch, np.ndarray) else batch.toarray()
        low = dense.min(axis=0) if self.low is None else self.low
        high = dense.max(axis=0) if self.high is None else self.high
        draw = rng.random(dense.shape, dtype=np.float32)
        extremes = np.where(draw < self.level / 2, low, high)
        return np.where(draw < self.level, extremes, dense).astype(dense.dtype)


@dataclass(frozen=True)
class FeatureMaskingNoise:
    """Set the same random features to zero in all rows of a batch, as if these features had not been measured.

    Attributes
    ----------
    low, high
        Range in [0, 1) from which each batch draws its fraction of masked features uniformly.
    rate
        Fraction of the batches that are masked, in [0, 1].
    """

    low: float
    high: float
    rate: float = 1.0

    def __post_init__(self) -> None:
        check_range("low", "high", self.low, self.high)
        check_number("rate", self.rate, 0, 1)

    def present(self, n_features: int, rng: np.random.Generator) -> np.ndarray | None:
        """Draw which features are kept, bool ``(n_features,)``; None for all."""
        if self.high == 0 or rng.random() >= self.rate:
            return None
        return rng.random(n_features) >= rng.uniform(self.low, self.high)

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        """Return a copy of `batch` with some columns set to zero; a CSR batch stays CSR."""
        present = self.present(batch.shape[1], rng)
        if present is None:
            return batch
        corrupted = batch.copy()
        if isinstance(corrupted, np.ndarray):
            corrupted[:, ~present] = 0
        else:
            corrupted.data *= present[corrupted.indices]
        return corrupted


@dataclass(frozen=True)
class NoCorruption:
    """Return the batch unchanged, as in a plain autoencoder."""

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:  # noqa: ARG002 (the protocol)
        """Return `batch` itself."""
        return batch


def get_corruption(corruption: str | Corruption, level: float) -> Corruption:
    """Return the corruption with a name, at `level`; a callable is returned as it is.

    Parameters
    ----------
    corruption
        ``"masking"``, ``"gaussian"``, ``"salt_and_pepper"``, ``"none"``, or a callable such as :class:`Corruption`.
    level
        Fraction of corrupted values, in [0, 1), or the standard deviation of Gaussian noise.
    """
    if callable(corruption) and not isinstance(corruption, type):
        return corruption
    check_choice("corruption", corruption, CORRUPTIONS)
    if corruption == "gaussian":
        return GaussianNoise(check_number("corruption_level", level, 0, np.inf, closed="left"))
    if corruption == "none":
        return NoCorruption()
    check_rate("corruption_level", level)
    return MaskingNoise(level) if corruption == "masking" else SaltAndPepperNoise(level)
