"""Downloads from an HTTP server on this machine, and the dataset that is downloaded."""

import hashlib
import importlib
import logging
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import anndata
import numpy as np
import pandas as pd
import pooch
import pytest
import scanpy as sc
from scipy import sparse

import scquery_ae as scq
from scquery_ae.datasets.files import DataFile, fetch

kang = importlib.import_module("scquery_ae.datasets.kang")

GOOD = (200, b"cells", 5)


class Server(ThreadingHTTPServer):
    """Serves one file. Each answer is a status, a body and the length that the header announces."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = [GOOD]
        self.n_requests = 0

    @property
    def file(self):
        url = f"http://127.0.0.1:{self.server_port}/original.txt"
        return DataFile("kept.txt", url, hashlib.sha256(b"cells").hexdigest())


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        # The last answer repeats.
        status, body, length = self.server.answers[min(self.server.n_requests, len(self.server.answers) - 1)]
        self.server.n_requests += 1
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)  # between attempts
    with Server() as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The default cache folder, which does not exist yet."""
    monkeypatch.delenv("SCQUERY_AE_DATA", raising=False)
    before = sc.settings.datasetdir
    sc.settings.datasetdir = tmp_path / "deep" / "cache"
    yield tmp_path / "deep" / "cache"
    sc.settings.datasetdir = before


def test_a_file_is_downloaded_once(cache, server):
    assert not cache.exists()
    path = fetch(server.file)
    assert path == cache / "kept.txt"
    assert path.read_bytes() == b"cells"
    assert fetch(server.file) == path
    assert server.n_requests == 1
    assert list(cache.iterdir()) == [path]


@pytest.mark.parametrize(
    "failure", [(503, b"", 0), (200, b"ce", 5), (200, b"other", 5)], ids=["unavailable", "truncated", "swapped"]
)
def test_a_failed_download_is_repeated(cache, server, failure):
    server.answers = [failure, GOOD]
    assert fetch(server.file).read_bytes() == b"cells"
    assert server.n_requests == 2
    assert [path.name for path in cache.iterdir()] == ["kept.txt"]


def test_other_content_is_refused_and_not_kept(cache, server):
    page = b"<html>log in</html>"
    server.answers = [(200, page, len(page))]
    with pytest.raises(
        scq.DatasetError,
        match=r"http://127\.0\.0\.1:\d+/original\.txt did not return the expected file: SHA256 hash of downloaded file "
        r"\(kept\.txt\) does not match.* A proxy or a login page may have answered instead\. Open the address in a "
        r"browser, or download .* by other means, name it kept\.txt, and put it into that folder or into one that the "
        r"environment variable SCQUERY_AE_DATA names\.",
    ):
        fetch(server.file)
    assert list(cache.iterdir()) == []
    assert server.n_requests == 3


@pytest.mark.parametrize(
    ("failure", "reason"), [((200, b"ce", 5), "IncompleteRead"), ((404, b"", 0), "404 Client Error")]
)
def test_a_download_that_keeps_failing_ends_with_the_reason_and_a_remedy(cache, server, failure, reason):
    server.answers = [failure]
    with pytest.raises(
        scq.DatasetError,
        match=rf"kept\.txt could not be downloaded into '\S+cache': .*{reason}.* Check the network and the folder\. "
        r"Without a network, download http://\S+ by other means, name it kept\.txt, and put it into that folder",
    ):
        fetch(server.file)
    assert list(cache.iterdir()) == []


def test_without_a_server_the_message_is_the_same(cache, server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        file = DataFile("kept.txt", f"http://127.0.0.1:{unused.getsockname()[1]}/", "0" * 64)
    with pytest.raises(
        scq.DatasetError, match=r"kept\.txt could not be downloaded into .* Without a network, download"
    ):
        fetch(file)
    assert list(cache.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made(cache, server):
    cache.parent.write_text("a file where the folder should be")
    with pytest.raises(
        scq.DatasetError, match=r"kept\.txt could not be downloaded into .*cache.*Check the network and"
    ):
        fetch(server.file)


def test_a_changed_file_in_the_cache_is_refused_and_left_alone(cache, server):
    path = fetch(server.file)
    path.write_bytes(b"other")
    with pytest.raises(
        scq.DatasetError,
        match=r"kept\.txt is not the expected file: SHA-256 [0-9a-f]{12}\.\.\., expected [0-9a-f]{12}\.\.\.\. "
        r"Remove it; the next call downloads it again from http",
    ):
        fetch(server.file)
    assert path.read_bytes() == b"other"
    path.unlink()
    assert fetch(server.file).read_bytes() == b"cells"


def test_the_environment_variable_names_the_cache_folder(cache, server, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCQUERY_AE_DATA", "~/own")
    assert fetch(server.file) == tmp_path / "own" / "kept.txt"
    (tmp_path / "own" / "kept.txt").unlink()
    # A file that was brought there by other means needs no network.
    (tmp_path / "own" / "kept.txt").write_bytes(b"cells")
    assert fetch(server.file) == tmp_path / "own" / "kept.txt"
    assert server.n_requests == 1
    assert not cache.exists()


@pytest.mark.parametrize(("verbosity", "lines"), [("warning", 0), ("info", 1)])
def test_downloads_are_logged_at_the_verbosity_of_the_package(cache, server, caplog, verbosity, lines):
    log = pooch.get_logger()
    log.addHandler(caplog.handler)
    ours, level = logging.getLogger("scquery_ae"), logging.getLogger("scquery_ae").level
    ours.setLevel(verbosity.upper())
    try:
        fetch(server.file)
    finally:
        ours.setLevel(level)
        log.removeHandler(caplog.handler)
    assert [record.getMessage()[:11] for record in caplog.records] == ["Downloading"] * lines
    assert log.filters == []


def test_importing_makes_no_folder(cache):
    importlib.reload(kang)
    assert not cache.exists()


# The PBMC of Kang et al.


def write_small(folder, counts, *, scale=1832.5, extra=0.0):
    """Write cells as in the file of scgen: log-normalised, with the library sizes in ``obs``."""
    path = folder / "small.h5ad"
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
    return DataFile("small.h5ad", "https://nowhere.invalid/small.h5ad", hashlib.sha256(path.read_bytes()).hexdigest())


def test_kang_returns_counts(tmp_path, monkeypatch):
    counts = np.array([[5, 0], [0, 700], [12, 1]])
    monkeypatch.setenv("SCQUERY_AE_DATA", str(tmp_path))
    monkeypatch.setattr(kang, "FILE", write_small(tmp_path, counts))
    adata = scq.datasets.pbmc_kang()
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    np.testing.assert_array_equal(adata.X.toarray(), counts)
    assert list(adata.var_names) == ["ISG15", "LYZ"]
    assert list(adata.obs_names) == ["c1", "c2", "c3"]
    assert list(adata.obs["cell_type"]) == ["B", "NK", "B"]
    assert list(adata.obs["condition"]) == ["control", "stimulated", "control"]
    assert list(adata.obs) == ["cell_type", "condition", "study"]


@pytest.mark.parametrize(("scale", "extra"), [(1000.0, 0.0), (1832.5, 3.0)])
def test_kang_in_other_units_is_refused(tmp_path, monkeypatch, scale, extra):
    counts = np.array([[5, 0], [0, 700], [12, 1]])
    monkeypatch.setenv("SCQUERY_AE_DATA", str(tmp_path))
    monkeypatch.setattr(kang, "FILE", write_small(tmp_path, counts, scale=scale, extra=extra))
    with pytest.raises(
        scq.DatasetError,
        match=r"small\.h5ad cannot be converted back to counts: undoing log1p and the scaling to 1,832\.5 does not "
        r"give whole numbers\. Remove the file; the next call downloads it again\.",
    ):
        scq.datasets.pbmc_kang()


def test_the_address_names_a_commit_and_the_hash_is_whole():
    assert kang.FILE.url.startswith("https://")
    assert [len(part) for part in kang.FILE.url.split("/") if len(part) == 40] == [40]
    assert len(bytes.fromhex(kang.FILE.sha256)) == 32


@pytest.mark.realdata
def test_kang_equals_the_shared_file(shared_data):
    """The original file has to be in the cache folder."""
    import os

    folder = Path(os.environ.get("SCQUERY_AE_DATA") or sc.settings.datasetdir)
    if not (folder / kang.FILE.name).is_file():
        pytest.skip(f"{kang.FILE.name} was never downloaded")
    adata = scq.datasets.pbmc_kang()
    expected = anndata.read_h5ad(shared_data / "pbmc_kang_stim_scgen_valid.h5ad")
    assert adata.shape == (1975, 6998)
    assert list(adata.obs_names) == list(expected.obs_names)
    assert list(adata.var_names) == list(expected.var_names)
    for column in ("cell_type", "condition"):
        assert list(adata.obs[column].astype(str)) == list(expected.obs[column].astype(str))
    assert (adata.X.data == np.round(adata.X.data)).all()
    # The smallest value of a cell corresponds to one count, whatever total the cell was scaled to.
    logged = sparse.csr_matrix(expected.X).astype(np.float64)
    for i in (0, 1000, 1974):
        row = np.expm1(logged[i].toarray().ravel())
        np.testing.assert_allclose(adata.X[i].toarray().ravel(), row / row[row > 0].min(), rtol=1e-4)
