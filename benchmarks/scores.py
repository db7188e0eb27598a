"""Figures of an answer to a task."""

from __future__ import annotations

import numpy as np
import pandas as pd
from methods import Answer
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from tasks import LABEL_KEY, Task

from scquery_ae.stats import average_precision, expected_calibration_error

K = 100


def score(task: Task, answer: Answer) -> dict[str, float]:
    """Return the figures, over the query cells of known types but for rejection; NaN where there is nothing to go by.

    accuracy, macro_f1
        Of the labels, all types that the query has weighing alike.
    map
        Mean average precision of the 100 nearest reference cells in the embedding.
    ece, aurc
        Expected calibration error, and the area under the curve of risk over coverage, of the confidence.
    auroc
        For telling query cells of types that the reference lacks.
    """
    truth, known = task.query.obs[LABEL_KEY].to_numpy(), task.known
    right = (answer.labels == truth)[known]
    figures = {
        "accuracy": float(accuracy_score(truth[known], answer.labels[known])),
        "macro_f1": macro_f1(truth[known], answer.labels[known]),
        "map": np.nan if answer.latent is None else retrieval(task, *answer.latent),
        "ece": np.nan,
        "aurc": np.nan,
        "auroc": np.nan,
    }
    if answer.confidence is not None:
        confidence = np.asarray(answer.confidence, dtype=float)
        figures["ece"] = float(expected_calibration_error(np.clip(confidence[known], 0, 1), right))
        figures["aurc"] = risk_coverage_area(confidence[known], right)
    novelty = answer.novelty
    if novelty is None and answer.confidence is not None:
        novelty = -np.asarray(answer.confidence)
    if novelty is not None and not known.all():
        figures["auroc"] = float(roc_auc_score(~known, novelty))
    return figures


def macro_f1(truth: np.ndarray, labels: np.ndarray) -> float:
    return float(f1_score(truth, labels, average="macro", labels=np.unique(truth), zero_division=0))


def risk_coverage_area(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the mean error among the most confident cells, over how many are taken; cells that tie share theirs."""
    wrong = pd.Series(1.0 - right).groupby(confidence).transform("mean").to_numpy()
    order = np.argsort(-confidence, kind="stable")
    return float(np.mean(np.cumsum(wrong[order]) / np.arange(1, len(wrong) + 1)))


def retrieval(task: Task, latent: np.ndarray, query: np.ndarray) -> float:
    types = task.reference.obs[LABEL_KEY].dropna().astype(str).to_numpy()
    truth = task.query.obs[LABEL_KEY].to_numpy()[task.known]
    neighbors = NearestNeighbors(n_neighbors=min(K, len(latent))).fit(latent)
    neighbors = neighbors.kneighbors(query[task.known], return_distance=False)
    counts = pd.Series(types).value_counts()
    return float(average_precision(types[neighbors] == truth[:, None], counts.reindex(truth).to_numpy()).mean())
