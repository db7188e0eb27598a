"""Measure the speed of training, embedding and search relative to the machine's limits.

    python benchmarks/speed.py                                   # TensorFlow, float32
    python benchmarks/speed.py --precision mixed_bfloat16        # where the processor has bfloat16
    KERAS_BACKEND=jax python benchmarks/speed.py
    python benchmarks/speed.py --genes 8000
    python benchmarks/speed.py --data ../shared/data             # cells of Kang et al. instead of simulated ones

Each measurement alternates with its limit, and medians are compared, so that other load affects both. Writes
``results/speed.csv``, where rows of the same backend, precision and dataset are replaced, and ``results/speed.md``.

pretraining
    ``pretrain_stack`` with one tied layer of 512 units, at the batch size and learning rate of ``tl.pretrain``. The
    limit is the rate of NumPy's float32 product of the same shapes; a batch takes five products (two forward, three
    backward).
fine-tuning
    ``tl.finetune`` of the default network, 512-64. The limit is the same; a batch takes three products per layer, and
    two for the first.
embedding
    ``Encoder.embed`` from CSR counts. The limit is one product with the first kernel (sparse or dense, whichever is
    faster) and one with the second.
search
    Search of 10,000 cells through the index of a reference. The limit is ``faiss.knn``.
import, cold start
    ``import scquery_ae``, and a process that loads a saved reference and labels 1,000 cells, relative to ``import
    tensorflow``.

The kernels that OpenBLAS chooses for the processor, or that ``OPENBLAS_CORETYPE`` sets, determine the limit of
training; they are recorded.
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import faiss
import keras
import numpy as np
import pandas as pd
from synthetic import cells
from threadpoolctl import threadpool_info

import scquery_ae as scq
from scquery_ae.loaders import CellRows, GeneColumns, open_training
from scquery_ae.training import MOST_PRETRAINING, FinetuneSettings, default_batch_size

RESULTS = Path(__file__).parent / "results"
SIZES = (512, 64)
TURNS = 5
KEYS = ["cells", "genes", "backend", "precision"]
COLUMNS = [
    "cells",
    "genes",
    "filled",
    "backend",
    "precision",
    "kernels",
    "what",
    "rate",
    "fraction",
    "limit",
    "seconds",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--precision", default="float32", choices=("float32", "mixed_bfloat16"))
    arguments = parser.parse_args()
    keras.config.set_dtype_policy(arguments.precision)
    if arguments.data:
        import anndata

        adata = anndata.read_h5ad(arguments.data / "pbmc_kang_ctrl_8donor.h5ad")
    else:
        adata = cells(arguments.cells, arguments.genes)
    scq.pp.normalize(adata, n_top_genes=arguments.genes)
    encoder = scq.tl.pretrain(adata, layer_sizes=SIZES, epochs=1, progress=False)
    rows = CellRows.read(open_training(adata, encoder.transform, "the benchmark"), encoder.transform)
    measured = [pretraining(rows, arguments.precision), finetuning(adata, encoder, arguments.precision)]
    if arguments.precision == "float32" and keras.backend.backend() == "tensorflow":
        scq.tl.finetune(adata, encoder, label_key="cell_type", epochs=1, progress=False)
        reference = scq.tl.build_reference(adata, encoder, label_key="cell_type", progress=False)
        measured += [embedding(rows, encoder), search(reference), *starts(reference, adata)]
    facts = {
        "cells": adata.n_obs,
        "genes": rows.shape[1],
        "filled": round(rows.logged.nnz / np.prod(rows.shape), 3),
        "backend": keras.backend.backend(),
        "precision": arguments.precision,
        "kernels": kernels(),
    }
    table = pd.DataFrame([{**facts, **row} for row in measured], columns=COLUMNS)
    csv = RESULTS / "speed.csv"
    if csv.exists():
        before = pd.read_csv(csv)
        same = (before[KEYS] == pd.Series(facts)[KEYS]).all(axis=1)
        table = pd.concat([before[~same], table], ignore_index=True)
    table.to_csv(csv, index=False)
    (RESULTS / "speed.md").write_text(markdown(table))
    print(markdown(table))


def kernels() -> str:
    """Return the processor for which NumPy's OpenBLAS has chosen its kernels, such as ``"SkylakeX"``."""
    found = (library for library in threadpool_info() if "numpy" in library["filepath"])
    return next((library.get("architecture", "unknown") for library in found), "unknown")


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compared(*works: Callable[[], object]) -> np.ndarray:
    """Return the median seconds of each function, measured in turns after one warm-up."""
    for work in works:
        work()
    return np.median([[seconds(work) for work in works] for _ in range(TURNS)], axis=0)


def product(n: int, d: int, units: int) -> tuple[Callable[[], object], float]:
    """Return a function that multiplies matrices for some tenths of a second, and its number of operations."""
    rng = np.random.default_rng(0)
    a, b = rng.random((n, d), dtype=np.float32), rng.random((d, units), dtype=np.float32)
    repeats = max(int(1e10 / (n * d * units)), 1)

    def run() -> None:
        for _ in range(repeats):
            a @ b

    return run, 2.0 * n * d * units * repeats


def trained(name: str, n: int, flops: float, train: Callable[[int], object], shape: tuple[int, int, int]) -> dict:
    """Return the rate of an epoch in cells per second, from a longer and a shorter run, relative to a bare product."""
    limit, limit_flops = product(*shape)
    train(1), limit()
    turns = [(seconds(lambda: train(6)) - seconds(lambda: train(2)), seconds(limit)) for _ in range(3)]
    longer, bare = np.median(turns, axis=0)
    rate = limit_flops / bare
    fraction = flops * 4 / longer / rate
    return {
        "what": name,
        "rate": n * 4 / longer,
        "fraction": fraction,
        "limit": f"bare product, {rate / 1e9:.0f} GFLOP/s",
    }


def pretraining(rows: CellRows, precision: str) -> dict:
    n, d = rows.shape
    batch_size = default_batch_size(n, MOST_PRETRAINING)

    def train(epochs: int) -> None:
        settings = {"epochs": epochs, "patience": epochs, "batch_size": batch_size, "validation_fraction": 0}
        scq.nn.pretrain_stack(rows, SIZES[:1], progress=False, **settings)

    shape = (batch_size, d, SIZES[0])
    return trained(f"pretraining, {precision}, batch {batch_size}", n, 5 * 2.0 * n * d * SIZES[0], train, shape)


def finetuning(adata, encoder, precision: str) -> dict:
    n, d = adata.n_obs, encoder.transform.n_genes

    def train(epochs: int) -> None:
        scq.tl.finetune(
            adata.copy(),
            copy.deepcopy(encoder),
            label_key="cell_type",
            epochs=epochs,
            patience=epochs,
            validation_fraction=0,
            label_issues="keep",
            progress=False,
        )

    flops = 2.0 * n * (2 * d * SIZES[0] + 3 * SIZES[0] * SIZES[1])
    size = FinetuneSettings().cells_per_step(n)
    return trained(f"fine-tuning, {precision}, batch {size}", n, flops, train, (size, d, SIZES[0]))


def embedding(rows: CellRows, encoder) -> dict:
    counts = rows.counts().take(np.arange(rows.shape[0]))
    kernels = [layer.kernel for layer in encoder.layers]
    blocks = [counts[start : start + 4096] for start in range(0, counts.shape[0], 4096)]
    dense = [block.toarray() for block in blocks]
    inputs = GeneColumns(counts, np.arange(counts.shape[1]))
    ours, *bare = compared(
        lambda: encoder.embed(inputs),
        lambda: [(block @ kernels[0]) @ kernels[1] for block in blocks],
        lambda: [(block @ kernels[0]) @ kernels[1] for block in dense],
    )
    limit = "sparse product" if bare[0] < bare[1] else "dense product"
    return {"what": "embedding", "rate": counts.shape[0] / ours, "fraction": min(bare) / ours, "limit": limit}


def search(reference) -> dict:
    latent = np.ascontiguousarray(reference.embedding[:10_000])
    vectors = np.ascontiguousarray(reference.embedding)
    ours, bare = compared(
        lambda: reference.search_index.search(latent, 15),
        lambda: faiss.knn(latent, vectors, 15, metric=faiss.METRIC_INNER_PRODUCT),
    )
    return {"what": "search", "rate": len(latent) / ours, "fraction": bare / ours, "limit": "faiss.knn"}


def starts(reference, adata) -> list[dict]:
    """Return the seconds of an import and of a first query in new processes, relative to importing TensorFlow."""
    with tempfile.TemporaryDirectory() as folder:
        reference.save(Path(folder) / "r.scq")
        query = adata[:1000].copy()
        query.X = query.layers["counts"]
        query.uns.clear()
        query.write_h5ad(Path(folder) / "q.h5ad")
        first = (
            "import anndata, scquery_ae as scq; "
            f"q = anndata.read_h5ad({folder + '/q.h5ad'!r}); scq.tl.query(q, {folder + '/r.scq'!r})"
        )
        taken = compared(lambda: fresh("import tensorflow"), lambda: fresh("import scquery_ae"), lambda: fresh(first))
    return [
        {"what": name, "seconds": own, "fraction": own / taken[0], "limit": "import tensorflow"}
        for name, own in (("import", taken[1]), ("cold start and 1,000 queries", taken[2]))
    ]


def fresh(code: str) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True)


def markdown(table: pd.DataFrame) -> str:
    lines = []
    for (n, genes, filled), rows in table.groupby(["cells", "genes", "filled"], sort=False):
        lines += [f"## {n:,} cells, {genes:,} genes", ""]
        names = ", ".join(rows["kernels"].unique())
        lines += [f"{filled:.1%} of the values are not zero; {os.cpu_count()} cores; OpenBLAS kernels: {names}.", ""]
        lines += ["| | Keras on | cells/s | seconds | fraction of the limit | limit |", "|---|---|---|---|---|---|"]
        for row in rows.itertuples():
            rate = "" if pd.isna(row.rate) else f"{row.rate:,.0f}"
            took = "" if pd.isna(row.seconds) else f"{row.seconds:.2f}"
            backend = row.backend if "training" in row.what or "tuning" in row.what else ""
            lines.append(f"| {row.what} | {backend} | {rate} | {took} | {row.fraction:.0%} | {row.limit} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
