"""Measures of predictions for a task."""

from __future__ import annotations

import numpy as np
import pandas as pd
from methods import Prediction
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from tasks import LABEL_KEY, Task

from scquery_ae.stats import average_precision, expected_calibration_error

K = 100


def score(task: Task, prediction: Prediction) -> dict[str, float]:
    """Return all measures; NaN where a method or task does not define one.

    All but `auroc` are computed over the query cells whose type the reference has.

    accuracy, macro_f1
        Accuracy, and the mean F1 score over the types that the query has.
    map
        Mean average precision at 100 of the nearest reference cells in the embedding.
    ece, aurc
        Expected calibration error of the confidence, and the area under its risk-coverage curve.
    auroc
        Area under the ROC curve for detecting query cells of types that the reference lacks.
    """
    truth, known = task.query.obs[LABEL_KEY].to_numpy(), task.known
    right = (prediction.labels == truth)[known]
    measures = {
        "accuracy": float(accuracy_score(truth[known], prediction.labels[known])),
        "macro_f1": macro_f1(truth[known], prediction.labels[known]),
        "map": np.nan if prediction.latent is None else retrieval(task, *prediction.latent),
        "ece": np.nan,
        "aurc": np.nan,
        "auroc": np.nan,
    }
    if prediction.confidence is not None:
        confidence = np.asarray(prediction.confidence, dtype=float)
        measures["ece"] = float(expected_calibration_error(np.clip(confidence[known], 0, 1), right))
        measures["aurc"] = risk_coverage_area(confidence[known], right)
    novelty = prediction.novelty
    if novelty is None and prediction.confidence is not None:
        novelty = -np.asarray(prediction.confidence)
    if novelty is not None and not known.all():
        measures["auroc"] = float(roc_auc_score(~known, novelty))
    return measures


def macro_f1(truth: np.ndarray, labels: np.ndarray) -> float:
    return float(f1_score(truth, labels, average="macro", labels=np.unique(truth), zero_division=0))


def risk_coverage_area(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the error rate among the most confident cells, averaged over their number. Ties get their mean."""
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
