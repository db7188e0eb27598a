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
        What the network is to give for each of `indices`: an array ``(len(indices), ...)``, or a dictionary of arrays
        for a model with named outputs; or other rows, numbered as `rows` are, from which those at `indices` are read;
        None for the clean row itself, which makes it a denoising autoencoder.
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
        self._n_devices = 1
        self._order = self._draw_order()

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
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
            changed, untouched = self.emphasis
            return noisy, target, np.where(noisy != clean, np.float32(changed), np.float32(untouched))
        return (noisy, target) if self.weights is None else (noisy, target, _rows_of(self.weights, chosen))

    @property
    def on_disk(self) -> bool:
        """Whether reading a batch may have to wait for a disk."""
        return bool(getattr(self.rows, "on_disk", False))

    def share_among(self, n_devices: int) -> None:
        """Make the size of each batch a multiple of `n_devices`, which have to get equal parts of it.

        Rows that are left over wait for another epoch; where batches are `fixed`, they are left out.
        """
        if min(self.batch_size, len(self._order)) < n_devices:
            msg = (
                f"Batches are shared among {n_devices} devices, each of which needs a row. Received batches of "
                f"{self.batch_size} from {len(self._order)} rows; use fewer devices, or larger batches and more rows "
                "(of rows held out as well: `validation_fraction`)."
            )
            raise ArgumentError(msg)
        self._n_devices = n_devices

    def start_at(self, epoch: int) -> None:
        """Go to the order and the noise of an epoch."""
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
    """Return some rows of an array, or of each array of a dictionary."""
    if isinstance(values, dict):
        return {name: _rows_of(array, chosen) for name, array in values.items()}
    return values[chosen]
