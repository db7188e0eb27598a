"""Measure time and memory of every method of ``accuracy.py``, one after the other on an idle machine.

    python benchmarks/times.py --data ../shared/data --peers build/peers

Each method trains on the reference of each task and labels its query once, in a process of its own, with all cores.
Times are those of training and of the query, without imports and reading of files. Memory is the peak of the process,
with imports and data. Writes ``results/times.csv`` and, from it, ``results/times.md``; rows that exist are not run
again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from accuracy import OWN, PEERS, RESULTS, TASKS, make_environment, rows_of
from tables import OURS

COLUMNS = ["task", "method", "fit_s", "query_s", "peak_mib", "failed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files and tasks.json")
    parser.add_argument("--peers", type=Path, help="virtual environment of the peers")
    parser.add_argument("--methods", nargs="+", choices=OWN + PEERS)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    arguments = parser.parse_args()
    if arguments.peers:
        make_environment(arguments.peers)
    csv = RESULTS / "times.csv"
    done = pd.read_csv(csv) if csv.exists() else pd.DataFrame(columns=COLUMNS)
    for method in arguments.methods or (OWN + PEERS if arguments.peers else OWN):
        python = arguments.peers / "bin" / "python" if method in PEERS else Path(sys.executable)
        for task in arguments.tasks:
            if ((done["task"] == task) & (done["method"] == method)).any():
                continue
            for row in rows_of(python, arguments.data, method, task, "whole", [0], "--quick"):
                new = pd.DataFrame([row], columns=COLUMNS)
                done = pd.concat([done, new], ignore_index=True) if len(done) else new
                done.to_csv(csv, index=False, float_format="%.4g")
                print(new.to_string(index=False, header=False), flush=True)
    text = markdown(done)
    csv.with_suffix(".md").write_text(text)
    print(text)


def markdown(done: pd.DataFrame) -> str:
    """Return seconds of training and one query by method and task, the mean relative to scquery_ae, and peak memory."""
    good = done[done["failed"].isna()]
    seconds = (good["fit_s"] + good["query_s"]).groupby([good["method"], good["task"]]).sum().unstack()
    seconds = seconds[[task for task in TASKS if task in seconds]]
    mean = seconds.mean(axis=1).where(seconds.notna().all(axis=1))
    peak = good.groupby("method")["peak_mib"].max()
    headers = [task.replace("_", " ") for task in seconds.columns]
    lines = [f"| method | mean (s) | relative to {OURS} | peak (MiB) | " + " | ".join(headers) + " |"]
    lines.append("|---|" + "---|" * (seconds.shape[1] + 3))
    for method in mean.sort_values(na_position="last").index:
        mean_s, *cells = ["" if pd.isna(value) else f"{value:,.1f}" for value in [mean[method], *seconds.loc[method]]]
        ratio = mean[method] / mean.get(OURS, float("nan"))
        cells = [mean_s, "" if pd.isna(ratio) else f"{ratio:.2f}", f"{peak[method]:,.0f}", *cells]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
