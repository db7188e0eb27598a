"""Reading files of cells of every format, and refusing other files."""

import anndata
import h5py
import numpy as np
import pytest
from cell_files import write_10x_h5, write_mtx
from scipy import sparse

import scquery_ae as scq
from scquery_ae.input_state import is_lazy
from scquery_ae.io import lazy as lazy_module


@pytest.mark.parametrize("name", ["mine.zarr", "v3.h5", "v2.h5", "zipped", "plain", "old", "geo"])
def test_every_format_holds_the_same_cells(formats, name):
    expected, found = scq.read(formats["mine.h5ad"]), scq.read(formats[name])
    assert found.obs_names.tolist() == expected.obs_names.tolist()
    assert found.var_names.tolist() == expected.var_names.tolist()
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    if not name.endswith(".zarr"):
        assert found.var["gene_ids"].tolist() == expected.var["ensembl"].tolist()
        assert found.X.dtype == np.float32


def test_10x_keeps_genes_and_numbers_repeated_symbols(make_adata, tmp_path):
    adata = make_adata(10, 12)
    adata.var_names = ["A", "A", *adata.var_names[2:]]
    write_10x_h5(tmp_path / "multi.h5", adata, kinds=["Gene Expression"] * 9 + ["Antibody Capture"] * 3)
    found = scq.read(tmp_path / "multi.h5")
    assert found.var_names[:2].tolist() == ["A", "A-1"]
    np.testing.assert_array_equal(found.X.toarray(), adata.X.toarray()[:, :9])


def test_large_matrices_stay_in_their_file(formats, monkeypatch):
    assert not is_lazy(scq.read(formats["mine.h5ad"]).X)
    monkeypatch.setattr(lazy_module, "LAZY_ABOVE", 1000)
    for name in ("mine.h5ad", "mine.zarr"):
        assert is_lazy(scq.read(formats[name]).X)
        assert not is_lazy(scq.read(formats[name], lazy=False).X)
    assert not is_lazy(scq.read(formats["v3.h5"]).X)


def test_matrices_by_columns_are_read_into_memory(make_adata, tmp_path, monkeypatch):
    adata = make_adata(30, 20, fmt="csc")
    adata.write_h5ad(tmp_path / "csc.h5ad")
    monkeypatch.setattr(lazy_module, "LAZY_ABOVE", 10)
    assert isinstance(scq.read(tmp_path / "csc.h5ad").X, sparse.csc_matrix)


def test_lazy_is_for_files_with_blocks(formats):
    for name in ("v3.h5", "zipped"):
        with pytest.raises(scq.ArgumentError, match=r"read into memory as a whole\. Leave out `lazy=True`"):
            scq.read(formats[name], lazy=True)
    with pytest.raises(scq.ArgumentError, match=r"`use_raw=True` reads the matrix into memory\. Leave out `lazy=True`"):
        scq.read(formats["mine.h5ad"], lazy=True, use_raw=True)


def test_the_raw_matrix(cells_file, query_file):
    changed = anndata.read_h5ad(cells_file)
    found = scq.read(cells_file, use_raw=True)
    np.testing.assert_array_equal(found.X.toarray(), changed.raw.X.toarray())
    with pytest.raises(scq.ReadError, match=r"mine.h5ad has no raw matrix\. Leave out `use_raw=True`"):
        scq.read(query_file, use_raw=True)


def test_make_unique(make_adata, tmp_path):
    adata = make_adata(4, 5)
    adata.obs_names, adata.var_names = ["a", "a", "b", "c"], ["A", "A", "B", "C", "D"]
    adata.write_h5ad(tmp_path / "repeats.h5ad")
    found = scq.read(tmp_path / "repeats.h5ad", make_unique=True)
    assert found.obs_names.tolist() == ["a", "a-1", "b", "c"]
    assert found.var_names.tolist() == ["A", "A-1", "B", "C", "D"]


def test_a_matrix_that_exceeds_memory(query_file, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(anndata, "read_h5ad", full)
    with pytest.raises(
        scq.ReadError, match=r"mine.h5ad does not fit into memory\. Pass `lazy=True` to read it in blocks"
    ):
        scq.read(query_file)


def test_files_of_several_formats_are_joined_in_memory(formats):
    paths = [formats[name] for name in ("mine.h5ad", "v3.h5", "zipped")]
    with pytest.warns(scq.ScqueryWarning, match="Cells of different files have the same name"):
        joined = scq.read(paths, file_key="file")
    one = scq.read(formats["mine.h5ad"])
    assert joined.obs["file"].value_counts().to_dict() == {"mine": 30, "v3": 30, "zipped": 30}
    np.testing.assert_array_equal(joined.X.toarray(), np.vstack([one.X.toarray()] * 3))


@pytest.fixture
def wrong(tmp_path, query_file, make_adata):
    """Files that are no cells, by name."""
    (tmp_path / "text.h5ad").write_text("cells")
    (tmp_path / "empty.h5ad").write_bytes(b"")
    (tmp_path / "cut.h5ad").write_bytes(query_file.read_bytes()[:-2000])
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.arange(3)
    with h5py.File(tmp_path / "no_features.h5", "w") as file:
        file.create_group("matrix")["indptr"] = np.arange(2)
    with h5py.File(tmp_path / "two.h5", "w") as file:
        for genome in ("hg19", "mm10"):
            file.create_group(genome)["indptr"] = np.arange(2)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    adata = make_adata(10, 12)
    for name in ("no_barcodes", "short", "twice"):
        write_mtx(tmp_path / name, adata, zipped=False)
    (tmp_path / "no_barcodes" / "barcodes.tsv").unlink()
    (tmp_path / "short" / "barcodes.tsv").write_text("a\nb\n")
    (tmp_path / "twice" / "b_matrix.mtx").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("absent.h5ad", r"no file of cells at .*absent.h5ad.*check the path\. .* holds cut.h5ad, empty.h5ad"),
        ("text.h5ad", r"text.h5ad is not a file of cells: it is not HDF5\. Expected an .h5ad file, a .zarr folder"),
        ("empty.h5ad", r"empty.h5ad is not a file of cells"),
        ("cut.h5ad", r"cut.h5ad cannot be read: .*truncated file.* Check that it is complete"),
        ("table.csv", r"table.csv is not a file of cells: it is not HDF5"),
        ("other.h5", r"other.h5 is neither a 10x .h5 file nor an AnnData: .* Its groups: numbers"),
        ("two.h5", r"cells of several genomes, hg19, mm10\. Write each genome to a file of its own"),
        ("no_features.h5", r"no_features.h5 cannot be read as a 10x .h5 file: File is missing one or more"),
        ("folder", r"folder is a folder without cells\. Expected .* It holds notes.txt"),
        ("broken.zarr", r"broken.zarr cannot be read as a .zarr folder"),
        ("no_barcodes", r"no_barcodes has no barcodes.tsv, compressed or not\. Put it beside the matrix"),
        ("short", r"a matrix of 12 genes and 10 cells, but names 12 genes and 2 cells\. Check that its three files"),
        ("twice", r"twice holds several matrices, b_matrix.mtx, matrix.mtx\. Put each into a folder of its own"),
        ("short/matrix.mtx", r"is one of the three files of a 10x matrix\. Give the folder that holds them, .*short"),
    ],
)
def test_a_file_that_cannot_be_read(wrong, name, match):
    with pytest.raises(scq.ReadError, match=match):
        scq.read(wrong / name)


def test_a_matrix_by_columns_cannot_stay_in_its_file(make_adata, tmp_path):
    make_adata(30, 20, fmt="csc").write_h5ad(tmp_path / "csc.h5ad")
    with pytest.raises(scq.ReadError, match=r"csc.h5ad holds 'X' by columns \(CSC\), which cannot be read by cells"):
        scq.read(tmp_path / "csc.h5ad", lazy=True)


@pytest.mark.parametrize("name", ["use_raw", "make_unique", "lazy"])
def test_flags(query_file, name):
    with pytest.raises(scq.ArgumentError, match=rf"`{name}` must be True or False\. Received 1"):
        scq.read(query_file, **{name: 1})
