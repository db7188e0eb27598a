"""``tl.explain``: contributions add up to the similarity, and marker genes rank first."""

import dataclasses

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scquery_ae as scq
from scquery_ae.dense import DenseWeights
from scquery_ae.encoder import Encoder


def with_layers(reference, activations, bias):
    """Return the reference with other layers of random weights, and random embeddings of its cells."""
    rng = np.random.default_rng(0)
    old = reference.encoder
    n_latent = old.n_latent
    widths = [len(old.genes), *[16] * (len(activations) - 1), n_latent]
    layers = tuple(
        DenseWeights(
            (rng.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32),
            np.full(b, bias, np.float32),
            activation,
        )
        for a, b, activation in zip(widths[:-1], widths[1:], activations, strict=True)
    )
    encoder = Encoder(old.transform, layers, old.classifier, components=old.components, discriminant=old.discriminant)
    latent = rng.standard_normal(reference.embedding.shape)
    latent = (latent / np.linalg.norm(latent, axis=1, keepdims=True)).astype(np.float32)
    cells = dataclasses.replace(reference.cells, embedding=latent)
    return dataclasses.replace(reference, encoder=encoder, cells=cells, index=None)


@pytest.mark.parametrize("activations", [("linear",), ("relu", "linear")])
def test_contributions_add_up_without_biases(query_adata, reference, activations):
    made = with_layers(reference, activations, 0.0)
    scq.tl.query(query_adata, made)
    for row, rank in ((0, 0), (7, 3), (29, 239)):
        table = scq.tl.explain(query_adata, made, row, neighbor=rank)
        own = query_adata.obsm["X_scquery"][row].astype(float)
        similarities = np.sort(made.embedding.astype(float) @ own)[::-1]
        assert table.attrs["similarity"] == pytest.approx(similarities[rank], abs=1e-5)
        assert table["similarity"].sum() == pytest.approx(similarities[rank], abs=1e-5)
        assert table["distance"].sum() == pytest.approx(1 - similarities[rank], abs=1e-5)


def test_biases_contribute_the_rest(query_adata, reference):
    made = with_layers(reference, ("linear",), 0.4)
    table = scq.tl.explain(query_adata, made, 0)
    scq.tl.query(query_adata, made)
    layer = made.encoder.layers[0]
    # With f(x) = x W + b, the rest is the inner product of b and the neighbor, divided by the length of f(x).
    logged = made.encoder.transform.log_normalize(query_adata[0, list(made.encoder.genes)].X).toarray()[0]
    latent = (logged - made.encoder.transform.mean).astype(float) @ layer.kernel + layer.bias
    neighbor = made.embedding[made.obs.index.get_loc(table.attrs["neighbor"])]
    rest = layer.bias @ neighbor / np.linalg.norm(latent)
    assert abs(rest) > 1e-3
    assert table["similarity"].sum() + rest == pytest.approx(table.attrs["similarity"], abs=1e-5)


def test_contributions_of_a_linear_encoder_by_hand(query_adata, reference):
    made = with_layers(reference, ("linear",), 0.0)
    table = scq.tl.explain(query_adata, made, "cell4", neighbor="cell17")
    counts = query_adata[4, list(made.encoder.genes)].X.toarray()[0].astype(float)
    values = np.log1p(counts / counts.sum() * made.encoder.transform.target_sum) - made.encoder.transform.mean
    kernel = made.encoder.layers[0].kernel.astype(float)
    latent, neighbor = values @ kernel, made.embedding[17].astype(float)
    length = np.linalg.norm(latent)
    expected = pd.DataFrame(
        {
            "value": values,
            "similarity": values * (kernel @ neighbor) / length,
            "distance": values * (kernel @ (latent / length - neighbor)) / length,
        },
        index=pd.Index(made.encoder.genes.astype(str), name="gene"),
    )
    pd.testing.assert_frame_equal(table.sort_index(), expected.sort_index(), check_dtype=False, atol=1e-5, rtol=1e-4)
    assert table["similarity"].is_monotonic_decreasing
    assert table.attrs == {
        "cell": "cell4",
        "neighbor": "cell17",
        "label": str(made.obs["cell_type"].iloc[17]),
        "similarity": pytest.approx(latent @ neighbor / length, abs=1e-5),
    }


def test_neighbors_by_rank_are_those_of_the_query(query_adata, reference):
    scq.tl.query(query_adata, reference, n_neighbors=5)
    for rank in (0, 4):
        name = reference.obs.index[query_adata.obsm["scquery_neighbors"][3, rank]]
        table = scq.tl.explain(query_adata, reference, 3, neighbor=rank)
        assert table.attrs["neighbor"] == name
        assert table.attrs["similarity"] == pytest.approx(1 - query_adata.obsm["scquery_distances"][3, rank], abs=1e-5)
        pd.testing.assert_frame_equal(scq.tl.explain(query_adata, reference, "cell3", neighbor=name), table)
    assert scq.tl.explain(query_adata, reference, -1).attrs["cell"] == "cell29"


@pytest.mark.parametrize("fmt", ["csr", "csc", "dense"])
def test_formats_and_scales_agree(make_adata, query_adata, reference, saved_reference, fmt, tmp_path):
    expected = scq.tl.explain(query_adata, reference, 5).sort_index()
    adata = make_adata(30, 120, fmt=fmt, seed=2)
    adata.write_h5ad(tmp_path / "q.h5ad")
    backed = anndata.read_h5ad(tmp_path / "q.h5ad", backed="r")
    for given in (adata, backed):
        received = scq.tl.explain(given, saved_reference, 5).sort_index()
        pd.testing.assert_frame_equal(received, expected, atol=1e-4)
    backed.file.close()
    counts = adata.X.toarray() if sparse.issparse(adata.X) else adata.X
    adata.X = np.log2(1 + counts / counts.sum(axis=1, keepdims=True) * 1e4)
    received = scq.tl.explain(adata, reference, 5).sort_index()
    pd.testing.assert_frame_equal(received, expected, atol=1e-3)
    assert received.attrs["neighbor"] == expected.attrs["neighbor"]


def test_missing_genes_are_not_listed(query_adata, reference):
    genes = reference.encoder.genes
    few = query_adata[:, list(genes[:60])].copy()
    table = scq.tl.explain(few, reference, 2)
    assert sorted(table.index) == sorted(genes[:60])
    scq.tl.query(few, reference)
    assert table.attrs["similarity"] == pytest.approx(1 - few.obsm["scquery_distances"][2, 0], abs=1e-5)


def test_genes_of_another_species(query_adata, reference):
    expected = scq.tl.explain(query_adata, reference, 0)
    query_adata.var_names = [name.lower() for name in query_adata.var_names]
    pd.testing.assert_frame_equal(scq.tl.explain(query_adata, reference, 0, ignore_case=True), expected)
    table = {name: name.upper() for name in query_adata.var_names}
    pd.testing.assert_frame_equal(scq.tl.explain(query_adata, reference, 0, orthologs=table), expected)


def test_nothing_is_changed(query_adata, reference):
    before = query_adata.X.copy()
    scq.tl.explain(query_adata, reference, 0)
    assert (before != query_adata.X).nnz == 0
    assert list(query_adata.obs) == ["cell_type", "batch"]
    assert len(query_adata.obsm) == len(query_adata.uns) == 0


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"cell": "other"}, scq.MissingKeyError, r"`cell='other'` is not there\. Expected a row, or a name such as"),
        ({"cell": 30}, scq.MissingKeyError, r"`cell=30` is not there"),
        ({"cell": 1.0}, scq.MissingKeyError, r"`cell=1\.0` is not there"),
        ({"cell": 0, "neighbor": "other"}, scq.MissingKeyError, r"`neighbor='other'` is not there"),
        (
            {"cell": 0, "neighbor": 240},
            scq.ArgumentError,
            r"`neighbor` must be the name of a reference cell or a rank from 0 to 239\. Received 240",
        ),
        ({"cell": 0, "neighbor": -1}, scq.ArgumentError, r"a rank from 0 to 239\. Received -1"),
        ({"cell": 0, "neighbor": None}, scq.ArgumentError, r"a rank from 0 to 239\. Received None"),
    ],
)
def test_unknown_cells_and_neighbors_are_refused(query_adata, reference, arguments, error, match):
    with pytest.raises(error, match=match):
        scq.tl.explain(query_adata, reference, **arguments)


def test_an_empty_cell_is_refused(query_adata, reference):
    query_adata.X = query_adata.X.toarray()
    query_adata.X[6] = 0
    with pytest.raises(scq.ArgumentError, match=r"The cell 'cell6' has no count in the model genes, so its neighbors"):
        scq.tl.explain(query_adata, reference, "cell6")


# Markers of islet cells.


@pytest.fixture(scope="module")
def islets(shared_data):
    """Reference and query of alpha, beta, ductal and delta cells of one donor."""
    adata = anndata.read_h5ad(shared_data / "pancreas_baron_human1.h5ad")
    adata = adata[adata.obs["cell_type"].isin(["alpha", "beta", "ductal", "delta"])].copy()
    adata.X = sparse.csr_matrix(adata.X, dtype=np.float32)
    training, query = adata[::3].copy(), adata[1::6].copy()
    scq.pp.normalize(training, n_top_genes=2000)
    # The default number of epochs: after a few, the contributions still change.
    encoder = scq.tl.pretrain(training, layer_sizes=(32, 16), progress=False)
    scq.tl.finetune(training, encoder, label_key="cell_type", progress=False)
    return scq.tl.build_reference(training, encoder, label_key="cell_type"), query


@pytest.mark.realdata
@pytest.mark.backend
@pytest.mark.parametrize(("kind", "markers"), [("beta", {"INS", "IAPP"}), ("alpha", {"GCG"})])
def test_markers_of_islet_cells_rank_first(islets, kind, markers):
    reference, query = islets
    assert markers <= set(reference.encoder.genes)
    rows = np.flatnonzero(query.obs["cell_type"] == kind)[:12]
    tables = [scq.tl.explain(query, reference, int(row)) for row in rows]
    right = [table.attrs["label"] == kind for table in tables]
    assert np.mean(right) > 0.8
    similarity = pd.concat([table["similarity"] for table, same in zip(tables, right, strict=True) if same], axis=1)
    top = similarity.mean(axis=1).nlargest(20).index
    assert markers & set(top)
