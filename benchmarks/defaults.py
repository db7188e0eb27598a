"""Compare the default settings with others by cross-validation within references. No query of the benchmark is used.

    python benchmarks/defaults.py --data ../shared/data

Two of the eight donors of Kang et al. are left out at a time, and a third of the islet cells (one donor) and of the
cell lines (one protocol). The remaining cells are the reference. The cells left out are the query: unchanged, with a
quarter of the genes, and with a fifth of the counts. One setting is changed at a time, and everything is trained
again. Writes ``results/defaults.csv``, one row for each setting, part and query; rows that exist are not computed
again. Writes ``results/defaults.md``: macro-F1 and its difference from the defaults, paired by part, with 95 %
intervals over the ten parts.
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
from tasks import BATCH_KEY, LABEL_KEY, Task, downsample_counts, subset_genes, whole_reference

import scquery_ae as scq
from scquery_ae.annotate import CALIBRATION_NEIGHBORS, MemberProbabilities
from scquery_ae.annotate.predictors import DISCRIMINANT_WEIGHT, member_weights
from scquery_ae.loaders import open_cells
from scquery_ae.stats import discriminant

RESULTS = Path(__file__).parent / "results"
#: Tasks whose references are used, and the number of parts of each that are left out in turn.
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
    "no gene-panel dropout": ({}, {"gene_masking": 0.0}),
    "gene-panel dropout up to 0.9": ({}, {"gene_masking": 0.9}),
    "no label smoothing": ({}, {"label_smoothing": 0.0}),
    "label smoothing 0.2": ({}, {"label_smoothing": 0.2}),
    "types weighted by frequency": ({}, {"class_weight_power": 0.0}),
    "types weighted equally": ({}, {"class_weight_power": 1.0}),
    "dropout 0.2": ({}, {"dropout": 0.2}),
    "a third of the learning rate, 60 epochs": ({}, {"learning_rate": 3e-4, "epochs": 60}),
    "batches of 128": ({"batch_size": 128}, {"batch_size": 128}),
    "triplet loss": ({}, {"metric_loss": "triplet"}),
    "adversarial batch classifier (donors only)": ({}, {"adversarial_weight": 0.3}),
    "discriminant: diagonal covariance": ({}, {}),
    "discriminant: full covariance": ({}, {}),
    "discriminant: smallest scale 0.05": ({}, {}),
}
#: Changed constants of the discriminant.
CONSTANTS = {
    "discriminant: diagonal covariance": {"FACTOR_FRACTION": 0.0},
    "discriminant: full covariance": {"FACTOR_FRACTION": 1.0},
    "discriminant: smallest scale 0.05": {"MIN_SCALE": 0.05},
}
#: Weights of classifier, neighbors and discriminant, evaluated on the default reference; by default 1, 1 and 1.6.
MEMBER_WEIGHTS = {
    "without the discriminant": (1, 1, 0),
    "discriminant weight 0.8": (1, 1, 0.8),
    "discriminant weight 2": (1, 1, 2),
    "discriminant weight 4": (1, 1, 4),
    "discriminant alone": (0, 0, 1),
    "without the classifier": (0, 2, DISCRIMINANT_WEIGHT),
    "without the neighbors": (2, 0, DISCRIMINANT_WEIGHT),
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
                present = (done["setting"] == setting) & (done["reference"] == name) & (done["part"] == part)
                several = batches(task.reference) is not None
                if present.any() or ("adversarial_weight" in SETTINGS[setting][1] and not several):
                    continue
                rows = [{**row, "reference": name, "part": part} for row in evaluated(task, setting, part)]
                print(*rows, sep="\n", flush=True)
                done = pd.concat([done, pd.DataFrame(rows)], ignore_index=True) if len(done) else pd.DataFrame(rows)
                done.to_csv(csv, index=False, float_format="%.5g")
    (RESULTS / "defaults.md").write_text(markdown(done))
    print(markdown(done))


def parts(folder: Path, name: str) -> Iterator[Task]:
    """Yield a task for each part of a reference that is left out."""
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
        in_query = left_out == part
        known = np.isin(labels[in_query], labels[~in_query])
        yield Task(name, reference[~in_query].copy(), reference[in_query].copy(), known, logged=False)


def evaluated(task: Task, setting: str, seed: int) -> Iterator[dict[str, Any]]:
    """Train on the reference of a task with a setting and yield the macro-F1 of each query."""
    changed = CONSTANTS.get(setting)
    with patch.multiple(discriminant, **changed) if changed else nullcontext():
        yield from rows_of(task, setting, seed)


def rows_of(task: Task, setting: str, seed: int) -> Iterator[dict[str, Any]]:
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
    queries = {
        "whole": task.query,
        "a quarter of the genes": subset_genes(task.query, 0.25, seed),
        "a fifth of the counts": downsample_counts(task.query, 0.2, seed),
    }
    kinds = np.array(built.types)
    for name_of_query, query in queries.items():
        if setting == DEFAULTS:
            fraction, members = members_of(built, query)
            counted = {setting: member_weights(), **MEMBER_WEIGHTS}
            given = {}
            for name, (*network, discriminant_weight) in counted.items():
                of_members = (*(fraction * np.array(network)), discriminant_weight)
                given[name] = kinds[np.average(members, axis=0, weights=of_members).argmax(axis=1)]
        else:
            scq.tl.query(query, built, min_gene_overlap=0.0)
            given = {setting: query.obs["scquery_label"].to_numpy(dtype=str)}
        for name, labels in given.items():
            yield {"setting": name, "query": name_of_query, "macro_f1": macro_f1(truth, labels[task.known])}


def members_of(built: scq.Reference, query: Any) -> tuple[float, MemberProbabilities]:
    """Return the fraction of the model genes that the cells have, and the member probabilities of each predictor."""
    cells = open_cells(query, built.encoder.genes, function="the benchmark", min_gene_overlap=0.0).cells
    embedded = built.embed(cells)
    neighbors = built.search_index.search(embedded.embedding, CALIBRATION_NEIGHBORS)
    return cells.gene_fraction, built.predictors.members(embedded, neighbors)


def markdown(done: pd.DataFrame) -> str:
    """Return the mean macro-F1 of each setting over references, and its difference from the defaults over all parts."""
    queries = list(dict.fromkeys(done["query"]))
    parts_of = done.pivot_table(index=["reference", "part"], columns=["setting", "query"], values="macro_f1")
    lines = ["| setting | " + " | ".join(queries) + " | difference, over all three |"]
    lines.append("|---|" + "---|" * (len(queries) + 1))
    names = list(dict.fromkeys(done["setting"]))
    for name in names:
        cells, gains = [], []
        for query in queries:
            own, usual = parts_of[name, query], parts_of[DEFAULTS, query]
            gain = (own - usual).dropna()
            gains.append(gain)
            text = f"{own.groupby('reference').mean().mean():.3f}"
            cells.append(text if name == DEFAULTS else f"{text} ({interval(gain.to_numpy())})")
        over_all = "" if name == DEFAULTS else interval(np.mean(gains, axis=0))
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {over_all} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
