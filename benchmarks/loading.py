"""Compare reading training batches from the temporary file of scquery_ae and from annbatch.

    python3.12 -m venv loading && loading/bin/pip install annbatch h5py scanpy zarrs dask
    PYTHONPATH=. loading/bin/python benchmarks/loading.py --cells 100000

Simulated cells over 20,000 genes lie in an ``.h5ad`` file; 2,000 of the genes are model genes. Both first copy the
values of the model genes (scquery_ae log-normalises them; annbatch writes counts to a shuffled, sharded Zarr store),
and then yield all cells in random order as CSR batches of 512 rows. scquery_ae draws single rows. annbatch draws pools
of 32 blocks of 512 rows, its default, with the Zarr codec pipeline of zarrs that its documentation recommends. Times
are medians of three epochs, measured in turns. Writes ``results/loading.md``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import anndata
import numpy as np
from synthetic import write_h5ad

from scquery_ae import read
from scquery_ae.loaders import CellRows, GeneColumns
from scquery_ae.transform import Transform

RESULTS = Path(__file__).parent / "results"
GENES, BATCH = 2000, 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    n = parser.parse_args().cells
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cells.h5ad"
        write_h5ad(file, n, 20_000, depth=1500.0)
        chosen = np.sort(np.random.default_rng(0).permutation(20_000)[:GENES])
        adata = read(file, lazy=True)
        cells = GeneColumns(adata.X, chosen)
        transform = Transform.fit(cells, adata.var_names.to_numpy()[chosen])
        ours, prepared = timed(lambda: CellRows.read(cells, transform))
        theirs, prepared_there = timed(lambda: store(file, Path(folder) / "store.zarr", adata.var_names[chosen]))
        taken = np.median(
            [(timed(lambda: epoch(ours))[1], timed(lambda: epoch_annbatch(theirs))[1]) for _ in range(3)], axis=0
        )
    text = (
        f"{n:,} cells, {GENES:,} of 20,000 genes, batches of {BATCH}.\n\n"
        "| | copying the model genes (s) | cells/s of an epoch |\n|---|---|---|\n"
        f"| scquery_ae, any order | {prepared:.1f} | {n / taken[0]:,.0f} |\n"
        f"| annbatch, pools of blocks, zarrs pipeline | {prepared_there:.1f} | {n / taken[1]:,.0f} |\n"
    )
    (RESULTS / "loading.md").write_text(text)
    print(text)


def timed(work) -> tuple[object, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def epoch(rows: CellRows) -> None:
    order = np.random.default_rng(0).permutation(rows.shape[0])
    seen = sum(rows.take(np.sort(order[i : i + BATCH])).shape[0] for i in range(0, len(order), BATCH))
    assert seen == rows.shape[0]


def store(file: Path, target: Path, genes) -> object:
    import zarr
    from annbatch import DatasetCollection

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    return DatasetCollection(target).add_adatas([file], var_subset=list(genes))


def epoch_annbatch(collection) -> None:
    from annbatch import Loader

    loader = Loader(shuffle=True, batch_size=BATCH).use_collection(collection, load_adata=only_x)
    seen = sum(batch["X"].shape[0] for batch in loader)
    assert seen == loader.n_obs


def only_x(group) -> anndata.AnnData:
    return anndata.AnnData(X=anndata.io.sparse_dataset(group["X"]))


if __name__ == "__main__":
    main()
