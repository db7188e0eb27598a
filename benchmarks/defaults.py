"""Would other defaults have been better? Asked of the references alone; no query of the benchmark is read.

    python benchmarks/defaults.py --data ../shared/data

Two of the eight donors of Kang et al. are left out at a time, and a third of the cells of the islets (one donor) and of
the cell lines (one protocol) by turns. What is left is the reference, and what was left out is asked as it is, with a
quarter of its genes, and with a fifth of its counts, which stand for another protocol. Settings are changed one at a
time, and everything is trained anew for each. Writes ``results/defaults.csv``, a row for each setting, part left out
and question; what is there is not run again. ``results/defaults.md`` is made of it: macro-F1, and its difference from
that of the defaults, paired by part, with 95 % intervals over the ten parts.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
from methods import N_GENES, batches
from scores import macro_f1
from sklearn.model_selection import StratifiedKFold
from tables import interval
from tasks import BATCH_KEY, LABEL_KEY, Task, cut, thinned, whole_reference

import scquery_ae as scq
from scquery_ae.loaders import open_cells
from scquery_ae.reference.calibration import DISCRIMINANT_WEIGHT, weights
from scquery_ae.reference.members import member_probabilities
from scquery_ae.stats import centroid_probabilities, discriminant

RESULTS = Path(__file__).parent / "results"
#: Tasks whose references are asked about, and how many parts of each are left out by turns.
REFERENCES = {"pbmc_donor": 4, "pancreas_protocol": 3, "celllines_protocol": 3}
DEFAULTS = "defaults"
#: Arguments of ``tl.pretrain`` and of ``tl.finetune``.
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    DEFAULTS: ({}, {}),
    "layers of 256 and 32": ({"layer_sizes": (256, 32)}, {}),
    "layers of 1024 and 128": ({"layer_sizes": (1024, 128)}, {}),
    "layers of 512, 256 and 64": ({"layer_sizes": (512, 256, 64)}, {}),
    "pretraining: half of the values masked": ({"corruption_level": 0.5}, {}),
    "fine-tuning: a tenth of the values masked": ({}, {"corruption_level": 0.1}),
    "fine-tuning: half of the values masked": ({}, {"corruption_level": 0.5}),
    "no genes masked": ({}, {"gene_masking": 0.0}),
    "up to .9 of the genes masked": ({}, {"gene_masking": 0.9}),
    "labels not smoothed": ({}, {"label_smoothing": 0.0}),
    "labels smoothed by .2": ({}, {"label_smoothing": 0.2}),
    "types weighted by frequency": ({}, {"class_weight_power": 0.0}),
    "types weighted equally": ({}, {"class_weight_power": 1.0}),
    "dropout of .2": ({}, {"dropout": 0.2}),
    "a third of the rate, 60 epochs": ({}, {"learning_rate": 3e-4, "epochs": 60}),
    "batches of 128": ({"batch_size": 128}, {"batch_size": 128}),
    "triplet loss": ({}, {"metric_loss": "triplet"}),
    "batches unlearnt (donors alone)": ({}, {"adversarial_weight": 0.3}),
    "genes: none of the covariance believed": ({}, {}),
    "genes: all of the covariance believed": ({}, {}),
    "genes: hardly seen ones not held back": ({}, {}),
}
#: Constants of the discriminant, where not as they are.
CONSTANTS = {
    "genes: none of the covariance believed": {"BELIEVED": 0.0},
    "genes: all of the covariance believed": {"BELIEVED": 1.0},
    "genes: hardly seen ones not held back": {"LEAST_SPREAD": 0.05},
}
#: What classifier, neighborhood and genes count, on what the defaults have trained; by default 1, 1 and 1.6.
OPINIONS = {
    "without the genes' opinion": (1, 1, 0),
    "genes count .8": (1, 1, 0.8),
    "genes count 2": (1, 1, 2),
    "genes count 4": (1, 1, 4),
    "genes alone": (0, 0, 1),
    "without the classifier": (0, 2, DISCRIMINANT_WEIGHT),
    "without the neighborhood": (2, 0, DISCRIMINANT_WEIGHT),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files and tasks.json")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    arguments = parser.parse_args()
    csv = RESULTS / "defaults.csv"
    done = pd.read_csv(csv) if csv.exists() else pd.DataFrame(columns=["setting", "reference", "part"])
    for setting in arguments.settings:
        for name in REFERENCES:
            for part, task in enumerate(parts(arguments.data, name)):
                there = (done["setting"] == setting) & (done["reference"] == name) & (done["part"] == part)
                several = batches(task.reference) is not None
                if there.any() or ("adversarial_weight" in SETTINGS[setting][1] and not several):
                    continue
                rows = [{**row, "reference": name, "part": part} for row in judged(task, setting, part)]
                print(*rows, sep="\n", flush=True)
                done = pd.concat([done, pd.DataFrame(rows)], ignore_index=True) if len(done) else pd.DataFrame(rows)
                done.to_csv(csv, index=False, float_format="%.5g")
    (RESULTS / "defaults.md").write_text(markdown(done))
    print(markdown(done))


def parts(folder: Path, name: str) -> Iterator[Task]:
    """Yield a task for each part of a reference that is left out of it."""
    reference = whole_reference(folder, name)
    labels = reference.obs[LABEL_KEY].to_numpy(dtype=str)
    n_parts = REFERENCES[name]
    if reference.obs[BATCH_KEY].nunique() >= n_parts:
        left_out = pd.factorize(reference.obs[BATCH_KEY].astype(str), sort=True)[0] % n_parts
    else:
        left_out = np.zeros(len(labels), dtype=int)
        splits = StratifiedKFold(n_parts, shuffle=True, random_state=0).split(labels, labels)
        for part, (_, rows) in enumerate(splits):
            left_out[rows] = part
    for part in range(n_parts):
        asked = left_out == part
        known = np.isin(labels[asked], labels[~asked])
        yield Task(name, reference[~asked].copy(), reference[asked].copy(), known, logged=False)


def judged(task: Task, setting: str, seed: int) -> Iterator[dict[str, Any]]:
    """Train on a task's reference and yield the macro-F1 of each question."""
    changed = CONSTANTS.get(setting)
    with patch.multiple(discriminant, **changed) if changed else nullcontext():
        yield from answers(task, setting, seed)


def answers(task: Task, setting: str, seed: int) -> Iterator[dict[str, Any]]:
    pretraining, finetuning = SETTINGS[setting]
    reference, batch_key = task.reference.copy(), batches(task.reference)
    scq.pp.normalize(reference, n_top_genes=N_GENES)
    encoder = scq.tl.pretrain(reference, random_state=seed, progress=False, **pretraining)
    scq.tl.finetune(
        reference,
        encoder,
        label_key=LABEL_KEY,
        batch_key=batch_key,
        random_state=seed,
        progress=False,
        **finetuning,
    )
    built = scq.tl.build_reference(reference, encoder, label_key=LABEL_KEY, progress=False)
    truth = task.query.obs[LABEL_KEY].to_numpy(dtype=str)[task.known]
    questions = {
        "whole": task.query,
        "a quarter of the genes": cut(task.query, 0.25, seed),
        "a fifth of the depth": thinned(task.query, 0.2, seed),
    }
    kinds = np.array(built.types)
    for question, query in questions.items():
        if setting == DEFAULTS:
            share, members = asked_of(built, query)
            counted = {setting: weights(), **OPINIONS}
            given = {
                name: kinds[np.average(members, axis=0, weights=(*(share * np.array(own)), genes)).argmax(axis=1)]
                for name, (*own, genes) in counted.items()
            }
        else:
            scq.tl.query(query, built, min_gene_overlap=0.0)
            given = {setting: query.obs["scquery_label"].to_numpy(dtype=str)}
        for name, labels in given.items():
            yield {"setting": name, "question": question, "macro_f1": macro_f1(truth, labels[task.known])}


def asked_of(built: Any, query: Any) -> tuple[float, tuple[np.ndarray, ...]]:
    """Return the share of the model genes that cells have, and what classifier, neighborhood and genes say of them."""
    cells = open_cells(query, built.encoder.genes, function="the benchmark", min_gene_overlap=0.0).cells
    embedded = built.embed(cells)
    neighbors = built.search_index.search(embedded.latent, 15)
    near = centroid_probabilities(embedded.latent, built.centroids)
    return cells.share, member_probabilities(built, embedded, neighbors, near)


def markdown(done: pd.DataFrame) -> str:
    """Return the mean of each setting by reference, and its difference from the defaults over all parts."""
    questions = list(dict.fromkeys(done["question"]))
    parts_of = done.pivot_table(index=["reference", "part"], columns=["setting", "question"], values="macro_f1")
    lines = ["| setting | " + " | ".join(questions) + " | difference, over all three |"]
    lines.append("|---|" + "---|" * (len(questions) + 1))
    names = list(dict.fromkeys(done["setting"]))
    for name in names:
        cells, gains = [], []
        for question in questions:
            own, usual = parts_of[name, question], parts_of[DEFAULTS, question]
            gain = (own - usual).dropna()
            gains.append(gain)
            text = f"{own.groupby('reference').mean().mean():.3f}"
            cells.append(text if name == DEFAULTS else f"{text} ({interval(gain.to_numpy())})")
        over_all = "" if name == DEFAULTS else interval(np.mean(gains, axis=0))
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {over_all} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
