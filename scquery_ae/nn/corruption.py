"""Noise for denoising autoencoders, drawn on arrays or on the stored values of CSR batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from scquery_ae._checks import check_choice, check_number, check_rate

CORRUPTIONS = ("masking", "gaussian", "none")


class Corruption(Protocol):
    """Turns a clean batch into a noisy one; the clean batch is left as it is."""

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        """Return a corrupted copy of `batch`, ``(n, d)``, of the same type."""
        ...


@dataclass(frozen=True)
class MaskingNoise:
    """Set each value to zero with probability `level` (Vincent et al. 2010, section 3.3).

    On a CSR batch only the stored values are drawn: the rest are zero already, so the distribution is
    that of the dense batch at the price of the stored values.
    """

    level: float

    def __post_init__(self) -> None:
        check_rate("level", self.level)

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        """Return a copy of `batch` with some values zero; a CSR batch stays CSR."""
        corrupted = batch.copy()
        # A CSR matrix keeps its values in `data`; an array's own `data` is a raw buffer.
        values = corrupted if isinstance(corrupted, np.ndarray) else corrupted.data
        values[rng.random(values.shape, dtype=np.float32) < self.level] = 0
        return corrupted


@dataclass(frozen=True)
class GaussianNoise:
    """Add noise of standard deviation `level` to each value; a CSR batch comes back dense."""

    level: float

    def __post_init__(self) -> None:
        check_number("level", self.level, 0, np.inf, closed="left")

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        """Return `batch` with noise added, a dense array."""
        dense = batch if isinstance(batch, np.ndarray) else batch.toarray()
        return dense + self.level * rng.standard_normal(dense.shape, dtype=np.float32)


@dataclass(frozen=True)
class NoCorruption:
    """Leave the batch as it is: a plain autoencoder."""

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:  # noqa: ARG002 (the protocol)
        """Return `batch` itself."""
        return batch


def get_corruption(name: str, level: float) -> Corruption:
    """Return the corruption called `name` at `level`.

    Parameters
    ----------
    name
        ``"masking"``, ``"gaussian"`` or ``"none"``.
    level
        Share of masked values in [0, 1), or the standard deviation of Gaussian noise.
    """
    check_choice("corruption", name, CORRUPTIONS)
    if name == "masking":
        return MaskingNoise(check_rate("corruption_level", level))
    if name == "gaussian":
        check_number("corruption_level", level, 0, np.inf, closed="left")
    return GaussianNoise(level) if name == "gaussian" else NoCorruption()
