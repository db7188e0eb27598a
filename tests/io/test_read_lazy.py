"""Opening files of cells without reading them."""

import pickle
import sys

import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse

import scquery_ae as scq

pytestmark = [
    pytest.mark.filterwarnings("ignore:Writing zarr v2 data will no longer be the default"),
]


def dense(matrix):
    matrix = matrix.compute() if hasattr(matrix, "compute") else matrix
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def write(adata, path):
    path.parent.mkdir(exist_ok=True)
    (adata.write_zarr if path.suffix == ".zarr" else adata.write_h5ad)(path)
    return path


@pytest.fixture
def others(make_adata):
    """Thirty cells whose genes are in another order, eight of them others."""

    adata = make_adata(30, 40, seed=5)[:, ::-1].copy()
    adata.obs_names = [f"other{i}" for i in range(30)]
    adata.var_names = [name if i >= 8 else f"other{i}" for i, name in enumerate(adata.var_names)]
    adata.var["ensembl"] = [f"id of {name}" for name in adata.var_names]
    del adata.obs["batch"]
    return adata


@pytest.mark.parametrize("fmt", ["csr", "dense"])
@pytest.mark.parametrize("name", ["a.h5ad", "a.zarr"])
def test_one_file_equals_what_anndata_reads(make_adata, tmp_path, name, fmt):
    adata = make_adata(fmt=fmt)
    adata.layers["counts"] = adata.X.copy()
    adata.obs.iloc[3, 0] = np.nan
    adata.uns["colours"] = {"a": np.array(["red", "blue"], dtype=object)}
    adata.obsm["X_pca"] = np.zeros((60, 2))
    path = write(adata, tmp_path / name)
    lazy = scq.read(str(path) if fmt == "csr" else path, rows=25, lazy=True)
    pd.testing.assert_frame_equal(lazy.obs, adata.obs)
    pd.testing.assert_frame_equal(lazy.var, adata.var)
    assert list(lazy.uns["colours"]["a"]) == ["red", "blue"]
    for matrix in (lazy.X, lazy.layers["counts"]):
        assert isinstance(matrix, da.Array)
        assert matrix.chunks == ((25, 25, 10), (40,))
        assert (dense(matrix) == dense(adata.X)).all()
        block = matrix[25:50].compute()
        assert block.format == "csr" if fmt == "csr" else isinstance(block, np.ndarray)


def test_a_matrix_can_be_sent_to_other_processes(make_adata, tmp_path):
    adata = make_adata()
    lazy = scq.read(write(adata, tmp_path / "a.h5ad"), lazy=True)
    assert (dense(pickle.loads(pickle.dumps(lazy.X))) == dense(adata.X)).all()


def test_matrices_are_read_when_computed(make_adata, tmp_path):
    """The values are gone from the file before they are computed."""
    path = write(make_adata(), tmp_path / "a.zarr")
    lazy = scq.read(path, lazy=True)
    group = zarr.open_group(path, mode="r+")
    group["X/data"][:] = 7
    assert set(np.unique(dense(lazy.X))) == {0, 7}


@pytest.mark.parametrize("join", ["inner", "outer"])
@pytest.mark.parametrize("formats", [("csr", "csr"), ("dense", "dense"), ("csr", "dense")])
def test_several_files_are_joined(make_adata, others, tmp_path, join, formats):
    adata = make_adata(fmt=formats[0])
    others.X = dense(others.X) if formats[1] == "dense" else others.X
    paths = [write(adata, tmp_path / "lung.v2.h5ad"), write(others, tmp_path / "liver.zarr")]
    lazy = scq.read(paths, join=join, file_key="study", rows=16, lazy=True)
    assert lazy.n_vars == (32 if join == "inner" else 48)
    assert list(lazy.obs_names) == [*adata.obs_names, *others.obs_names]
    assert list(lazy.obs["study"]) == ["lung.v2"] * 60 + ["liver"] * 30
    assert list(lazy.obs["study"].cat.categories) == ["lung.v2", "liver"]
    assert list(lazy.obs["cell_type"].astype(str)) == [*adata.obs["cell_type"], *others.obs["cell_type"]]
    assert list(lazy.obs.columns) == (["cell_type", "study"] if join == "inner" else ["cell_type", "batch", "study"])
    expected = pd.concat([a.to_df() for a in (adata, others)], join=join).fillna(0)[lazy.var_names]
    np.testing.assert_array_equal(dense(lazy.X), expected.to_numpy())
    for start in range(0, 90, 30):
        np.testing.assert_array_equal(dense(lazy.X[start : start + 30]), expected.to_numpy()[start : start + 30])


def test_layers_of_all_files_are_kept(make_adata, others, tmp_path):
    adata = make_adata()
    for each in (adata, others):
        each.layers["counts"] = each.X * 2
    adata.layers["own"] = adata.X * 3
    lazy = scq.read([write(adata, tmp_path / "a.h5ad"), write(others, tmp_path / "b.h5ad")], lazy=True)
    assert [name for name in lazy.layers if name] == ["counts"]
    np.testing.assert_array_equal(dense(lazy.layers["counts"]), dense(lazy.X) * 2)


def test_files_without_x_but_with_layers(make_adata, others, tmp_path):
    adata = make_adata()
    for each in (adata, others):
        each.layers["counts"], each.X = each.X, None
    paths = [write(adata, tmp_path / "a.h5ad"), write(others, tmp_path / "b.h5ad")]
    lazy = scq.read(paths, lazy=True)
    assert lazy.X is None
    assert lazy.layers["counts"].shape == (90, 32)
    others.X = others.layers["counts"]
    write(others, paths[1])
    with pytest.raises(
        scq.ReadError, match=r"a\.h5ad has no X, and other files have one\. Expected .*leave the file out"
    ):
        scq.read(paths, lazy=True)


def test_equal_file_names_are_numbered(make_adata, tmp_path):
    adata = make_adata(9, 5)
    paths = [write(adata, tmp_path / name) for name in ("x/a.h5ad", "y/a.h5ad", "y/a_1.h5ad", "z/a.zarr")]
    for i, path in enumerate(paths):
        adata.obs_names = [f"{i} {j}" for j in range(9)]
        write(adata, path)
    lazy = scq.read(paths, file_key="study", lazy=True)
    assert list(lazy.obs["study"].cat.categories) == ["a_2", "a_3", "a_1", "a_4"]
    assert list(lazy.obs["study"])[::9] == ["a_2", "a_3", "a_1", "a_4"]


def test_repeated_cell_names_across_files(make_adata, others, tmp_path):
    adata = make_adata()
    others.obs_names = [f"cell{i}" for i in range(30)]
    paths = [write(adata, tmp_path / "a.h5ad"), write(others, tmp_path / "b.h5ad")]
    with pytest.warns(
        scq.ScqueryWarning, match=r"different files have the same name, such as 'cell0', .* its file"
    ) as seen:
        lazy = scq.read(paths, lazy=True)
    assert seen[0].filename == __file__
    assert list(lazy.obs_names) == [f"cell{i}-a" for i in range(60)] + [f"cell{i}-b" for i in range(30)]


def test_files_without_cells(make_adata, tmp_path):
    adata = make_adata()
    paths = [write(adata[:0].copy(), tmp_path / "none.h5ad"), write(adata, tmp_path / "some.h5ad")]
    assert scq.read(paths[0], lazy=True).shape == (0, 40)
    lazy = scq.read([*paths, paths[0]], file_key="study", lazy=True)
    assert list(lazy.obs["study"].unique()) == ["some"]
    np.testing.assert_array_equal(dense(lazy.X), dense(adata.X))
    scq.pp.normalize(adata, n_top_genes=20)
    scq.pp.normalize(lazy, n_top_genes=20)
    assert list(lazy.var["highly_variable"]) == list(adata.var["highly_variable"])
    with pytest.raises(scq.ArgumentError, match="at least one cell"):
        scq.pp.normalize(scq.read(paths[0], lazy=True))


# What is refused.


def test_missing_files(make_adata, tmp_path):
    path = write(make_adata(), tmp_path / "a.h5ad")
    for paths in (tmp_path / "no.h5ad", [path, tmp_path / "no.h5ad"]):
        with pytest.raises(
            scq.ReadError, match=r"no file of cells at .*no\.h5ad\. Expected an \.h5ad file, a \.zarr folder"
        ):
            scq.read(paths, lazy=True)


@pytest.mark.parametrize("paths", [3, None, [3], "a\0b", [None, "a.h5ad"]])
def test_wrong_paths(paths):
    with pytest.raises(scq.ArgumentError, match=r"`paths` must be a path: text or a `pathlib\.Path`"):
        scq.read(paths, lazy=True)


def test_no_file():
    with pytest.raises(scq.ArgumentError, match=r"`paths` must name at least one file\. Received none"):
        scq.read([], lazy=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"join": "left"}, r"`join` must be one of 'inner', 'outer'\. Received 'left'"),
        ({"rows": 0}, r"`rows` must be an integer of at least 1\. Received 0"),
        ({"rows": 2.5}, r"`rows` must be an integer"),
        ({"file_key": 3}, r"`file_key` must be text\. Received 3"),
    ],
)
def test_bad_settings(make_adata, tmp_path, settings, message):
    path = write(make_adata(9, 5), tmp_path / "a.h5ad")
    with pytest.raises(scq.ArgumentError, match=message):
        scq.read(path, **settings, lazy=True)


def text(path):
    path.write_text("not a file of cells")


def truncated(path):
    path.write_bytes(path.read_bytes()[:3000])


def other_hdf5(path):
    with h5py.File(path, "w") as file:
        file["obs"] = [1, 2]


def arrays_for_tables(path):
    with h5py.File(path, "w") as file:
        file["obs"], file["var"] = [1, 2], [3]


def folder(path):
    path.unlink()
    path.mkdir()


def other_zarr(path):
    path.unlink()
    zarr.open_group(path, mode="w")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (text, r"is not a file of cells: it is not HDF5"),
        (truncated, r"cannot be read: .*truncated"),
        (other_hdf5, r"cannot be read as an AnnData: it has no `obs` and `var`\. Expected an \.h5ad file"),
        (arrays_for_tables, r"cannot be read as an AnnData: its `obs` and `var` are not tables .*since 0\.7"),
        (folder, r"is a folder without cells"),
        (other_zarr, r"cannot be read as an AnnData: it has no `obs` and `var`"),
    ],
)
def test_files_without_an_anndata(make_adata, tmp_path, damage, message):
    path = write(make_adata(9, 5), tmp_path / "a.h5ad")
    damage(path)
    with pytest.raises(scq.ReadError, match=rf"a\.h5ad {message}"):
        scq.read(path, lazy=True)


@pytest.mark.parametrize("name", ["a.h5ad", "a.zarr"])
@pytest.mark.parametrize("where", ["X", "layers/counts"])
def test_matrices_by_columns(make_adata, tmp_path, name, where):
    adata = make_adata(9, 5, fmt="csc")
    if where != "X":
        adata.layers["counts"], adata.X = adata.X, adata.X.tocsr()
    path = write(adata, tmp_path / name)
    with pytest.raises(scq.ReadError, match=rf"holds '{where}' by columns \(CSC\).*Write it again as CSR: .*tocsr"):
        scq.read(path, lazy=True)


def test_no_gene_in_common(make_adata, others, tmp_path):
    others.var_names = [f"other{i}" for i in range(40)]
    paths = [write(make_adata(), tmp_path / "a.h5ad"), write(others, tmp_path / "b.h5ad")]
    with pytest.raises(scq.ReadError, match=r"The files have no gene name in common\. Expected names of one kind"):
        scq.read(paths, lazy=True)
    assert scq.read(paths, join="outer", lazy=True).n_vars == 80


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_genes_named_more_than_once(make_adata, others, tmp_path):
    others.var_names = ["same"] * 40
    paths = [write(make_adata(), tmp_path / "a.h5ad"), write(others, tmp_path / "b.h5ad")]
    with pytest.raises(scq.ReadError, match=r"b\.h5ad names genes more than once.*or pass `make_unique=True`"):
        scq.read(paths, lazy=True)
    assert scq.read(paths, join="outer", make_unique=True, lazy=True).n_vars == 80
    # One file is opened as it is; calls that need unique names raise.
    with pytest.raises(scq.ArgumentError, match=r"`adata\.var_names` must be unique"):
        scq.pp.normalize(scq.read(paths[1], lazy=True))


@pytest.mark.parametrize("module", ["dask.array", "anndata.experimental"])
def test_without_dask(make_adata, tmp_path, monkeypatch, module):
    path = write(make_adata(9, 5), tmp_path / "a.h5ad")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        scq.ArgumentError,
        match=r"`lazy=True` needs Dask and anndata 0\.12 \(.*\)\. Run `pip install 'scquery-ae\[scale\]'`",
    ):
        scq.read(path, lazy=True)


def test_a_file_that_is_deleted(make_adata, tmp_path):
    """The error is that of the file, and not of the temporary one that its cells were being written to."""
    path = write(make_adata(), tmp_path / "a.h5ad")
    lazy = scq.read(path, lazy=True)
    scq.pp.normalize(lazy, n_top_genes=20)
    path.unlink()
    with pytest.raises(OSError, match=r"a\.h5ad") as raised:
        scq.tl.pretrain(lazy, layer_sizes=(4,), epochs=1, progress=False)
    assert not isinstance(raised.value, scq.StorageError)
