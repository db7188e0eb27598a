"""From an AnnData to counts of the model genes, and what is decided on the way."""

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import scquery_ae as scq
from scquery_ae.loaders import fitted_transform, gene_names, open_cells, open_training


@pytest.fixture
def adata(make_adata):
    return make_adata(20, 12)


def genes_of(adata):
    return adata.var_names.to_numpy()


def test_counts_in_x(adata):
    opened = open_cells(adata, genes_of(adata), function="f")
    assert (opened.source, opened.state.kind, opened.match.key) == ("X", "counts", "var_names")
    assert opened.cells.matrix is adata.X
    assert not opened.cells.logged
    np.testing.assert_array_equal(opened.cells.load().toarray(), adata.X.toarray())


def test_precedence_of_layers(adata):
    counts = adata.X.copy()
    adata.layers["counts"], adata.layers["log"] = counts, counts.log1p()
    adata.X = counts * 0.5
    assert open_cells(adata, genes_of(adata), function="f").source == 'layers["counts"]'
    opened = open_cells(adata, genes_of(adata), function="f", layer="log")
    assert (opened.source, opened.state.kind) == ('layers["log"]', "log1p")
    np.testing.assert_allclose(opened.cells.load().toarray(), counts.toarray(), rtol=1e-5)


@pytest.mark.parametrize("input_state", ["counts", "log1p"])
def test_a_stated_state_is_used(adata, input_state):
    adata.X = adata.X.log1p()
    opened = open_cells(adata, genes_of(adata), function="f", input_state=input_state)
    assert (opened.state.kind, opened.state.reason) == (input_state, "as stated")
    assert opened.cells.logged == (input_state == "log1p")


def test_counts_stated_to_be_logged_are_refused(adata):
    # exp of a few hundred is infinite, and an infinite value makes an embedding of NaN.
    adata.X.data[0] = 300
    with pytest.raises(
        scq.InputStateError,
        match=r"`f` received `input_state='log1p'`, but no logarithm of a count is above 21\. Received values up to "
        r"300; pass `input_state='counts'` or `input_state='auto'`",
    ):
        open_cells(adata, genes_of(adata), function="f", input_state="log1p").cells.load()


def test_negative_values_stated_to_be_counts_are_refused(adata):
    adata.X.data[0] = -3
    with pytest.raises(scq.InputStateError, match=r"`f` needs .*negative|looks scaled"):
        open_cells(adata, genes_of(adata), function="f", input_state="counts")


def test_gene_names_by_key(adata):
    adata.var["symbol"] = pd.Categorical(adata.var_names)
    adata.var["text"] = pd.array(["a"] * 12, dtype="string")
    adata.var["length"] = 3
    adata.var["flag"] = True
    assert list(gene_names(adata, None)) == ["var_names", "ensembl", "symbol", "text"]
    assert list(gene_names(adata, "symbol")) == ["symbol"]
    with pytest.raises(
        scq.MissingKeyError,
        match=r"`gene_key='length'` holds no gene names\. Expected one of 'var_names', 'ensembl', 'symbol', 'text'",
    ):
        gene_names(adata, "length")


def test_missing_gene_names_match_nothing(adata):
    adata.var["symbol"] = [*adata.var_names[:6], *[None] * 6]
    opened = open_cells(adata, genes_of(adata)[:6], function="f", gene_key="symbol")
    np.testing.assert_array_equal(opened.match.columns, np.arange(6))
    assert opened.match.ambiguous == ()


def test_warnings_can_be_turned_off(adata):
    genes = np.array([*genes_of(adata)[:5], *(f"x{i}" for i in range(6))])
    with pytest.warns(
        scq.ScqueryWarning,
        match=r"The cells have only 5 of the 11 model genes \(45%\), .*build a reference on the genes that both have",
    ):
        open_cells(adata, genes, function="f")
    open_cells(adata, genes, function="f", warn_overlap=False)


@pytest.mark.parametrize("fmt", ["csr", "csc", "dense"])
def test_values_that_are_not_finite_are_refused(make_adata, fmt):
    adata = make_adata(20, 12, fmt="dense")
    adata.X[3, 4] = np.inf
    adata.X = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}[fmt](adata.X)
    with pytest.raises(scq.InputStateError, match=r"`f` needs finite values.*'GENE4'"):
        open_cells(adata, genes_of(adata), function="f")


def test_errors_name_the_call(adata):
    with pytest.raises(scq.ArgumentError, match="`f` takes an AnnData"):
        open_cells(adata.X, genes_of(adata), function="f")
    with pytest.raises(scq.ArgumentError, match=r"`input_state` must be one of 'auto', 'counts', 'log1p', 'log2p1'\."):
        open_cells(adata, genes_of(adata), function="f", input_state="scaled")
    with pytest.raises(scq.ArgumentError, match=r"`min_gene_overlap` must be a number in \[0, 1\]"):
        open_cells(adata, genes_of(adata), function="f", min_gene_overlap=7)


def test_training_reads_the_layer_of_counts_and_needs_all_genes(adata):
    scq.pp.normalize(adata, n_top_genes=8)
    transform = fitted_transform(adata, "f")
    cells = open_training(adata, transform, "f")
    expected = adata[:, list(transform.genes)].layers["counts"].toarray()
    np.testing.assert_array_equal(cells.load().toarray(), expected)
    with pytest.raises(
        scq.NotFittedError, match=r"`f` needs all 8 model genes that `scq\.pp\.normalize` chose\. 1 are missing"
    ):
        open_training(adata[:, adata.var_names != transform.genes[0]].copy(), transform, "f")
    del adata.layers["counts"]
    with pytest.raises(scq.NotFittedError, match=r'`f` trains on `adata\.layers\["counts"\]`, which is missing'):
        open_training(adata, transform, "f")


def test_fractional_counts_are_trained_on_as_they_are(adata):
    # Small fractions look logged; after pp.normalize there is no need to guess.
    adata.X = adata.X * np.float32(0.37)
    scq.pp.normalize(adata, input_state="counts")
    cells = open_training(adata, fitted_transform(adata, "f"), "f")
    np.testing.assert_array_equal(cells.load().toarray(), adata.layers["counts"].toarray())


def test_an_anndata_that_was_not_normalised_has_no_transform(adata):
    with pytest.raises(
        scq.NotFittedError,
        match=r'`f` needs the transform that `scq\.pp\.normalize` fits \(`adata\.uns\["scquery_transform"\]`\)',
    ):
        fitted_transform(adata, "f")


def test_logarithms_to_base_2_are_inverted(adata):
    counts = adata.X.toarray()
    adata.X = sparse.csr_matrix(np.log2(1 + counts).astype(np.float32))
    for input_state in ("auto", "log2p1"):
        opened = open_cells(adata, genes_of(adata), function="f", input_state=input_state)
        assert opened.state.kind == "log2p1"
        np.testing.assert_allclose(opened.cells.load().toarray(), counts, rtol=1e-5)
    # Natural ones, if it is so stated.
    opened = open_cells(adata, genes_of(adata), function="f", input_state="log1p")
    np.testing.assert_allclose(opened.cells.load().toarray(), np.expm1(np.log2(1 + counts)), rtol=1e-4)


def test_counts_stated_to_be_logged_to_base_2_are_refused(adata):
    adata.X.data[0] = 300
    with pytest.raises(scq.InputStateError, match=r"`f` received `input_state='log2p1'`, but no logarithm of a count"):
        open_cells(adata, genes_of(adata), function="f", input_state="log2p1")


def test_counts_that_were_logged_after_normalising_on_disk_are_refused(make_adata, tmp_path):
    make_adata().write_h5ad(tmp_path / "a.h5ad")
    adata = scq.read(tmp_path / "a.h5ad", lazy=True)
    scq.pp.normalize(adata)
    moved = adata.to_memory()
    open_training(moved, fitted_transform(moved, "f"), "f")
    sc.pp.normalize_total(moved)
    sc.pp.log1p(moved)
    with pytest.raises(scq.NotFittedError, match=r"found in X.*was logged since.*normalize. on counts again"):
        open_training(moved, fitted_transform(moved, "f"), "f")
