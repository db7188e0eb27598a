"""The NumPy encoder, against a dense computation."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from scquery_ae import ArgumentError, NotFittedError
from scquery_ae.dense import ACTIVATIONS, SLOPES, Classifier, DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import GeneColumns
from scquery_ae.stats import GeneDiscriminant
from scquery_ae.transform import Transform

#: Values at x = -1, 0 and 2, from the definitions.
BY_HAND = {
    "linear": (-1, 0, 2),
    "relu": (0, 0, 2),
    "elu": (np.exp(-1) - 1, 0, 2),
    "selu": (1.0507009873554805 * 1.6732632423543772 * (np.exp(-1) - 1), 0, 2 * 1.0507009873554805),
    "tanh": ((np.exp(-2) - 1) / (np.exp(-2) + 1), 0, (np.exp(4) - 1) / (np.exp(4) + 1)),
    "sigmoid": (1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-2))),
}


def recompute(encoder, counts, present=None):
    """Encode with dense float64 arrays, without the package's code."""
    transform = encoder.transform
    counts = np.asarray(counts.todense() if sparse.issparse(counts) else counts, dtype=np.float64)
    fraction = 1.0 if present is None else transform.fraction[present].sum(dtype=np.float64)
    total = counts.sum(axis=1, keepdims=True)
    x = np.log1p(counts / np.where(total > 0, total, 1) * transform.target_sum * fraction) - transform.mean
    if present is not None:
        x[:, ~present] = 0
    for layer in encoder.layers:
        x = x @ layer.kernel.astype(np.float64) + layer.bias
        x = {"relu": lambda v: np.maximum(v, 0), "linear": lambda v: v, "tanh": np.tanh}[layer.activation](x)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_hand_worked_activations(name):
    x = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_allclose(ACTIVATIONS[name](x), BY_HAND[name], rtol=1e-12)
    far = ACTIVATIONS[name](np.array([-1e4, 1e4], dtype=np.float32))
    assert np.isfinite(far).all()
    assert far.dtype == np.float32


def test_every_activation_has_a_hand_worked_case():
    assert set(BY_HAND) == set(ACTIVATIONS)


@pytest.mark.parametrize("sizes", [(4,), (7, 4), (9, 6, 3)])
def test_encode_equals_a_dense_computation(make_adata, make_encoder, sizes):
    adata = make_adata(20, 25)
    encoder = make_encoder(adata, sizes)
    latent = encoder.encode(adata.X)
    np.testing.assert_allclose(latent, recompute(encoder, adata.X), atol=1e-5)
    assert latent.dtype == np.float32
    assert latent.flags.c_contiguous
    assert latent.shape == (20, sizes[-1]) == (20, encoder.n_latent)


@given(seed=st.integers(0, 999))
def test_missing_genes_are_set_to_their_mean(make_adata, make_encoder, seed):
    adata = make_adata(6, 25)
    encoder = make_encoder(adata)
    present = np.random.default_rng(seed).random(25) < 0.6
    present[0] = True
    counts = np.where(present, adata.X.toarray(), 0)
    counts[:, 0] += 1
    np.testing.assert_allclose(encoder.encode(counts, present), recompute(encoder, counts, present), atol=2e-5)


def test_missing_genes_differ_from_genes_with_zero_counts(make_adata, make_encoder):
    adata = make_adata(6, 25)
    encoder = make_encoder(adata)
    present = np.arange(25) >= 8
    counts = np.where(present, adata.X.toarray(), 0)
    assert np.abs(encoder.encode(counts, present) - encoder.encode(counts)).max() > 0.05


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
def test_formats_agree(make_adata, make_encoder, make, dtype):
    adata = make_adata(15, 25)
    encoder = make_encoder(adata)
    counts = adata.X.toarray()
    np.testing.assert_allclose(encoder.encode(make(counts.astype(dtype))), encoder.encode(counts), atol=1e-5)


def test_cells_are_encoded_independently(make_adata, make_encoder):
    adata = make_adata(40, 25)
    encoder = make_encoder(adata)
    together = encoder.encode(adata.X)
    alone = np.vstack([encoder.encode(adata.X[i]) for i in range(40)])
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_embeddings_have_unit_length_for_empty_cells_too(make_adata, make_encoder):
    adata = make_adata(10, 25)
    encoder = make_encoder(adata)
    counts = adata.X.toarray()
    counts[3] = 0
    latent = encoder.encode(counts)
    np.testing.assert_allclose(np.linalg.norm(latent, axis=1), 1, rtol=1e-6)


def test_an_embedding_of_zero_stays_zero():
    transform = Transform(np.array(["a", "b"], dtype=object), 2.0, np.zeros(2, np.float32), np.full(2, 0.5, np.float32))
    # No unit is active.
    encoder = Encoder(transform, (DenseWeights(-np.ones((2, 3), np.float32), np.zeros(3, np.float32), "relu"),))
    np.testing.assert_array_equal(encoder.encode(np.array([[1.0, 1.0]])), [[0, 0, 0]])


def test_embedding_by_chunks_equals_embedding_at_once(make_adata, make_encoder, monkeypatch):
    adata = make_adata(23, 25)
    encoder = make_encoder(adata)
    monkeypatch.setattr(GeneColumns.chunks, "__defaults__", (5,))
    cells = GeneColumns(adata.X, np.arange(25))
    assert [chunk.shape[0] for chunk in cells.chunks()] == [5, 5, 5, 5, 3]
    np.testing.assert_allclose(encoder.embed(cells), encoder.encode(adata.X), atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 24), (3, 26), (25,)])
def test_counts_of_other_genes_are_refused(make_adata, make_encoder, shape):
    encoder = make_encoder(make_adata(10, 25))
    with pytest.raises(
        ArgumentError, match=r"`encode` needs the counts of the 25 model genes, shape \(n, 25\)\. Received \("
    ):
        encoder.encode(np.ones(shape))


def layer(d, units, activation="relu"):
    return DenseWeights(np.ones((d, units), np.float32), np.zeros(units, np.float32), activation)


def test_layers_that_do_not_match_are_refused(make_adata, make_encoder):
    transform = make_encoder(make_adata(10, 25)).transform
    with pytest.raises(ArgumentError, match=r"`activation` must be one of 'linear', 'relu'.*Received 'swish'"):
        layer(25, 4, "swish")
    with pytest.raises(
        ArgumentError, match=r"a layer must be a kernel \(d, units\) and a bias \(units,\).*\(25, 4\) and \(3,\)"
    ):
        DenseWeights(np.ones((25, 4)), np.zeros(3), "relu")
    with pytest.raises(
        ArgumentError, match=r"the classifier must be a kernel \(d, units\).*Received \(4,\) and \(4,\)"
    ):
        Classifier(np.ones(4), np.zeros(4), ("a", "b", "c", "d"))
    with pytest.raises(ArgumentError, match=r"The classifier needs one name per type\. Received 1 for 2 types"):
        Classifier(np.ones((4, 2)), np.zeros(2), ("a",))
    classifier = Classifier(np.ones((5, 2)), np.zeros(2), ("a", "b"))
    for layers in ((layer(24, 4),), (layer(25, 7), layer(6, 4)), (layer(25, 4),), ()):
        with pytest.raises(
            ArgumentError, match=r"Each layer's input width must be the output width of the layer before\. Received 25"
        ):
            Encoder(transform, layers, classifier)
    assert Encoder(transform, (layer(25, 7), layer(7, 5)), classifier).n_latent == 5


def test_classifier_is_a_softmax():
    classifier = Classifier(np.array([[np.log(2), 0.0], [0.0, 0.0]]), np.array([0.0, np.log(3)]), ("a", "b"))
    # Logits (log 2, log 3), then (0, log 3).
    np.testing.assert_allclose(classifier(np.array([[1.0, 0.0], [0.0, 1.0]])), [[0.4, 0.6], [0.25, 0.75]])
    assert np.isfinite(classifier(np.array([[1e4, 0.0]]))).all()


def test_classify_needs_a_classifier(make_adata, make_encoder):
    encoder = make_encoder(make_adata(10, 25))
    latent = encoder.encode(make_adata(10, 25).X)
    probabilities = encoder.classify(latent)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    encoder.classifier = None
    with pytest.raises(
        NotFittedError, match=r"pretrained but not fine-tuned\. Call `scq\.tl\.finetune\(adata, encoder"
    ):
        encoder.classify(latent)


def test_repr_gives_sizes_and_types(make_adata, make_encoder):
    encoder = make_encoder(make_adata(10, 25))
    assert repr(encoder) == "Encoder(25 -> 7 -> 4, 3 types)"
    encoder.classifier = None
    assert repr(encoder) == "Encoder(25 -> 7 -> 4, not fine-tuned)"


def test_encoding_loads_no_keras():
    code = """
import sys
from dataclasses import replace
import numpy as np
from scquery_ae.dense import DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.transform import Transform
t = Transform(np.array(["a", "b"], dtype=object), 2.0, np.zeros(2, np.float32), np.full(2, .5, np.float32))
e = Encoder(t, (DenseWeights(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), "linear"),))
print(e.encode(np.ones((1, 2))).shape, [m for m in ("keras", "tensorflow", "scanpy", "matplotlib") if m in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "(1, 2) []"


# Gradients with respect to genes.


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_slopes_equal_finite_differences(name):
    # Some activations are not differentiable at zero.
    x, step = np.array([-3.0, -1.0, -0.2, 0.3, 1.5, 4.0]), 1e-6
    expected = (ACTIVATIONS[name](x + step) - ACTIVATIONS[name](x - step)) / (2 * step)
    np.testing.assert_allclose(SLOPES[name](x), expected, rtol=1e-6, atol=1e-9)
    far = SLOPES[name](np.array([-1e4, 1e4], dtype=np.float32))
    assert np.isfinite(far).all()
    assert far.dtype == np.float32


def test_every_activation_has_a_slope():
    assert set(SLOPES) == set(ACTIVATIONS)


def double(n_genes, activations, bias=0.3, seed=0):
    """Return an encoder in float64, for finite differences."""
    rng = np.random.default_rng(seed)
    widths = (n_genes, *(9 - i for i in range(len(activations))))
    layers = tuple(
        DenseWeights(rng.standard_normal((a, b)) / np.sqrt(a), bias * rng.standard_normal(b), activation)
        for a, b, activation in zip(widths[:-1], widths[1:], activations, strict=True)
    )
    genes = np.array([f"g{i}" for i in range(n_genes)], dtype=object)
    return Encoder(Transform(genes, 1e3, np.zeros(n_genes, np.float32), np.full(n_genes, 1 / n_genes, "f4")), layers)


def output(encoder, x):
    for layer in encoder.layers:
        x = layer(x)
    return x


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("depth", [1, 3])
def test_gene_gradient_equals_finite_differences(activation, depth):
    encoder = double(12, (activation,) * depth)
    rng = np.random.default_rng(1)
    x, direction = rng.standard_normal(12), rng.standard_normal(encoder.n_latent)
    latent = output(encoder, x)
    assert np.abs(latent).max() > 0.01
    step = 1e-6
    steps = step * np.eye(12)
    # The length of the embedding is held fixed at its value for x.
    difference = (output(encoder, x + steps) - output(encoder, x - steps)) @ direction / (2 * step)
    received = encoder.gene_gradient(x, direction)
    np.testing.assert_allclose(received, difference / np.linalg.norm(latent), rtol=1e-4, atol=1e-6)
    assert received.dtype == np.float32
    assert np.abs(received).max() > 0.001


@pytest.mark.parametrize("activations", [("linear",), ("relu", "linear"), ("relu", "relu", "linear")])
def test_gradient_times_input_is_the_similarity_without_biases(activations):
    encoder = double(12, activations, bias=0.0)
    rng = np.random.default_rng(2)
    x, direction = rng.standard_normal(12), rng.standard_normal(encoder.n_latent)
    latent = output(encoder, x)
    expected = latent @ direction / np.linalg.norm(latent)
    assert encoder.gene_gradient(x, direction) @ x == pytest.approx(expected, abs=1e-5)
    # With biases, a part of the similarity comes from them.
    biased = double(12, activations)
    latent = output(biased, x)
    assert abs(biased.gene_gradient(x, direction) @ x - latent @ direction / np.linalg.norm(latent)) > 1e-3


def test_the_gradient_of_an_embedding_of_zero_is_finite():
    encoder = double(4, ("relu",), bias=0.0)
    received = encoder.gene_gradient(np.zeros(4), np.ones(encoder.n_latent))
    np.testing.assert_array_equal(received, np.zeros(4))


def test_gene_weights_are_norms_of_the_rows_of_the_kernel():
    genes = np.array(["a", "b", "c"], dtype=object)
    kernel = np.array([[3, 4], [0, 0], [-5, 12]], dtype=np.float32)
    transform = Transform(genes, 1.0, np.zeros(3, np.float32), np.full(3, 1 / 3, np.float32))
    encoder = Encoder(transform, (DenseWeights(kernel, np.zeros(2, np.float32), "linear"),))
    np.testing.assert_allclose(encoder.gene_weights(), [5, 0, 13])


def test_logits_are_linear_in_the_embedding(make_adata, make_encoder):
    encoder = make_encoder(make_adata(10, 25))
    latent = encoder.encode(make_adata(10, 25).X)
    expected = latent.astype(float) @ encoder.classifier.kernel + encoder.classifier.bias
    np.testing.assert_allclose(encoder.fitted_classifier.logits(latent), expected, atol=1e-6)
    odds = np.exp(expected)
    np.testing.assert_allclose(encoder.classify(latent), odds / odds.sum(axis=1, keepdims=True), atol=1e-6)


# Units that represent gene sets.

MASK = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], dtype=bool)


def test_output_of_a_masked_layer():
    kernel = np.where(MASK, np.arange(1, 9, dtype=np.float32).reshape(4, 2), 0)
    masked = DenseWeights(kernel, np.zeros(2, np.float32), "linear", MASK, ("glycolysis", "apoptosis"))
    # Column one: 1 + 3 + 7, column two: 6 + 8.
    np.testing.assert_array_equal(masked(np.ones((1, 4), np.float32)), [[11, 14]])
    assert masked.units == ("glycolysis", "apoptosis")
    plain = DenseWeights(kernel, np.zeros(2, np.float32), "linear")
    assert plain.mask is None
    assert plain.units is None


@pytest.mark.parametrize("mask", [MASK.T, MASK[:3], MASK[:, :1], MASK.ravel()], ids=["T", "fewer", "narrow", "flat"])
def test_a_mask_of_another_shape_is_refused(mask):
    expected = rf"`mask` must have the shape of the kernel, \(4, 2\), .*Received shape {re.escape(str(mask.shape))}"
    with pytest.raises(ArgumentError, match=expected):
        DenseWeights(np.zeros((4, 2), np.float32), np.zeros(2, np.float32), "relu", mask)


@pytest.mark.parametrize("value", [1e-30, np.nan])
def test_a_weight_outside_the_mask_is_refused(value):
    kernel = MASK.astype(np.float32)
    kernel[0, 1] = value
    with pytest.raises(ArgumentError, match=r"`mask` must have the shape .* and all weights outside it must be 0"):
        DenseWeights(kernel, np.zeros(2, np.float32), "relu", MASK)
    # Weights inside the mask may be zero.
    assert DenseWeights(np.zeros((4, 2), np.float32), np.zeros(2, np.float32), "relu", MASK).mask is MASK


@pytest.mark.parametrize("units", [("one",), ("one", "two", "three"), ()])
def test_each_unit_needs_a_name(units):
    with pytest.raises(
        ArgumentError, match=rf"`units` needs one name for each of the 2 units\. Received {len(units)}\."
    ):
        DenseWeights(MASK.astype(np.float32), np.zeros(2, np.float32), "relu", MASK, units)


def with_components(encoder, n_components=5):
    rng = np.random.default_rng(0)
    return replace(encoder, components=rng.standard_normal((len(encoder.genes), n_components)).astype(np.float32))


@pytest.mark.parametrize("missing", [0, 9])
def test_project_equals_a_dense_computation(make_adata, make_encoder, missing):
    adata = make_adata(20, 25)
    encoder = with_components(make_encoder(adata))
    present = np.arange(25) >= missing
    counts = np.where(present, adata.X.toarray(), 0).astype(float)
    transform = encoder.transform
    fraction = transform.fraction[present].sum(dtype=float) if missing else 1.0
    x = np.log1p(counts / counts.sum(axis=1, keepdims=True) * transform.target_sum * fraction) - transform.mean
    # A missing gene has its mean.
    x[:, ~present] = 0
    measured = present if missing else None
    projected = encoder.project(
        transform.log_normalize(sparse.csr_matrix(counts, dtype=np.float32), measured), measured
    )
    np.testing.assert_allclose(projected, x @ encoder.components, atol=1e-4)
    assert projected.dtype == np.float32
    assert projected.shape == (20, 5)
    if missing:
        at_zero = encoder.project(transform.log_normalize(sparse.csr_matrix(counts, dtype=np.float32), measured))
        assert np.abs(at_zero - projected).max() > 0.1


def test_projecting_needs_components(make_adata, make_encoder):
    adata = make_adata(6, 25)
    encoder = make_encoder(adata)
    assert encoder.components is None
    with pytest.raises(
        NotFittedError, match=r"has no principal components\. Use an encoder made by `scq\.tl\.pretrain`"
    ):
        encoder.project(encoder.transform.log_normalize(adata.X))


@pytest.mark.parametrize("shape", [(24, 5), (26, 5), (5, 25), (25,), (25, 5, 1)])
def test_components_of_other_genes_are_refused(make_adata, make_encoder, shape):
    with pytest.raises(
        ArgumentError,
        match=rf"`components` must have a row for each of the 25 model genes\. Received shape {re.escape(str(shape))}",
    ):
        replace(make_encoder(make_adata(6, 25)), components=np.zeros(shape, np.float32))


def with_discriminant(encoder, adata):
    logged = encoder.transform.log_normalize(adata.X)
    return replace(encoder, discriminant=GeneDiscriminant.fit(logged, np.arange(adata.n_obs) % 3, 3))


@pytest.mark.parametrize("missing", [0, 9])
def test_decision_is_scaled_down_for_shallow_cells(make_adata, make_encoder, missing):
    adata = make_adata(20, 25)
    encoder = with_discriminant(make_encoder(adata), adata)
    present = np.arange(25) >= missing if missing else None
    counts = adata.X.toarray()
    counts[:, :missing] = 0
    totals = counts.sum(axis=1)
    fraction = encoder.transform.fraction[missing:].sum(dtype=float) if missing else 1.0
    depth = np.minimum(totals / (encoder.transform.target_sum * fraction), 1)
    assert depth.min() < 0.8 < depth.max() == 1
    logged = encoder.transform.log_normalize(counts, present)
    expected = encoder.discriminant.decision(logged, present) * depth[:, None]
    received = encoder.decision(logged, totals, present)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)
    assert received.dtype == np.float32
    assert received.shape == (20, 3)
    np.testing.assert_array_equal(encoder.decision(logged, np.zeros(20), present), np.zeros((20, 3)))


def test_decision_is_zero_without_genes(make_adata, make_encoder):
    adata = make_adata(20, 25)
    encoder = with_discriminant(make_encoder(adata), adata)
    nothing = sparse.csr_matrix((20, 25), dtype=np.float32)
    np.testing.assert_array_equal(encoder.decision(nothing, np.zeros(20), np.zeros(25, bool)), np.zeros((20, 3)))


def test_decision_needs_a_discriminant(make_adata, make_encoder):
    adata = make_adata(6, 25)
    encoder = replace(make_encoder(adata), discriminant=None)
    with pytest.raises(NotFittedError, match=r"has no discriminant: it was not fine-tuned\. Call `scq\.tl\.finetune"):
        encoder.decision(encoder.transform.log_normalize(adata.X), np.ones(6))


@pytest.mark.parametrize("shape", [(2, 25), (4, 25), (3, 24), (25, 3)])
def test_a_discriminant_of_other_types_or_genes_is_refused(make_adata, make_encoder, shape):
    adata = make_adata(20, 25)
    encoder = with_discriminant(make_encoder(adata), adata)
    assert encoder.fitted_discriminant is encoder.discriminant
    expected = rf"`discriminant` must have a mean for each .* shape \(3, 25\)\. Received {re.escape(str(shape))}"
    n_types, n_genes = shape
    ones = np.ones(n_genes, np.float32)
    other = GeneDiscriminant(
        ones, ones, np.zeros(shape, np.float32), np.ones(n_types, bool), np.ones((n_genes, 2), np.float32), ones
    )
    with pytest.raises(ArgumentError, match=expected):
        replace(encoder, discriminant=other)


# Blocks.


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_blocks_with_sparse_and_dense_products_agree(make_adata, make_encoder, monkeypatch, density, chunk):
    """Rows in memory and in a temporary file, below and above the fraction from which on the product is dense."""
    from scquery_ae import encoder as module
    from scquery_ae.loaders import ScratchRows

    adata = make_adata(13, 40)
    encoder = make_encoder(adata)
    rng = np.random.default_rng(0)
    encoder = replace(with_discriminant(encoder, adata), components=rng.standard_normal((40, 3)).astype(np.float32))
    counts = adata.X.toarray() * (rng.random((13, 40)) < density)
    logged = encoder.transform.log_normalize(counts)
    expected = recompute(encoder, counts)
    projected = (logged.toarray().astype(np.float64) - encoder.transform.mean) @ encoder.components
    totals = counts.sum(axis=1)
    decision = encoder.discriminant.decision(logged) * np.minimum(totals / encoder.transform.target_sum, 1)[:, None]
    monkeypatch.setattr(module, "CHUNK", chunk)
    for rows in (logged, ScratchRows([logged[:5], logged[5:]], 40)):
        latent = encoder.encode_logged(rows)
        assert latent.dtype == np.float32
        assert latent.flags.c_contiguous
        np.testing.assert_allclose(latent, expected, atol=1e-5)
        np.testing.assert_allclose(encoder.project(rows), projected, atol=1e-4)
        assert encoder.project(rows).dtype == np.float32
        np.testing.assert_allclose(encoder.decision(rows, totals), decision, rtol=1e-5, atol=1e-4)
    for limit in (0.0, 2.0):
        monkeypatch.setattr(module, "DENSE_ABOVE", limit)
        np.testing.assert_allclose(encoder.encode_logged(logged), expected, atol=1e-5)


def test_no_cells_are_encoded_to_an_empty_array(make_adata, make_encoder):
    encoder = make_encoder(make_adata(13, 40))
    assert encoder.encode(np.zeros((0, 40), np.float32)).shape == (0, encoder.n_latent)


def test_sparse_blocks_are_not_made_dense(make_adata, make_encoder, monkeypatch):
    from scquery_ae import encoder as module

    encoder = make_encoder(make_adata(13, 40))
    shapes = []
    toarray = sparse.csr_matrix.toarray

    def recorded(self, **kwargs):
        shapes.append(self.shape)
        return toarray(self, **kwargs)

    monkeypatch.setattr(sparse.csr_matrix, "toarray", recorded)
    monkeypatch.setattr(module, "CHUNK", 5)
    monkeypatch.setattr(module, "DENSE_ROWS", 4)
    sparse_rows = sparse.csr_matrix(np.eye(13, 40, dtype=np.float32))
    encoder.encode_logged(sparse_rows)
    assert shapes == []
    encoder.encode_logged(sparse.csr_matrix(np.ones((13, 40), np.float32)))
    assert shapes == [(4, 40), (1, 40), (4, 40), (1, 40), (3, 40)]
