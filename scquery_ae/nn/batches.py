"""Minibatches for Keras' ``fit``, reproducible from one seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from scquery_ae.nn.corruption import Corruption, NoCorruption
from scquery_ae.nn.rows import Rows


class Batches(keras.utils.PyDataset):
    """Shuffled minibatches of some rows, corrupted afresh each time they are read.

    The order of an epoch and the noise of a batch are drawn from ``(seed, epoch, batch)``: they differ
    between epochs, and do not depend on which thread reads a batch first. Every epoch sees every row once.

    Parameters
    ----------
    rows
        The matrix to read.
    indices
        Which of its rows belong to this set.
    corruption
        Noise on the network's input.
    targets
        What the network is to give for each of `indices`: an array ``(len(indices), ...)``, a CSR matrix, or a
        dictionary of arrays for a model with named outputs; None for the clean row itself, which makes it a denoising
        autoencoder.
    weights
        Weight of each of `indices` in the loss, an array or a dictionary as `targets` is.
    emphasis
        Weight in the loss of the elements that the noise changed, and of those that it did not; in place of `weights`.
    fixed
        Keep order and noise the same in all epochs: for validation, whose losses are compared.
    """

    def __init__(
        self,
        rows: Rows,
        indices: np.ndarray,
        *,
        corruption: Corruption | None = None,
        targets: Any = None,
        weights: Any = None,
        emphasis: tuple[float, float] | None = None,
        batch_size: int,
        seed: int | Sequence[int],
        fixed: bool = False,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.rows = rows
        self.indices = np.asarray(indices)
        self.corruption = NoCorruption() if corruption is None else corruption
        self.targets = targets
        self.weights = weights
        self.emphasis = emphasis
        self.batch_size = batch_size
        self.fixed = fixed
        self._seed = [int(part) for part in np.atleast_1d(seed)]
        self._epoch = 0
        self._order = self._draw_order()

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self._order) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return ``(corrupted, target)`` or ``(corrupted, target, weight)`` of one batch."""
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        # Sorted rows read faster from compressed and chunked storage; order within a batch has no effect.
        chosen = np.sort(chosen)
        stored = self.rows.take(self.indices[chosen])
        noisy = self.rows.dense(self.corruption(stored, self._generator(self._epoch, 1 + index)))
        clean = self.rows.dense(stored) if self.targets is None or self.emphasis else None
        target = clean if self.targets is None else _rows_of(self.targets, chosen)
        if self.emphasis:
            changed, untouched = self.emphasis
            return noisy, target, np.where(noisy != clean, np.float32(changed), np.float32(untouched))
        return (noisy, target) if self.weights is None else (noisy, target, _rows_of(self.weights, chosen))

    def on_epoch_end(self) -> None:
        """Draw the order and the noise of the next epoch."""
        if not self.fixed:
            self._epoch += 1
            self._order = self._draw_order()

    def _draw_order(self) -> np.ndarray:
        order = np.arange(len(self.indices))
        return order if self.fixed else self._generator(self._epoch, 0).permutation(order)

    def _generator(self, epoch: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([*self._seed, epoch, stream])


def _rows_of(values: Any, chosen: np.ndarray) -> Any:
    """Return some rows of an array or a CSR matrix, dense, or of each array of a dictionary."""
    if isinstance(values, dict):
        return {name: _rows_of(array, chosen) for name, array in values.items()}
    rows = values[chosen]
    return rows if isinstance(rows, np.ndarray) else rows.toarray()
