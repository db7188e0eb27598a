"""Train on a file of cells in a process of its own, and print how far its memory grew: ``python ... PATH HOW``."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import anndata
import keras
import numpy as np
import sklearn.decomposition  # noqa: F401 (what is imported on the way is no memory of the cells)

import scquery_ae as scq
import scquery_ae.nn
import scquery_ae.training


def megabytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(f"{name}:"))


def tiny(n: int = 80) -> anndata.AnnData:
    rng = np.random.default_rng(0)
    adata = anndata.AnnData(rng.poisson(1.0, (n, 30)).astype("float32"))
    adata.obs["cell_type"] = np.where(np.arange(n) % 2, "a", "b")
    adata.X[adata.obs["cell_type"] == "a", :10] *= 9
    adata.obs_names, adata.var_names = [f"tiny{i}" for i in range(n)], [f"g{i}" for i in range(30)]
    return adata


def steps(adata: anndata.AnnData, query: anndata.AnnData, n_top_genes: int):
    scq.pp.normalize(adata, n_top_genes=n_top_genes)
    yield "normalize"
    encoder = scq.tl.pretrain(adata, layer_sizes=(16,), epochs=1, batch_size=512, progress=False)
    yield "pretrain"
    scq.tl.finetune(adata, encoder, label_key="cell_type", epochs=1, batch_size=512, progress=False)
    yield "finetune"
    reference = scq.tl.build_reference(adata, encoder, label_key="cell_type")
    yield "build_reference"
    scq.tl.embed(adata, encoder)
    yield "embed"
    scq.tl.query(query, reference)
    yield "query"


def forget() -> None:
    """Let the highest use of memory count from now on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def main(path: str, how: str) -> None:
    small = tiny()
    for _ in steps(small, small.copy(), 20):  # lazy imports, compilers and thread pools
        pass
    keras.backend.clear_session()
    start = megabytes("VmRSS")
    forget()
    opened = {
        "lazy": partial(scq.read, lazy=True),
        "backed": lambda path: anndata.read_h5ad(path, backed="r"),
        "memory": anndata.read_h5ad,
    }[how](path)
    peaks = {}
    for name in steps(opened, scq.read(path, lazy=True)[:5000].copy(), 500):
        peaks[name] = megabytes("VmHWM") - start
        forget()
    sys.stdout.write(json.dumps(peaks))


if __name__ == "__main__":
    main(*sys.argv[1:])
