"""From cells to an encoder."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy import sparse

import scquery_ae.nn
from scquery_ae._errors import ArgumentError
from scquery_ae.dense import ACTIVATIONS
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows, GeneColumns
from scquery_ae.nn import Batches, MaskingNoise, pretrain_stack
from scquery_ae.training import pretrain_encoder
from scquery_ae.transform import Transform

pytestmark = [
    pytest.mark.backend,
    pytest.mark.usefixtures("eager"),
]

N_CELLS, N_GENES = 40, 15
COUNTS = np.random.default_rng(0).poisson(1.5, (N_CELLS, N_GENES)).astype("float32")
SETTINGS = {"epochs": 2, "batch_size": 32, "learning_rate": 0.01, "progress": False}


@pytest.fixture(scope="module")
def cells():
    columns = GeneColumns(sparse.csr_matrix(COUNTS), np.arange(N_GENES))
    transform = Transform.fit(columns, np.array([f"g{i}" for i in range(N_GENES)], dtype=object))
    return CellRows.read(columns, transform)


def network_input():
    """Return what the network is to see, worked out from the counts alone: log-normalised, centred."""
    totals = COUNTS.sum(axis=1, keepdims=True)
    logged = np.log1p(COUNTS / totals * np.median(totals))
    return logged - logged.mean(axis=0)


def test_encoder_of_a_stack(cells):
    encoder = pretrain_encoder(cells, (8, 5), activation="tanh", latent_activation="linear", **SETTINGS)
    assert isinstance(encoder, Encoder)
    assert encoder.transform is cells.transform
    assert encoder.classifier is None
    assert encoder.n_latent == 5
    assert [layer.activation for layer in encoder.layers] == ["tanh", "linear"]
    assert [layer.kernel.shape for layer in encoder.layers] == [(N_GENES, 8), (8, 5)]
    assert {array.dtype for layer in encoder.layers for array in (layer.kernel, layer.bias)} == {np.dtype("float32")}
    assert set(encoder.history) == {"pretrain"}
    assert [set(h) for h in encoder.history["pretrain"]] == [{"loss", "val_loss"}] * 2
    assert [len(h["loss"]) for h in encoder.history["pretrain"]] == [2, 2]


def test_embeddings_are_those_of_the_stack(cells, monkeypatch):
    """The NumPy encoder on sparse counts gives what the Keras layers give on the centred dense matrix."""
    stacks = []
    monkeypatch.setattr(
        scquery_ae.nn, "pretrain_stack", lambda *a, **k: stacks.append(pretrain_stack(*a, **k)) or stacks[0]
    )
    encoder = pretrain_encoder(cells, (8, 5), activation="elu", latent_activation="tanh", **SETTINGS)
    [stack] = stacks
    x = network_input().astype("float32")
    for layer in stack.layers:
        x = keras.ops.convert_to_numpy(layer.encode(x))
    expected = x / np.linalg.norm(x, axis=1, keepdims=True)
    for counts in (sparse.csr_matrix(COUNTS), COUNTS):
        latent = encoder.encode(counts)
        assert latent.dtype == np.float32
        np.testing.assert_allclose(latent, expected, atol=1e-5)


def test_settings_reach_the_stack(cells):
    """Calling the stack itself gives the same weights; other settings would not, by its own tests."""
    settings = {
        **SETTINGS,
        "corruption": "gaussian",
        "corruption_level": 0.2,
        "random_state": 5,
        "validation_fraction": 0.2,
    }
    encoder = pretrain_encoder(cells, (8, 5), activation="relu", latent_activation="linear", **settings)
    stack = pretrain_stack(cells, (8, 5), activation="relu", latent_activation="linear", **settings)
    for layer, (kernel, bias) in zip(encoder.layers, stack.weights, strict=True):
        np.testing.assert_array_equal(layer.kernel, kernel)
        np.testing.assert_array_equal(layer.bias, bias)
    assert encoder.history["pretrain"] == stack.history


def test_masked_genes_look_unexpressed(cells):
    """Noise is drawn before centring: a masked value enters as minus the gene's mean, as a zero count does."""
    batches = Batches(
        cells, np.arange(N_CELLS), corruption=MaskingNoise(0.4), targets=np.arange(N_CELLS), batch_size=7, seed=1
    )
    clean = network_input()
    for i in range(batches.num_batches):
        noisy, rows = batches[i]
        masked = np.abs(noisy - clean[rows]) > 1e-5
        np.testing.assert_allclose(
            noisy[masked], np.broadcast_to(-cells.transform.mean, noisy.shape)[masked], atol=1e-5
        )
        # Only what was counted can be masked.
        assert (COUNTS[rows][masked] > 0).all()
        assert 0.2 < masked.sum() / (COUNTS[rows] > 0).sum() < 0.6


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_numpy_and_keras_agree_on_activations(name):
    x = np.concatenate([np.linspace(-6, 6, 49), [-90, -30, 30, 90]]).astype("float32")[None]
    expected = keras.ops.convert_to_numpy(keras.activations.get(name)(keras.ops.convert_to_tensor(x)))
    np.testing.assert_allclose(ACTIVATIONS[name](x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("argument", ["activation", "latent_activation"])
@pytest.mark.parametrize("value", ["gelu", "softmax", None, ""])
def test_activations_that_numpy_cannot_run_are_refused(cells, argument, value):
    kwargs = {"activation": "relu", "latent_activation": "linear", argument: value}
    with pytest.raises(ArgumentError, match=rf"`{argument}` must be one of 'linear', 'relu', .* Received {value!r}"):
        pretrain_encoder(cells, (8, 5), **kwargs, **SETTINGS)


def test_bad_layer_sizes(cells):
    with pytest.raises(ArgumentError, match=r"`layer_sizes` must be a non-empty sequence of positive integers"):
        pretrain_encoder(cells, (8, 0), activation="relu", latent_activation="linear", **SETTINGS)
