"""``tl.pretrain`` as a call: what it reads, what it leaves alone, what it refuses."""

import dataclasses
import importlib
import json

import numpy as np
import pandas as pd
import pytest

import scquery_ae as sq

QUICK = {"layer_sizes": (6, 3), "epochs": 1, "batch_size": 32, "progress": False}


@pytest.fixture(scope="module")
def normalized(make_adata):
    adata = make_adata(60, 30)
    sq.pp.normalize(adata, n_top_genes=20)
    return adata


@pytest.fixture(scope="module")
def first(normalized):
    return sq.tl.pretrain(normalized, **QUICK)


def weights(encoder):
    return [array for layer in encoder.layers for array in (layer.kernel, layer.bias)]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_what_comes_back(normalized, first):
    assert isinstance(first, sq.Encoder)
    assert [layer.kernel.shape for layer in first.layers] == [(20, 6), (6, 3)]
    assert [layer.bias.shape for layer in first.layers] == [(6,), (3,)]
    assert {array.dtype for array in weights(first)} == {np.dtype("float32")}
    assert [layer.activation for layer in first.layers] == ["relu", "linear"]
    assert first.n_latent == 3
    assert first.head is None
    assert list(first.genes) == list(normalized.var_names[normalized.var["highly_variable"]])
    np.testing.assert_array_equal(first.transform.mean, normalized.uns["scquery_transform"]["mean"])
    assert [sorted(layer) for layer in first.history["pretrain"]] == [["loss", "val_loss"]] * 2
    assert all(len(values) == 1 for layer in first.history["pretrain"] for values in layer.values())
    assert first.parameters["pretrain"]["layer_sizes"] == [6, 3]
    assert first.parameters["pretrain"]["corruption_level"] == 0.3


def test_labels_are_not_looked_at(normalized, first):
    # The same cells with their labels permuted, and half of them missing.
    other = normalized.copy()
    labels = np.random.default_rng(0).permutation(other.obs["cell_type"].astype(object))
    labels[::2] = np.nan
    other.obs["cell_type"] = pd.Categorical(labels)
    assert list(other.obs["cell_type"]) != list(normalized.obs["cell_type"])
    assert same(sq.tl.pretrain(other, **QUICK), first)


def test_another_seed_gives_other_weights(normalized, first):
    assert not same(sq.tl.pretrain(normalized, **QUICK, random_state=1), first)


@pytest.fixture
def read(monkeypatch, make_encoder, make_adata):
    """Instead of training, keep the cells that would be trained on."""
    seen = []

    def keep(cells, sizes, **settings):
        seen.append((cells, sizes, settings))
        return dataclasses.replace(make_encoder(make_adata(5, 4)), history={"pretrain": []})

    monkeypatch.setattr(importlib.import_module("scquery_ae.tl.pretrain"), "pretrain_encoder", keep)
    return seen


@pytest.mark.parametrize("change", ["no labels", "other X", "genes reversed", "CSC", "dense"])
def test_the_counts_of_the_model_genes_are_trained_on_whatever_is_around_them(normalized, read, change):
    model = normalized[:, normalized.var["highly_variable"]].layers["counts"].toarray().astype(np.float64)
    totals = model.sum(axis=1, keepdims=True)
    other = normalized[:, ::-1].copy() if change == "genes reversed" else normalized.copy()
    if change == "no labels":
        del other.obs["cell_type"], other.obs["batch"]
    elif change == "other X":
        other.X = -other.X
    elif change in ("CSC", "dense"):
        other.layers["counts"] = other.layers["counts"].tocsc() if change == "CSC" else other.layers["counts"].toarray()
    sq.tl.pretrain(other, **QUICK)
    ((cells, sizes, settings),) = read
    np.testing.assert_allclose(cells.logged.toarray(), np.log1p(model / totals * np.median(totals)), rtol=1e-5)
    assert sizes == (6, 3)
    assert (settings["epochs"], settings["batch_size"], settings["random_state"]) == (1, 32, 0)


def test_the_anndata_is_left_alone(normalized, read):
    other = normalized.copy()
    values, counts = other.X.copy(), other.layers["counts"].copy()
    sq.tl.pretrain(other, **QUICK)
    np.testing.assert_array_equal(other.X.toarray(), values.toarray())
    assert (other.layers["counts"] != counts).nnz == 0
    assert (list(other.obs), list(other.obsm), [name for name in other.layers if name]) == (
        list(normalized.obs),
        [],
        ["counts"],
    )
    assert sorted(other.uns) == sorted(normalized.uns)


def test_options_reach_the_layers(normalized):
    encoder = sq.tl.pretrain(
        normalized, **QUICK, activation="tanh", code_activation="sigmoid", corruption="gaussian", validation_fraction=0
    )
    assert [layer.activation for layer in encoder.layers] == ["tanh", "sigmoid"]
    # Nothing held out, nothing to validate on.
    assert [sorted(layer) for layer in encoder.history["pretrain"]] == [["loss"]] * 2


def test_numpy_scalars_are_recorded_as_plain_values(normalized):
    # They are written to JSON when the reference is saved.
    encoder = sq.tl.pretrain(
        normalized,
        layer_sizes=np.array([3]),
        epochs=np.int64(1),
        batch_size=np.int32(60),
        learning_rate=np.float32(1e-3),
        random_state=np.int64(0),
        progress=False,
    )
    assert json.loads(json.dumps(encoder.parameters))["pretrain"]["epochs"] == 1


def test_cells_have_to_be_normalised_first(make_adata):
    with pytest.raises(
        sq.NotFittedError,
        match=r"`tl\.pretrain` needs the normalisation that `sq\.pp\.normalize` fits.*Call `sq\.pp\.normalize\(adata",
    ):
        sq.tl.pretrain(make_adata(), **QUICK)


def test_the_counts_have_to_be_there(normalized):
    other = normalized.copy()
    del other.layers["counts"]
    with pytest.raises(
        sq.NotFittedError,
        match=r'`tl\.pretrain` trains on `adata\.layers\["counts"\]`, which is not there\. Call `sq\.pp\.norm',
    ):
        sq.tl.pretrain(other, **QUICK)


def test_all_model_genes_have_to_be_there(normalized):
    other = normalized[:, normalized.var_names != normalized.uns["scquery_transform"]["genes"][0]].copy()
    with pytest.raises(
        sq.NotFittedError, match=r"`tl\.pretrain` needs all 20 model genes\. 1 that `sq\.pp\.normalize` chose"
    ):
        sq.tl.pretrain(other, **QUICK)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"layer_sizes": ()}, "`layer_sizes` must be a non-empty sequence of positive integers"),
        ({"layer_sizes": 64}, "`layer_sizes` must be a non-empty sequence of positive integers"),
        ({"activation": "swoosh"}, "`activation` must be one of 'linear', 'relu'.*Received 'swoosh'"),
        ({"code_activation": None}, "`code_activation` must be one of .*Received None"),
        ({"corruption": "salt"}, "`corruption` must be one of .*Received 'salt'"),
        ({"corruption_level": 1.0}, r"`corruption_level` must be .*Received 1\.0"),
        ({"epochs": 0}, "`epochs` must be an integer of at least 1. Received 0"),
        ({"patience": 0}, "`patience` must be an integer of at least 1. Received 0"),
        ({"batch_size": 1.5}, "`batch_size` must be an integer of at least 1. Received 1.5"),
        ({"learning_rate": 0}, r"`learning_rate` must be a number in \(0, inf\)\. Received 0"),
        ({"validation_fraction": 1}, r"`validation_fraction` must be a number in \[0, 1\)\. Received 1"),
        ({"random_state": -1}, "`random_state` must be an integer of at least 0. Received -1"),
    ],
)
def test_wrong_arguments_are_refused(normalized, arguments, match):
    with pytest.raises(sq.ArgumentError, match=match):
        sq.tl.pretrain(normalized, **(QUICK | arguments))


def test_what_is_no_anndata_is_refused():
    with pytest.raises(
        sq.ArgumentError, match=r"`tl\.pretrain` takes an AnnData as its first argument\. Received ndarray"
    ):
        sq.tl.pretrain(np.ones((3, 3)), **QUICK)
