"""Dask arrays are embedded and queried by Dask, in threads and in other processes, some of which are killed."""

import dataclasses
import os
import shutil
import signal
import sys
import threading
import weakref

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster
from scipy import sparse

import scquery_ae as scq
from scquery_ae.loaders import GeneColumns
from scquery_ae.loaders.dask_blocks import map_blocks
from scquery_ae.reference import bundle
from scquery_ae.reference.open_reference import _opened

OBS = [
    "scquery_label",
    "scquery_confidence",
    "scquery_pvalue",
    "scquery_novelty",
    "scquery_unknown",
    "scquery_prediction_set",
]
ROWS = 7


@pytest.fixture(scope="module")
def cluster():
    """Two processes on this machine."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
    ) as made:
        yield made


@pytest.fixture
def client(cluster):
    """A client of the cluster, with both workers running."""
    with Client(cluster) as made:
        made.wait_for_workers(2, timeout=20)
        yield made


@pytest.fixture
def threads():
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


def lazy(matrix, rows=ROWS):
    """Return a Dask array of CSR blocks, the last of which has fewer rows."""
    return da.from_array(matrix.toarray(), chunks=(rows, matrix.shape[1])).map_blocks(
        sparse.csr_matrix, meta=sparse.csr_matrix((0, 0), dtype=matrix.dtype)
    )


def with_reads(adata, folder, act):
    """Make each block's reading leave a file, and call ``act(block, turn)`` before it; turns count from 1."""
    folder.mkdir()

    def read(matrix, block_info=None):
        block = block_info[0]["chunk-location"][0]
        turn = 1
        while True:
            try:
                (folder / f"{block}.{turn}").touch(exist_ok=False)
                break
            except FileExistsError:
                turn += 1
        act(block, turn)
        return matrix

    adata.X = adata.X.map_blocks(read, meta=adata.X._meta)


def reads_of(folder, n_blocks):
    return [len(list(folder.glob(f"{block}.*"))) for block in range(n_blocks)]


def assert_equal_results(received, expected):
    for name in ("scquery_label", "scquery_unknown", "scquery_prediction_set"):
        assert list(received.obs[name]) == list(expected.obs[name]), name
    assert list(received.obs["scquery_label"].cat.categories) == list(expected.obs["scquery_label"].cat.categories)
    for name in ("scquery_confidence", "scquery_pvalue"):
        np.testing.assert_allclose(received.obs[name], expected.obs[name], atol=1e-6, err_msg=name)
    for name in ("X_scquery", "scquery_distances"):
        np.testing.assert_allclose(received.obsm[name], expected.obsm[name], atol=1e-6, err_msg=name)
        assert received.obsm[name].dtype == np.float32
    np.testing.assert_array_equal(received.obsm["scquery_neighbors"], expected.obsm["scquery_neighbors"])


RULES = [
    {},
    {"exclude_key": "batch", "n_neighbors": 6},
    {"where": {"cell_type": ["type 0", "type 1"]}, "exclude_key": "batch", "diversify_key": "cell_type"},
]


@pytest.mark.parametrize("arguments", RULES)
@pytest.mark.usefixtures("threads")
def test_threads_give_the_results_of_cells_in_memory(query_adata, reference, arguments):
    expected = query_adata.copy()
    scq.tl.query(expected, reference, **arguments)
    query_adata.X = lazy(query_adata.X)
    scq.tl.query(query_adata, reference, **arguments)
    assert_equal_results(query_adata, expected)


@pytest.mark.usefixtures("threads")
def test_genes_are_aligned_in_each_block(make_adata, reference):
    # Genes in another order, some missing, and logarithms.
    order = np.random.default_rng(0).permutation(120)[:100]
    adata = make_adata(30, 120, seed=2)[:, order].copy()
    adata.X = adata.X.log1p()
    expected = adata.copy()
    scq.tl.query(expected, reference, input_state="log1p")
    adata.X = lazy(adata.X)
    scq.tl.query(adata, reference, input_state="log1p")
    assert_equal_results(adata, expected)


@pytest.mark.usefixtures("threads")
def test_blocks_without_cells_are_skipped(query_adata, reference):
    expected = query_adata.copy()
    scq.tl.query(expected, reference, exclude_key="batch")
    parts = [lazy(query_adata.X)[:0], lazy(query_adata.X)[:10], lazy(query_adata.X)[:0], lazy(query_adata.X)[10:]]
    query_adata.X = da.concatenate(parts, allow_unknown_chunksizes=True)
    query_adata.X = query_adata.X.rechunk(((0, 10, 0, 20), 120))
    assert 0 in query_adata.X.chunks[0]
    scq.tl.query(query_adata, reference, exclude_key="batch")
    assert_equal_results(query_adata, expected)
    scq.tl.embed(query_adata, reference.encoder, key_added="again")
    np.testing.assert_allclose(query_adata.obsm["X_again"], expected.obsm["X_scquery"], atol=1e-6)


@pytest.mark.usefixtures("threads")
def test_cells_of_a_dask_array_are_added_to_a_reference(make_adata, reference):
    more = make_adata(20, 120, seed=9)
    more.obs_names = [f"new{i}" for i in range(20)]
    grown = []
    for matrix in (more.X, lazy(more.X)):
        more.X = matrix
        grown.append(dataclasses.replace(reference))
        grown[-1].add(more)
    in_memory, from_dask = (each.cells.arrays for each in grown)
    for name, values in in_memory.items():
        assert len(values) == 260
        np.testing.assert_allclose(from_dask[name], values, atol=1e-5, err_msg=name)


def test_at_most_one_block_per_thread_is_in_memory(query_adata, reference, threads):
    lock, alive, most = threading.Lock(), set(), []

    def watch(block):
        copy = block.copy()
        with lock:
            alive.add(id(copy))
            most.append(len(alive))
        weakref.finalize(copy, alive.discard, id(copy))
        return copy

    query_adata.X = lazy(query_adata.X, 1).map_blocks(watch, meta=sparse.csr_matrix((0, 0), dtype=np.float32))
    latent = reference.encoder.embed(GeneColumns(query_adata.X, np.arange(100)))
    assert latent.shape == (30, 8)
    assert len(most) == 30
    assert max(most) <= 2


def test_workers_are_spawned_and_have_one_thread_for_arithmetic(client):
    assert dask.config.get("distributed.worker.multiprocessing-method") == "spawn"
    assert set(client.run(lambda: os.environ["OMP_NUM_THREADS"]).values()) == {"1"}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", RULES[::2])
def test_a_cluster_gives_the_results_of_cells_in_memory(client, make_adata, saved_reference, tmp_path, arguments):
    whole = make_adata(60, 120, seed=2)
    for name, rows in {"a": slice(0, 25), "b": slice(25, 60)}.items():
        whole[rows].copy().write_h5ad(tmp_path / f"{name}.h5ad")
    with dask.config.set(scheduler="threads"):
        scq.tl.query(whole, saved_reference, **arguments)
    adata = scq.read([tmp_path / "a.h5ad", tmp_path / "b.h5ad"], rows=5, lazy=True)
    scq.tl.query(adata, saved_reference, **arguments)
    assert_equal_results(adata, whole)
    assert list(adata.obs_names) == list(whole.obs_names)
    assert adata.uns["scquery"]["reference"]["name"] == saved_reference.name
    # Each worker opened the file once, and needs no Keras.
    opened = client.run(lambda: _opened.cache_info())
    assert {info.misses for info in opened.values()} == {1}
    loaded = client.run(lambda: {"keras", "tensorflow"} & set(sys.modules))
    assert list(loaded.values()) == [set(), set()]


def test_a_reference_in_memory_is_sent(client, query_adata, reference):
    expected = query_adata.copy()
    scq.tl.query(expected, reference, exclude_key="batch")
    query_adata.X = lazy(query_adata.X)
    scq.tl.query(query_adata, reference, exclude_key="batch")
    assert_equal_results(query_adata, expected)


@pytest.mark.parametrize("found", ["no reference", "another reference"])
def test_a_reference_that_workers_cannot_open_is_sent(client, query_adata, saved_reference, tmp_path, caplog, found):
    path = shutil.copytree(saved_reference, tmp_path / "mine.scq")
    expected = query_adata.copy()
    scq.tl.query(expected, path)
    query_adata.X = lazy(query_adata.X)

    def replace_digest(digest):
        import scquery_ae.reference.bundle

        scquery_ae.reference.bundle.digest = digest

    def missing(path):
        raise FileNotFoundError(path)

    client.run(replace_digest, missing if found == "no reference" else str)
    try:
        with caplog.at_level("DEBUG", logger="scquery_ae"):
            scq.tl.query(query_adata, path)
    finally:
        client.run(replace_digest, bundle.digest)
    assert_equal_results(query_adata, expected)
    reason = path if found == "no reference" else "another reference has been saved there since"
    messages = [record.getMessage() for record in caplog.records if record.name == "scquery_ae"]
    assert f"A Dask worker cannot open the reference {path}: {reason}; it is sent to the workers" in messages


def test_the_common_object_of_blocks_is_sent_once(client, tmp_path):
    folder, me = tmp_path, os.getpid()

    class Shared:
        def __reduce__(self):
            return arrive, ()

    def arrive():
        if os.getpid() != me:
            (folder / os.urandom(8).hex()).touch()
        return Shared()

    def work(shared, cells):
        return {"type": np.full(cells.shape[0], type(shared).__name__), "row": cells.matrix.toarray()[:, 0]}

    matrix = sparse.csr_matrix(np.arange(200, dtype=np.float32).reshape(100, 2))
    found = map_blocks(work, GeneColumns(lazy(matrix, 2), np.arange(2)), Shared())
    np.testing.assert_array_equal(found["row"], np.arange(0, 200, 2))
    assert set(found["type"]) == {"Shared"}
    # There are fifty blocks. The object may be pickled twice on its way from one worker to the other.
    assert 1 <= len(list(folder.iterdir())) <= 4


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal on Windows")
@pytest.mark.slow
@pytest.mark.parametrize("call", ["query", "embed"])
def test_a_worker_that_is_killed_loses_nothing(client, query_adata, trained, saved_reference, tmp_path, call):
    parent = os.getpid()
    expected = query_adata.copy()
    run = {
        "query": lambda adata: scq.tl.query(adata, saved_reference, input_state="counts", exclude_key="batch"),
        "embed": lambda adata: scq.tl.embed(adata, trained.encoder, input_state="counts"),
    }[call]
    run(expected)
    before = set(client.run(os.getpid).values())
    query_adata.X = lazy(query_adata.X, 2)
    marked = tmp_path / "reads"

    def act(block, turn):
        # The first turn belongs to the checks.
        if block == 6 and turn == 2 and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    with_reads(query_adata, marked, act)
    run(query_adata)
    assert reads_of(marked, 15)[6] == 3
    assert min(reads_of(marked, 15)) == 2
    client.wait_for_workers(2, timeout=20)
    assert len(before - set(client.run(os.getpid).values())) == 1
    if call == "query":
        assert_equal_results(query_adata, expected)
    else:
        np.testing.assert_allclose(query_adata.obsm["X_scquery"], expected.obsm["X_scquery"], atol=1e-6)


@pytest.mark.parametrize("where", ["threads", "client"])
def test_errors_of_workers_are_raised_as_our_own(request, query_adata, reference, where, tmp_path):
    request.getfixturevalue(where)
    query_adata.X = lazy(query_adata.X)
    with pytest.raises(
        scq.ArgumentError, match=r"`n_neighbors=130` is more than the \d+ reference cells that the filter leaves\. Ask"
    ):
        scq.tl.query(query_adata, reference, where={"batch": "batch 0"}, n_neighbors=130)

    def act(block, turn):
        if block == 2 and turn == 2:
            message = "no such file: lung.h5ad"
            raise FileNotFoundError(message)

    with_reads(query_adata, tmp_path / "reads", act)
    with pytest.raises(
        scq.StorageError,
        match=r"Dask could not read a block of the cells: no such file: lung\.h5ad\. On a cluster",
    ):
        scq.tl.query(query_adata, reference, input_state="counts")
    assert list(query_adata.obs) == ["cell_type", "batch"]
    assert len(query_adata.obsm) == len(query_adata.uns) == 0


@pytest.mark.usefixtures("threads")
def test_an_interruption_changes_nothing(query_adata, reference, tmp_path):
    query_adata.X = lazy(query_adata.X)

    def act(block, turn):
        if block == 2 and turn == 2:
            raise KeyboardInterrupt

    with_reads(query_adata, tmp_path / "reads", act)
    with pytest.raises(KeyboardInterrupt):
        scq.tl.embed(query_adata, reference.encoder, input_state="counts")
    assert len(query_adata.obsm) == 0
