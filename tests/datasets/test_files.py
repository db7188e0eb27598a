"""Files that are fetched: here from ``file://`` addresses, so that no network is needed."""

import hashlib
import importlib
from http.client import IncompleteRead
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import scquery_ae as scq
from scquery_ae.datasets.files import DataFile, fetch

files = importlib.import_module("scquery_ae.datasets.files")
kang = importlib.import_module("scquery_ae.datasets.kang")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, which is not there yet."""
    monkeypatch.delenv("SCQUERY_AE_DATA", raising=False)
    before = sc.settings.datasetdir
    sc.settings.datasetdir = tmp_path / "deep" / "cache"
    yield tmp_path / "deep" / "cache"
    sc.settings.datasetdir = before


@pytest.fixture
def there(tmp_path):
    """A public file, as far as this machine can tell."""
    home = tmp_path / "home"
    home.mkdir()
    source = home / "original.txt"
    source.write_bytes(b"cells")
    return DataFile("kept.txt", source.as_uri(), hashlib.sha256(b"cells").hexdigest())


def source_of(file):
    return Path(file.url.removeprefix("file://"))


def test_a_file_is_fetched_once(cache, there):
    assert not cache.exists()
    path = fetch(there)
    assert path == cache / "kept.txt"
    assert path.read_bytes() == b"cells"
    source_of(there).unlink()
    assert fetch(there) == path
    assert [file.name for file in cache.iterdir()] == ["kept.txt"]


def test_a_changed_file_in_the_cache_is_refused(cache, there):
    fetch(there).write_bytes(b"other")
    with pytest.raises(
        scq.DatasetError,
        match=r"kept\.txt is not the expected file: SHA-256 [0-9a-f]{12}\.\.\., expected [0-9a-f]{12}\.\.\.\. "
        r"Remove it; the next call fetches it again\.",
    ):
        fetch(there)
    (cache / "kept.txt").unlink()
    assert fetch(there).read_bytes() == b"cells"


def test_other_content_is_refused_and_not_kept(cache, there):
    source_of(there).write_bytes(b"<html>log in</html>")
    with pytest.raises(
        scq.DatasetError, match=r"is not the expected file.*This came from file:///.*is there a page to log in to"
    ):
        fetch(there)
    assert list(cache.iterdir()) == []


def test_what_cannot_be_fetched_is_told_with_the_way_around(cache, there):
    source_of(there).unlink()
    with pytest.raises(
        scq.DatasetError,
        match=r"kept\.txt could not be fetched from file:///\S+ into .*cache.*Try again later, or bring the file here "
        r"by other means and name its folder in the environment variable SCQUERY_AE_DATA\.",
    ):
        fetch(there)
    assert list(cache.iterdir()) == []


def test_an_answer_that_breaks_off_is_told(cache, there, monkeypatch):
    def broken(*args, **kwargs):
        got = b"ce"
        raise IncompleteRead(got, 3)

    monkeypatch.setattr(files.shutil, "copyfileobj", broken)
    with pytest.raises(scq.DatasetError, match=r"could not be fetched from .*IncompleteRead"):
        fetch(there)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_told(cache, there):
    cache.parent.write_text("a file where the folder should be")
    with pytest.raises(scq.DatasetError, match=r"kept\.txt could not be fetched from .* into .*cache"):
        fetch(there)


def test_a_folder_that_is_named_takes_the_place_of_the_network(cache, there, tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("SCQUERY_AE_DATA", str(own))
    with pytest.raises(
        scq.DatasetError,
        match=r"SCQUERY_AE_DATA names the folder .*own.*, in which there is no kept\.txt\. Fetch it from file:///\S+ "
        r"and put it there under this name, or unset the variable",
    ):
        fetch(there)
    (own / "kept.txt").write_bytes(b"other")
    with pytest.raises(scq.DatasetError, match=r"is not the expected file.*Fetch it again from file:///"):
        fetch(there)
    (own / "kept.txt").write_bytes(b"cells")
    assert fetch(there) == own / "kept.txt"
    assert not cache.exists()


def test_importing_and_looking_makes_no_folder(cache):
    importlib.reload(kang)
    assert not cache.exists()


# The PBMC of Kang et al.


def small(path, counts, *, scale=1832.5, extra=0.0):
    """Write cells as in the file of scgen: log-normalised, with the library sizes in ``obs``."""
    library = counts.sum(axis=1) + 40.0  # genes that were left out
    values = sparse.csr_matrix(np.log1p(counts / library[:, None] * scale + extra * (counts > 0)), dtype=np.float32)
    obs = pd.DataFrame(
        {
            "condition": pd.Categorical(["control", "stimulated", "control"]),
            "n_counts": library.astype(np.float32),
            "cell_type": pd.Categorical(["B", "NK", "B"]),
        },
        index=["c1", "c2", "c3"],
    )
    anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=["ISG15", "LYZ"])).write_h5ad(path)
    return DataFile("small.h5ad", path.as_uri(), hashlib.sha256(path.read_bytes()).hexdigest())


def test_kang_are_counts_again(cache, tmp_path, monkeypatch):
    counts = np.array([[5, 0], [0, 700], [12, 1]])
    monkeypatch.setattr(kang, "FILE", small(tmp_path / "a.h5ad", counts))
    adata = scq.datasets.pbmc_kang()
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    np.testing.assert_array_equal(adata.X.toarray(), counts)
    assert list(adata.var_names) == ["ISG15", "LYZ"]
    assert list(adata.obs_names) == ["c1", "c2", "c3"]
    assert list(adata.obs["cell_type"]) == ["B", "NK", "B"]
    assert list(adata.obs["condition"]) == ["control", "stimulated", "corr_method"]
    assert list(adata.obs) == ["cell_type", "condition", "study"]
    assert (cache / "small.h5ad").is_file()


@pytest.mark.parametrize(("scale", "extra"), [(1000.0, 0.0), (1832.5, 3.0)])
def test_kang_in_other_units_are_refused(cache, tmp_path, monkeypatch, scale, extra):
    counts = np.array([[5, 0], [0, 700], [12, 1]])
    monkeypatch.setattr(kang, "FILE", small(tmp_path / "a.h5ad", counts, scale=scale, extra=extra))
    with pytest.raises(scq.DatasetError, match=r"small\.h5ad cannot be turned back to counts: undoing log1p and the"):
        scq.datasets.pbmc_kang()


def test_the_address_names_a_commit_and_the_hash_is_whole():
    assert kang.FILE.url.startswith("https://")
    assert [len(part) for part in kang.FILE.url.split("/") if len(part) == 40] == [40]
    assert len(bytes.fromhex(kang.FILE.sha256)) == 32


@pytest.mark.realdata
def test_kang_equal_the_shared_file(shared_data):
    """Where the original is: ``SCQUERY_AE_DATA=folder``, or in scanpy's folder of datasets."""
    import os

    folder = Path(os.environ.get("SCQUERY_AE_DATA") or sc.settings.datasetdir)
    if not (folder / kang.FILE.name).is_file():
        pytest.skip(f"{kang.FILE.name} was never fetched")
    adata = scq.datasets.pbmc_kang()
    expected = anndata.read_h5ad(shared_data / "pbmc_kang_stim_scgen_valid.h5ad")
    assert adata.shape == (1975, 6998)
    assert list(adata.obs_names) == list(expected.obs_names)
    assert list(adata.var_names) == list(expected.var_names)
    for column in ("cell_type", "condition"):
        assert list(adata.obs[column].astype(str)) == list(expected.obs[column].astype(str))
    assert (adata.X.data == np.round(adata.X.data)).all()
    # Of a cell, one unit is the smallest value that it has, whatever it was scaled to.
    logged = sparse.csr_matrix(expected.X).astype(np.float64)
    for i in (0, 1000, 1974):
        row = np.expm1(logged[i].toarray().ravel())
        np.testing.assert_allclose(adata.X[i].toarray().ravel(), row / row[row > 0].min(), rtol=1e-4)
