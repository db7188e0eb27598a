"""Files of cells in every format, and a runner of commands."""

import gzip
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import sparse
from scipy.io import mmwrite

from scquery_ae.cli import main


class Outcome:
    """What a command did."""

    def __init__(self, result):
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception

    @property
    def json(self):
        """The one JSON object on stdout; what is not JSON, such as NaN, is refused."""

        def refuse(name):
            raise AssertionError(name)

        return json.loads(self.out, parse_constant=refuse)

    def is_one_line(self, code, match):
        """Assert that it failed with one helpful line on stderr and nothing on stdout."""
        assert self.code == code, self.err
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("Error: ")
        assert re.search(match, lines[0]), lines[0]

    def is_wrong_use(self, match):
        """Assert that it was refused as called wrongly, with click's pointer to the help."""
        assert self.code == 2, self.err
        assert self.out == ""
        assert "--help" in self.err
        assert re.search(match, self.err), self.err


@pytest.fixture
def run():
    """``run("query", path, ...)`` in this process."""

    def call(*arguments, input=None):  # noqa: A002
        return Outcome(CliRunner().invoke(main, [str(a) for a in arguments], input=input))

    return call


@pytest.fixture
def fresh():
    """``fresh("query", path, ...)`` in a process of its own."""

    def call(*arguments, **settings):
        command = [sys.executable, "-m", "scquery_ae", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **settings)

    return call


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
