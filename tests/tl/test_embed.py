"""``tl.embed``: one cell, one code, in whatever form it comes."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import scquery_ae as sq

FORMATS = ["csr", "csc", "dense"]


@pytest.fixture
def encoder(make_adata, make_encoder):
    return make_encoder(make_adata(40, 25), (7, 4))


@pytest.fixture
def expected(make_adata, encoder):
    adata = make_adata(20, 25, seed=5)
    return encoder.encode(adata.X)


def embedded(adata, encoder, **arguments):
    assert sq.tl.embed(adata, encoder, **arguments) is None
    return adata.obsm["X_scquery"]


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", ["int32", "uint16", "float32", "float64"])
def test_what_is_written(make_adata, encoder, expected, fmt, dtype):
    adata = make_adata(20, 25, fmt=fmt, dtype=dtype, seed=5)
    values = adata.X.copy()
    codes = embedded(adata, encoder)
    assert codes.dtype == np.float32
    assert codes.shape == (20, 4)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(codes, expected, atol=1e-5)
    np.testing.assert_array_equal(*(m.toarray() if sparse.issparse(m) else m for m in (adata.X, values)))
    assert (list(adata.obsm), [name for name in adata.layers if name], list(adata.uns)) == (["X_scquery"], [], [])


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_backed_file(make_adata, encoder, expected, fmt, tmp_path):
    make_adata(20, 25, fmt=fmt, seed=5).write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert backed.isbacked
    np.testing.assert_allclose(embedded(backed, encoder), expected, atol=1e-5)
    backed.file.close()


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_backed_file_in_shuffled_gene_order_and_in_chunks(make_adata, encoder, expected, fmt, tmp_path, monkeypatch):
    from scquery_ae.loaders import GeneColumns

    monkeypatch.setattr(GeneColumns.chunks, "__defaults__", (6,))
    order = np.random.default_rng(0).permutation(25)
    make_adata(20, 25, fmt=fmt, seed=5)[:, order].copy().write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    np.testing.assert_allclose(embedded(backed, encoder), expected, atol=1e-5)
    backed.file.close()


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_view(make_adata, encoder, expected, fmt):
    parent = make_adata(20, 25, fmt=fmt, seed=5)
    view = parent[5:15, ::-1]
    assert view.is_view
    np.testing.assert_allclose(embedded(view, encoder), expected[5:15], atol=1e-5)
    assert not view.is_view
    assert "X_scquery" not in parent.obsm


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csc_array, np.asfortranarray])
def test_other_matrices(make_adata, encoder, expected, make):
    adata = make_adata(20, 25, seed=5)
    adata.X = make(adata.X.toarray())
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-5)


@pytest.mark.parametrize("target", [1e4, 1e6, None])
@pytest.mark.parametrize("fmt", FORMATS)
def test_counts_and_their_logarithm_agree(make_adata, encoder, expected, fmt, target):
    adata = make_adata(20, 25, fmt=fmt, seed=5)
    sc.pp.normalize_total(adata, target_sum=target)
    sc.pp.log1p(adata)
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-4)


def test_a_linear_scale_will_do_for_counts(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    sc.pp.normalize_total(adata, target_sum=1e6)
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-4)


def test_the_stated_state_decides(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    counts = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    np.testing.assert_allclose(embedded(adata, encoder, input_state="log1p"), expected, atol=1e-4)
    taken_as_counts = encoder.encode(adata.X)
    np.testing.assert_allclose(embedded(adata, encoder, input_state="counts"), taken_as_counts, atol=1e-5)
    assert np.abs(taken_as_counts - expected).max() > 0.01
    assert (counts != make_adata(20, 25, seed=5).X).nnz == 0


def test_which_matrix_is_read(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    counts = adata.X.copy()
    adata.layers["other"] = counts[::-1].copy()
    adata.X = counts.log1p()
    # X by itself, then the layer of counts, which is preferred, then the layer named.
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-4)
    adata.X = np.full(adata.shape, -1.0)
    adata.layers["counts"] = counts
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-5)
    np.testing.assert_allclose(embedded(adata, encoder, layer="other"), expected[::-1], atol=1e-5)
    with pytest.raises(
        sq.MissingKeyError, match=r"`layer='raw'` is not in `adata\.layers`\. Expected one of 'other', 'counts'"
    ):
        sq.tl.embed(adata, encoder, layer="raw")


def test_a_cell_alone_is_embedded_as_among_others(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    for i in (0, 7, 19):
        np.testing.assert_allclose(embedded(adata[i].copy(), encoder), expected[[i]], atol=1e-5)


def test_missing_genes_are_tolerated(make_adata, encoder):
    adata = make_adata(20, 25, seed=5)
    present = np.arange(25) % 5 != 0
    expected = encoder.encode(np.where(present, adata.X.toarray(), 0), present)
    np.testing.assert_allclose(embedded(adata[:, present].copy(), encoder), expected, atol=1e-5)


def test_more_than_half_of_the_genes_missing_gives_a_warning(make_adata, encoder):
    adata = make_adata(20, 25, seed=5)[:, :10].copy()
    with pytest.warns(
        sq.ScqueryWarning, match=r"Only 10 of 25 model genes \(40%\) are in the query: labels will be less certain"
    ):
        sq.tl.embed(adata, encoder)


def test_repeated_gene_names_give_a_warning_and_the_first_is_taken(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    counts = sparse.csr_matrix(np.hstack([adata.X.toarray(), np.full((20, 1), 99)]))
    twice = anndata.AnnData(counts, obs=adata.obs, var=pd.DataFrame(index=[*adata.var_names, "again"]))
    twice.var_names = [*adata.var_names, "GENE3"]
    with pytest.warns(
        sq.ScqueryWarning, match=r"named more than once in the query; the first column was taken: 'GENE3'"
    ):
        codes = embedded(twice, encoder)
    np.testing.assert_allclose(codes, expected, atol=1e-5)


def test_too_few_genes_are_refused(make_adata, encoder):
    adata = make_adata(20, 25, seed=5)[:, :2].copy()
    adata.X = adata.X.toarray() + 1
    with pytest.raises(sq.GeneOverlapError, match=r"Only 2 of the reference's 25 genes are in the query \(8\.0%"):
        sq.tl.embed(adata, encoder)
    assert len(adata.obsm) == 0


def test_the_column_of_names(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    adata.var["symbol"] = adata.var_names
    adata.var_names = [f"row{i}" for i in range(25)]
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-5)
    np.testing.assert_allclose(embedded(adata, encoder, gene_key="symbol"), expected, atol=1e-5)


def test_key_added(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    sq.tl.embed(adata, encoder, key_added="mine")
    assert list(adata.obsm) == ["X_mine"]


def test_a_file_of_more_cells_than_a_chunk(make_adata, encoder, expected, monkeypatch):
    from scquery_ae.loaders import GeneColumns

    monkeypatch.setattr(GeneColumns.chunks, "__defaults__", (7,))
    for fmt in FORMATS:
        np.testing.assert_allclose(embedded(make_adata(20, 25, fmt=fmt, seed=5), encoder), expected, atol=1e-5)


@pytest.mark.parametrize("fmt", FORMATS)
def test_scaled_and_unfinished_values_are_refused(make_adata, encoder, fmt):
    adata = make_adata(20, 25, fmt=fmt, seed=5)
    (adata.X.data if fmt != "dense" else adata.X[0])[0] = -0.5
    with pytest.raises(
        sq.InputStateError,
        match=r"`tl\.embed` needs counts or log-normalised values\. Received a matrix that looks scaled",
    ):
        sq.tl.embed(adata, encoder)
    (adata.X.data if fmt != "dense" else adata.X[0])[0] = np.nan
    with pytest.raises(sq.InputStateError, match=r"`tl\.embed` needs finite values\. Received 1 NaN or infinite value"):
        sq.tl.embed(adata, encoder)
    assert len(adata.obsm) == 0


def test_wrong_arguments_are_refused(make_adata, encoder):
    adata = make_adata(20, 25, seed=5)
    with pytest.raises(
        sq.ArgumentError, match=r"`tl\.embed` needs an encoder, as `sq\.tl\.pretrain` returns it\. Received str"
    ):
        sq.tl.embed(adata, "pbmc.scq")
    with pytest.raises(
        sq.ArgumentError, match=r"`input_state` must be one of 'auto', 'counts', 'log1p', 'log2p1'\. Received 'raw'"
    ):
        sq.tl.embed(adata, encoder, input_state="raw")
    with pytest.raises(sq.ArgumentError, match=r"`min_gene_overlap` must be a number in \[0, 1\]\. Received 2"):
        sq.tl.embed(adata, encoder, min_gene_overlap=2)
    with pytest.raises(sq.ArgumentError, match=r"`tl\.embed` takes an AnnData"):
        sq.tl.embed(adata.X, encoder)


@pytest.mark.parametrize("target", [1e4, 1e6, None])
@pytest.mark.parametrize("fmt", FORMATS)
def test_counts_and_their_logarithm_to_base_2_agree(make_adata, encoder, expected, fmt, target):
    adata = make_adata(20, 25, fmt=fmt, seed=5)
    sc.pp.normalize_total(adata, target_sum=target)
    sc.pp.log1p(adata, base=2)
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-4)
    np.testing.assert_allclose(embedded(adata, encoder, input_state="log2p1"), expected, atol=1e-4)
    # Taken for natural logarithms the codes are others.
    assert np.abs(embedded(adata, encoder, input_state="log1p") - expected).max() > 0.01


def test_genes_in_other_letters(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    adata.var_names = adata.var_names.str.lower()
    with pytest.raises(sq.GeneOverlapError, match="Only 0 of the reference's 25 genes"):
        sq.tl.embed(adata, encoder)
    np.testing.assert_allclose(embedded(adata, encoder, ignore_case=True), expected, atol=1e-5)
    table = {f"gene{i}": f"GENE{i}" for i in range(25)}
    np.testing.assert_allclose(embedded(adata, encoder, orthologs=table), expected, atol=1e-5)
