"""``tl.pretrain`` as a call: what it reads, what it leaves alone, what it refuses."""

import dataclasses
import importlib
import inspect
import json

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import scquery_ae as scq
from scquery_ae.nn import GaussianNoise, MaskingNoise, NoCorruption, SaltAndPepperNoise, fitting
from scquery_ae.training import GenePanelDropout

QUICK = {"layer_sizes": (6, 3), "epochs": 1, "batch_size": 32, "progress": False}


@pytest.fixture(scope="module")
def normalized(make_adata):
    adata = make_adata(60, 30)
    scq.pp.normalize(adata, n_top_genes=20)
    return adata


@pytest.fixture(scope="module")
def first(normalized):
    return scq.tl.pretrain(normalized, **QUICK)


def weights(encoder):
    return [array for layer in encoder.layers for array in (layer.kernel, layer.bias)]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_the_returned_encoder(normalized, first):
    assert isinstance(first, scq.Encoder)
    assert [layer.kernel.shape for layer in first.layers] == [(20, 6), (6, 3)]
    assert [layer.bias.shape for layer in first.layers] == [(6,), (3,)]
    assert {array.dtype for array in weights(first)} == {np.dtype("float32")}
    assert [layer.activation for layer in first.layers] == ["relu", "linear"]
    assert first.n_latent == 3
    assert first.classifier is None
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
    assert same(scq.tl.pretrain(other, **QUICK), first)


def test_another_seed_gives_other_weights(normalized, first):
    assert not same(scq.tl.pretrain(normalized, **QUICK, random_state=1), first)


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
    scq.tl.pretrain(other, **QUICK)
    ((cells, sizes, settings),) = read
    np.testing.assert_allclose(cells.logged.toarray(), np.log1p(model / totals * np.median(totals)), rtol=1e-5)
    assert sizes == (6, 3)
    assert (settings["epochs"], settings["batch_size"], settings["random_state"]) == (1, 32, 0)


def test_the_anndata_is_left_alone(normalized, read):
    other = normalized.copy()
    values, counts = other.X.copy(), other.layers["counts"].copy()
    scq.tl.pretrain(other, **QUICK)
    np.testing.assert_array_equal(other.X.toarray(), values.toarray())
    assert (other.layers["counts"] != counts).nnz == 0
    assert (list(other.obs), list(other.obsm), [name for name in other.layers if name]) == (
        list(normalized.obs),
        [],
        ["counts"],
    )
    assert sorted(other.uns) == sorted(normalized.uns)


def test_options_reach_the_layers(normalized):
    encoder = scq.tl.pretrain(
        normalized,
        **QUICK,
        activation="tanh",
        latent_activation="sigmoid",
        corruption="gaussian",
        validation_fraction=0,
    )
    assert [layer.activation for layer in encoder.layers] == ["tanh", "sigmoid"]
    # Nothing held out, nothing to validate on.
    assert [sorted(layer) for layer in encoder.history["pretrain"]] == [["loss"]] * 2


def test_numpy_scalars_are_recorded_as_plain_values(normalized):
    # They are written to JSON when the reference is saved.
    encoder = scq.tl.pretrain(
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
        scq.NotFittedError,
        match=r"`tl\.pretrain` needs the transform that `scq\.pp\.normalize` fits.*Call `scq\.pp\.normalize",
    ):
        scq.tl.pretrain(make_adata(), **QUICK)


def test_the_counts_have_to_be_there(normalized):
    other = normalized.copy()
    del other.layers["counts"]
    with pytest.raises(
        scq.NotFittedError,
        match=r'`tl\.pretrain` trains on `adata\.layers\["counts"\]`, which is missing\. Call `scq\.pp\.norm',
    ):
        scq.tl.pretrain(other, **QUICK)


def test_all_model_genes_have_to_be_there(normalized):
    other = normalized[:, normalized.var_names != normalized.uns["scquery_transform"]["genes"][0]].copy()
    with pytest.raises(
        scq.NotFittedError,
        match=r"`tl\.pretrain` needs all 20 model genes that `scq\.pp\.normalize` chose\. 1 are missing",
    ):
        scq.tl.pretrain(other, **QUICK)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"layer_sizes": ()}, "`layer_sizes` must be a non-empty sequence of positive integers"),
        ({"layer_sizes": 64}, "`layer_sizes` must be a non-empty sequence of positive integers"),
        ({"activation": "swoosh"}, "`activation` must be one of 'linear', 'relu'.*Received 'swoosh'"),
        ({"latent_activation": None}, "`latent_activation` must be one of .*Received None"),
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
    with pytest.raises(scq.ArgumentError, match=match):
        scq.tl.pretrain(normalized, **(QUICK | arguments))


def test_other_objects_than_anndata_are_refused():
    with pytest.raises(
        scq.ArgumentError, match=r"`tl\.pretrain` takes an AnnData as its first argument\. Received ndarray"
    ):
        scq.tl.pretrain(np.ones((3, 3)), **QUICK)


# Sizes of batches and learning rates that go with the number of cells.


@pytest.mark.parametrize(
    ("n_cells", "batch_size", "rate"),
    [
        (60, 32, 1e-3),
        (1055, 32, 1e-3),
        (1056, 33, 1e-3),
        (4096, 128, 1e-3),
        # 4130 / 32 is 129.06, and the root of 129 / 128 is 1.0038986.
        (4130, 129, 1.0038986e-3),
        # Four times 128: twice the rate.
        (16384, 512, 2e-3),
        (16500, 512, 2e-3),
    ],
)
def test_default_steps_grow_with_the_cells(make_adata, read, n_cells, batch_size, rate):
    adata = make_adata(n_cells, 8)
    scq.pp.normalize(adata)
    encoder = scq.tl.pretrain(adata, layer_sizes=(3,), progress=False)
    settings = read[0][2]
    assert (settings["batch_size"], type(settings["batch_size"])) == (batch_size, int)
    assert settings["learning_rate"] == pytest.approx(rate, rel=1e-6)
    # What was used is recorded, not that it was left open.
    assert recorded(encoder)["batch_size"] == batch_size
    assert recorded(encoder)["learning_rate"] == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize(
    ("batch_size", "rate"),
    [
        # Small batches do not lower the rate.
        (1, 1e-3),
        (32, 1e-3),
        (128, 1e-3),
        (np.int64(512), 2e-3),
        (1152, 3e-3),
        ((32, 512), [1e-3, 2e-3]),
        (np.array([512, 128]), [2e-3, 1e-3]),
    ],
)
def test_default_rate_goes_with_the_batches_that_are_asked_for(normalized, read, batch_size, rate):
    scq.tl.pretrain(normalized, **(QUICK | {"batch_size": batch_size}))
    assert read[0][2]["learning_rate"] == pytest.approx(rate, rel=1e-6)


def test_a_given_batch_size_and_learning_rate_are_used(normalized, read):
    scq.tl.pretrain(normalized, **(QUICK | {"batch_size": None, "learning_rate": 0.5}))
    scq.tl.pretrain(normalized, **(QUICK | {"batch_size": 512, "learning_rate": (0.5, 0.25)}))
    asked = [(settings["batch_size"], settings["learning_rate"]) for _, _, settings in read]
    assert asked == [(32, 0.5), (512, [0.5, 0.25])]


# One value for all layers, or one a layer.


def counts_of(adata):
    return adata[:, adata.var["highly_variable"]].layers["counts"].toarray().astype(np.float64)


def inputs_of(adata):
    """Return what the network sees of the cells, worked out from the counts."""
    counts = counts_of(adata)
    totals = counts.sum(axis=1, keepdims=True)
    logged = np.log1p(counts / totals * np.median(totals))
    return logged - logged.mean(axis=0)


def recorded(encoder):
    """Return the parameters after a round trip through JSON, as a saved reference has them."""
    return json.loads(json.dumps(encoder.parameters))["pretrain"]


def test_every_setting_is_recorded(first):
    keywords = {p.name for p in inspect.signature(scq.tl.pretrain).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert set(recorded(first)) == keywords - {"gene_sets", "checkpoint", "progress"} | {"n_gene_sets"}


@pytest.mark.usefixtures("eager")
def test_settings_of_each_layer(normalized):
    settings = {
        "module": ("tied", "untied"),
        "activation": ("tanh", "sigmoid"),
        "loss": ("squared_error", "squared_error"),
        "corruption": ("gaussian", "none"),
        "corruption_level": (0.1, 0.0),
        "corrupted_weight": (1.0, 2.0),
        "uncorrupted_weight": (0.5, 1.0),
        "epochs": (2, 1),
        "patience": (1, 2),
        "batch_size": (30, 60),
        "learning_rate": (1e-3, 2e-3),
    }
    encoder = scq.tl.pretrain(normalized, layer_sizes=(6, 3), validation_fraction=0, progress=False, **settings)
    assert [layer.activation for layer in encoder.layers] == ["tanh", "sigmoid"]
    assert [len(layer["loss"]) for layer in encoder.history["pretrain"]] == [2, 1]
    kept = recorded(encoder)
    assert {name: tuple(kept[name]) for name in settings} == settings
    # NumPy arrays are as good as tuples.
    again = scq.tl.pretrain(
        normalized,
        layer_sizes=(6, 3),
        validation_fraction=0,
        progress=False,
        **{name: np.array(value) for name, value in settings.items()},
    )
    assert same(encoder, again)
    assert recorded(again) == kept


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"epochs": (1, 1, 1)}, r"`epochs` must be one value, or one for each of the 2 layers\. Received 3 values"),
        ({"activation": ("relu",)}, r"`activation` must be one value, or one for each of the 2 layers\. Received 1"),
        ({"module": "forest"}, "`module` must be one of 'tied', 'untied', 'rbm', 'pca', 'random'. Received 'forest'"),
        ({"module": ("tied", None)}, "`module` must be one of .*Received None"),
        ({"activation": ("relu", "swoosh")}, "`activation` must be one of 'linear', .*Received 'swoosh'"),
        ({"activation": ()}, "`activation` must be one (of|value).*Received"),
        ({"loss": None}, "`loss` must be one of 'squared_error', .*Received None"),
        ({"loss": ()}, "`loss` must be one value, or one for each of the 2 layers. Received 0 values"),
        ({"corruption": (), "gene_masking": 0.5}, "`corruption` must be one value, or one for each of the 2 layers"),
        ({"loss": "absolute"}, "`loss` must be one of 'squared_error', .*Received 'absolute'"),
        ({"loss": ("squared_error", "poisson")}, "`loss='poisson'` is a likelihood of counts, which only the first"),
        (
            {"loss": "cross_entropy"},
            r'`loss="cross_entropy"` needs values in \[0, 1\], but layer 2 reconstructs values',
        ),
        ({"loss": ("cross_entropy", "squared_error")}, r"`loss='cross_entropy'` needs data in \[0, 1\]\. Received"),
        ({"corruption": ("masking", "salt")}, "`corruption` must be one of .*Received 'salt'"),
        ({"corruption_level": (0.1, 1.0)}, r"`corruption_level` must be .*Received 1\.0"),
        (
            {"corrupted_weight": 0, "uncorrupted_weight": 0},
            "`corrupted_weight` or `uncorrupted_weight` must be above 0",
        ),
        ({"learning_rate": (1e-3, 0)}, r"`learning_rate` must be a number in \(0, inf\)\. Received 0"),
        ({"layer_sizes": (21, 3), "module": "pca"}, r"Received 21 units for 20 components \("),
    ],
)
def test_wrong_settings_of_layers_are_refused(normalized, arguments, match):
    with pytest.raises(scq.ArgumentError, match=match):
        scq.tl.pretrain(normalized, **(QUICK | arguments))


# Modules.


@pytest.mark.usefixtures("eager")
def test_untied_decoders_give_other_weights(normalized, first):
    encoder = scq.tl.pretrain(normalized, **QUICK, module="untied")
    assert [layer.activation for layer in encoder.layers] == ["relu", "linear"]
    assert all((a.kernel != b.kernel).any() for a, b in zip(encoder.layers, first.layers, strict=True))


@pytest.mark.usefixtures("eager")
def test_boltzmann_machines_have_sigmoids(normalized):
    encoder = scq.tl.pretrain(normalized, **QUICK, module="rbm")
    assert [layer.activation for layer in encoder.layers] == ["sigmoid", "sigmoid"]
    assert [layer.kernel.shape for layer in encoder.layers] == [(20, 6), (6, 3)]
    assert all(np.isfinite(values).all() for layer in encoder.history["pretrain"] for values in layer.values())
    assert recorded(encoder)["module"] == "rbm"


def test_principal_components_are_those_of_a_decomposition(normalized):
    encoder = scq.tl.pretrain(normalized, layer_sizes=(4,), module="pca", progress=False)
    x = inputs_of(normalized)
    _, _, axes = np.linalg.svd(x, full_matrices=False)
    kernel = encoder.layers[0].kernel
    np.testing.assert_allclose(np.abs(np.diag(axes[:4] @ kernel)), 1, rtol=1e-3)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(4), atol=1e-5)
    scores = x @ kernel + encoder.layers[0].bias
    latent = encoder.encode(counts_of(normalized))
    np.testing.assert_allclose(latent, scores / np.linalg.norm(scores, axis=1, keepdims=True), atol=1e-4)
    # Nothing is trained.
    assert encoder.history["pretrain"] == [{"loss": []}]


def test_random_weights_are_not_trained(normalized):
    # On cells of noise alone, the weights are the same.
    noise = normalized.copy()
    noise.layers["counts"] = np.random.default_rng(0).poisson(1.0, noise.shape).astype(np.float32)
    one, other = (scq.tl.pretrain(adata, **QUICK, module="random") for adata in (normalized, noise))
    assert same(one, other)
    assert one.history["pretrain"] == [{"loss": []}] * 2
    assert not same(scq.tl.pretrain(normalized, **QUICK, module="random", random_state=1), one)


# Likelihoods of counts.


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("loss", ["poisson", "negative_binomial"])
def test_likelihood_of_the_counts(normalized, loss):
    # A learning rate so low that the loss is that of the weights which come back.
    encoder = scq.tl.pretrain(
        normalized,
        layer_sizes=(6,),
        loss=loss,
        corruption="none",
        latent_activation="tanh",
        epochs=1,
        batch_size=60,
        learning_rate=1e-9,
        validation_fraction=0,
        progress=False,
    )
    counts = counts_of(normalized)
    kernel, bias = encoder.layers[0].kernel, encoder.layers[0].bias
    fraction = (counts.sum(axis=0) + 1) / (counts.sum(axis=0) + 1).sum()
    logits = np.tanh(inputs_of(normalized) @ kernel + bias) @ kernel.T + np.log(fraction)
    mean = counts.sum(axis=1, keepdims=True) * special.softmax(logits, axis=1)
    counts = counts.round()
    likelihood = (
        stats.poisson.logpmf(counts, mean) if loss == "poisson" else stats.nbinom.logpmf(counts, 1, 1 / (1 + mean))
    )
    np.testing.assert_allclose(encoder.history["pretrain"][0]["loss"], [-likelihood.mean()], rtol=1e-4)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("loss", ["poisson", "negative_binomial", ("negative_binomial", "squared_error")])
def test_a_likelihood_is_for_the_first_layer(normalized, first, loss):
    encoder = scq.tl.pretrain(normalized, **QUICK, loss=loss)
    assert not same(encoder, first)
    assert np.isfinite([values for layer in encoder.history["pretrain"] for values in layer.values()]).all()
    assert recorded(encoder)["loss"] == (loss if isinstance(loss, str) else list(loss))


# Corruption.


@pytest.fixture
def asked(monkeypatch):
    """Instead of training, keep what the stack was asked for."""
    calls = []

    class Asked(Exception):  # noqa: N818 (it is no error)
        pass

    def keep(rows, entries, **settings):
        calls.append((rows, entries, settings))
        raise Asked

    monkeypatch.setattr(scq.nn, "pretrain_stack", keep)

    def ask(adata, **arguments):
        with pytest.raises(Asked):
            scq.tl.pretrain(adata, **(QUICK | arguments))
        return calls[-1]

    return ask


@pytest.mark.usefixtures("eager")
def test_salt_and_pepper(normalized, first):
    encoder = scq.tl.pretrain(normalized, **QUICK, corruption="salt_and_pepper")
    assert not same(encoder, first)
    assert same(encoder, scq.tl.pretrain(normalized, **QUICK, corruption=SaltAndPepperNoise(0.3)))
    assert recorded(encoder)["corruption"] == "salt_and_pepper"


@pytest.mark.usefixtures("eager")
def test_a_corruption_of_ones_own_is_recorded_as_text(normalized, first):
    encoder = scq.tl.pretrain(normalized, **QUICK, corruption=MaskingNoise(0.3), corruption_level=0)
    # `corruption_level` is ignored.
    assert same(encoder, scq.tl.pretrain(normalized, **QUICK, corruption="masking", corruption_level=0.3))
    assert recorded(encoder)["corruption"] == "MaskingNoise(level=0.3)"
    seen = []

    def noise(batch, rng):
        seen.append(batch.shape)
        return batch

    encoder = scq.tl.pretrain(normalized, **QUICK, corruption=("masking", noise))
    assert {width for _, width in seen} == {6}
    masking, text = recorded(encoder)["corruption"]
    assert masking == "masking"
    assert "noise" in text


@pytest.mark.parametrize(
    ("masking", "low", "high"), [(0.5, 0.0, 0.5), ((0.2, 0.6), 0.2, 0.6), ([0.4, 0.4], 0.4, 0.4), (0.9, 0.0, 0.9)]
)
def test_whole_genes_are_masked_in_the_first_layer(normalized, asked, masking, low, high):
    rows, _, settings = asked(normalized, gene_masking=masking, corruption=("gaussian", "none"), corruption_level=0.2)
    panels, above = settings["corruption"]
    assert isinstance(panels, GenePanelDropout)
    assert panels.fractions == (low, high)
    assert panels.then == GaussianNoise(0.2)
    assert panels.transform is rows.transform
    assert above == "none"
    (_, _, settings) = asked(normalized, gene_masking=masking, corruption="none")
    assert settings["corruption"][0].then == NoCorruption()
    assert settings["corruption"][1] == "none"


@pytest.mark.parametrize("masking", [0, 0.0, (0.0, 0.0)])
def test_without_gene_masking_there_is_masking_alone(normalized, asked, masking):
    assert asked(normalized, gene_masking=masking)[2]["corruption"] == "masking"


@pytest.mark.usefixtures("eager")
def test_gene_masking_trains_and_is_recorded(normalized, first):
    encoder = scq.tl.pretrain(normalized, **QUICK, gene_masking=(0.2, 0.6))
    assert not same(encoder, first)
    assert recorded(encoder)["gene_masking"] == [0.2, 0.6]
    assert recorded(first)["gene_masking"] == [0, 0]
    assert recorded(scq.tl.pretrain(normalized, **QUICK, gene_masking=0.5))["gene_masking"] == [0, 0.5]


WRONG_FRACTIONS = [
    (1.0, r"`gene_masking` must be a number in \[0, 1\)\. Received 1\.0"),
    (-0.1, r"`gene_masking` must be a number in \[0, 1\)\. Received -0\.1"),
    ("half", r"`gene_masking` must be a number in \[0, 1\)\. Received 'half'"),
    ((0.5, 0.2), r"`gene_masking\[0\]` must not be above `gene_masking\[1\]`\. Received 0\.5 and 0\.2"),
    ((0.5, 1.0), r"`gene_masking\[1\]` must be a number in \[0, 1\)\. Received 1\.0"),
    ((None, 0.5), r"`gene_masking\[0\]` must be a number in \[0, 1\)\. Received None"),
    ((0.1, 0.2, 0.3), r"`gene_masking` must be a .* in \[0, 1\), or a pair"),
    ((0.1,), r"`gene_masking` must be a .* in \[0, 1\), or a pair"),
]


@pytest.mark.parametrize(("masking", "match"), WRONG_FRACTIONS)
def test_wrong_fractions_of_genes_are_refused(normalized, masking, match):
    with pytest.raises(scq.ArgumentError, match=match):
        scq.tl.pretrain(normalized, **QUICK, gene_masking=masking)


# Gene sets.


@pytest.fixture(scope="module")
def sets(normalized):
    """Three sets of model genes that overlap, with genes that the model lacks among them."""
    genes = list(normalized.uns["scquery_transform"]["genes"])
    return {
        "pathway one": [*genes[:6], "ELSEWHERE1"],
        "pathway two": [genes[12], genes[4], genes[9]],
        "targets": ["ELSEWHERE2", *genes[15:]],
    }


def mask_of(sets, genes, free_units):
    groups = np.array([[gene in members for members in sets.values()] for gene in genes])
    return np.hstack([groups, np.ones((len(genes), free_units), bool)])


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("free_units", [0, 2])
def test_units_stand_for_gene_sets(normalized, sets, tmp_path, free_units):
    encoder = scq.tl.pretrain(normalized, **QUICK, activation="tanh", gene_sets=sets, free_units=free_units)
    bottom, *above = encoder.layers
    width = 3 + free_units
    assert bottom.units == ("pathway one", "pathway two", "targets", "free_0", "free_1")[:width]
    mask = mask_of(sets, encoder.genes, free_units)
    np.testing.assert_array_equal(bottom.mask, mask)
    np.testing.assert_array_equal(bottom.kernel != 0, mask)
    # The sizes are those of the layers above.
    assert [layer.kernel.shape for layer in encoder.layers] == [(20, width), (width, 6), (6, 3)]
    assert [layer.activation for layer in encoder.layers] == ["tanh", "tanh", "linear"]
    assert all((layer.mask, layer.units) == (None, None) for layer in above)
    assert len(encoder.history["pretrain"]) == 3
    kept = recorded(encoder)
    assert (kept["n_gene_sets"], kept["free_units"], kept["layer_sizes"]) == (3, free_units, [6, 3])
    # The same sets from a file.
    path = tmp_path / "sets.gmt"
    path.write_text("".join("\t".join([name, "", *members]) + "\n" for name, members in sets.items()))
    source = str(path) if free_units else path
    again = scq.tl.pretrain(normalized, **QUICK, activation="tanh", gene_sets=source, free_units=free_units)
    assert same(again, encoder)
    assert again.layers[0].units == bottom.units


@pytest.mark.usefixtures("eager")
def test_settings_of_each_layer_count_that_of_the_gene_sets(normalized, sets):
    encoder = scq.tl.pretrain(
        normalized,
        **(QUICK | {"epochs": (2, 1, 1), "validation_fraction": 0}),
        activation=("sigmoid", "tanh", "linear"),
        loss=("poisson", "squared_error", "squared_error"),
        gene_sets=sets,
        gene_masking=0.5,
    )
    assert [layer.activation for layer in encoder.layers] == ["sigmoid", "tanh", "linear"]
    assert [len(layer["loss"]) for layer in encoder.history["pretrain"]] == [2, 1, 1]
    with pytest.raises(
        scq.ArgumentError, match=r"`epochs` must be one value, or one for each of the 3 layers\. Received"
    ):
        scq.tl.pretrain(normalized, **(QUICK | {"epochs": (1, 1)}), gene_sets=sets)


@pytest.mark.usefixtures("eager")
def test_zeros_outlast_fine_tuning(normalized, sets):
    adata = normalized.copy()
    encoder = scq.tl.pretrain(adata, **QUICK, gene_sets=sets, free_units=1)
    before = encoder.layers[0]
    scq.tl.finetune(adata, encoder, label_key="cell_type", epochs=2, batch_size=30, learning_rate=0.01, progress=False)
    after = encoder.layers[0]
    assert after.units == before.units
    np.testing.assert_array_equal(after.mask, before.mask)
    assert (after.kernel[~after.mask] == 0).all()
    assert (np.abs(after.kernel - before.kernel)[after.mask] > 1e-4).all()


@pytest.mark.usefixtures("eager")
def test_small_sets_are_left_out_with_a_warning(normalized, sets):
    genes = list(normalized.uns["scquery_transform"]["genes"])
    more = {"small": genes[:2], **sets, "elsewhere": ["X", "Y", "Z"]}
    with pytest.warns(
        scq.ScqueryWarning, match=r"2 of 5 gene sets have fewer than three model genes and are left out\."
    ) as caught:
        encoder = scq.tl.pretrain(normalized, **QUICK, gene_sets=more)
    assert [w.filename for w in caught if w.category is scq.ScqueryWarning] == [__file__]
    assert encoder.layers[0].units == tuple(sets)
    assert recorded(encoder)["n_gene_sets"] == 3


def test_wrong_gene_sets_are_refused(normalized, sets, tmp_path):
    for error, arguments, match in (
        (
            scq.ArgumentError,
            {"free_units": 2},
            "`free_units` needs `gene_sets`. Received free_units=2 without gene sets; pass",
        ),
        (scq.ArgumentError, {"gene_sets": sets, "free_units": -1}, "`free_units` must be an integer of at least 0"),
        (scq.ArgumentError, {"gene_sets": [["A", "B"]]}, "`gene_sets` must be the path of a GMT .*Received list"),
        (scq.MissingKeyError, {"gene_sets": tmp_path / "nowhere.gmt"}, "There is no file .*nowhere"),
        (
            scq.GeneOverlapError,
            {"gene_sets": {"mouse": ("Actb", "Gapdh", "Cd3e")}},
            "None of the 1 gene sets has 3 or more of the 20 model genes. Received genes such as 'Actb'",
        ),
    ):
        with pytest.raises(error, match=match):
            scq.tl.pretrain(normalized, **QUICK, **arguments)


def part_of(path, part):
    manifest = json.loads((path / "manifest.json").read_text())
    return path / manifest["parts"][part]["file"]


@pytest.mark.usefixtures("eager")
def test_a_reference_keeps_its_gene_sets(normalized, sets, tmp_path):
    adata = normalized.copy()
    encoder = scq.tl.pretrain(adata, **QUICK, gene_sets=sets, free_units=1)
    scq.tl.finetune(adata, encoder, label_key="cell_type", epochs=1, progress=False)
    reference = scq.tl.build_reference(adata, encoder, label_key="cell_type")
    reference.save(tmp_path / "sets.scq")
    loaded = scq.Reference.load(tmp_path / "sets.scq").encoder
    bottom, above = loaded.layers[0], loaded.layers[1:]
    assert bottom.units == (*sets, "free_0")
    assert bottom.mask.dtype == bool
    np.testing.assert_array_equal(bottom.mask, mask_of(sets, encoder.genes, 1))
    assert [(layer.mask, layer.units) for layer in above] == [(None, None)] * 2
    assert same(loaded, encoder)
    assert loaded.parameters == json.loads(json.dumps(encoder.parameters))
    # What was loaded can be trained further, under the same mask.
    scq.tl.finetune(adata, loaded, label_key="cell_type", epochs=1, progress=False)
    assert (loaded.layers[0].kernel[~bottom.mask] == 0).all()
    assert not same(loaded, encoder)


# Checkpoints.


@pytest.fixture
def layers_trained(monkeypatch):
    """Record which layers are trained; ``layers_trained.fail_at`` stops the run before one of them."""
    run = fitting.run_epochs

    class Trained(list):
        fail_at = None

    record = Trained()

    def spy(model, *args, **kwargs):
        name = model.layers[0].name
        if record.fail_at == name:
            raise KeyboardInterrupt
        record.append(name)
        return run(model, *args, **kwargs)

    monkeypatch.setattr(fitting, "run_epochs", spy)
    return record


@pytest.mark.usefixtures("eager")
def test_an_interrupted_run_resumes(normalized, sets, layers_trained, tmp_path):
    arguments = QUICK | {"gene_sets": sets, "gene_masking": 0.5, "loss": "negative_binomial"}
    whole = scq.tl.pretrain(normalized, **arguments)
    assert layers_trained == ["gene_sets", "denoising_1", "denoising_2"]
    layers_trained.clear()
    layers_trained.fail_at = "denoising_2"
    with pytest.raises(KeyboardInterrupt):
        scq.tl.pretrain(normalized, **arguments, checkpoint=tmp_path / "run")
    assert layers_trained == ["gene_sets", "denoising_1"]
    layers_trained.clear()
    layers_trained.fail_at = None
    resumed = scq.tl.pretrain(normalized, **arguments, checkpoint=str(tmp_path / "run"))
    assert layers_trained == ["denoising_2"]
    layers_trained.clear()
    again = scq.tl.pretrain(normalized, **arguments, checkpoint=tmp_path / "run")
    assert layers_trained == []
    for encoder in (resumed, again):
        assert same(encoder, whole)
        assert encoder.history == whole.history
        assert encoder.layers[0].units == whole.layers[0].units
        # The checkpoint is not a setting.
        assert recorded(encoder) == recorded(whole)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"gene_masking": 0.5}, {"gene_masking": (0.1, 0.5)}),
        # Noise of another kind at the same level.
        ({"corruption": "masking"}, {"corruption": "gaussian"}),
        ({"corruption": MaskingNoise(0.3)}, {"corruption": GaussianNoise(0.3)}),
        ({"gene_masking": 0.5, "corruption": "masking"}, {"gene_masking": 0.5, "corruption": "gaussian"}),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(normalized, tmp_path, before, after):
    arguments = QUICK | {"layer_sizes": (3,), "checkpoint": tmp_path}
    scq.tl.pretrain(normalized, **(arguments | before))
    with pytest.raises(
        scq.ArgumentError, match=r"`checkpoint` holds another run: .*layer_0\.safetensors was written with"
    ):
        scq.tl.pretrain(normalized, **(arguments | after))


def test_a_checkpoint_that_is_no_folder_is_refused(normalized, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(scq.ArgumentError, match=r"`checkpoint` must be the path of a folder\. Received .*, which is"):
        scq.tl.pretrain(normalized, **QUICK, checkpoint=tmp_path / "file")
    with pytest.raises(scq.ArgumentError, match=r"`checkpoint` must be a path: .*Received 3"):
        scq.tl.pretrain(normalized, **QUICK, checkpoint=3)
