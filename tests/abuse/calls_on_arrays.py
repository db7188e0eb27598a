"""Valid calls of ``nn``, ``stats`` and ``index``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from abuse.world import Draft, training
from scquery_ae import index, nn, stats


def _pretrain_stack(draft: Draft) -> None:
    draft.function = nn.pretrain_stack
    x = draft.rng.random((24, 6)).astype(np.float32)
    draft.arguments = {"x": draft.pick([x, sparse.csr_matrix(x)]), "layer_sizes": (3,), **training(draft)}
    draft.fixed = ("epochs", "checkpoint")


def _stats(draft: Draft) -> None:
    rng = draft.rng
    rates = rng.dirichlet(np.ones(3), 12)
    scores, kinds = rng.random(12), rng.integers(0, 3, 12)
    distances = np.sort(rng.random((12, 4)), axis=1)
    neighbors = rng.integers(0, 3, (12, 4))
    draft.function, draft.arguments = draft.pick(
        [
            (stats.vote_probabilities, {"distances": distances, "labels": neighbors, "n_types": 3}),
            (stats.type_centroids, {"embedding": rates, "labels": kinds, "n_types": 3}),
            (stats.centroid_probabilities, {"embedding": rates, "centroids": np.eye(3)}),
            (
                stats.conformal_pvalues,
                {"scores": scores, "groups": kinds, "calibration_scores": scores, "calibration_groups": kinds},
            ),
            (stats.reject, {"pvalues": scores, "alpha": 0.1, "corr_method": draft.pick([None, "benjamini-hochberg"])}),
            (stats.set_threshold, {"true_probabilities": scores, "coverage": 0.9}),
            (stats.fit_combination, {"members": [rates, rates], "truth": kinds}),
            (stats.Combination(1.0), {"members": [rates, rates]}),
            (stats.Combination, {"temperature": 1.0}),
            (stats.expected_calibration_error, {"confidence": scores, "correct": kinds == 0, "n_bins": 5}),
            (stats.average_precision, {"relevant": neighbors == 0, "n_relevant": kinds}),
            (stats.average_flexible_precision, {"similarity": distances, "best": distances}),
            (stats.mean_by_type, {"values": scores, "types": kinds}),
            (stats.TypeGaussians.fit, {"x": rates, "labels": kinds, "n_types": 3}),
            (stats.Standardization.fit, {"scores": scores, "groups": kinds, "n_types": 3}),
        ]
    )


def _build_index(draft: Draft) -> None:
    vectors = draft.rng.standard_normal((50, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    draft.function = index.build_index
    draft.arguments = {"vectors": vectors, "kind": draft.pick(["auto", "exact", "hnsw", "ivf", "int8", "pq"])}


def _search(draft: Draft) -> None:
    vectors = draft.rng.standard_normal((50, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    draft.function = index.build_index(vectors, draft.pick(["exact", "hnsw", "ivf"])).search
    draft.arguments = {"queries": vectors[:3], "n_neighbors": 4, "among": np.arange(20)}


#: Calls that take arrays, with their relative frequencies.
ARRAYS: dict[Callable[[Draft], None], float] = {
    _pretrain_stack: 2,
    _stats: 9,
    _build_index: 3,
    _search: 3,
}
