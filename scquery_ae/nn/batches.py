"""Minibatches for Keras' ``fit``, reproducible from one seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from scquery_ae._errors import ArgumentError
from scquery_ae.nn.corruption import Corruption, NoCorruption
from scquery_ae.nn.rows import Rows


class Batches(keras.utils.PyDataset):
    """Shuffled minibatches of some rows, with fresh noise each time they are read.

    The order of an epoch and the noise of a batch are drawn from ``(seed, epoch, batch)``. They differ between epochs
    and do not depend on the thread that reads a batch. Each epoch reads each row once.

    Parameters
    ----------
    rows
        Rows of a matrix.
    indices
        Rows to read, int ``(n,)``.
    corruption
        Noise on the network's input. None adds no noise.
    targets
        Targets of the rows at `indices`: an array ``(n, ...)``; a dictionary of arrays, for a model with named outputs;
        or :class:`Rows` of another matrix, read at the same `indices`. None uses the clean rows, as in a denoising
        autoencoder.
    weights
        Weights of the rows at `indices` in the loss, an array ``(n,)`` or a dictionary of such arrays.
    emphasis
        Weights in the loss of corrupted and of uncorrupted elements, in place of `weights`.
    batch_size
        Rows in a batch.
    seed
        Seed of the order and the noise.
    fixed
        Use the same order and noise in all epochs, so that validation losses can be compared.
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
        self._n_devices = 1
        self._order = self._draw_order()

    @property
    def num_batches(self) -> int:
        """Number of batches in an epoch."""
        full, rest = divmod(len(self._order), self.batch_size)
        return full + (rest >= self._n_devices)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return ``(corrupted, target)`` or ``(corrupted, target, weight)`` of one batch."""
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        chosen = chosen[: len(chosen) // self._n_devices * self._n_devices]
        # Sorted rows read faster from compressed and chunked storage; order within a batch has no effect.
        chosen = np.sort(chosen)
        stored = self.rows.take(self.indices[chosen])
        noisy = self.rows.dense(self.corruption(stored, self._generator(self._epoch, 1 + index)))
        clean = self.rows.dense(stored) if self.targets is None or self.emphasis else None
        if self.targets is None:
            target = clean
        elif hasattr(self.targets, "dense"):
            target = self.targets.dense(self.targets.take(self.indices[chosen]))
        else:
            target = _rows_of(self.targets, chosen)
        if self.emphasis:
            corrupted, uncorrupted = self.emphasis
            return noisy, target, np.where(noisy != clean, np.float32(corrupted), np.float32(uncorrupted))
        return (noisy, target) if self.weights is None else (noisy, target, _rows_of(self.weights, chosen))

    @property
    def on_disk(self) -> bool:
        """Whether the rows are read from a disk."""
        return bool(getattr(self.rows, "on_disk", False))

    def divide_among(self, n_devices: int) -> None:
        """Make the size of each batch a multiple of `n_devices`, so that it divides into equal parts.

        The remaining rows of an epoch are not read. Another epoch has another order, unless batches are `fixed`.
        """
        if min(self.batch_size, len(self._order)) < n_devices:
            msg = (
                f"Batches are divided among {n_devices} devices, and each device needs a row. Received batches of "
                f"{self.batch_size} from {len(self._order)} rows; use fewer devices, a larger `batch_size` or more "
                "rows (held-out rows too: see `validation_fraction`)."
            )
            raise ArgumentError(msg)
        self._n_devices = n_devices

    def start_at(self, epoch: int) -> None:
        """Draw the order and the noise of an epoch."""
        if not self.fixed:
            self._epoch = epoch
            self._order = self._draw_order()

    def on_epoch_end(self) -> None:
        """Draw the order and the noise of the next epoch."""
        self.start_at(self._epoch + 1)

    def _draw_order(self) -> np.ndarray:
        order = np.arange(len(self.indices))
        return order if self.fixed else self._generator(self._epoch, 0).permutation(order)

    def _generator(self, epoch: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([*self._seed, epoch, stream])


def _rows_of(values: Any, chosen: np.ndarray) -> Any:
    """Return rows of an array, or of each array of a dictionary."""
    if isinstance(values, dict):
        return {name: _rows_of(array, chosen) for name, array in values.items()}
    return values[chosen]
