"""Files of cells in every format, for the tests of ``io`` and ``cli``."""

import gzip
import warnings
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.io import mmwrite


@pytest.fixture(scope="session")
def cells_file(make_adata, tmp_path_factory) -> Path:
    """Labelled counts of 90 cells and 60 genes; with what a file has beside: a raw matrix, obsm, uns."""
    adata = make_adata(90, 60, seed=5)
    adata.obs["donor"] = pd.Categorical([f"D{i % 3}" for i in range(adata.n_obs)])
    adata.raw = adata.copy()
    adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(adata.n_obs, 2))
    adata.uns["title"] = "made up"
    path = tmp_path_factory.mktemp("cells") / "labelled.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def query_file(make_adata, tmp_path_factory) -> Path:
    """Thirty cells to ask the shared small reference about."""
    path = tmp_path_factory.mktemp("query") / "mine.h5ad"
    make_adata(30, 120, seed=2).write_h5ad(path)
    return path


def write_10x_h5(path, adata, *, version=3, kinds=None):
    """Write cells as Cell Ranger does: columns are cells, genes have an id and a name."""
    counts = sparse.csc_matrix(adata.X.T)
    kinds = kinds or ["Gene Expression"] * adata.n_vars
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "GRCh38")
        group["data"], group["indices"], group["indptr"] = counts.data.astype(np.int32), counts.indices, counts.indptr
        group["shape"] = np.array(counts.shape, dtype=np.int32)
        group["barcodes"] = np.array(adata.obs_names, dtype="S")
        names, ids = np.array(adata.var_names, dtype="S"), np.array(adata.var["ensembl"], dtype="S")
        if version == 3:
            features = group.create_group("features")
            features["id"], features["name"], features["feature_type"] = ids, names, np.array(kinds, dtype="S")
            features["genome"] = np.array(["GRCh38"] * adata.n_vars, dtype="S")
        else:
            group["genes"], group["gene_names"] = ids, names


def write_mtx(folder, adata, *, zipped=True, genes="features", prefix=""):
    """Write cells as a folder of a matrix, barcodes and genes."""
    folder.mkdir()
    mmwrite(folder / "matrix.mtx", sparse.coo_matrix(adata.X.T.astype(int)))
    rows = [(adata.var["ensembl"].iloc[i], adata.var_names[i]) for i in range(adata.n_vars)]
    third = ("\tGene Expression",) if genes == "features" else ("",)
    (folder / f"{genes}.tsv").write_text("".join(f"{a}\t{b}{third[0]}\n" for a, b in rows))
    (folder / "barcodes.tsv").write_text("".join(f"{name}\n" for name in adata.obs_names))
    for file in list(folder.iterdir()):
        if zipped:
            (folder / f"{prefix}{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
        else:
            file.rename(folder / f"{prefix}{file.name}")


@pytest.fixture(scope="session")
def formats(query_file, tmp_path_factory) -> dict[str, Path]:
    """The query's cells in every format that is read."""
    adata = anndata.read_h5ad(query_file)
    folder = tmp_path_factory.mktemp("formats")
    with warnings.catch_warnings():  # anndata announces another version of Zarr
        warnings.simplefilter("ignore")
        adata.write_zarr(folder / "mine.zarr")
    write_10x_h5(folder / "v3.h5", adata)
    write_10x_h5(folder / "v2.h5", adata, version=2)
    write_mtx(folder / "zipped", adata)
    write_mtx(folder / "plain", adata, zipped=False)
    write_mtx(folder / "old", adata, zipped=False, genes="genes")
    write_mtx(folder / "geo", adata, prefix="GSM1_sample_")
    named = {name: folder / name for name in ("mine.zarr", "v3.h5", "v2.h5", "zipped", "plain", "old", "geo")}
    return {"mine.h5ad": query_file, **named}
