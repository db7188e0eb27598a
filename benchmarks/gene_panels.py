"""What whole-gene masking in fine-tuning is worth when the query has few of the genes.

    python benchmarks/panels.py --data ../shared/data --seeds 5

For each task and seed one encoder is pretrained, then fine-tuned without and with gene masking, and queried with all
genes and with random panels of 25, 10 and 5 % of them. Writes ``benchmarks/results/panels.md``: macro-F1, means and
95 % intervals over seeds, and the difference to training without, paired by seed.
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
from tasks import LABEL_KEY, cut, load

import scquery_ae as scq

RESULTS = Path(__file__).parent / "results"
TASKS = ("pancreas_protocol", "pancreas_species")
MASKING = {"none": 0.0, "up to .5": 0.5, "up to .9": 0.9}
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
            panels = {share: cut(task.query, share, seed) for share in PANELS}
            for masking, highest in MASKING.items():
                encoder = copy.deepcopy(pretrained)
                scq.tl.finetune(
                    reference, encoder, label_key=LABEL_KEY, gene_masking=highest, random_state=seed, progress=False
                )
                built = scq.tl.build_reference(reference, encoder, label_key=LABEL_KEY)
                for share, query in panels.items():
                    asked = query.copy()
                    scq.tl.query(asked, built, min_gene_overlap=0.0)
                    predicted = asked.obs["scquery_label"].astype(str).to_numpy()
                    rows.append({"task": name, "masking": masking, "panel": share, "seed": seed})
                    truth = task.query.obs[LABEL_KEY].to_numpy()[task.known]
                    rows[-1]["macro-F1"] = macro_f1(truth, predicted[task.known])
                    print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    text = markdown(table)
    (RESULTS / "panels.md").write_text(text)
    print(text)


def markdown(table: pd.DataFrame) -> str:
    lines = ["| task | masking | " + " | ".join(f"{share:.0%} of the genes" for share in PANELS) + " |"]
    lines.append("|---|---|" + "---|" * len(PANELS))
    for task, rows in table.groupby("task", sort=False):
        base = rows[rows["masking"] == "none"]
        for masking in MASKING:
            cells = []
            for share in PANELS:
                values = rows[(rows["masking"] == masking) & (rows["panel"] == share)]["macro-F1"].to_numpy()
                text = interval(values)
                if masking != "none":
                    gain = values - base[base["panel"] == share]["macro-F1"].to_numpy()
                    text += f" ({interval(gain)})"
                cells.append(text)
            lines.append(f"| {task} | {masking} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
