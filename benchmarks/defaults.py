"""Which settings serve references alone: held-out batches of the tasks' references, none of their queries.

    KERAS_BACKEND=jax python benchmarks/defaults.py --data ../shared/data

The default, and one change of it at a time, are trained on all but one batch of a reference and asked about that batch
(a donor of Kang et al., a library of the five lines; of Baron et al., who give one batch, a quarter of each type): with
all genes, with a quarter of them, and with a fifth of the depth. At most 500 cells a batch are trained on. Writes
``results/defaults.csv``, a row for each setting, reference, seed and query, and ``results/defaults.md``: macro-F1, and
what each change is worth, paired by seed. What is there is not run again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import anndata
import numpy as np
import pandas as pd
from scores import macro_f1
from tables import interval
from tasks import BATCH_KEY, LABEL_KEY, cut, thinned

import scquery_ae as sq

RESULTS = Path(__file__).parent / "results"
REFERENCES = {
    "Kang": ("pbmc_kang_ctrl_8donor", {}),
    "Baron": ("pancreas_baron_human1", {}),
    "five lines": ("celllines_scmixology_multiprotocol", {"study": "CELseq2_5cl"}),
}
#: Changes of the default: to pretraining, and to fine-tuning.
SETTINGS: dict[str, tuple[dict, dict]] = {
    "default": ({}, {}),
    "layers 256-32": ({"layer_sizes": (256, 32)}, {}),
    "layers 512-128-64": ({"layer_sizes": (512, 128, 64)}, {}),
    "no pretraining": ({"module": "random"}, {}),
    "pretraining masks .5": ({"corruption_level": 0.5}, {}),
    "masks nothing": ({}, {"corruption_level": 0.0}),
    "masks .5": ({}, {"corruption_level": 0.5}),
    "gene masking none": ({}, {"gene_masking": 0.0}),
    "gene masking to .9": ({}, {"gene_masking": 0.9}),
    "class weights 0": ({}, {"class_weight_power": 0.0}),
    "class weights 1": ({}, {"class_weight_power": 1.0}),
    "label smoothing 0": ({}, {"label_smoothing": 0.0}),
    "label smoothing .2": ({}, {"label_smoothing": 0.2}),
    "dropout .2": ({}, {"dropout": 0.2}),
    "triplet loss": ({}, {"metric_loss": "triplet"}),
    "batches of 512": ({}, {"batch_size": 512, "learning_rate": 2e-3}),
}
QUERIES = ("all genes", "a quarter of the genes", "a fifth of the depth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    csv = RESULTS / "defaults.csv"
    columns = ["setting", "reference", "seed", "query", "macro_f1"]
    done = pd.read_csv(csv) if csv.exists() else pd.DataFrame(columns=columns)
    for seed in range(arguments.seeds):
        for name in REFERENCES:
            reference, query = split(arguments.data, name, seed)
            for setting in SETTINGS:
                if ((done["setting"] == setting) & (done["reference"] == name) & (done["seed"] == seed)).any():
                    continue
                rows = [(setting, name, seed, kind, value) for kind, value in run(reference, query, setting, seed)]
                new = pd.DataFrame(rows, columns=columns)
                done = pd.concat([done, new], ignore_index=True) if len(done) else new
                done.to_csv(csv, index=False, float_format="%.4g")
                print(new.to_string(index=False, header=False), flush=True)
    text = markdown(done)
    (RESULTS / "defaults.md").write_text(text)
    print(text)


def split(folder: Path, name: str, seed: int) -> tuple[anndata.AnnData, anndata.AnnData]:
    """Return what is trained on and what is asked about."""
    file, where = REFERENCES[name]
    adata = anndata.read_h5ad(folder / f"{file}.h5ad")
    for column, value in where.items():
        adata = adata[adata.obs[column] == value].copy()
    adata.obs[LABEL_KEY] = adata.obs[LABEL_KEY].astype(str)
    rng = np.random.default_rng([seed, 13])
    batches = adata.obs[BATCH_KEY].astype(str).to_numpy()
    order = pd.Series(rng.random(adata.n_obs))
    if len(set(batches)) > 1:
        asked = batches == sorted(set(batches))[seed % len(set(batches))]
    else:
        kinds = adata.obs[LABEL_KEY].to_numpy()
        asked = (order.groupby(kinds).rank(pct=True) <= 0.25).to_numpy()
    few = (order.groupby(batches).rank() <= (500 if len(set(batches)) > 1 else np.inf)).to_numpy()
    return adata[~asked & few].copy(), adata[asked].copy()


def run(reference: anndata.AnnData, query: anndata.AnnData, setting: str, seed: int):
    """Yield the macro-F1 of each kind of query."""
    first, second = SETTINGS[setting]
    reference = reference.copy()
    sq.pp.normalize(reference, n_top_genes=2000)
    encoder = sq.tl.pretrain(reference, random_state=seed, progress=False, **first)
    sq.tl.finetune(reference, encoder, label_key=LABEL_KEY, random_state=seed, progress=False, **second)
    built = sq.tl.build_reference(reference, encoder, label_key=LABEL_KEY, progress=False)
    truth = query.obs[LABEL_KEY].to_numpy()
    for kind, asked in zip(QUERIES, (query.copy(), cut(query, 0.25, seed), thinned(query, 0.2, seed)), strict=True):
        sq.tl.query(asked, built, min_gene_overlap=0.0)
        yield kind, macro_f1(truth, asked.obs["scquery_label"].astype(str).to_numpy())


def markdown(done: pd.DataFrame) -> str:
    lines = ["| setting | " + " | ".join(QUERIES) + " | all |", "|---|" + "---|" * (len(QUERIES) + 1)]
    keys = ["reference", "seed", "query"]
    base = done[done["setting"] == "default"].set_index(keys)["macro_f1"]
    for setting, own in done.groupby("setting", sort=False):
        values = own.set_index(keys)["macro_f1"]
        gain = values if setting == "default" else values - base.reindex(values.index)
        # One number a seed: references weigh alike.
        by_seed = gain.groupby(["seed", "query"]).mean().unstack()
        cells = [interval(by_seed[kind].to_numpy()) for kind in QUERIES]
        lines.append(f"| {setting} | " + " | ".join(cells) + f" | {interval(by_seed.mean(axis=1).to_numpy())} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
