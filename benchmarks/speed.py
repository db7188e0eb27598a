"""How much of what the machine can do training, embedding and querying use.

    python benchmarks/speed.py

Made-up cells (``synthetic.py``). Each part runs beside the limit that it is compared with, in turns, five times, so
that what else the machine does falls on both; medians are taken. Writes ``benchmarks/results/speed.md``.

pretraining
    One tied layer of 512 units on 2,000 genes, a whole ``pretrain_stack``. Five dense products a batch (two forward,
    three backward), over the rate of a bare float32 product of the same shapes.
fine-tuning
    The default network, 512-64; three products a layer but for the input's gradient, over the same rate.
embedding
    ``Encoder.embed`` from CSR counts, over one sparse and one dense product of these shapes and nothing else.
query
    ``Reference`` search of 10,000 cells among all, over ``faiss.knn``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import faiss
import numpy as np
from synthetic import cells

import scquery_ae as sq
from scquery_ae.loaders import CellRows, GeneColumns, open_training

RESULTS = Path(__file__).parent / "results"
SIZES = (512, 64)
TURNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=2000)
    arguments = parser.parse_args()
    adata = cells(arguments.cells, arguments.genes)
    sq.pp.normalize(adata, n_top_genes=arguments.genes)
    encoder = sq.tl.pretrain(adata, layer_sizes=SIZES, epochs=1, progress=False)
    rows = CellRows.read(open_training(adata, encoder.transform, "the benchmark"), encoder.transform)
    lines = ["| | cells/s | of the limit | limit |", "|---|---|---|---|"]
    for batch_size in (128, 512):
        lines.append(pretraining(rows, batch_size))
        lines.append(finetuning(adata, encoder, batch_size))
    sq.tl.finetune(adata, encoder, label_key="cell_type", epochs=1, progress=False)
    lines.append(embedding(adata, encoder))
    lines.append(query(adata, encoder))
    density = rows.logged.nnz / np.prod(rows.shape)
    text = (
        f"{arguments.cells} cells, {arguments.genes} genes, {density:.1%} filled; Keras on {backend()}, "
        f"{os.cpu_count()} cores.\n\n" + "\n".join(lines) + "\n"
    )
    (RESULTS / "speed.md").write_text(text)
    print(text)


def backend() -> str:
    import keras

    return str(keras.backend.backend())


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compared(ours: Callable[[], object], limit: Callable[[], object]) -> tuple[float, float]:
    """Return the median seconds of both, taken in turns after one warm-up."""
    ours(), limit()
    taken = np.array([(seconds(ours), seconds(limit)) for _ in range(TURNS)])
    return tuple(np.median(taken, axis=0))


def product(n: int, d: int, units: int) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    a, b = rng.random((n, d), dtype=np.float32), rng.random((d, units), dtype=np.float32)
    repeats = max(int(2e9 / (n * d * units)), 1)

    def run() -> None:
        for _ in range(repeats):
            a @ b

    run.flops = 2.0 * n * d * units * repeats  # type: ignore[attr-defined]
    return run


def epoch(train: Callable[[int], object]) -> float:
    """Return the median seconds of one epoch: what a longer run takes more than a short one."""
    train(1)
    return float(np.median([(seconds(lambda: train(4)) - seconds(lambda: train(1))) / 3 for _ in range(3)]))


def pretraining(rows: CellRows, batch_size: int) -> str:
    n, d = rows.shape
    units = SIZES[0]

    def train(epochs: int) -> None:
        sq.nn.pretrain_stack(
            rows, [units], epochs=epochs, patience=epochs, batch_size=batch_size, validation_fraction=0, progress=False
        )

    taken = epoch(train)
    return trained(f"pretraining, batch {batch_size}", n, taken, 5 * 2.0 * n * d * units, product(batch_size, d, units))


def finetuning(adata, encoder, batch_size: int) -> str:
    import copy

    n, d = adata.n_obs, encoder.transform.n_genes

    def train(epochs: int) -> None:
        sq.tl.finetune(
            adata.copy(),
            copy.deepcopy(encoder),
            label_key="cell_type",
            epochs=epochs,
            patience=epochs,
            batch_size=batch_size,
            validation_fraction=0,
            wrong_labels="keep",
            progress=False,
        )

    taken = epoch(train)
    flops = 2.0 * n * (2 * d * SIZES[0] + 3 * SIZES[0] * SIZES[1])
    return trained(f"fine-tuning, batch {batch_size}", n, taken, flops, product(batch_size, d, SIZES[0]))


def trained(name: str, n: int, taken: float, flops: float, limit: Callable[[], object]) -> str:
    limit()
    rate = limit.flops / np.median([seconds(limit) for _ in range(TURNS)])  # type: ignore[attr-defined]
    share = flops / taken / rate
    return f"| {name} | {n / taken:,.0f} | {share:.0%} | bare product, {rate / 1e9:.0f} GFLOP/s |"


def embedding(adata, encoder) -> str:
    counts = adata.layers["counts"]
    kernels = [layer.kernel for layer in encoder.layers]

    def limit() -> None:
        for start in range(0, adata.n_obs, 4096):
            (counts[start : start + 4096] @ kernels[0]) @ kernels[1]

    cells = GeneColumns(counts, np.arange(adata.n_vars))
    ours, bare = compared(lambda: encoder.embed(cells), limit)
    return f"| embedding | {adata.n_obs / ours:,.0f} | {bare / ours:.0%} | sparse and dense product |"


def query(adata, encoder) -> str:
    reference = sq.tl.build_reference(adata, encoder, label_key="cell_type", progress=False)
    codes = np.ascontiguousarray(reference.embedding[:10_000])
    vectors = np.ascontiguousarray(reference.embedding)
    ours, bare = compared(
        lambda: reference.search_index.search(codes, 15),
        lambda: faiss.knn(codes, vectors, 15, metric=faiss.METRIC_INNER_PRODUCT),
    )
    return f"| search | {len(codes) / ours:,.0f} | {bare / ours:.0%} | faiss.knn |"


if __name__ == "__main__":
    main()
