"""Measure the gain from greedy layer-wise pretraining by dataset, number of labels, depth and corruption.

    KERAS_BACKEND=jax python benchmarks/pretraining.py --data ../shared/data --seeds 5

One network is trained with the same number of supervised steps from different initial weights: random weights,
principal components, and stacks of plain, denoising or untied autoencoders or of Boltzmann machines. A further run
starts from random weights and has the same noise in supervised training. Pretraining uses all training cells;
supervised training uses only the labelled ones. Neither uses test cells.

Writes ``results/pretraining.csv`` (one row for each run; runs that exist are not repeated), ``pretraining.md`` (means
and 95 % intervals over seeds of macro-F1 and of the gain over random weights, paired by seed) and the figure
``docs/images/pretraining.png``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import anndata
import keras
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split

import scquery_ae as scq
from scquery_ae.loaders import CellRows, fitted_transform, open_training

RESULTS = Path(__file__).parent / "results"
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "pretraining.png"
FILES = {"Kang": "pbmc_kang_ctrl_8donor", "Paul15": "paul15_mouse_bm", "Baron": "pancreas_baron_human1"}
DATASETS = (*FILES, "digits")
LABELS = (5, 10, 25, 100, 0)  # labelled cells per type; 0 for all
WIDTHS = {"cells": {1: (64,), 2: (256, 64), 3: (256, 128, 64)}, "digits": {1: (32,), 2: (48, 32), 3: (60, 48, 32)}}
STEPS, BATCH, EPOCHS = 600, 64, 15
KEY = ["dataset", "start", "depth", "labels", "seed"]

#: Initial weights: settings of `pretrain_stack`, and the fraction of inputs masked in supervised training.
STARTS: dict[str, tuple[dict[str, Any], float]] = {
    "random": ({"module": "random"}, 0.0),
    "random, noise in training": ({"module": "random"}, 0.25),
    "PCA": ({"module": "pca"}, 0.0),
    "plain": ({"corruption": "none"}, 0.0),
    "denoising 0.1": ({"corruption_level": 0.1}, 0.0),
    "denoising 0.25": ({"corruption_level": 0.25}, 0.0),
    "denoising 0.4": ({"corruption_level": 0.4}, 0.0),
    "untied 0.25": ({"corruption_level": 0.25, "module": "untied"}, 0.0),
    "Boltzmann": ({"module": "rbm"}, 0.0),
}
DEPTH_STARTS = ("random", "plain", "denoising 0.25")


@dataclass
class Data:
    """Network inputs of training and test cells, and their types as integer codes."""

    name: str
    train: np.ndarray
    train_types: np.ndarray
    test: np.ndarray
    test_types: np.ndarray

    @property
    def n_types(self) -> int:
        """Number of types."""
        return int(self.train_types.max()) + 1

    def widths(self, depth: int) -> tuple[int, ...]:
        """Return the widths of the layers."""
        return WIDTHS["digits" if self.name == "digits" else "cells"][depth]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=DATASETS)
    parser.add_argument("--report", action="store_true", help="only write table and figure of existing runs")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "pretraining.csv"
    done = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=KEY)
    if not arguments.report:
        for name in arguments.datasets:
            for seed in range(arguments.seeds):
                data = load(arguments.data, name, seed)
                for start, depth, counts in plan():
                    wanted = [n for n in counts if not is_done(done, name, start, depth, n, seed)]
                    if wanted:
                        rows = pd.DataFrame(run(data, start, depth, wanted, seed))
                        rows.to_csv(path, mode="a", header=not path.exists(), index=False, float_format="%.4f")
                        print(rows.to_string(index=False, header=False), flush=True)
    table = pd.read_csv(path)
    (RESULTS / "pretraining.md").write_text(markdown(table))
    draw(table)


def plan() -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """Yield start, depth and numbers of labels: all starts at depth 2, some at other depths."""
    for start in STARTS:
        yield start, 2, LABELS
    for depth in (1, 3):
        for start in DEPTH_STARTS:
            yield start, depth, (5, 25, 0)


def is_done(done: pd.DataFrame, *values: Any) -> bool:
    return bool(len(done)) and bool((done[KEY] == list(values)).all(axis=1).any())


def load(folder: Path, name: str, seed: int) -> Data:
    """Hold out a quarter of the cells, and normalise both parts as fitted on the training cells."""
    if name == "digits":
        digits = load_digits()
        x, types = (digits.data / 16).astype(np.float32), digits.target
        train, test = split(types, seed)
        return Data(name, x[train], types[train], x[test], types[test])
    adata = anndata.read_h5ad(folder / f"{FILES[name]}.h5ad")
    types = adata.obs["cell_type"].astype(str)
    adata = adata[types.map(types.value_counts()).to_numpy() >= 20].copy()  # enough for 5 labels and a test
    types = np.unique(adata.obs["cell_type"].astype(str), return_inverse=True)[1]
    train, test = split(types, seed)
    reference = adata[train].copy()
    scq.pp.normalize(reference, n_top_genes=1000)
    transform = fitted_transform(reference, "benchmark")
    test_adata = adata[test].copy()
    test_adata.layers["counts"] = test_adata.X
    dense = []
    for part in (reference, test_adata):
        rows = CellRows.read(open_training(part, transform, "benchmark"), transform)
        dense.append(rows.dense(rows.take(np.arange(rows.shape[0]))))
    return Data(name, dense[0], types[train], dense[1], types[test])


def split(types: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return train_test_split(np.arange(len(types)), test_size=0.25, stratify=types, random_state=seed)


def run(data: Data, start: str, depth: int, label_counts: list[int], seed: int) -> list[dict[str, Any]]:
    """Pretrain once, then train from these weights with each number of labels."""
    settings, noise = STARTS[start]
    settings = {"corruption": "masking", "corruption_level": 0.0, **settings}
    stack = scq.nn.pretrain_stack(
        data.train,
        data.widths(depth),
        epochs=EPOCHS,
        patience=EPOCHS,
        random_state=seed,
        progress=False,
        **settings,
    )
    model = scq.nn.build_classifier(stack.dense_weights, data.n_types, random_state=seed)
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    weights = model.get_weights()
    rows = []
    for n_labels in label_counts:
        model.set_weights(weights)
        for variable in model.optimizer.variables:
            if "learning_rate" not in variable.path:
                variable.assign(np.zeros(variable.shape))
        chosen = labelled(data.train_types, n_labels, seed)
        rng = np.random.default_rng([seed, 7])
        order = np.concatenate([rng.permutation(chosen) for _ in range(-(-STEPS * BATCH // len(chosen)))])
        order = order[: STEPS * BATCH]
        inputs = data.train[order]
        if noise:
            centre = data.train.min(axis=0)  # the input of a zero count or an empty pixel
            inputs = np.where(rng.random(inputs.shape, dtype=np.float32) < noise, centre, inputs)
        model.fit(inputs, data.train_types[order], batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
        predicted = model.predict(data.test, batch_size=1024, verbose=0).argmax(axis=1)
        rows.append(
            {
                "dataset": data.name,
                "start": start,
                "depth": depth,
                "labels": n_labels,
                "seed": seed,
                "accuracy": accuracy_score(data.test_types, predicted),
                "macro_f1": f1_score(data.test_types, predicted, average="macro", zero_division=0),
            }
        )
    keras.backend.clear_session()
    return rows


def labelled(types: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Choose at most `n` cells of each type; 0 for all cells."""
    if n == 0:
        return np.arange(len(types))
    rng = np.random.default_rng([seed, n])
    return np.concatenate([rng.permutation(np.flatnonzero(types == kind))[:n] for kind in np.unique(types)])


def gains(table: pd.DataFrame, column: str = "macro_f1") -> pd.DataFrame:
    """Return the gain of each run over random weights with the same data, labels, depth and seed."""
    keys = ["dataset", "depth", "labels", "seed"]
    base = table[table["start"] == "random"].set_index(keys)[column]
    return table.assign(gain=table[column].to_numpy() - base.reindex(pd.MultiIndex.from_frame(table[keys])).to_numpy())


def interval(values: pd.Series) -> float:
    """Return half the width of the 95 % t interval of the mean."""
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)) if len(values) > 1 else float("nan")


def markdown(table: pd.DataFrame) -> str:
    """Return macro-F1 of random weights, and the gain of every start over them."""
    table = gains(table)
    parts = []
    for depth, rows in table.groupby("depth"):
        labels = sorted(rows["labels"].unique(), key=lambda n: n or 10**6)
        headers = [f"{n} labels" if n else "all labels" for n in labels]
        parts.append(f"## Depth {depth}\n")
        parts.append("Macro-F1 of random weights, and the gain over them (mean ± 95 % interval over seeds).\n")
        parts.append("| data | start | " + " | ".join(headers) + " |\n|---|---|" + "---|" * len(headers))
        for dataset in DATASETS:
            for start in STARTS:
                cells = []
                for n in labels:
                    here = rows[(rows["dataset"] == dataset) & (rows["start"] == start) & (rows["labels"] == n)]
                    if not len(here):
                        continue
                    shown = here["macro_f1"] if start == "random" else here["gain"]
                    sign = "" if start == "random" else "+"
                    cells.append(f"{shown.mean():{sign}.3f} ±\N{NO-BREAK SPACE}{interval(shown):.3f}")
                if cells:
                    parts.append(f"| {dataset} | {start} | " + " | ".join(cells) + " |")
        parts.append("")
    return "\n".join(parts)


def draw(table: pd.DataFrame) -> None:
    """Draw the gain over random weights by labels for each dataset, by noise and by depth."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    table = gains(table)
    figure, axes = plt.subplots(2, 4, figsize=(15, 7), layout="constrained", sharey="col")
    shown = ("PCA", "plain", "denoising 0.25", "untied 0.25", "Boltzmann", "random, noise in training")
    colours = dict(zip(shown, ("#999999", "#E69F00", "#0072B2", "#56B4E9", "#CC79A7", "#009E73"), strict=True))
    for ax, dataset in zip(axes[0], DATASETS, strict=True):
        for i, start in enumerate(shown):
            rows = table[(table["dataset"] == dataset) & (table["depth"] == 2) & (table["start"] == start)]
            points(ax, [rows[rows["labels"] == n]["gain"] for n in LABELS], start, colours[start], 0.1 * (i - 2.5))
        ax.set_xticks(range(len(LABELS)), [str(n) if n else "all" for n in LABELS])
        ax.set(title=dataset, xlabel="labelled cells per type")
    for ax, dataset in zip(axes[1], DATASETS, strict=True):
        rows = table[(table["dataset"] == dataset) & (table["labels"] == 5)]
        levels = ("plain", "denoising 0.1", "denoising 0.25", "denoising 0.4")
        series = [rows[(rows["depth"] == 2) & (rows["start"] == start)]["gain"] for start in levels]
        points(ax, series, "noise at depth 2", "#0072B2")
        for offset, start, colour in ((4.4, "plain", "#E69F00"), (4.6, "denoising 0.25", "#D55E00")):
            series = [rows[(rows["depth"] == d) & (rows["start"] == start)]["gain"] for d in (1, 2, 3)]
            points(ax, series, f"{start} at depth 1, 2, 3", colour, offset)
        ax.set_xticks([0, 1, 2, 3, 4.5, 5.5, 6.5], ["0", ".1", ".25", ".4", "1", "2", "3"])
        ax.set(xlabel="fraction masked in pretraining   |   depth", title=f"{dataset}, 5 labels per type")
    for ax in axes.flat:
        ax.axhline(0, color="black", linewidth=0.8)
        ax.spines[["top", "right"]].set_visible(False)
    for row in axes:
        row[0].set_ylabel("gain in macro-F1 over random weights")
        row[0].legend(fontsize=7, frameon=False)
    figure.suptitle("Gain of initial weights over random ones (mean and 95 % interval over seeds)")
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=110)
    plt.close(figure)


def points(ax: Any, series: list[pd.Series], label: str, colour: str, offset: float = 0.0) -> None:
    at = [i + offset for i, values in enumerate(series) if len(values)]
    kept = [values for values in series if len(values)]
    if kept:
        means, bars = [v.mean() for v in kept], [interval(v) for v in kept]
        ax.errorbar(at, means, yerr=bars, label=label, color=colour, marker="o", markersize=4, capsize=2, linewidth=1.2)


if __name__ == "__main__":
    main()
