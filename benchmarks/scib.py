"""Compute bio-conservation and batch-correction scores of scib-metrics for the embeddings that ``accuracy.py`` saved.

    build/peers/bin/python benchmarks/scib.py --data ../shared/data

The scores are computed over at most 4,000 reference and query cells of known types, with reference and query as
batches. The script runs in the environment of the peers, after ``accuracy.py``. Writes ``results/scib.csv``, one row
for each task, method and seed; rows that exist are not computed again. Writes ``results/scib.md``: means and 95 %
intervals over seeds.

References
----------
Luecken et al., Nature Methods 19, 41 (2022).
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import anndata
import numpy as np
import pandas as pd
from accuracy import EMBEDDINGS, RESULTS, TASKS
from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation
from tables import interval
from tasks import LABEL_KEY, Task, load

MOST = 4000
COLUMNS = ["task", "method", "seed", "bio", "batch", "total"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files and tasks.json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="compute rows that exist again")
    arguments = parser.parse_args()
    csv = RESULTS / "scib.csv"
    done = pd.read_csv(csv) if csv.exists() and not arguments.again else pd.DataFrame(columns=COLUMNS)
    for name in TASKS:
        for seed in range(arguments.seeds):
            task = load(arguments.data, name, seed)
            present = set(done.loc[(done["task"] == name) & (done["seed"] == seed), "method"])
            files = {
                file.stem.split("-", 1)[1].rsplit("-", 1)[0]: file for file in EMBEDDINGS.glob(f"{name}-*-{seed}.npz")
            }
            files = {method: file for method, file in sorted(files.items()) if method not in present}
            if not files:
                continue
            rows = scores(task, files, seed)
            print(rows.to_string(index=False), flush=True)
            done = pd.concat([done, rows.assign(task=name, seed=seed)], ignore_index=True)[COLUMNS]
            done.to_csv(csv, index=False, float_format="%.4g")
    (RESULTS / "scib.md").write_text(markdown(done))


def markdown(done: pd.DataFrame) -> str:
    """Return mean scores over tasks of the methods that have all tasks, best first, and then all scores by task."""
    over_all = done.groupby("method").filter(lambda own: own["task"].nunique() == done["task"].nunique())
    means = over_all.groupby(["method", "task"])[["bio", "batch", "total"]].mean().groupby("method").mean()
    lines = ["| method | bio-conservation | batch correction | total |", "|---|---|---|---|"]
    for name, row in means.sort_values("total", ascending=False).iterrows():
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in row) + " |")
    lines += ["", "| task | method | bio-conservation | batch correction | total |", "|---|---|---|---|---|"]
    for (task, method), own in done.groupby(["task", "method"], sort=False):
        cells = " | ".join(interval(own[name].to_numpy()) for name in ("bio", "batch", "total"))
        lines.append(f"| {task} | {method} | {cells} |")
    return "\n".join(lines) + "\n"


def scores(task: Task, files: dict[str, Path], seed: int) -> pd.DataFrame:
    types = task.reference.obs[LABEL_KEY].dropna().astype(str).to_numpy()
    labels = np.concatenate([types, task.query.obs[LABEL_KEY].to_numpy()[task.known]])
    sides = np.repeat(["reference", "query"], [len(types), task.known.sum()])
    kept = np.sort(np.random.default_rng([seed, 3]).permutation(len(labels))[:MOST])
    both = anndata.AnnData(obs=pd.DataFrame({"label": labels, "side": sides}, dtype="category").iloc[kept])
    both.obs_names = np.arange(len(kept)).astype(str)
    for method, file in files.items():
        with np.load(file) as latent:
            both.obsm[method] = np.concatenate([latent["reference"], latent["query"][task.known]])[kept]
    benchmarker = Benchmarker(
        both,
        batch_key="side",
        label_key="label",
        embedding_obsm_keys=list(files),
        bio_conservation_metrics=BioConservation(),
        # This score compares with the cells before integration, of which there are none here.
        batch_correction_metrics=BatchCorrection(pcr_comparison=False),
        pre_integrated_embedding_obsm_key=next(iter(files)),  # required all the same
        progress_bar=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        benchmarker.benchmark()
    table = benchmarker.get_results(min_max_scale=False).loc[list(files)]
    names = {"Bio conservation": "bio", "Batch correction": "batch", "Total": "total"}
    return table[list(names)].astype(float).rename(columns=names).rename_axis("method").reset_index()


if __name__ == "__main__":
    main()
