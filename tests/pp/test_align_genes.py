"""``pp.align_genes``: the model genes, in the model's order."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scquery_ae as scq


@pytest.fixture
def encoder(make_adata, make_encoder):
    return make_encoder(make_adata(20, 25))


@pytest.mark.parametrize("fmt", ["csr", "csc", "dense"])
def test_shuffled_genes_come_back_in_order(make_adata, encoder, fmt):
    adata = make_adata(8, 25, fmt=fmt, seed=1)
    expected = make_adata(8, 25, fmt="dense", seed=1).X
    shuffled = adata[:, np.random.default_rng(0).permutation(25)].copy()
    aligned = scq.pp.align_genes(shuffled, encoder)
    assert isinstance(aligned.X, sparse.csr_matrix)
    assert aligned.X.dtype == np.float32
    np.testing.assert_array_equal(aligned.X.toarray(), expected)
    assert list(aligned.var_names) == list(encoder.genes)
    assert aligned.var["present"].dtype == bool
    assert aligned.var["present"].all()


def test_missing_genes_are_zero_and_marked(make_adata, encoder):
    adata = make_adata(8, 25)
    kept = [3, 1, 20]
    aligned = scq.pp.align_genes(adata[:, kept].copy(), encoder)
    assert aligned.shape == (8, 25)
    np.testing.assert_array_equal(np.flatnonzero(aligned.var["present"]), sorted(kept))
    expected = np.zeros((8, 25))
    expected[:, kept] = adata.X[:, kept].toarray()
    np.testing.assert_array_equal(aligned.X.toarray(), expected)


def test_obs_is_kept_and_the_input_unchanged(make_adata, encoder):
    adata = make_adata(8, 25)
    values, var = adata.X.copy(), adata.var.copy()
    aligned = scq.pp.align_genes(adata, encoder)
    pd.testing.assert_frame_equal(aligned.obs, adata.obs)
    aligned.obs["new"] = 1
    aligned.X.data[:] = 9
    assert "new" not in adata.obs
    assert (values != adata.X).nnz == 0
    pd.testing.assert_frame_equal(adata.var, var)


def test_a_layer_and_a_column_of_names(make_adata, encoder):
    adata = make_adata(8, 25)
    adata.layers["raw"] = adata.X * 2
    adata.var["symbol"] = adata.var_names
    adata.var_names = [f"row{i}" for i in range(25)]
    aligned = scq.pp.align_genes(adata, encoder, layer="raw", gene_key="symbol")
    np.testing.assert_array_equal(aligned.X.toarray(), adata.layers["raw"].toarray())
    # The column is found unasked, too; asked for the wrong one, it is not.
    np.testing.assert_array_equal(scq.pp.align_genes(adata, encoder).X.toarray(), adata.X.toarray())
    with pytest.raises(
        scq.GeneOverlapError, match=r"Only 0 of the 25 model genes.*'row0'.*\(var_names, the best match\)"
    ):
        scq.pp.align_genes(adata, encoder, gene_key="var_names")
    with pytest.raises(
        scq.MissingKeyError,
        match=r"`gene_key='id'` holds no gene names\. Expected one of 'var_names', 'ensembl', 'symb",
    ):
        scq.pp.align_genes(adata, encoder, gene_key="id")


def test_ensembl_versions_of_query_and_model_may_differ(make_adata, make_encoder):
    model = make_adata(20, 25)
    model.var_names = model.var["ensembl"].str.split(".").str[0].to_numpy()
    aligned = scq.pp.align_genes(make_adata(8, 25), make_encoder(model))
    assert aligned.var["present"].all()


def test_a_reference_aligns_like_its_encoder(query_adata, reference):
    by_reference, by_encoder = (scq.pp.align_genes(query_adata, r) for r in (reference, reference.encoder))
    assert list(by_reference.var_names) == list(reference.encoder.genes)
    assert (by_reference.X != by_encoder.X).nnz == 0


def test_aligned_cells_embed_as_before(make_adata, encoder):
    adata = make_adata(8, 25)[:, ::-1].copy()
    aligned = scq.pp.align_genes(adata, encoder)
    for a in (adata, aligned):
        scq.tl.embed(a, encoder)
    np.testing.assert_allclose(aligned.obsm["X_scquery"], adata.obsm["X_scquery"], atol=1e-5)


def test_too_few_genes_are_refused(make_adata, encoder):
    adata = make_adata(8, 25)
    adata.var = pd.DataFrame(index=[*adata.var_names[:2], *(f"x{i}" for i in range(23))])
    with pytest.raises(
        scq.GeneOverlapError, match=re.escape("Only 2 of the 25 model genes are among the genes of the cells (8.0%;")
    ):
        scq.pp.align_genes(adata, encoder)
    assert scq.pp.align_genes(adata, encoder, min_gene_overlap=0.08).var["present"].sum() == 2


def test_arguments_without_model_genes_are_refused(make_adata):
    with pytest.raises(scq.ArgumentError, match=r"`pp\.align_genes` needs a reference or an encoder\. Received list"):
        scq.pp.align_genes(make_adata(), ["GENE1"])
    with pytest.raises(scq.ArgumentError, match=r"`pp\.align_genes` takes an AnnData"):
        scq.pp.align_genes(np.ones((2, 2)), ["GENE1"])


@pytest.mark.parametrize("value", [1.5, -0.1, "many"])
def test_an_invalid_min_gene_overlap_is_refused(make_adata, encoder, value):
    with pytest.raises(scq.ArgumentError, match=r"`min_gene_overlap` must be a number in \[0, 1\]\. Received"):
        scq.pp.align_genes(make_adata(8, 25), encoder, min_gene_overlap=value)
