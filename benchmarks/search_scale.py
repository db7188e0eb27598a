"""Measure memory, disk space, time and recall of neighbor search by the number of cells.

    python benchmarks/search_scale.py --cells 100000 400000 1600000

The vectors are clustered unit vectors of 64 dimensions (200 clusters of different sizes). Each index is built,
written, and read again in a process of its own, as in a saved reference. Memory is the growth of that process over
1,000 queries, including mapped pages of files. Recall is the fraction of the 15 exact neighbors that are found. Writes
``results/search_scale.md``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scale import memory

from scquery_ae.index import ApproximateIndex, ExactIndex, build_index

RESULTS = Path(__file__).parent / "results"
WIDTH, NEIGHBORS, QUERIES = 64, 15, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[100_000, 400_000, 1_600_000])
    parser.add_argument("--kinds", nargs="+", default=["exact", "hnsw", "int8"])
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(Path(arguments.measure[0]), arguments.measure[1], int(arguments.measure[2]))))
        return
    lines = [
        "| cells | search | build (s) | on disk (MB) | in memory (MB) | queries/s | recall@15 |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for n in arguments.cells:
            vectors, queries = cells(n, seed=0), cells(QUERIES, seed=1)
            np.save(Path(folder) / "vectors.npy", vectors)
            np.save(Path(folder) / "queries.npy", queries)
            exact = ExactIndex(vectors).search(queries, NEIGHBORS).indices
            for kind in arguments.kinds:
                began = time.perf_counter()
                index = build_index(vectors, kind)
                took = time.perf_counter() - began
                file = Path(folder) / ("vectors.npy" if kind == "exact" else "index.faiss")
                if isinstance(index, ApproximateIndex):
                    index.write(file)
                found = index.search(queries, NEIGHBORS).indices
                del index
                recall = np.mean([len(set(a) & set(b)) / NEIGHBORS for a, b in zip(exact, found, strict=True)])
                command = [sys.executable, __file__, "--measure", folder, kind, str(n)]
                measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                lines.append(
                    f"| {n:,} | {kind} | {took:,.1f} | {file.stat().st_size / 1e6:,.0f} | {measured['mb']:,.0f} | "
                    f"{measured['rate']:,.0f} | {recall:.3f} |"
                )
                print(lines[-1], flush=True)
    (RESULTS / "search_scale.md").write_text("\n".join(lines) + "\n")


def cells(n: int, *, seed: int) -> np.ndarray:
    biology = np.random.default_rng(7)
    centres = biology.standard_normal((200, WIDTH)).astype(np.float32)
    fractions = biology.dirichlet(np.full(len(centres), 0.5))
    rng = np.random.default_rng([7, seed])
    vectors = rng.standard_normal((n, WIDTH), dtype=np.float32)
    vectors *= 0.4
    for start in range(0, n, 100_000):
        part = vectors[start : start + 100_000]
        part += centres[rng.choice(len(centres), len(part), p=fractions)]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def measure(folder: Path, kind: str, n: int) -> dict[str, float]:
    queries = np.load(folder / "queries.npy")
    ExactIndex(queries).search(queries, NEIGHBORS)
    before = memory("VmRSS")
    if kind == "exact":
        index = ExactIndex(np.load(folder / "vectors.npy", mmap_mode="r"))
    else:
        index = ApproximateIndex.read(folder / "index.faiss", kind, (n, WIDTH))
    index.search(queries, NEIGHBORS)
    began = time.perf_counter()
    index.search(queries, NEIGHBORS)
    rate = len(queries) / (time.perf_counter() - began)
    return {"rate": rate, "mb": (memory("VmRSS") - before) / 1e6}


if __name__ == "__main__":
    main()
