"""Linear discriminant analysis on genes, which needs no network and accepts missing genes."""

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

#: Number of factors of the covariance within types.
N_FACTORS = 50

#: Fraction of the factors' covariance that is kept. It is estimated in the reference and differs in other studies.
FACTOR_FRACTION = 0.3

#: Smallest noise variance of a gene, in units of its squared scale; it is added to the unexplained variance.
MIN_NOISE = 0.1

#: Smallest scale of a gene, approximately: its square is added to the gene's variance. A gene that is rarely detected
#: in the reference may be detected often in another study, and its small variance here would give it a large weight
#: there.
MIN_SCALE = 0.5

#: Values are clipped at this many scale units above the mean, so that no single gene decides.
CLIP_SD = 10.0

#: Range of the temperature. It is wide because the decision function grows with the number of genes.
TEMPERATURE_RANGE = (1.0, 3000.0)

#: Largest number of cells for the fit, and the number of each type that is used in any case, if there are as many.
MAX_CELLS, MIN_CELLS_PER_TYPE = 20_000, 50

#: Rows made dense at once.
DENSE_ROWS = 2048


@dataclass(frozen=True)
class GeneDiscriminant:
    """Linear discriminant analysis: a normal distribution for each type over scaled log-normalised genes.

    All types have the same covariance, ``loadings @ loadings.T + diag(noise)``: a shrunk low-rank part plus a diagonal.
    By Woodbury's identity, its inverse over any subset of the genes needs only the inverse of a small matrix over the
    factors. Missing genes are therefore marginalized exactly, without fitting again.

    Attributes
    ----------
    center, scale
        Mean of each gene, and the unit in which its deviations are measured, float32 ``(n_genes,)``.
    means
        Mean of each type after centering and scaling, float32 ``(n_types, n_genes)``.
    seen
        Which types had cells in the fit, bool ``(n_types,)``; other types get probability 0.
    loadings
        Shrunk loadings of the genes on the factors, float32 ``(n_genes, n_factors)``.
    noise
        Variance of each gene that the factors do not explain, float32 ``(n_genes,)``.
    temperature
        Divisor of the decision function in the softmax. It is above 1 because genes are less independent than in the
        model.

    References
    ----------
    Friedman, Journal of the American Statistical Association 84, 165 (1989), on shrinking the covariance.
    Tipping & Bishop, Journal of the Royal Statistical Society B 61, 611 (1999), on covariances of factors and noise.
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
                "A discriminant needs a scale and a noise above 0 for each gene, and a type with cells. Received "
                f"smallest values {self.scale.min()} and {self.noise.min()}, and {self.seen.sum()} types with cells."
            )
            raise ArgumentError(msg)

    @classmethod
    def fit(cls, logged: Any, labels: np.ndarray, n_types: int) -> GeneDiscriminant:
        """Fit to labelled cells, or to evenly spaced cells of each type if there are more than 20,000.

        Parameters
        ----------
        logged
            Log-normalised rows, CSR ``(n, n_genes)`` or any object whose rows at an integer array are CSR.
        labels
            Label code of each cell, int ``(n,)``; -1 for none.
        n_types
            Number of types.
        """
        rows = _stratified_rows(labels)
        types = labels[rows]
        n, d = len(rows), logged.shape[1]
        blocks = [slice(start, start + DENSE_ROWS) for start in range(0, n, DENSE_ROWS)]
        total, squares = np.zeros(d), np.zeros(d)
        for block in blocks:
            values = logged[rows[block]]
            total += np.asarray(values.sum(axis=0)).ravel()
            squares += np.asarray(values.multiply(values).sum(axis=0)).ravel()
        center = total / n
        scale = np.sqrt(np.maximum(squares / n - center**2, 0) + MIN_SCALE**2)
        sums, products = np.zeros((n_types, d)), np.zeros((d, d))
        for block in blocks:
            units = (_clipped(logged[rows[block]], center, scale).toarray() - center) / scale
            np.add.at(sums, types[block], units)
            units = units.astype(np.float32)
            products += units.T @ units
        counts = np.bincount(types, minlength=n_types)
        means = sums / np.maximum(counts, 1)[:, None]
        # Covariance within types. In place, because with many genes this matrix is the largest array.
        products -= (means.T * counts) @ means
        products /= n
        loadings = np.sqrt(FACTOR_FRACTION) * _factors(products)
        noise = np.maximum(np.diag(products) - (loadings**2).sum(axis=1), 0) + MIN_NOISE
        return cls(
            center=center.astype(np.float32),
            scale=scale.astype(np.float32),
            means=means.astype(np.float32),
            seen=counts > 0,
            loadings=loadings.astype(np.float32),
            noise=noise.astype(np.float32),
        )

    def decision(self, logged: Any, present: np.ndarray | None = None) -> np.ndarray:
        """Return the decision function for each type, float32 ``(n, n_types)``.

        It is the logarithm of the type's density, up to a term that is the same for all types.

        Parameters
        ----------
        logged
            Log-normalised rows, CSR ``(n, n_genes)``.
        present
            Which genes were measured, bool ``(n_genes,)``; None for all.
        """
        measured = slice(None) if present is None else present
        loadings, noise = self.loadings[measured].astype(np.float64), self.noise[measured].astype(np.float64)
        means = self.means[:, measured].astype(np.float64)
        # Inverse of the covariance by Woodbury's identity.
        whitened = loadings / noise[:, None]
        inner = np.linalg.solve(np.eye(loadings.shape[1]) + loadings.T @ whitened, (means @ whitened).T)
        weights = means / noise - inner.T @ whitened.T
        directions = np.zeros((self.means.shape[1], len(means)))
        directions[measured] = weights.T / self.scale[measured][:, None]
        offset = self.center @ directions + (weights * means).sum(axis=1) / 2
        return np.asarray(_clipped(logged, self.center, self.scale) @ directions - offset, dtype=np.float32)

    def probabilities(self, decision: np.ndarray) -> np.ndarray:
        """Return the probability of each type, float64 ``(n, n_types)``, from the decision function."""
        logits = np.where(self.seen, np.asarray(decision, dtype=np.float64) / self.temperature, -np.inf)
        return np.asarray(special.softmax(logits, axis=1))

    def calibrated(self, decision: np.ndarray, truth: np.ndarray) -> GeneDiscriminant:
        """Return the discriminant with the temperature that minimizes the log loss of held-out cells.

        Parameters
        ----------
        decision
            Decision function of the held-out cells, ``(m, n_types)``.
        truth
            True type of each held-out cell, int ``(m,)``. Cells of types without cells in the fit are ignored.
        """
        used = self.seen[truth]
        if not used.any():
            return self
        decision, truth = decision[used], truth[used]

        def loss(temperature: float) -> float:
            predicted = replace(self, temperature=temperature).probabilities(decision)
            return float(-np.log(predicted[np.arange(len(truth)), truth] + 1e-12).mean())

        return replace(self, temperature=best_temperature(loss, TEMPERATURE_RANGE))


def _stratified_rows(labels: np.ndarray) -> np.ndarray:
    """Return the rows of labelled cells for the fit, sorted: a fraction of each type, evenly spaced within the type."""
    fraction = min(MAX_CELLS / max(int((labels >= 0).sum()), 1), 1)
    chosen = []
    for code in np.unique(labels[labels >= 0]):
        of_type = np.flatnonzero(labels == code)
        n = min(max(round(fraction * len(of_type)), MIN_CELLS_PER_TYPE), len(of_type))
        chosen.append(of_type[np.linspace(0, len(of_type) - 1, n).astype(int)])
    return np.sort(np.concatenate(chosen))


def _factors(covariance: np.ndarray) -> np.ndarray:
    """Return the leading eigenvectors, each scaled by the square root of its eigenvalue, ``(d, n_factors)``."""
    d = len(covariance)
    n_factors = min(N_FACTORS, d - 1)
    if n_factors < 1:
        return np.zeros((d, 1))
    if n_factors > d // 4:
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[-n_factors:], vectors[:, -n_factors:]
    else:
        # Without `v0`, the start vector is drawn at random.
        values, vectors = eigsh(covariance, n_factors, v0=np.ones(d))
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


def _clipped(logged: Any, center: np.ndarray, scale: np.ndarray) -> sparse.csr_matrix:
    """Return the rows with each value at most ``CLIP_SD`` scale units above the gene's mean."""
    rows = sparse.csr_matrix(logged, dtype=np.float32)
    largest = (center + CLIP_SD * scale).astype(np.float32)
    return sparse.csr_matrix(
        (np.minimum(rows.data, largest[rows.indices]), rows.indices, rows.indptr), shape=rows.shape
    )
