"""Types as normal distributions over genes: a linear opinion that needs no network and can leave genes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse, special
from scipy.sparse.linalg import eigsh

from scquery_ae._array_checks import check_array
from scquery_ae._checks import check_number
from scquery_ae._errors import ArgumentError
from scquery_ae.stats.calibration import best_temperature

#: Directions in which cells of a type vary together.
N_FACTORS = 50

#: Share of what varies together that is believed: it was seen in the reference, and differs in another study.
BELIEVED = 0.3

#: Variance that each gene has at least, in units of its variance over all cells.
LEAST_NOISE = 0.1

#: Genes are divided by their standard deviation, but not by less than about this: what is hardly seen here may be seen
#: often in another study, and must not speak louder than what is known well.
LEAST_SPREAD = 0.5

#: Values are cut at this many standard deviations above the mean, so that no gene decides alone.
GREATEST = 10.0

#: Range of the temperature: scores grow with the number of genes, so it has far to go.
TEMPERATURES = (1.0, 3000.0)

#: Cells that are looked at, at most; and of each type at least, as far as there are.
MAX_CELLS, MIN_OF_TYPE = 20_000, 50

#: Rows that are made dense at once.
ROWS = 2048


@dataclass(frozen=True)
class GeneDiscriminant:
    """Normal distributions of the types over scaled log-normalised genes, with one covariance for all.

    The covariance is that of some factors and of noise by gene, ``B W W' + diag(noise)``, so that its inverse over any
    part of the genes takes no more than one over the factors: genes that are not there are left out as if they had
    never been measured, without training anew.

    Attributes
    ----------
    center, scale
        Of each gene: mean, and what a unit is, float32 ``(n_genes,)``.
    means
        Of each type, in units, float32 ``(n_types, n_genes)``.
    seen
        Which types had cells to fit on, bool ``(n_types,)``; others get no probability.
    loadings
        Factors by gene, the believed share of them, float32 ``(n_genes, n_factors)``.
    noise
        Variance of each gene beside them, float32 ``(n_genes,)``.
    temperature
        What scores are divided by: genes are not as independent as the model has it.

    References
    ----------
    Friedman, Journal of the American Statistical Association 84, 165 (1989), on shrinking the covariance; Tipping and
    Bishop, Journal of the Royal Statistical Society B 61, 611 (1999), on covariances of factors and noise.
    """

    center: np.ndarray
    scale: np.ndarray
    means: np.ndarray
    seen: np.ndarray
    loadings: np.ndarray
    noise: np.ndarray
    temperature: float = 1.0

    def __post_init__(self) -> None:
        n_types, n_genes = self.means.shape
        for name, shape in (("center", (n_genes,)), ("scale", (n_genes,)), ("seen", (n_types,)), ("noise", (n_genes,))):
            check_array(name, getattr(self, name), shape, finite=name != "seen")
        check_array("loadings", self.loadings, (n_genes, None), finite=True)
        check_number("temperature", self.temperature, 0, np.inf, closed="neither")
        if not (self.scale > 0).all() or not (self.noise > 0).all() or not self.seen.any():
            msg = (
                "A discriminant needs a scale and a noise above 0 for each gene, and a type that had cells. Received "
                f"least values {self.scale.min()} and {self.noise.min()}, and {self.seen.sum()} types with cells."
            )
            raise ArgumentError(msg)

    @classmethod
    def fit(cls, logged: Any, labels: np.ndarray, n_types: int) -> GeneDiscriminant:
        """Fit to labelled cells; of many, those that are evenly spaced in each type.

        Parameters
        ----------
        logged
            Log-normalised rows, CSR ``(n, n_genes)`` or anything else that gives them by position.
        labels
            Type of each, int ``(n,)``; -1 for none.
        n_types
            Number of types.
        """
        rows = _spread_rows(labels)
        kinds = labels[rows]
        n, d = len(rows), logged.shape[1]
        blocks = [slice(start, start + ROWS) for start in range(0, n, ROWS)]
        total, squares = np.zeros(d), np.zeros(d)
        for block in blocks:
            values = logged[rows[block]]
            total += np.asarray(values.sum(axis=0)).ravel()
            squares += np.asarray(values.multiply(values).sum(axis=0)).ravel()
        center = total / n
        scale = np.sqrt(np.maximum(squares / n - center**2, 0) + LEAST_SPREAD**2)
        sums, products = np.zeros((n_types, d)), np.zeros((d, d))
        for block in blocks:
            units = (_cut(logged[rows[block]], center, scale).toarray() - center) / scale
            np.add.at(sums, kinds[block], units)
            units = units.astype(np.float32)
            products += units.T @ units
        counts = np.bincount(kinds, minlength=n_types)
        means = sums / np.maximum(counts, 1)[:, None]
        # What is left when the types' means are taken away; in place, for with many genes this is what takes memory.
        products -= (means.T * counts) @ means
        products /= n
        loadings = np.sqrt(BELIEVED) * _factors(products)
        noise = np.maximum(np.diag(products) - (loadings**2).sum(axis=1), 0) + LEAST_NOISE
        return cls(
            center=center.astype(np.float32),
            scale=scale.astype(np.float32),
            means=means.astype(np.float32),
            seen=counts > 0,
            loadings=loadings.astype(np.float32),
            noise=noise.astype(np.float32),
        )

    def scores(self, logged: Any, present: np.ndarray | None = None) -> np.ndarray:
        """Return the logarithm of each type's density less what all types share, float32 ``(n, n_types)``.

        Parameters
        ----------
        logged
            Log-normalised rows, CSR ``(n, n_genes)``.
        present
            Which genes were measured, bool ``(n_genes,)``; None for all.
        """
        there = slice(None) if present is None else present
        loadings, noise = self.loadings[there].astype(np.float64), self.noise[there].astype(np.float64)
        means = self.means[:, there].astype(np.float64)
        # The inverse of the covariance by Woodbury's identity.
        whitened = loadings / noise[:, None]
        inner = np.linalg.solve(np.eye(loadings.shape[1]) + loadings.T @ whitened, (means @ whitened).T)
        weights = means / noise - inner.T @ whitened.T
        directions = np.zeros((self.means.shape[1], len(means)))
        directions[there] = weights.T / self.scale[there][:, None]
        offset = self.center @ directions + (weights * means).sum(axis=1) / 2
        return np.asarray(_cut(logged, self.center, self.scale) @ directions - offset, dtype=np.float32)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Return the probability of each type, float64 ``(n, n_types)``, from scores of that shape."""
        logits = np.where(self.seen, np.asarray(scores, dtype=np.float64) / self.temperature, -np.inf)
        return np.asarray(special.softmax(logits, axis=1))

    def calibrated(self, scores: np.ndarray, truth: np.ndarray) -> GeneDiscriminant:
        """Return the same with the temperature that gives held-out cells the least log loss.

        Parameters
        ----------
        scores
            Of the held-out cells, ``(m, n_types)``.
        truth
            Their types, int ``(m,)``. Cells of types that were not seen are passed over.
        """
        judged = self.seen[truth]
        if not judged.any():
            return self
        scores, truth = scores[judged], truth[judged]

        def loss(temperature: float) -> float:
            given = replace(self, temperature=temperature).probabilities(scores)
            return float(-np.log(given[np.arange(len(truth)), truth] + 1e-12).mean())

        return replace(self, temperature=best_temperature(loss, TEMPERATURES))


def _spread_rows(labels: np.ndarray) -> np.ndarray:
    """Return which labelled cells to look at, in order: types by their shares, evenly spaced in each."""
    share = min(MAX_CELLS / max(int((labels >= 0).sum()), 1), 1)
    chosen = []
    for kind in np.unique(labels[labels >= 0]):
        members = np.flatnonzero(labels == kind)
        wanted = min(max(round(share * len(members)), MIN_OF_TYPE), len(members))
        chosen.append(members[np.linspace(0, len(members) - 1, wanted).astype(int)])
    return np.sort(np.concatenate(chosen))


def _factors(covariance: np.ndarray) -> np.ndarray:
    """Return the leading eigenvectors, each times the root of its eigenvalue, ``(d, n_factors)``."""
    d = len(covariance)
    n_factors = min(N_FACTORS, d - 1)
    if n_factors < 1:
        return np.zeros((d, 1))
    if n_factors > d // 4:
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[-n_factors:], vectors[:, -n_factors:]
    else:
        # A start of its own choice would be drawn at random.
        values, vectors = eigsh(covariance, n_factors, v0=np.ones(d))
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


def _cut(logged: Any, center: np.ndarray, scale: np.ndarray) -> sparse.csr_matrix:
    """Return rows with no value above the greatest that is believed."""
    rows = sparse.csr_matrix(logged, dtype=np.float32)
    most = (center + GREATEST * scale).astype(np.float32)
    return sparse.csr_matrix((np.minimum(rows.data, most[rows.indices]), rows.indices, rows.indptr), shape=rows.shape)
