"""Measure gene-panel dropout in fine-tuning, for queries with few of the genes.

    python benchmarks/gene_panels.py --data ../shared/data --seeds 5

For each task and seed, one encoder is pretrained, fine-tuned without and with gene-panel dropout, and queried with all
genes and with random panels of 25, 10 and 5 % of them. Writes ``results/gene_panels.md``: macro-F1, means and 95 %
intervals over seeds, and the difference from fine-tuning without, paired by seed.
"""

from __future__ import annotations

import argparse
import copy
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pandas as pd
from scores import macro_f1
from tables import interval
from tasks import LABEL_KEY, load, subset_genes

import scquery_ae as scq

RESULTS = Path(__file__).parent / "results"
TASKS = ("pancreas_protocol", "pancreas_species")
DROPOUT = {"none": 0.0, "up to 0.5": 0.5, "up to 0.9": 0.9}
PANELS = (1.0, 0.25, 0.1, 0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files and tasks.json")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    for name in TASKS:
        task = load(arguments.data, name)
        for seed in range(arguments.seeds):
            reference = task.reference.copy()
            scq.pp.normalize(reference, n_top_genes=2000)
            pretrained = scq.tl.pretrain(reference, random_state=seed, progress=False)
            panels = {fraction: subset_genes(task.query, fraction, seed) for fraction in PANELS}
            for dropout, highest in DROPOUT.items():
                encoder = copy.deepcopy(pretrained)
                scq.tl.finetune(
                    reference, encoder, label_key=LABEL_KEY, gene_masking=highest, random_state=seed, progress=False
                )
                built = scq.tl.build_reference(reference, encoder, label_key=LABEL_KEY)
                for fraction, panel in panels.items():
                    query = panel.copy()
                    scq.tl.query(query, built, min_gene_overlap=0.0)
                    predicted = query.obs["scquery_label"].astype(str).to_numpy()
                    rows.append({"task": name, "dropout": dropout, "panel": fraction, "seed": seed})
                    truth = task.query.obs[LABEL_KEY].to_numpy()[task.known]
                    rows[-1]["macro-F1"] = macro_f1(truth, predicted[task.known])
                    print(rows[-1], flush=True)
    text = markdown(pd.DataFrame(rows))
    (RESULTS / "gene_panels.md").write_text(text)
    print(text)


def markdown(table: pd.DataFrame) -> str:
    lines = [
        "| task | gene-panel dropout | " + " | ".join(f"{fraction:.0%} of the genes" for fraction in PANELS) + " |"
    ]
    lines.append("|---|---|" + "---|" * len(PANELS))
    for task, rows in table.groupby("task", sort=False):
        base = rows[rows["dropout"] == "none"]
        for dropout in DROPOUT:
            cells = []
            for fraction in PANELS:
                values = rows[(rows["dropout"] == dropout) & (rows["panel"] == fraction)]["macro-F1"].to_numpy()
                text = interval(values)
                if dropout != "none":
                    gain = values - base[base["panel"] == fraction]["macro-F1"].to_numpy()
                    text += f" ({interval(gain)})"
                cells.append(text)
            lines.append(f"| {task} | {dropout} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
