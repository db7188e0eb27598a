"""Supervised training: who is trained on, with which weight, and what is kept."""

from __future__ import annotations

import copy

import keras
import numpy as np
import pytest
from scipy import sparse, special

import scquery_ae.nn
from scquery_ae._errors import TrainingError
from scquery_ae.dense import Classifier, DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows, GeneColumns
from scquery_ae.nn import Batches, build_classifier, fitting
from scquery_ae.stats import GeneDiscriminant
from scquery_ae.training import FinetuneResult, FinetuneSettings, finetune_encoder, stratified_split
from scquery_ae.transform import Transform

pytestmark = [
    pytest.mark.backend,
    pytest.mark.usefixtures("eager"),
]

N_GENES, TYPES = 24, ("alpha", "beta", "gamma")


def simulate(n_per_type=(30, 30, 30), seed=0):
    """Return counts of types with four marker genes each, and the types."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(n_per_type)), n_per_type))
    rates = np.full((len(n_per_type), N_GENES), 1.0)
    for i in range(len(n_per_type)):
        rates[i, 4 * i : 4 * i + 4] = 8
    return rng.poisson(rates[labels]).astype("float32"), labels


def as_cells(counts):
    columns = GeneColumns(sparse.csr_matrix(counts), np.arange(N_GENES))
    genes = np.array([f"g{i}" for i in range(N_GENES)], dtype=object)
    return CellRows.read(columns, Transform.fit(columns, genes))


def an_encoder(cells, activations=("tanh", "linear"), seed=0):
    rng = np.random.default_rng(seed)
    widths = (N_GENES, *[10] * (len(activations) - 1), 6)
    layers = tuple(
        DenseWeights((rng.normal(size=(d, k)) / np.sqrt(d)).astype("float32"), np.full(k, 0.1, "float32"), activation)
        for d, k, activation in zip(widths[:-1], widths[1:], activations, strict=True)
    )
    return Encoder(cells.transform, layers)


def finetune(encoder, cells, labels, held_out=None, types=TYPES, **settings):
    defaults = {"corruption_level": 0.2, "gene_masking": 0.0, "epochs": 2, "batch_size": 32, "learning_rate": 0.01}
    held_out = np.zeros(len(labels), bool) if held_out is None else held_out
    return finetune_encoder(encoder, cells, labels, held_out, types, FinetuneSettings(**{**defaults, **settings}))


@pytest.fixture
def models(monkeypatch):
    """Record the Keras models that fine-tuning builds."""
    record = []

    def build(*args, **kwargs):
        record.append(build_classifier(*args, **kwargs))
        return record[-1]

    monkeypatch.setattr(scquery_ae.nn, "build_classifier", build)
    return record


@pytest.fixture
def steps(monkeypatch):
    """Record ``(is_training, input, target, weight)`` of each training and test step.

    Before training begins Keras tries the model on made-up values, which are left out.
    """
    record, begun = [], []
    run, compute_loss = fitting.run_epochs, keras.Model.compute_loss

    def spied_run(model, *args, callbacks, **kwargs):
        begin = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: begun.append(model))
        return run(model, *args, callbacks=[*callbacks, begin], **kwargs)

    def spied_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if begun:
            record.append((training, *(keras.ops.convert_to_numpy(v) for v in (x, y, sample_weight))))
        return compute_loss(self, x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)

    monkeypatch.setattr(fitting, "run_epochs", spied_run)
    monkeypatch.setattr(keras.Model, "compute_loss", spied_loss)
    return record


def seen(steps, training):
    """Return inputs, targets and weights of all steps of one kind, one below the other."""
    return tuple(np.concatenate(arrays) for arrays in zip(*(s[1:] for s in steps if s[0] == training), strict=True))


def which_cells(inputs, cells):
    clean = cells.dense(cells.take(np.arange(cells.shape[0])))
    distance = np.abs(inputs[:, None] - clean[None]).max(axis=2)
    assert (distance.min(axis=1) < 1e-5).all()
    return distance.argmin(axis=1)


def predicted_types(encoder, result, counts):
    """Classify counts by NumPy alone."""
    new = Encoder(encoder.transform, result.layers, result.classifier)
    return new.classify(new.encode(sparse.csr_matrix(counts))).argmax(axis=1)


# Learning


def test_separable_types_are_learnt():
    counts, labels = simulate()
    cells = as_cells(counts)
    encoder = an_encoder(cells)
    held_out = stratified_split(labels, 0.2, 0)
    result = finetune(encoder, cells, labels, held_out, epochs=12, batch_size=16)
    assert isinstance(result, FinetuneResult)
    fresh, types = simulate((40, 40, 40), seed=9)
    assert (predicted_types(encoder, result, fresh) == types).mean() > 0.9
    assert set(result.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert result.history["loss"][-1] < result.history["loss"][0]
    assert result.history["val_accuracy"][-1] > 0.9
    assert all(type(v) is float for values in result.history.values() for v in values)


@pytest.mark.parametrize("activations", [("linear",), ("tanh", "linear"), ("relu", "elu")])
def test_numpy_encoder_is_the_keras_model(models, activations):
    counts, labels = simulate()
    cells = as_cells(counts)
    encoder = an_encoder(cells, activations)
    result = finetune(encoder, cells, labels, dropout=0.2)
    [model] = models
    assert [layer.activation for layer in result.layers] == list(activations)
    assert result.classifier.types == TYPES
    new = Encoder(encoder.transform, result.layers, result.classifier)
    x = cells.dense(cells.take(np.arange(len(labels))))
    latent_model = keras.Model(model.inputs, model.get_layer("latent").output)
    expected = latent_model.predict(x, verbose=0)
    for form in (sparse.csr_matrix(counts), counts):
        latent = new.encode(form)
        np.testing.assert_allclose(latent, expected, atol=1e-5)
        np.testing.assert_allclose(new.classify(latent), model.predict(x, verbose=0), atol=1e-5)


def test_encoder_argument_is_left_alone():
    counts, labels = simulate()
    cells = as_cells(counts)
    encoder = an_encoder(cells)
    encoder.history = {"pretrain": [{"loss": [1.0]}]}
    before = copy.deepcopy(encoder)
    result = finetune(encoder, cells, labels)
    assert encoder.classifier is None
    assert (encoder.history, encoder.parameters) == (before.history, before.parameters)
    for layer, old, new in zip(encoder.layers, before.layers, result.layers, strict=True):
        np.testing.assert_array_equal(layer.kernel, old.kernel)
        np.testing.assert_array_equal(layer.bias, old.bias)
        # All layers are trained.
        assert np.abs(new.kernel - old.kernel).max() > 1e-3
        assert np.abs(new.bias - old.bias).max() > 1e-4


def test_starts_from_the_layers_of_the_encoder(models):
    counts, labels = simulate()
    cells = as_cells(counts)
    encoder = an_encoder(cells)
    result = finetune(encoder, cells, labels, epochs=1, learning_rate=1e-9)
    for layer, new in zip(encoder.layers, result.layers, strict=True):
        np.testing.assert_allclose(new.kernel, layer.kernel, atol=1e-6)
        np.testing.assert_allclose(new.bias, layer.bias, atol=1e-6)


# Who is trained on


def test_unlabelled_cells_never_reach_a_batch(steps):
    counts, labels = simulate()
    labels = np.where(np.random.default_rng(3).random(len(labels)) < 0.4, -1, labels)
    cells = as_cells(counts)
    held_out = np.zeros(len(labels), bool)
    held_out[labels >= 0] = stratified_split(labels[labels >= 0], 0.2, 0)
    finetune(an_encoder(cells), cells, labels, held_out, corruption_level=0.0, epochs=2)
    for training, mask in ((True, (labels >= 0) & ~held_out), (False, held_out)):
        inputs, targets, _ = seen(steps, training)
        found = which_cells(inputs, cells)
        # Each of its cells once in both epochs, and no other.
        np.testing.assert_array_equal(np.bincount(found, minlength=len(labels)), 2 * mask)
        np.testing.assert_array_equal(targets, np.eye(3)[labels[found]])


def test_training_inputs_are_corrupted_and_held_out_ones_are_not(steps):
    counts, labels = simulate()
    cells = as_cells(counts)
    held_out = stratified_split(labels, 0.2, 0)
    finetune(an_encoder(cells), cells, labels, held_out, corruption_level=0.3, epochs=1)
    which_cells(seen(steps, False)[0], cells)
    # A masked value is minus the mean of its gene, which only a zero count is otherwise.
    zeros = np.isclose(seen(steps, True)[0], -cells.transform.mean, atol=1e-5).mean()
    expected = 1 - 0.7 * (counts[~held_out] > 0).mean()
    assert abs(zeros - expected) < 0.05


# Class weights


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_class_weights(steps, power):
    counts, labels = simulate((60, 25, 5))
    cells = as_cells(counts)
    held_out = stratified_split(labels, 0.2, 0)
    finetune(an_encoder(cells), cells, labels, held_out, class_weight_power=power, epochs=1)
    _, targets, weights = seen(steps, True)
    types = targets.argmax(axis=1)
    n = np.bincount(types)
    assert n.tolist() == [48, 20, 4]
    # n ** -power a cell, scaled so that a training cell weighs one on average.
    raw = n.astype(float) ** -power
    expected = raw / (raw * n).sum() * n.sum()
    np.testing.assert_allclose(weights, expected[types], rtol=1e-5)
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-5)
    # What a type weighs in all: its frequency at 0, the same as the others at 1.
    totals = np.bincount(types, weights)
    if power == 1:
        np.testing.assert_allclose(totals, 24, rtol=1e-4)
    if power == 0:
        np.testing.assert_allclose(totals, n, rtol=1e-4)
    # Held-out cells are weighed as training cells of their type are.
    _, targets, weights = seen(steps, False)
    np.testing.assert_allclose(weights, expected[targets.argmax(axis=1)], rtol=1e-5)


def test_loss_is_the_weighted_smoothed_cross_entropy(models, steps):
    counts, labels = simulate((60, 25, 5))
    cells = as_cells(counts)
    held_out = stratified_split(labels, 0.2, 0)
    # A few epochs from a classifier that starts gently: Keras cuts probabilities off below 1e-7, where it matters.
    settings = {"epochs": 4, "label_smoothing": 0.2, "class_weight_power": 1.0, "random_state": 2}
    result = finetune(an_encoder(cells), cells, labels, held_out, **settings)
    best = int(np.argmin(result.history["val_loss"]))
    n = len(steps) // 4
    inputs, targets, weights = seen(steps[-n:], False)
    p = np.maximum(models[0].predict(inputs, verbose=0), 1e-7)
    smoothed = 0.8 * targets + 0.2 / 3
    expected = (-(smoothed * np.log(p)).sum(axis=1) * weights).mean()
    np.testing.assert_allclose(result.history["val_loss"][best], expected, rtol=1e-4)
    neighbors = p.argmax(axis=1) == targets.argmax(axis=1)
    np.testing.assert_allclose(
        result.history["val_accuracy"][best], (neighbors * weights).sum() / weights.sum(), rtol=1e-4
    )


# Rare types


def test_types_with_one_cell_do_not_break_it():
    counts, labels = simulate((30, 1, 1))
    cells = as_cells(counts)
    held_out = stratified_split(labels, 0.2, 0)
    result = finetune(an_encoder(cells), cells, labels, held_out, class_weight_power=1.0)
    assert np.isfinite([v for values in result.history.values() for v in values]).all()
    assert all(np.isfinite(layer.kernel).all() for layer in result.layers)
    assert np.isfinite(result.classifier.kernel).all()


def test_a_type_without_a_training_cell_does_not_break_it():
    """All its cells are held out, or the list of types is that of a larger study."""
    counts, labels = simulate((30, 30, 2))
    cells = as_cells(counts)
    result = finetune(an_encoder(cells), cells, labels, labels == 2, types=(*TYPES, "delta"))
    assert result.classifier.kernel.shape == (6, 4)
    assert np.isfinite([v for values in result.history.values() for v in values]).all()


# Genes


def confused(n_per_type):
    """Return cells, some without a label and some of which have another's: genes are not as sure as they seem."""
    counts, labels = simulate(n_per_type)
    rng = np.random.default_rng(5)
    odd = rng.random(len(labels)) < 0.2
    labels = np.where(odd, rng.integers(len(n_per_type), size=len(labels)), labels)
    return as_cells(counts), np.where(rng.random(len(labels)) < 0.1, -1, labels)


def held_out_of(labels, fraction):
    held_out = np.zeros(len(labels), bool)
    held_out[labels >= 0] = stratified_split(labels[labels >= 0], fraction, 0)
    return held_out


def assert_discriminant(received, expected):
    for name, value in vars(expected).items():
        np.testing.assert_allclose(getattr(received, name), value, rtol=1e-6, atol=1e-7, err_msg=name)


def scores_by_hand(fitted, cells, rows):
    """Scores of some cells, those with few counts worth less; nothing for types without a cell."""
    worth = np.minimum(cells.totals[rows] / cells.transform.target_sum, 1)[:, None]
    assert worth.min() < 0.9 < worth.max() == 1
    return np.where(fitted.seen, fitted.decision(cells.logged[rows]) * worth.astype(np.float32), -np.inf)


def test_genes_learn_from_training_cells_and_are_calibrated_on_held_out_ones():
    cells, labels = confused((100, 100, 100))
    held_out = held_out_of(labels, 0.3)
    assert held_out.sum() >= 50
    result = finetune(an_encoder(cells), cells, labels, held_out, epochs=1)
    fitted = GeneDiscriminant.fit(cells.logged, np.where(held_out, -1, labels), 3)
    rows = np.flatnonzero(held_out)
    expected = fitted.calibrated(scores_by_hand(fitted, cells, rows), labels[rows])
    assert_discriminant(result.discriminant, expected)
    assert expected.temperature > 1.5
    assert (
        abs(fitted.calibrated(fitted.decision(cells.logged[rows]), labels[rows]).temperature - expected.temperature)
        > 0.01
    )


@pytest.mark.parametrize("fraction", [0.0, 0.2])
def test_with_few_held_out_cells_genes_are_calibrated_by_folds(fraction):
    cells, labels = confused((40, 30, 1, 25))
    labels[labels == 2] = -1
    labels[7] = 2
    types = (*TYPES, "delta")
    held_out = held_out_of(labels, fraction) if fraction else np.zeros(len(labels), bool)
    assert held_out.sum() < 50
    result = finetune(an_encoder(cells), cells, labels, held_out, types, epochs=1)
    fitted = GeneDiscriminant.fit(cells.logged, np.where(held_out, -1, labels), 4)
    # Every third labelled cell of a type, in its order, is predicted from the rest; the only cell of its type is not.
    folds = np.full(len(labels), -1)
    for kind in (0, 1, 3):
        folds[labels == kind] = np.arange((labels == kind).sum()) % 3
    scores, truth = [], []
    for fold in range(3):
        known = np.where(folds == fold, -1, labels)
        if fold == 0:
            known[7] = -1
        rows = np.flatnonzero(folds == fold)
        scores.append(scores_by_hand(GeneDiscriminant.fit(cells.logged, known, 4), cells, rows))
        truth.append(labels[rows])
    assert np.isneginf(scores[0][:, 2]).all()
    assert np.isfinite(scores[1]).all()
    expected = fitted.calibrated(np.concatenate(scores), np.concatenate(truth))
    assert_discriminant(result.discriminant, expected)
    assert expected.temperature > 1.5


def test_genes_of_types_with_one_cell_each_stay_as_they_are_fitted():
    cells, labels = confused((30, 30, 30))
    known = np.full(len(labels), -1)
    known[[np.flatnonzero(labels == kind)[0] for kind in range(3)]] = range(3)
    result = finetune(an_encoder(cells), cells, known, epochs=1)
    assert_discriminant(result.discriminant, GeneDiscriminant.fit(cells.logged, known, 3))
    assert result.discriminant.temperature == 1


# Stopping


def mislabelled():
    """Return cells with labels by chance: the loss on held-out ones soon rises."""
    counts, _ = simulate()
    labels = np.random.default_rng(4).integers(0, 3, len(counts))
    cells = as_cells(counts)
    return an_encoder(cells), cells, labels, stratified_split(labels, 0.4, 0)


@pytest.fixture
def weights_by_epoch(monkeypatch):
    record = []
    run = fitting.run_epochs

    def spied_run(model, *args, callbacks, **kwargs):
        keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: record.append(model.get_weights()))
        return run(model, *args, callbacks=[*callbacks, keep], **kwargs)

    monkeypatch.setattr(fitting, "run_epochs", spied_run)
    return record


@pytest.mark.parametrize(("epochs", "patience"), [(30, 2), (14, 14)])
def test_best_epoch_is_kept(weights_by_epoch, epochs, patience):
    result = finetune(
        *mislabelled(), epochs=epochs, patience=patience, batch_size=16, corruption_level=0.0, learning_rate=0.03
    )
    losses = result.history["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == min(epochs, best + 1 + patience)
    assert best < len(losses) - 1, "the last epoch was the best, which shows nothing"
    kept, last = weights_by_epoch[best], weights_by_epoch[-1]
    for i, layer in enumerate(result.layers):
        np.testing.assert_array_equal(layer.kernel, kept[2 * i])
        np.testing.assert_array_equal(layer.bias, kept[2 * i + 1])
        assert np.abs(layer.kernel - last[2 * i]).max() > 1e-3
    np.testing.assert_allclose(result.classifier.kernel, 16 * kept[-2], rtol=1e-6)
    np.testing.assert_array_equal(result.classifier.bias, kept[-1])


def test_without_held_out_cells_every_epoch_is_trained():
    counts, labels = simulate()
    cells = as_cells(counts)
    result = finetune(an_encoder(cells), cells, labels, epochs=3, patience=1)
    assert set(result.history) == {"loss", "accuracy"}
    assert len(result.history["loss"]) == 3


def test_divergence_is_an_error():
    counts, labels = simulate()
    cells = as_cells(counts)
    encoder = an_encoder(cells)
    encoder.layers[0].kernel[2, 3] = np.nan
    with pytest.raises(
        TrainingError, match=r"Training diverged: `loss` should be finite, but is nan in epoch 1\. Lower"
    ):
        finetune(encoder, cells, labels)


# Seeds


def test_random_state():
    counts, labels = simulate()
    cells = as_cells(counts)
    encoder = an_encoder(cells)
    keras.utils.set_random_seed(1)
    first = finetune(encoder, cells, labels, random_state=3, dropout=0.3)
    keras.utils.set_random_seed(2)
    again, other = (finetune(encoder, cells, labels, random_state=s, dropout=0.3) for s in (3, 4))
    for one, same, different in zip(first.layers, again.layers, other.layers, strict=True):
        np.testing.assert_array_equal(one.kernel, same.kernel)
        assert np.abs(one.kernel - different.kernel).max() > 1e-3
    np.testing.assert_array_equal(first.classifier.kernel, again.classifier.kernel)
    assert first.history == again.history


def test_random_state_may_be_a_numpy_integer():
    counts, labels = simulate()
    cells = as_cells(counts)
    one, other = (finetune(an_encoder(cells), cells, labels, random_state=s, dropout=0.3) for s in (3, np.int64(3)))
    np.testing.assert_array_equal(one.classifier.kernel, other.classifier.kernel)


def test_batches_of_training_and_held_out_cells_have_their_own_streams(monkeypatch):
    made = []

    class Spy(Batches):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append((kwargs["seed"], kwargs.get("fixed", False)))

    monkeypatch.setattr(scquery_ae.nn, "Batches", Spy)
    counts, labels = simulate()
    cells = as_cells(counts)
    finetune(an_encoder(cells), cells, labels, stratified_split(labels, 0.2, 0), epochs=1)
    assert len(made) == 2
    assert len({tuple(seed) for seed, _ in made}) == 2
    assert sorted(fixed for _, fixed in made) == [False, True]


# The classifier


def test_classifier_is_a_softmax():
    rng = np.random.default_rng(0)
    classifier = Classifier(rng.normal(size=(6, 3)), rng.normal(size=3), TYPES)
    latent = rng.normal(size=(5, 6))
    p = classifier(latent)
    np.testing.assert_allclose(p, special.softmax(latent @ classifier.kernel + classifier.bias, axis=1))
    np.testing.assert_allclose(p.sum(axis=1), 1)
