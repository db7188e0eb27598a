"""Accuracy, macro-F1 and MAP@100 beside PCA + kNN and logistic regression.

    python benchmarks/accuracy.py --data ../shared/data --seeds 5

Writes ``benchmarks/results/accuracy.csv`` (one row a task, method and seed) and ``accuracy.md`` (means and 95 %
intervals over seeds).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
import scanpy as sc
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from tasks import LABEL_KEY, Task, load

import scquery_ae as sq

RESULTS = Path(__file__).parent / "results"
TASKS = ("pancreas_protocol", "pancreas_species", "pbmc_purified", "celllines_protocol", "pbmc_stimulated")
K = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files and tasks.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.tasks:
        task = load(arguments.data, name)
        for method, run in METHODS.items():
            for seed in range(arguments.seeds):
                predicted, average_precision = run(task, seed)
                rows.append({"task": name, "method": method, "seed": seed, **score(task, predicted)})
                rows[-1]["MAP@100"] = average_precision
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    table.round(4).to_csv(RESULTS / "accuracy.csv", index=False)
    text = markdown(table)
    (RESULTS / "accuracy.md").write_text(text)
    print(text)


def scquery(task: Task, seed: int) -> tuple[np.ndarray, float]:
    reference, query = task.reference.copy(), task.query.copy()
    sq.pp.normalize(reference, n_top_genes=2000)
    encoder = sq.tl.pretrain(reference, random_state=seed, progress=False)
    sq.tl.finetune(reference, encoder, label_key=LABEL_KEY, random_state=seed, progress=False)
    built = sq.tl.build_reference(reference, encoder, label_key=LABEL_KEY)
    sq.tl.query(query, built)
    # Labels come from the default number of neighbours, MAP from K.
    hits = built.index.search(query.obsm["X_scquery"], min(K, built.n_obs)).indices
    return query.obs["scquery_label"].astype(str).to_numpy(), mean_average_precision(task, hits)


def pca_knn(task: Task, seed: int) -> tuple[np.ndarray, float]:
    reference, query = scaled(task)
    pca = PCA(n_components=50, random_state=seed).fit(reference)
    codes, query_codes = pca.transform(reference), pca.transform(query)
    labels = task.reference.obs[LABEL_KEY].astype(str)
    predicted = KNeighborsClassifier(n_neighbors=15).fit(codes, labels).predict(query_codes)
    hits = NearestNeighbors(n_neighbors=K).fit(codes).kneighbors(query_codes, return_distance=False)
    return predicted, mean_average_precision(task, hits)


def logistic_regression(task: Task, seed: int) -> tuple[np.ndarray, float]:
    reference, query = scaled(task)
    model = LogisticRegression(max_iter=300, random_state=seed)
    model.fit(reference, task.reference.obs[LABEL_KEY].astype(str))
    return model.predict(query), np.nan


METHODS: dict[str, Callable[[Task, int], tuple[np.ndarray, float]]] = {
    "scquery_ae": scquery,
    "PCA(50) + kNN(15)": pca_knn,
    "logistic regression": logistic_regression,
}


def scaled(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Return both sides over the reference's 2000 most variable genes, log-normalised and scaled by the reference.

    Values are cut at 10 standard deviations, as in scanpy's tutorials; without, both baselines lose accuracy.
    """
    reference, query = task.reference.copy(), task.query.copy()
    sc.pp.normalize_total(reference, target_sum=1e4)
    sc.pp.log1p(reference)
    if not task.logged:
        sc.pp.normalize_total(query, target_sum=1e4)
        sc.pp.log1p(query)
    if reference.n_vars > 2000:
        sc.pp.highly_variable_genes(reference, n_top_genes=2000)
        variable = reference.var["highly_variable"].to_numpy()
        reference, query = reference[:, variable], query[:, variable]
    scaler = StandardScaler().fit(reference.X.toarray())
    return tuple(np.clip(scaler.transform(side.X.toarray()), -10, 10) for side in (reference, query))


def mean_average_precision(task: Task, hits: np.ndarray) -> float:
    types = task.reference.obs[LABEL_KEY].astype(str).to_numpy()
    truth = task.query.obs[LABEL_KEY].to_numpy()[task.known]
    counts = pd.Series(types).value_counts()
    relevant = types[hits[task.known]] == truth[:, None]
    return float(sq.stats.average_precision(relevant, counts[truth].to_numpy()).mean())


def score(task: Task, predicted: np.ndarray) -> dict[str, float]:
    truth, predicted = task.query.obs[LABEL_KEY].to_numpy()[task.known], predicted[task.known]
    macro = f1_score(truth, predicted, average="macro", labels=np.unique(truth), zero_division=0)
    return {"accuracy": float(accuracy_score(truth, predicted)), "macro-F1": float(macro)}


def markdown(table: pd.DataFrame) -> str:
    """Return the table of means and 95 % t intervals over seeds."""
    columns = ["accuracy", "macro-F1", "MAP@100"]
    lines = ["| task | method | " + " | ".join(columns) + " |", "|---|---|---|---|---|"]
    for (task, method), rows in table.groupby(["task", "method"], sort=False):
        cells = [interval(rows[column].to_numpy()) for column in columns]
        lines.append(f"| {task} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def interval(values: np.ndarray) -> str:
    if np.isnan(values).any():
        return ""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else 0.0
    return f"{values.mean():.3f} ± {half:.3f}"


if __name__ == "__main__":
    main()
