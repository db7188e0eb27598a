"""Batches of P types by K cells, as losses over pairs and triplets need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scquery_ae._checks import check_integer
from scquery_ae.nn.batches import Batches
from scquery_ae.nn.rows import Rows


class BalancedBatches(Batches):
    """Batches that hold `n_cells` cells of each of `n_types` types (Hermans et al. 2017).

    The types of a batch are drawn at random, and each type gives its cells in a shuffled order that starts over when
    it is through: cells of a rare type come more often, under other noise each time. An epoch has as many
    batches as it takes to read as many rows as there are.

    Parameters
    ----------
    rows, indices
        As of :class:`Batches`.
    types
        Type of each of `indices`, int ``(len(indices),)``.
    batch_size
        Cells in a batch: at most, but for two types of two cells, the least that has a partner and a stranger for each.
    n_cells
        Cells of each type in a batch, at least 2; more where there are too few types to fill a batch.
    seed
        Seed of order and noise.
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
        # Two types at least, so that there is a stranger; two cells, so that there is a partner.
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
