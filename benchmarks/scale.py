"""Measure time and peak memory of all steps on cells in a file, by the number of cells.

    python benchmarks/scale.py --cells 10000 20000 50000 100000 --genes 20000

Writes one file of counts per size to ``--folder`` (``synthetic.py``; CSR, about 5 % of the values not zero) and runs
each size in a process of its own: ``read(..., lazy=True)``, ``pp.normalize``, ``tl.pretrain`` (one epoch per layer),
``tl.finetune`` (one epoch), ``tl.build_reference``, and ``tl.query`` of the same file. Writes ``results/scale.csv``,
one row for each size and step; sizes that exist are run again only with ``--again``. Writes ``results/scale.md``: the
measurements, linear models of time and memory fitted to them, and an extrapolation.

Memory is the peak of the process (VmHWM, reset before each step, Linux) above its memory after imports. Mapped pages
of files count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import numpy as np
import pandas as pd
from synthetic import write_h5ad

RESULTS = Path(__file__).parent / "results"
#: Millions of cells.
EXTRAPOLATED = (1, 10, 100)
STEPS = ("normalize", "pretrain", "finetune", "build", "query")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 20_000, 50_000, 100_000])
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=Path("scale_data"))
    parser.add_argument("--again", action="store_true", help="measure sizes that exist again")
    parser.add_argument("--keep", action="store_true", help="do not delete the files")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        measure(arguments.run)
        return
    arguments.folder.mkdir(exist_ok=True)
    csv = RESULTS / "scale.csv"
    table = pd.read_csv(csv) if csv.exists() else pd.DataFrame(columns=["cells", "genes"])
    for n in arguments.cells:
        mine = (table["cells"] == n) & (table["genes"] == arguments.genes)
        if mine.any() and not arguments.again:
            continue
        file = arguments.folder / f"cells_{n}_{arguments.genes}.h5ad"
        if not file.exists():
            write_h5ad(file, n, arguments.genes, depth=1500.0)
        done = subprocess.run([sys.executable, __file__, "--run", file], stdout=subprocess.PIPE, check=True, text=True)
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        table = pd.concat([table[~mine], pd.DataFrame(rows)], ignore_index=True)
        table.sort_values(["genes", "cells"], kind="stable").round(3).to_csv(csv, index=False)
        if not arguments.keep:
            file.unlink()
    (RESULTS / "scale.md").write_text(markdown(pd.read_csv(csv)))
    print((RESULTS / "scale.md").read_text())


def measure(file: Path) -> None:
    """Run all steps on one file and print a line of JSON for each."""
    import keras

    import scquery_ae as scq

    scq.nn, scq.tl, scq.pp  # noqa: B018 (attribute access imports them)
    keras.ops.ones((2, 2)) @ keras.ops.ones((2, 2))
    adata = scq.read(file, lazy=True)
    with h5py.File(file) as stored:
        filled = stored["X/data"].shape[0] / np.prod(adata.shape)
    facts = {"cells": adata.n_obs, "genes": adata.n_vars, "filled": filled, "backend": keras.backend.backend()}
    imports = memory("VmRSS")
    results: dict[str, object] = {}

    def step(name: str, work) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        began = time.perf_counter()
        results[name] = work()
        took = time.perf_counter() - began
        peak = (memory("VmHWM") - imports) / 2**20
        print(json.dumps({**facts, "step": name, "seconds": took, "peak_mib": peak}), flush=True)

    step("normalize", lambda: scq.pp.normalize(adata))
    step("pretrain", lambda: scq.tl.pretrain(adata, epochs=1, progress=False))
    encoder = results["pretrain"]
    step("finetune", lambda: scq.tl.finetune(adata, encoder, label_key="cell_type", epochs=1, progress=False))
    step("build", lambda: scq.tl.build_reference(adata, encoder, label_key="cell_type", progress=False))
    step("query", lambda: scq.tl.query(scq.read(file, lazy=True), results["build"]))


def memory(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def markdown(table: pd.DataFrame) -> str:
    lines = []
    for (genes, backend), rows in table.groupby(["genes", "backend"]):
        seconds = rows.pivot_table(index="cells", columns="step", values="seconds")[list(STEPS)]
        peak = rows.groupby("cells")["peak_mib"].max()
        lines += [
            f"{genes:,} genes, {rows['filled'].mean():.1%} of the values not zero; Keras on {backend}, "
            f"{os.cpu_count()} cores. Seconds of each step (one epoch per layer; `query` labels all cells), and peak "
            "memory.",
            "",
            "| cells | " + " | ".join(STEPS) + " | all | peak above imports (MiB) |",
            "|---|" + "---|" * (len(STEPS) + 2),
        ]
        for n, row in seconds.iterrows():
            took = " | ".join(f"{row[name]:,.1f}" for name in STEPS)
            lines.append(f"| {n:,} | {took} | {row.sum():,.1f} | {peak[n]:,.0f} |")
        if len(seconds) > 2:
            lines += ["", *models(seconds, peak)]
        lines.append("")
    return "\n".join(lines)


def models(seconds: pd.DataFrame, peak: pd.Series) -> list[str]:
    """Return linear models of time and memory fitted to the sizes, and what they predict for larger collections."""
    cells = seconds.index.to_numpy(dtype=float)
    lines = ["| cost | constant | slope | exponent |", "|---|---|---|---|"]
    fits = {}
    for name, values in [*seconds.items(), ("all", seconds.sum(axis=1))]:
        exponent = np.polyfit(np.log(cells), np.log(np.asarray(values, dtype=float)), 1)[0]
        slope, start = np.polyfit(cells, np.asarray(values, dtype=float), 1)
        fits[name] = slope, start
        lines.append(f"| {name} | {start:.1f} s | {slope * 1e6:.1f} s per million cells | {exponent:.2f} |")
    slope, start = np.polyfit(cells, peak.to_numpy(), 1)
    lines.append(f"| peak memory | {start:,.0f} MiB | {slope * 2**20:,.0f} bytes per cell | |")
    lines += [
        "",
        "| cells (extrapolated) | normalize, pretrain, finetune (hours) | build, query (hours) | peak memory (GiB) |",
    ]
    lines.append("|---|---|---|---|")
    for millions in EXTRAPOLATED:
        n = millions * 1e6

        def hours(*steps: str, n: float = n) -> float:
            return sum(fits[step][0] * n + fits[step][1] for step in steps) / 3600

        training, rest = hours("normalize", "pretrain", "finetune"), hours("build", "query")
        lines.append(f"| {millions} million | {training:.1f} | {rest:.1f} | {(slope * n + start) / 2**10:,.0f} |")
    return lines


if __name__ == "__main__":
    main()
