"""Batches of P types with K cells each, for losses over pairs and triplets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scquery_ae._checks import check_integer
from scquery_ae.nn.batches import Batches
from scquery_ae.nn.rows import Rows


class BalancedBatches(Batches):
    """Batches with the same number of cells of each of their types (Hermans et al. 2017).

    The types of a batch are drawn at random. The cells of each type are read in shuffled order, again and again: cells
    of a rare type are read more often, each time with other noise. An epoch reads as many rows as there are cells.

    Parameters
    ----------
    rows, indices
        As in :class:`Batches`.
    types
        Type of each row of `indices`, int ``(len(indices),)``.
    batch_size
        Largest number of cells in a batch. A batch has at least two cells of two types, so that each cell has a cell of
        the same type and a cell of another type.
    n_cells
        Cells of each type in a batch, at least 2. There are more where there are too few types to fill a batch.
    seed
        Seed of the order and the noise.
    **kwargs
        Further arguments of :class:`Batches`.
    """

    def __init__(
        self,
        rows: Rows,
        indices: np.ndarray,
        *,
        types: np.ndarray,
        batch_size: int,
        n_cells: int = 8,
        seed: int | Sequence[int],
        **kwargs: Any,
    ) -> None:
        check_integer("n_cells", n_cells, 2)
        members = [np.flatnonzero(types == kind) for kind in np.unique(types)]
        self._members = members
        # Each cell needs a cell of another type, and another cell of its own type.
        self._n_types = min(len(members), max(batch_size // n_cells, 2))
        self._n_cells = max(batch_size // self._n_types, 2)
        super().__init__(rows, indices, batch_size=self._n_types * self._n_cells, seed=seed, **kwargs)

    def _draw_order(self) -> np.ndarray:
        rng = self._generator(self._epoch, 0)
        n_batches = max(round(len(self.indices) / self.batch_size), 1)
        chosen = np.array([rng.choice(len(self._members), self._n_types, replace=False) for _ in range(n_batches)])
        order = np.empty((n_batches, self._n_types, self._n_cells), dtype=np.int64)
        for kind, members in enumerate(self._members):
            slots = chosen == kind
            wanted = int(slots.sum()) * self._n_cells
            rounds = -(-wanted // len(members))
            drawn = np.concatenate([rng.permutation(members) for _ in range(rounds)] or [members[:0]])
            order[slots] = drawn[:wanted].reshape(-1, self._n_cells)
        return order.ravel()
