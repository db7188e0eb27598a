"""Files of cells in every format, and files that are none."""

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

from scquery_ae._errors import ArgumentError
from scquery_ae.cli import cells as module
from scquery_ae.cli.cells import read_cells
from scquery_ae.cli.failures import Problem
from scquery_ae.input_state import is_lazy

from .conftest import write_10x_h5, write_mtx


@pytest.mark.parametrize("name", ["mine.zarr", "v3.h5", "v2.h5", "zipped", "plain", "old", "geo"])
def test_every_format_holds_the_same_cells(formats, name):
    expected, found = read_cells(formats["mine.h5ad"]), read_cells(formats[name])
    assert found.obs_names.tolist() == expected.obs_names.tolist()
    assert found.var_names.tolist() == expected.var_names.tolist()
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    if not name.endswith(".zarr"):
        assert found.var["gene_ids"].tolist() == expected.var["ensembl"].tolist()
        assert found.X.dtype == np.float32


def test_other_features_are_left_out_and_repeated_symbols_numbered(make_adata, tmp_path):
    adata = make_adata(10, 12)
    adata.var_names = ["A", "A", *adata.var_names[2:]]
    write_10x_h5(tmp_path / "multi.h5", adata, kinds=["Gene Expression"] * 9 + ["Antibody Capture"] * 3)
    found = read_cells(tmp_path / "multi.h5")
    assert found.var_names[:2].tolist() == ["A", "A-1"]
    np.testing.assert_array_equal(found.X.toarray(), adata.X.toarray()[:, :9])


def test_large_matrices_stay_in_their_file(formats, monkeypatch):
    assert not is_lazy(read_cells(formats["mine.h5ad"]).X)
    monkeypatch.setattr(module, "LAZY_ABOVE", 1000)
    for name in ("mine.h5ad", "mine.zarr"):
        assert is_lazy(read_cells(formats[name]).X)
        assert not is_lazy(read_cells(formats[name], lazy=False).X)
    assert not is_lazy(read_cells(formats["v3.h5"]).X)


def test_by_columns_cannot_be_read_in_blocks(make_adata, tmp_path, monkeypatch):
    adata = make_adata(30, 20, fmt="csc")
    adata.write_h5ad(tmp_path / "csc.h5ad")
    monkeypatch.setattr(module, "LAZY_ABOVE", 10)
    assert isinstance(read_cells(tmp_path / "csc.h5ad").X, sparse.csc_matrix)


def test_lazy_is_for_files_with_blocks(formats):
    for name in ("v3.h5", "zipped"):
        with pytest.raises(Problem, match=r"read into memory as a whole. Leave out --lazy"):
            read_cells(formats[name], lazy=True)
    with pytest.raises(Problem, match=r"--use-raw is read into memory as a whole. Leave out --lazy"):
        read_cells(formats["mine.h5ad"], lazy=True, use_raw=True)


def test_the_raw_matrix(cells_file, query_file):
    changed = anndata.read_h5ad(cells_file)
    found = read_cells(cells_file, use_raw=True)
    np.testing.assert_array_equal(found.X.toarray(), changed.raw.X.toarray())
    with pytest.raises(Problem, match=r"mine.h5ad has no raw matrix. Leave out --use-raw"):
        read_cells(query_file, use_raw=True)


def test_names_are_numbered_when_asked(make_adata, tmp_path):
    adata = make_adata(4, 5)
    adata.obs_names, adata.var_names = ["a", "a", "b", "c"], ["A", "A", "B", "C", "D"]
    adata.write_h5ad(tmp_path / "repeats.h5ad")
    found = read_cells(tmp_path / "repeats.h5ad", make_unique=True)
    assert found.obs_names.tolist() == ["a", "a-1", "b", "c"]
    assert found.var_names.tolist() == ["A", "A-1", "B", "C", "D"]


def test_what_does_not_fit_into_memory(query_file, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(module, "_read", full)
    with pytest.raises(Problem, match=r"mine.h5ad does not fit into memory. Pass --lazy"):
        read_cells(query_file)


@pytest.fixture
def wrong(tmp_path, query_file, make_adata):
    """Files that are no cells, by name."""
    (tmp_path / "text.h5ad").write_text("cells")
    (tmp_path / "empty.h5ad").write_bytes(b"")
    (tmp_path / "cut.h5ad").write_bytes(query_file.read_bytes()[:-2000])
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.arange(3)
    with h5py.File(tmp_path / "hollow.h5ad", "w") as file:
        file.create_group("obs")
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
        ("absent.h5ad", r"no file of cells at .*absent.h5ad; check the path. In .* there are cut.h5ad, empty.h5ad"),
        ("text.h5ad", r"text.h5ad is not a file of cells: it is no HDF5. Expected an .h5ad file, a .zarr folder"),
        ("empty.h5ad", r"empty.h5ad is not a file of cells"),
        ("cut.h5ad", r"cut.h5ad cannot be read: .*truncated file.* Is it complete"),
        ("table.csv", r"table.csv is not a file of cells: it is no HDF5"),
        ("other.h5", r"other.h5 cannot be read as a 10x .h5 file: it has neither .* its groups are numbers"),
        ("hollow.h5ad", r"needs at least one cell and one gene. Received shape \(0, 0\)"),
        ("two.h5", r"cells of several genomes, hg19, mm10; split them first"),
        ("folder", r"folder is a folder without cells. Expected .* It holds notes.txt"),
        ("broken.zarr", r"broken.zarr cannot be read as a .zarr folder"),
        ("no_barcodes", r"cannot be read as a folder with a 10x matrix: it has no barcodes.tsv, zipped or not"),
        ("short", r"its matrix is of 12 genes and 10 cells, and it names 12 and 2"),
        ("twice", r"it holds several matrices, b_matrix.mtx, matrix.mtx; put each into a folder of its own"),
        (
            "short/matrix.mtx",
            r"is one of three files of a 10x matrix. Give the folder that holds them, .*short",
        ),
    ],
)
def test_a_wrong_file_is_one_helpful_line(run, wrong, saved_reference, name, match):
    run("check", wrong / name, saved_reference).is_one_line(1, match)


def test_a_reference_in_the_place_of_cells(run, saved_reference, query_file):
    swapped = r"small.scq is a reference, and cells are expected here: .* Give the cells first, then the reference"
    run("check", saved_reference, saved_reference).is_one_line(1, swapped)
    is_file = r"mine.h5ad is a file, and a reference is a .scq folder or a .zip of one. Give the cells first"
    run("check", query_file, query_file).is_one_line(1, is_file)
    run("check", query_file, "nowhere.scq").is_one_line(1, r"no reference at nowhere.scq; check the path")


def test_blocks_of_a_file_by_columns_are_refused_in_its_own_words(make_adata, tmp_path):
    make_adata(30, 20, fmt="csc").write_h5ad(tmp_path / "csc.h5ad")
    with pytest.raises(ArgumentError, match=r"csc.h5ad holds 'X' by columns \(CSC\), which cannot be read by cells"):
        read_cells(tmp_path / "csc.h5ad", lazy=True)
