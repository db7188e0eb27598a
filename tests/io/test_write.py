"""Writing files: whole or not at all, in each format."""

import anndata
import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.io import write_h5ad, write_table, write_whole


def test_a_file_appears_once_it_is_complete(tmp_path):
    path = tmp_path / "table.csv"

    def save(draft):
        assert draft.parent == path.parent
        assert draft.suffix == ".csv"
        assert not path.exists()
        draft.write_text("done")

    write_whole(path, save)
    assert path.read_text() == "done"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk is full"), RuntimeError("errno = 28")])
def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def save(draft):
        draft.write_text("half")
        raise error

    with pytest.raises(scq.StorageError, match=r"table.csv could not be written: (disk is full|errno = 28). Nothing"):
        write_whole(path, save)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "read"), [("a.csv", pd.read_csv), ("a.csv.gz", pd.read_csv), ("a.parquet", pd.read_parquet)]
)
def test_tables(tmp_path, name, read):
    table = pd.DataFrame({"x": [1.5, 2.0]}, index=pd.Index(["a", "b"], name="cell"))
    write_table(tmp_path / name, table)
    pd.testing.assert_frame_equal(read(tmp_path / name).set_index("cell"), table)


def test_results_of_lazy_cells_are_written_into_a_copy_of_their_file(cells_file, tmp_path):
    adata = scq.read(cells_file, lazy=True)
    adata.obs["new"] = 3
    adata.obsm["X_new"] = np.zeros((adata.n_obs, 2))
    adata.uns["made"] = {"by": "test"}
    write_h5ad(tmp_path / "out.h5ad", adata, cells_file)
    written, source = anndata.read_h5ad(tmp_path / "out.h5ad"), anndata.read_h5ad(cells_file)
    assert (written.obs["new"] == 3).all()
    assert set(written.obsm) == {"X_umap", "X_new"}
    assert written.uns["made"] == {"by": "test"}
    # Slots that a lazy AnnData does not hold are kept.
    np.testing.assert_array_equal(written.raw.X.toarray(), source.raw.X.toarray())
    np.testing.assert_array_equal(written.X.toarray(), source.X.toarray())
    assert "new" not in source.obs
