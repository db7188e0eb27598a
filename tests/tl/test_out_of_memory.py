"""Cells in files give the results of the same cells in memory, without being loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import anndata
import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scquery_ae as scq
from scquery_ae import loaders
from scquery_ae.loaders import CellRows, GeneColumns, ScratchRows, open_training

pytestmark = [
    pytest.mark.filterwarnings("ignore:Writing zarr v2 data will no longer be the default"),
    pytest.mark.usefixtures("eager"),
]

N_OBS, N_GENES = 120, 60


@dataclass
class Made:
    """The results of a run."""

    genes: list
    encoder: scq.Encoder
    embedding: np.ndarray
    decision: np.ndarray
    neighbors: np.ndarray
    labels: pd.Series
    confidence: np.ndarray
    simulation_shape: tuple[int, int]


def cells(make_adata, fmt="csr"):
    """Return cells, some without a label, with some counts above 255."""
    adata = make_adata(N_OBS, N_GENES, fmt=fmt, seed=3)
    adata.obs.iloc[np.arange(0, N_OBS, 9), adata.obs.columns.get_loc("cell_type")] = np.nan
    return adata


def run(adata, query, *, normalize=None, **pretrain):
    """Normalise, train, build a reference and query it."""
    scq.pp.normalize(adata, **{"n_top_genes": 40, "batch_key": "batch", **(normalize or {})})
    settings = {"layer_sizes": (8, 4), "epochs": 2, "batch_size": 32, "progress": False, **pretrain}
    encoder = scq.tl.pretrain(adata, **settings)
    scq.tl.finetune(
        adata, encoder, label_key="cell_type", epochs=3, batch_size=32, validation_fraction=0.3, progress=False
    )
    scq.tl.embed(adata, encoder)
    reference = scq.tl.build_reference(adata, encoder, label_key="cell_type")
    np.testing.assert_allclose(reference.embedding, adata.obsm["X_scquery"], atol=1e-5)
    scq.tl.query(query, reference)
    return Made(
        genes=list(encoder.genes),
        encoder=encoder,
        embedding=adata.obsm["X_scquery"],
        decision=np.asarray(reference.cells.decision),
        neighbors=query.obsm["scquery_neighbors"],
        labels=query.obs["scquery_label"],
        confidence=query.obs["scquery_confidence"].to_numpy(),
        simulation_shape=reference.simulation_cells.counts.shape,
    )


def assert_same(received, expected, *, exactly):
    assert received.genes == expected.genes
    for one, other in zip(received.encoder.layers, expected.encoder.layers, strict=True):
        assert_arrays(one.kernel, other.kernel, exactly)
        assert_arrays(one.bias, other.bias, exactly)
    for name, array in vars(expected.encoder.discriminant).items():
        fitted = getattr(received.encoder.discriminant, name)
        np.testing.assert_allclose(fitted, array, rtol=0 if exactly else 1e-3, atol=0 if exactly else 1e-3)
    assert_arrays(received.decision, expected.decision, exactly)
    assert received.encoder.history == expected.encoder.history or not exactly
    assert_arrays(received.embedding, expected.embedding, exactly)
    assert list(received.labels.astype(str)) == list(expected.labels.astype(str))
    assert_arrays(received.confidence, expected.confidence, exactly)
    if exactly:
        np.testing.assert_array_equal(received.neighbors, expected.neighbors)
    assert received.simulation_shape == expected.simulation_shape


def assert_arrays(one, other, exactly):
    # Blocks of other sizes are multiplied in another order.
    np.testing.assert_allclose(one, other, rtol=0, atol=0 if exactly else 1e-4)


@pytest.fixture
def query(make_adata):
    return make_adata(30, N_GENES, seed=4)


def whole(matrix):
    matrix = matrix.compute() if hasattr(matrix, "compute") else matrix
    matrix = matrix[:] if not sparse.issparse(matrix) and not isinstance(matrix, np.ndarray) else matrix
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def as_backed(adata, folder, rows=4096):
    adata.write_h5ad(folder / "a.h5ad")
    return anndata.read_h5ad(folder / "a.h5ad", backed="r")


def as_lazy_h5ad(adata, folder, rows=4096):
    adata.write_h5ad(folder / "a.h5ad")
    return scq.read(folder / "a.h5ad", rows=rows, lazy=True)


def as_lazy_zarr(adata, folder, rows=4096):
    adata.write_zarr(folder / "a.zarr")
    return scq.read(folder / "a.zarr", rows=rows, lazy=True)


def as_dask(adata, folder, rows=4096):
    lazy = adata.copy()
    if sparse.issparse(adata.X):
        blocks = [adata.X[start : start + rows] for start in range(0, adata.n_obs, rows)]
        parts = [da.from_array(block, chunks=block.shape, asarray=False) for block in blocks]
        lazy.X = da.concatenate(parts)
    else:
        lazy.X = da.from_array(adata.X, chunks=(rows, 23))
    return lazy


def as_lazy_files(adata, folder, rows=4096):
    """Three files with different gene orders, one of them dense."""
    parts = [adata[:50].copy(), adata[50:57].copy(), adata[57:].copy()]
    parts[2].X = whole(parts[2].X)
    for i, part in enumerate(parts):
        order = np.arange(N_GENES) if i == 0 else np.random.default_rng(i).permutation(N_GENES)
        part[:, order].copy().write_h5ad(folder / f"{i}.h5ad")
    return scq.read([folder / f"{i}.h5ad" for i in range(3)], rows=rows, lazy=True)


WAYS = {
    "backed": as_backed,
    "lazy-h5ad": as_lazy_h5ad,
    "lazy-zarr": as_lazy_zarr,
    "dask": as_dask,
    "lazy-files": as_lazy_files,
}


@pytest.fixture(scope="module")
def expected_runs():
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(("way", "fmt"), [*((way, "csr") for way in sorted(WAYS)), ("backed", "dense")])
def test_files_and_memory_give_the_same(make_adata, query, tmp_path, expected_runs, way, fmt):
    adata = cells(make_adata, fmt)
    if not expected_runs:
        expected_runs["x"] = run(cells(make_adata), query.copy())
    expected = expected_runs["x"]
    opened = WAYS[way](adata, tmp_path)
    before = whole(opened.X)
    received = run(opened, query)
    assert_same(received, expected, exactly=way != "lazy-files")
    # The cells are neither loaded nor changed.
    assert not isinstance(opened.X, np.ndarray)
    assert not sparse.issparse(opened.X)
    np.testing.assert_array_equal(whole(opened.X), before)
    assert "counts" not in opened.layers
    assert "log1p" not in opened.uns


@pytest.mark.slow
@pytest.mark.parametrize("way", ["lazy-h5ad"])
def test_small_blocks_give_the_same(make_adata, query, tmp_path, expected_runs, way):
    if not expected_runs:
        expected_runs["x"] = run(cells(make_adata), query.copy())
    received = run(WAYS[way](cells(make_adata), tmp_path, rows=17), query)
    assert_same(received, expected_runs["x"], exactly=False)


SETTINGS = [
    {"loss": "negative_binomial"},
    {"loss": "poisson", "corrupted_weight": 2.0, "uncorrupted_weight": 0.5},
    {"gene_masking": 0.5},
    {"module": "rbm"},
    {"module": ("pca", "tied")},
    {"layer_sizes": (5,), "corruption": "gaussian", "normalize": {"batch_key": None, "target_sum": 1e4}},
    {"normalize": {"n_top_genes": N_GENES}},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_all_kinds_of_training_read_files(make_adata, tmp_path, settings):
    settings = {"layer_sizes": (8, 4), "batch_size": 64, "epochs": 1, "progress": False, **settings}
    normalize = {"n_top_genes": 40, "batch_key": "batch", **settings.pop("normalize", {})}
    adata = cells(make_adata)
    encoders = []
    for each in (as_lazy_h5ad(adata, tmp_path), adata):
        scq.pp.normalize(each, **normalize)
        encoders.append(scq.tl.pretrain(each, **settings))
    read, expected = encoders
    assert list(read.genes) == list(expected.genes)
    assert read.history == expected.history
    for one, other in zip(read.layers, expected.layers, strict=True):
        np.testing.assert_array_equal(one.kernel, other.kernel)
        np.testing.assert_array_equal(one.bias, other.bias)


@pytest.mark.parametrize("way", ["backed", "lazy-h5ad"])
def test_counts_in_a_layer_of_the_file(make_adata, query, tmp_path, expected_runs, way):
    """``X`` is log-normalised, as in most files, and the layer of counts is given."""
    adata = cells(make_adata)
    if not expected_runs:
        expected_runs["x"] = run(adata.copy(), query.copy())
    adata.layers["umi"] = adata.X.copy()
    adata.X = adata.X.log1p()
    adata.uns["log1p"] = {"base": None}
    opened = WAYS[way](adata, tmp_path)
    with pytest.raises(scq.InputStateError, match=r"`pp\.normalize` needs counts"):
        scq.pp.normalize(opened)
    received, expected = run(opened, query, normalize={"layer": "umi"}), expected_runs["x"]
    for one, other in zip(received.encoder.layers, expected.encoder.layers, strict=True):
        np.testing.assert_array_equal(one.kernel, other.kernel)
    # The embedding is made from X, whose logarithm is undone.
    assert_same(received, expected, exactly=False)
    np.testing.assert_array_equal(whole(opened.X), whole(adata.X))
    assert opened.uns["scquery_transform"]["layer"] == "umi"


def test_a_layer_is_not_written_to_the_x_of_a_backed_file(make_adata, tmp_path):
    """Layers of a backed AnnData are in memory, but a new ``X`` is written to the file."""
    adata = cells(make_adata)
    adata.layers["umi"] = adata.X * 2
    adata.write_h5ad(tmp_path / "a.h5ad")
    content = (tmp_path / "a.h5ad").read_bytes()
    opened = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r+")
    scq.pp.normalize(opened, layer="umi", n_top_genes=20)
    scq.tl.pretrain(opened, layer_sizes=(4,), epochs=1, progress=False)
    opened.file.close()
    with h5py.File(tmp_path / "a.h5ad") as file, h5py.File.in_memory(content) as old:
        np.testing.assert_array_equal(file["X/data"][:], old["X/data"][:])


@pytest.mark.slow
def test_matrices_by_columns_on_disk(make_adata, query, tmp_path, expected_runs):
    """A backed file may hold a CSC matrix, which is slower to read."""
    if not expected_runs:
        expected_runs["x"] = run(cells(make_adata), query.copy())
    received = run(as_backed(cells(make_adata, "csc"), tmp_path), query)
    assert_same(received, expected_runs["x"], exactly=True)


def test_a_query_in_files(make_adata, query, tmp_path, trained):
    scq.tl.query(in_memory := make_adata(30, 120, seed=4), trained.reference)
    adata = make_adata(30, 120, seed=4)
    adata.write_h5ad(tmp_path / "a.h5ad")
    for opened in (
        scq.read(tmp_path / "a.h5ad", lazy=True),
        scq.read(tmp_path / "a.h5ad", rows=7, lazy=True),
        anndata.read_h5ad(tmp_path / "a.h5ad", backed="r"),
    ):
        scq.tl.query(opened, trained.reference)
        pd.testing.assert_frame_equal(opened.obs, in_memory.obs, rtol=1e-4)
        np.testing.assert_allclose(opened.obsm["X_scquery"], in_memory.obsm["X_scquery"], atol=1e-5)
        scq.pp.check(opened, trained.reference)


@pytest.mark.parametrize("way", ["backed", "lazy-h5ad", "dask"])
def test_normalised_cells_can_be_written_and_trained_on_later(make_adata, tmp_path, way):
    adata = cells(make_adata)
    opened = WAYS[way](adata, tmp_path)
    scq.pp.normalize(opened, n_top_genes=40)
    opened.write_h5ad(tmp_path / "out.h5ad")
    written = anndata.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(whole(written.X), whole(adata.X))
    assert list(written.var["highly_variable"]) == list(opened.var["highly_variable"])
    settings = {"layer_sizes": (4,), "epochs": 1, "progress": False}
    expected = scq.tl.pretrain(opened, **settings).layers[0].kernel
    for again in (written, scq.read(tmp_path / "out.h5ad", lazy=True), opened.to_memory()):
        np.testing.assert_array_equal(scq.tl.pretrain(again, **settings).layers[0].kernel, expected)


def test_a_view_of_lazy_cells_becomes_a_copy(make_adata, tmp_path):
    lazy = as_lazy_h5ad(cells(make_adata), tmp_path)
    view, copy = lazy[::2], lazy[::2].copy()
    assert view.is_view
    for part in (view, copy):
        scq.pp.normalize(part, n_top_genes=20)
    assert not view.is_view
    assert list(view.var["highly_variable"]) == list(copy.var["highly_variable"])
    assert isinstance(view.X, da.Array)
    assert "highly_variable" not in lazy.var
    assert "scquery_transform" not in lazy.uns


@pytest.mark.parametrize("argument", ["copy", "drop_empty"])
@pytest.mark.parametrize(("way", "kind"), [("backed", "a backed AnnData"), ("lazy-h5ad", "a Dask array")])
def test_options_of_normalize_that_need_cells_in_memory(make_adata, tmp_path, argument, way, kind):
    adata = cells(make_adata)
    adata.layers["umi"] = adata.X
    opened = WAYS[way](adata, tmp_path)
    for layer in (None, "umi"):
        with pytest.raises(
            scq.ArgumentError,
            match=rf"`{argument}=True` is for cells in memory\. Received {kind}.*load the cells into memory",
        ):
            scq.pp.normalize(opened, layer=layer, **{argument: True})


@pytest.mark.parametrize("way", ["backed", "lazy-h5ad", "dask"])
def test_empty_cells_and_invalid_values_are_found_in_files(make_adata, tmp_path, way):
    adata = cells(make_adata)
    adata.X = sparse.diags(np.isin(np.arange(N_OBS), [3, 77], invert=True).astype("float32")).tocsr() @ adata.X
    with pytest.raises(
        scq.InputStateError, match=r"at least one count in every cell\. Received 2 of 120 .*'cell3', 'cell77'"
    ):
        scq.pp.normalize(WAYS[way](adata, tmp_path))
    adata = cells(make_adata)
    adata.X.data[-1] = np.nan
    with pytest.raises(scq.InputStateError, match=r"needs finite values\. Received 1 NaN"):
        scq.pp.normalize(WAYS[way](adata, tmp_path))
    adata.X.data[-1] = -1
    with pytest.raises(scq.InputStateError, match="never negative"):
        scq.pp.normalize(WAYS[way](adata, tmp_path))


@pytest.mark.parametrize("way", ["backed", "lazy-h5ad", "memory"])
@pytest.mark.parametrize("number", [1, 2])
def test_an_interrupted_normalize_changes_nothing(make_adata, tmp_path, monkeypatch, way, number):
    """Ctrl-C in the first or second pass of fitting the transform, after the genes were chosen."""
    adata = cells(make_adata)
    opened = adata if way == "memory" else WAYS[way](adata, tmp_path)
    before = opened.X.copy() if way == "memory" else whole(opened.X)
    chunks, calls = GeneColumns.chunks, []

    def interrupted(self, *args):
        calls.append(self)
        if len(calls) == number:
            raise KeyboardInterrupt
        return chunks(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(GeneColumns, "chunks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            scq.pp.normalize(opened, n_top_genes=20)
    assert len(calls) == number
    np.testing.assert_array_equal(whole(opened.X), whole(before))
    assert list(opened.var.columns) == ["ensembl"]
    assert dict(opened.uns) == {}
    assert [name for name in opened.layers if name] == []
    scq.pp.normalize(opened, n_top_genes=20)


# Temporary files.


@pytest.mark.parametrize("way", [*sorted(WAYS), "memory"])
def test_rows_of_files_are_in_a_temporary_file(make_adata, tmp_path, way):
    adata = cells(make_adata)
    opened = adata if way == "memory" else WAYS[way](adata, tmp_path)
    scq.pp.normalize(opened, n_top_genes=40)
    transform = loaders.fitted_transform(opened, "f")
    columns = open_training(opened, transform, "f")
    rows = CellRows.read(columns, transform)
    assert columns.in_memory == (way == "memory")
    assert rows.on_disk == isinstance(rows.logged, ScratchRows) == (way != "memory")
    by_hand = columns.load().toarray().astype(float)
    totals = by_hand.sum(axis=1, keepdims=True)
    logged = np.log1p(by_hand / totals * np.median(totals))
    chosen = np.array([100, 3, 3, 119, 0])
    np.testing.assert_allclose(rows.take(chosen).toarray(), logged[chosen], rtol=1e-5)
    np.testing.assert_allclose(rows.counts().take(chosen).toarray(), by_hand[chosen], rtol=1e-5)
    np.testing.assert_array_equal(rows.detected, (by_hand > 0).sum(axis=1))
    np.testing.assert_allclose(rows.totals, totals[:, 0])


def test_training_on_a_full_disk(make_adata, tmp_path, monkeypatch):
    opened = as_lazy_h5ad(cells(make_adata), tmp_path)
    scq.pp.normalize(opened, n_top_genes=40)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loaders.scratch.tempfile, "TemporaryFile", full)
    with pytest.raises(scq.StorageError, match=r"No space left on device.*set `TMPDIR` to a folder with enough space"):
        scq.tl.pretrain(opened, layer_sizes=(4,), epochs=1, progress=False)


# Memory.

N_MANY, N_MANY_GENES, COUNTS_EACH = 60_000, 3_000, 450


def write_many(path):
    """Write many cells in pieces: 20 million values, 166 MB as CSR and 720 MB as a dense array."""
    rng = np.random.default_rng(0)
    profiles = rng.gamma(0.3, 1.0, (4, N_MANY_GENES))
    bounds = np.cumsum(profiles / profiles.sum(axis=1, keepdims=True), axis=1)
    types = np.arange(N_MANY) % 4
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        names = [f"cell{i}" for i in range(N_MANY)]
        obs = pd.DataFrame({"cell_type": pd.Categorical([f"type {t}" for t in types])}, index=names)
        anndata.io.write_elem(file, "obs", obs)
        anndata.io.write_elem(file, "var", pd.DataFrame(index=[f"gene{i}" for i in range(N_MANY_GENES)]))
        group = file.create_group("X")
        group.attrs.update(
            {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [N_MANY, N_MANY_GENES]}
        )
        for name, dtype in (("data", "f4"), ("indices", "i4")):
            group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(1 << 17,))
        indptr = [np.zeros(1, np.int64)]
        for start in range(0, N_MANY, 5000):
            drawn = rng.random((5000, COUNTS_EACH))
            genes = [np.searchsorted(bounds[kind], row) for kind, row in zip(types[start:], drawn, strict=False)]
            columns = np.minimum(np.concatenate(genes), N_MANY_GENES - 1)
            ones = np.ones(columns.size, np.float32)
            rows = np.repeat(np.arange(5000), COUNTS_EACH)
            block = sparse.coo_matrix((ones, (rows, columns)), (5000, N_MANY_GENES)).tocsr()
            for name in ("data", "indices"):
                group[name].resize(group[name].shape[0] + block.nnz, 0)
                group[name][-block.nnz :] = getattr(block, name)
            indptr.append(indptr[-1][-1] + block.indptr[1:].astype(np.int64))
        group["indptr"] = np.concatenate(indptr)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    path = tmp_path_factory.mktemp("many") / "many.h5ad"
    write_many(path)
    yield path
    path.unlink()


#: Megabytes above what is there before the cells are opened. Measured: 136, 104, 106, 177, 149 and 149; of backed
#: cells, a little less; of cells in memory, 490 to 690.
MOST = {"normalize": 200, "pretrain": 200, "finetune": 200, "build_reference": 260, "embed": 260, "query": 260}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no way to tell how much memory was used")
def test_memory_does_not_grow_with_the_cells(many, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    worker = Path(__file__).with_name("out_of_memory_worker.py")
    done = subprocess.run(
        [sys.executable, worker, many, "lazy"],
        capture_output=True,
        text=True,
        check=False,
        # One arena and few threads: what an allocator keeps for each thread is no memory of the cells.
        env={**os.environ, "TMPDIR": str(temporary), "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    peaks = json.loads(done.stdout)
    assert set(peaks) == set(MOST)
    assert {name: peak for name, peak in peaks.items() if peak > MOST[name]} == {}, peaks
    assert list(temporary.iterdir()) == []
