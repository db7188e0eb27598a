"""``scquery-ae export``: the embedding, as other tools take it."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scquery_ae as scq


@pytest.fixture(scope="module")
def annotated(query_file, saved_reference, tmp_path_factory):
    """What ``query`` writes."""
    adata = anndata.read_h5ad(query_file)
    scq.tl.query(adata, saved_reference)
    adata.obs["visit"] = pd.date_range("2020-01-01", periods=30).astype(str)
    adata.obs["total"] = np.asarray(adata.X.sum(axis=1)).ravel().astype(np.float64)
    adata.obs["rank"] = np.arange(30)
    path = tmp_path_factory.mktemp("annotated") / "annotated.h5ad"
    adata.write_h5ad(path)
    return path


def assert_opens_in_cellxgene(adata):
    """Assert what its AnnData adaptor asks for in ``_validate_and_initialize`` and ``get_embedding_names``."""
    assert adata.obs.columns.is_unique
    assert adata.var.columns.is_unique
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique
    assert adata.X.dtype == np.float32
    for table in (adata.obs, adata.var):
        for column in table:
            dtype = table[column].dtype
            assert dtype in (np.float32, np.int32, np.bool_) or isinstance(dtype, pd.CategoricalDtype), column
    layouts = [name for name in adata.obsm if name.startswith("X_")]
    assert layouts
    for name in layouts:
        layout = adata.obsm[name]
        assert type(layout) is np.ndarray
        assert layout.dtype.kind in "fiu"
        assert layout.shape[1] >= 2
        assert not np.isinf(layout).any()
        assert not np.isnan(layout).all()


def test_tables_hold_the_embedding(run, annotated, tmp_path):
    adata = anndata.read_h5ad(annotated)
    outputs = [item for name in ("e.csv", "e.csv.gz", "e.parquet") for item in ("-o", tmp_path / name)]
    done = run("export", annotated, *outputs, "--column", "scquery_label", "--column", "total", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["n_obs"] == 30
    assert done.json["n_dimensions"] == 8
    assert len(done.json["outputs"]) == 3
    for path in tmp_path.iterdir():
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        assert list(table) == ["cell", "scquery_label", "total", *(f"scquery_{i}" for i in range(8))]
        assert table["cell"].tolist() == adata.obs_names.tolist()
        assert table["scquery_label"].tolist() == adata.obs["scquery_label"].tolist()
        np.testing.assert_allclose(table.iloc[:, 3:], adata.obsm["X_scquery"], rtol=1e-6)


def test_cells_that_were_never_queried_are_embedded(run, query_file, saved_reference, annotated, tmp_path):
    done = run("export", query_file, "--reference", saved_reference, "-o", tmp_path / "e.parquet")
    assert done.code == 0
    assert "30 cells in 8 dimensions" in done.out
    table = pd.read_parquet(tmp_path / "e.parquet")
    np.testing.assert_allclose(table.iloc[:, 1:], anndata.read_h5ad(annotated).obsm["X_scquery"], atol=1e-6)


def test_cells_for_cellxgene(run, annotated, tmp_path):
    assert run("export", annotated, "-o", tmp_path / "c.h5ad", "--no-umap").code == 0
    found, source = anndata.read_h5ad(tmp_path / "c.h5ad"), anndata.read_h5ad(annotated)
    assert_opens_in_cellxgene(found)
    np.testing.assert_array_equal(found.X.toarray(), source.X.toarray())
    np.testing.assert_array_equal(found.obsm["X_scquery"], source.obsm["X_scquery"])
    assert found.obs["scquery_label"].tolist() == source.obs["scquery_label"].tolist()
    assert found.obs["rank"].tolist() == list(range(30))


def test_a_reference_for_cellxgene(run, saved_reference, reference, tmp_path):
    assert run("export", saved_reference, "-o", tmp_path / "r.h5ad", "-o", tmp_path / "r.csv", "--no-umap").code == 0
    found = anndata.read_h5ad(tmp_path / "r.h5ad")
    assert_opens_in_cellxgene(found)
    np.testing.assert_array_equal(found.X, reference.embedding)
    assert found.obs_names.tolist() == reference.obs.index.tolist()
    assert pd.read_csv(tmp_path / "r.csv")["cell"].tolist() == reference.obs.index.tolist()


def test_an_existing_umap_is_kept(run, cells_file, make_encoder, tmp_path):
    adata = anndata.read_h5ad(cells_file)
    adata.X = sparse.csr_matrix(adata.X, dtype=np.float64)
    scq.tl.embed(adata, make_encoder(adata))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    assert run("export", tmp_path / "cells.h5ad", "-o", tmp_path / "c.h5ad").code == 0
    found = anndata.read_h5ad(tmp_path / "c.h5ad")
    assert_opens_in_cellxgene(found)
    np.testing.assert_allclose(found.obsm["X_umap"], adata.obsm["X_umap"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of numba and umap-learn
def test_a_umap_is_computed(run, annotated, tmp_path):
    for name in ("a", "b"):
        assert run("export", annotated, "-o", tmp_path / f"{name}.h5ad", "--seed", 4).code == 0
    first, second = (anndata.read_h5ad(tmp_path / f"{name}.h5ad").obsm["X_umap"] for name in ("a", "b"))
    assert first.shape == (30, 2)
    np.testing.assert_array_equal(first, second)


def test_column_types_for_cellxgene(run, make_adata, saved_reference, tmp_path):
    adata = make_adata(20, 120, seed=4)
    adata.obs["maybe"] = pd.array([1, None] * 10, dtype="Int64")
    adata.obs["large"] = np.arange(20) + 2**40
    adata.write_h5ad(tmp_path / "cells.h5ad")
    options = ("--reference", saved_reference, "--lazy", "--no-umap", "-o", tmp_path / "c.h5ad")
    done = run("export", tmp_path / "cells.h5ad", *options)
    assert done.code == 0, done.err
    found = anndata.read_h5ad(tmp_path / "c.h5ad")
    assert_opens_in_cellxgene(found)
    np.testing.assert_array_equal(found.X.toarray(), adata.X.toarray())
    assert found.obs["maybe"].astype(object).where(found.obs["maybe"].notna(), None).tolist() == ["1", None] * 10


def test_exports_that_are_refused(run, query_file, saved_reference, annotated, tmp_path):
    out = ("-o", tmp_path / "e.csv")
    run("export", query_file, *out).is_one_line(1, r"mine.h5ad has no embedding obsm\['X_scquery'\].*--reference")
    run("export", annotated, *out, "--column", "foo").is_one_line(1, r"`--column foo` is not a column of `obs`")
    both = ("export", saved_reference, "--reference", saved_reference, *out)
    run(*both).is_wrong_use(r"small.scq is a reference and has an embedding")
    run("export", annotated).is_wrong_use("Missing option '-o' / '--output'")
    assert not list(tmp_path.iterdir())
