"""Time and memory of every method of ``accuracy.py``, one after the other on an idle machine.

    python benchmarks/times.py --data ../shared/data --peers build/peers

Each method learns each task's reference and answers its query once, in a process of its own, with all cores and nothing
beside it. Seconds are those of training and of the query, imports and reading of files not counted; memory is what the
process held at its peak, imports and data included. Writes ``results/times.csv``; what is there is not run again.
``results/times.md`` is made of it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from accuracy import OWN, PEERS, RESULTS, TASKS, make_environment, rows_of
from tables import OURS

COLUMNS = ["task", "method", "fit_s", "ask_s", "peak_mib", "failed"]


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
    """Return seconds of training and one query by method and task, how many times ours the mean is, and memory."""
    good = done[done["failed"].isna()]
    seconds = (good["fit_s"] + good["ask_s"]).groupby([good["method"], good["task"]]).sum().unstack()
    seconds = seconds[[task for task in TASKS if task in seconds]]
    mean = seconds.mean(axis=1).where(seconds.notna().all(axis=1))
    peak = good.groupby("method")["peak_mib"].max()
    lines = ["| method | " + " | ".join(seconds.columns) + " | mean (s) | of ours | peak (MiB) |"]
    lines.append("|---|" + "---|" * (seconds.shape[1] + 3))
    for method in mean.sort_values(na_position="last").index:
        cells = ["" if pd.isna(value) else f"{value:,.1f}" for value in [*seconds.loc[method], mean[method]]]
        ratio = mean[method] / mean.get(OURS, float("nan"))
        cells += ["" if pd.isna(ratio) else f"{ratio:.2f}", f"{peak[method]:,.0f}"]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
