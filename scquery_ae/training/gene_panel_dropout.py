"""Whole genes missing for a batch, as in a query with a smaller panel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scquery_ae.transform import Transform

#: Share of the batches that are cut to a panel; the others see all genes.
CUT_BATCHES = 0.5


@dataclass(frozen=True)
class GenePanelDropout:
    """Hide the same random genes from all cells of a batch, in every other batch on average.

    The cells of a cut batch are normalised over the genes that are left, and the hidden ones enter the network at
    their mean: they look just as a query's cells do that lacks these genes.

    Attributes
    ----------
    transform
        Normalisation of the cells.
    highest
        Largest share of hidden genes, in [0, 1); each cut batch draws its share evenly from `lowest` up to it.
    then
        Noise on what is left.
    lowest
        Least share of hidden genes.
    """

    transform: Transform
    highest: float
    then: Callable[[Any, np.random.Generator], Any]
    lowest: float = 0.0

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        """Return `batch`, log-normalised CSR, corrupted; a cut batch comes back dense."""
        if self.highest == 0 or rng.random() >= CUT_BATCHES:
            return self.then(batch, rng)
        present = rng.random(self.transform.n_genes) >= rng.uniform(self.lowest, self.highest)
        linear = batch.copy()
        linear.data = np.expm1(batch.data) * present[batch.indices]
        dense = self.then(self.transform.log_normalize(linear, present), rng).toarray()
        # What centring will turn into zero.
        dense[:, ~present] = self.transform.mean[~present]
        return dense
