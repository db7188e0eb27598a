"""Gene-panel dropout: whole genes missing for a batch, as in a query with a smaller gene panel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scquery_ae.transform import Transform

#: Fraction of the batches that lose genes; the others keep all.
DROPOUT_BATCHES = 0.5


@dataclass(frozen=True)
class GenePanelDropout:
    """Hide the same random genes from all cells of a batch, in every other batch on average.

    The cells are normalised over the remaining genes, and hidden genes enter the network at their mean. This is how
    the encoder sees the cells of a query that lacks these genes.

    Attributes
    ----------
    transform
        Normalisation of the cells.
    fractions
        Smallest and largest fraction of hidden genes, in [0, 1). Each batch draws its fraction uniformly between them.
    then
        Noise on the remaining values.
    """

    transform: Transform
    fractions: tuple[float, float]
    then: Callable[[Any, np.random.Generator], Any]

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        """Return the corrupted `batch`, log-normalised CSR; a batch with hidden genes is returned dense."""
        low, high = self.fractions
        if high == 0 or rng.random() >= DROPOUT_BATCHES:
            return self.then(batch, rng)
        present = rng.random(self.transform.n_genes) >= rng.uniform(low, high)
        linear = batch.copy()
        linear.data = np.expm1(batch.data) * present[batch.indices]
        dense = self.then(self.transform.log_normalize(linear, present), rng).toarray()
        # Centring turns these values into zeros.
        dense[:, ~present] = self.transform.mean[~present]
        return dense
