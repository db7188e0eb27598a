"""Compare the time to build a reference with that of scVI and scANVI on the same cells.

    python -m venv peers && peers/bin/pip install "scvi-tools>=1.4"
    python benchmarks/deep_peer.py --data ../shared/data --peer peers/bin/python

The cells are the control cells of Kang et al. over at most 2,000 genes. scquery_ae runs ``pretrain``, ``finetune`` and
``build_reference`` with default settings. The peer follows its documentation: a network of two layers and 30 latent
dimensions, trained for the number of epochs of its own heuristic (400 for up to 20,000 cells), then 20 epochs of
scANVI with 100 cells of each label. The time of the peer is extrapolated: a few epochs are timed, without the first
one, and multiplied. Both run once, one after the other, in processes of their own. Writes ``results/deep_peer.md``.
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

import anndata

RESULTS = Path(__file__).parent / "results"
FILE = "pbmc_kang_ctrl_8donor.h5ad"
#: Number of timed epochs of scVI and scANVI.
TIMED = (4, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer", type=Path, help="Python of an environment with scvi-tools")
    parser.add_argument("--only", choices=("ours", "peer"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps({"ours": ours, "peer": peer}[arguments.only](arguments.data / FILE)))
        return
    results = {}
    for name, python in (("ours", Path(sys.executable)), ("peer", arguments.peer)):
        command = [python, __file__, "--data", arguments.data, "--only", name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
    own, other = results["ours"], results["peer"]
    text = (
        f"{own['cells']:,} cells, {own['genes']:,} genes, {os.cpu_count()} cores, one run. Times of scVI and scANVI "
        + f"are extrapolated from {TIMED[0]} and {TIMED[1]} epochs.\n\n| | seconds |\n|---|---|\n"
        + "".join(f"| {name} | {took:.1f} |\n" for name, took in own["steps"].items())
        + f"| **scquery_ae, total** | {own['seconds']:.1f} |\n"
        + f"| scVI {other['version']}, {other['epochs'][0]} epochs of {other['epoch'][0]:.1f} s | "
        + f"{other['epochs'][0] * other['epoch'][0]:,.0f} |\n"
        + f"| scANVI, {other['epochs'][1]} epochs of {other['epoch'][1]:.1f} s | "
        + f"{other['epochs'][1] * other['epoch'][1]:,.0f} |\n"
        + f"| **scVI and scANVI, total** | {other['seconds']:,.0f} |\n"
        + f"| ratio | {other['seconds'] / own['seconds']:.0f} |\n"
    )
    (RESULTS / "deep_peer.md").write_text(text)
    print(text)


def ours(file: Path) -> dict:
    import scquery_ae as scq

    adata = anndata.read_h5ad(file)
    steps = {}

    def step(name: str, work) -> object:
        began = time.perf_counter()
        result = work()
        steps[name] = time.perf_counter() - began
        return result

    scq.pp.normalize(adata)
    encoder = step("pretrain", lambda: scq.tl.pretrain(adata, progress=False))
    step("finetune", lambda: scq.tl.finetune(adata, encoder, label_key="cell_type", progress=False))
    step("build_reference", lambda: scq.tl.build_reference(adata, encoder, label_key="cell_type", progress=False))
    return {
        "cells": adata.n_obs,
        "genes": len(encoder.genes),
        "steps": steps,
        "seconds": sum(steps.values()),
    }


def peer(file: Path) -> dict:
    import numpy as np
    import scanpy as sc
    import scvi

    scvi.settings.seed = 0
    adata = anndata.read_h5ad(file)
    adata.layers["counts"] = adata.X.copy()
    if adata.n_vars > 2000:
        sc.pp.highly_variable_genes(adata, n_top_genes=2000, flavor="seurat_v3", layer="counts", subset=True)
    scvi.model.SCVI.setup_anndata(adata, layer="counts")
    model = scvi.model.SCVI(adata, n_layers=2, n_latent=30, gene_likelihood="nb")
    epochs = (int(min(round(20_000 / adata.n_obs * 400), 400)), 20)

    def per_epoch(train, n: int) -> float:
        taken = []
        for count in (1, 1 + n):
            began = time.perf_counter()
            train(count)
            taken.append(time.perf_counter() - began)
        return (taken[1] - taken[0]) / n

    first = per_epoch(lambda n: model.train(max_epochs=n, enable_progress_bar=False), TIMED[0])
    labelled = scvi.model.SCANVI.from_scvi_model(model, labels_key="cell_type", unlabeled_category="Unknown")
    second = per_epoch(
        lambda n: labelled.train(max_epochs=n, n_samples_per_label=100, enable_progress_bar=False), TIMED[1]
    )
    taken = np.array([first, second])
    return {
        "version": scvi.__version__,
        "epoch": taken.tolist(),
        "epochs": epochs,
        "seconds": float(taken @ epochs),
    }


if __name__ == "__main__":
    main()
