"""Metric and adversarial losses: their weights and targets, and their effect on the embedding."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

import scquery_ae.nn
from scquery_ae.dense import DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows, GeneColumns
from scquery_ae.nn import ContrastiveLoss, TripletLoss
from scquery_ae.training import FinetuneSettings, finetune_encoder, stratified_split
from scquery_ae.training.objective import output_losses, output_targets, output_weights, plain_history
from scquery_ae.transform import Transform

pytestmark = pytest.mark.backend

ONE_HOT = np.eye(3, dtype=np.float32)[[2, 0, 1, 1]]
TYPES_OF_CELLS, BATCHES_OF_CELLS = np.array([2, 0, 1, 1]), np.array([1, 0, 0, 1])

# By hand.


@pytest.mark.parametrize(
    ("settings", "weights", "plain", "detached"),
    [
        ({}, {"classifier": 1}, True, False),
        # Without a metric loss, its weight is ignored.
        ({"metric_weight": 1}, {"classifier": 1}, True, False),
        ({"adversarial_weight": 0.3}, {"classifier": 1, "batch": 1}, False, False),
        ({"metric_loss": "triplet"}, {"classifier": 0.5, "latent": 0.5}, False, False),
        ({"metric_loss": "contrastive", "metric_weight": 0.2}, {"classifier": 0.8, "latent": 0.2}, False, False),
        # The classifier has full weight, and its gradient stops at the embedding.
        ({"metric_loss": "triplet", "metric_weight": 1}, {"classifier": 1, "latent": 1}, False, True),
        (
            {"metric_loss": "triplet", "metric_weight": 0.25, "adversarial_weight": 2},
            {"classifier": 0.75, "latent": 0.25, "batch": 1},
            False,
            False,
        ),
    ],
)
def test_weights_losses_and_targets_are_of_the_same_outputs(settings, weights, plain, detached):
    settings = FinetuneSettings(**settings, label_smoothing=0.3)
    assert output_weights(settings) == pytest.approx(weights)
    assert (settings.is_plain, settings.detach_classifier) == (plain, detached)
    losses = output_losses(settings)
    targets = output_targets(settings, ONE_HOT, TYPES_OF_CELLS, BATCHES_OF_CELLS)
    assert set(losses) == set(targets) == set(weights)
    # The right type gets .8 of three types, and its label is smoothed to .8: .8 log .8 + .2 log .1.
    certain = np.where(ONE_HOT == 1, 0.8, 0.1).astype(np.float32)
    np.testing.assert_allclose(float(losses["classifier"](ONE_HOT, certain)), 0.63903, rtol=1e-4)
    assert targets["classifier"] is ONE_HOT
    if "latent" in weights:
        assert type(losses["latent"]) is {"triplet": TripletLoss, "contrastive": ContrastiveLoss}[settings.metric_loss]
        assert targets["latent"] is TYPES_OF_CELLS
    if "batch" in weights:
        assert targets["batch"] is BATCHES_OF_CELLS
        # Of the number of a batch, not of its indicator: minus the log of what the right one got.
        probabilities = np.array([[0.5, 0.5], [0.8, 0.2], [0.4, 0.6], [0.9, 0.1]], np.float32)
        expected = -np.log([0.5, 0.8, 0.4, 0.1]).mean()
        np.testing.assert_allclose(float(losses["batch"](BATCHES_OF_CELLS, probabilities)), expected, rtol=1e-5)


def test_the_margin_reaches_the_metric_loss():
    margins = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]], np.float32)
    loss = output_losses(FinetuneSettings(metric_loss="contrastive", margin=margins))["latent"]
    # Two cells of types 0 and 2 at distance 0.5: each falls short of its margin of 2 by 1.5.
    latent = np.array([[0.0, 0.0], [0.5, 0.0]], np.float32)
    np.testing.assert_allclose(float(loss(np.array([0, 2]), latent)), 1.5**2, rtol=1e-5)
    number = output_losses(FinetuneSettings(metric_loss="contrastive", margin=0.75))["latent"]
    np.testing.assert_allclose(float(number(np.array([0, 2]), latent)), 0.25**2, rtol=1e-5)


def test_without_batches_there_is_nothing_to_tell_apart():
    assert set(output_targets(FinetuneSettings(adversarial_weight=1), ONE_HOT, TYPES_OF_CELLS, None)) == {"classifier"}


def test_a_history_of_many_outputs_reads_as_that_of_one():
    history = {
        "loss": [5.0],
        "classifier_loss": [1.0],
        "latent_loss": [2.0],
        "batch_loss": [3.0],
        "classifier_accuracy": [0.5],
        "val_loss": [6.0],
        "val_classifier_loss": [1.5],
        "val_latent_loss": [2.5],
        "val_batch_loss": [3.5],
        "val_classifier_accuracy": [0.4],
    }
    assert plain_history(history) == {
        "total_loss": [5.0],
        "loss": [1.0],
        "latent_loss": [2.0],
        "batch_loss": [3.0],
        "accuracy": [0.5],
        "val_total_loss": [6.0],
        "val_loss": [1.5],
        "val_latent_loss": [2.5],
        "val_batch_loss": [3.5],
        "val_accuracy": [0.4],
    }


def test_a_history_of_one_output_stays_as_it_is():
    history = {"loss": [1.0], "accuracy": [0.5], "val_loss": [2.0], "val_accuracy": [0.4]}
    assert plain_history(history) == history


# Fine-tuning.

N_GENES, TYPES = 60, ("alpha", "beta", "gamma")
#: What the second batch does to each gene: most are told apart by their batch more easily than by their type.
SHIFT = np.exp(np.random.default_rng(7).standard_normal(N_GENES))


def simulate(n_per_type=(80, 80, 80), seed=0, *, shift=SHIFT):
    """Return counts of types with eight marker genes each in two batches, the types and the batches."""
    rng = np.random.default_rng(seed)
    types = rng.permutation(np.repeat(np.arange(3), n_per_type))
    batches = rng.permutation(np.arange(len(types)) % 2)
    rates = np.full((3, N_GENES), 2.0)
    for i in range(3):
        rates[i, 8 * i : 8 * i + 8] = 8
    counts = rng.poisson(rates[types] * np.where(batches[:, None] == 1, shift, 1))
    return counts.astype("float32"), types, batches


def as_cells(counts):
    columns = GeneColumns(sparse.csr_matrix(counts), np.arange(N_GENES))
    return CellRows.read(columns, Transform.fit(columns, np.array([f"g{i}" for i in range(N_GENES)], dtype=object)))


def an_encoder(cells, seed=0):
    rng = np.random.default_rng(seed)
    widths = (N_GENES, 24, 8)
    kernels = [(rng.normal(size=s) / np.sqrt(s[0])).astype("float32") for s in pairwise(widths)]
    layers = (
        DenseWeights(k, np.zeros(k.shape[1], "float32"), a) for k, a in zip(kernels, ("relu", "linear"), strict=True)
    )
    return Encoder(cells.transform, tuple(layers))


def finetune(encoder, cells, types, held_out=None, batches=None, **settings):
    defaults = {"corruption_level": 0.2, "gene_masking": 0.0, "epochs": 1, "batch_size": 24, "learning_rate": 2e-3}
    held_out = np.zeros(len(types), bool) if held_out is None else held_out
    settings = FinetuneSettings(**{**defaults, **settings})
    return finetune_encoder(encoder, cells, types, held_out, TYPES, settings, batches=batches)


def trained(encoder, result):
    return Encoder(encoder.transform, result.layers, result.classifier)


def accuracy(encoder, counts, types):
    return (encoder.classify(encoder.encode(counts)).argmax(axis=1) == types).mean()


def predictability(latent, groups):
    """Return how often a cell's group is told from its embedding by a regression on other cells."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return cross_val_score(make_pipeline(StandardScaler(), LogisticRegression()), latent, groups, cv=5).mean()


@pytest.mark.slow
def test_embeddings_unlearn_the_batch():
    batch, kind = {0.0: [], 0.2: []}, {0.0: [], 0.2: []}
    for seed in range(3):
        counts, types, batches = simulate((160, 160, 160), seed)
        cells = as_cells(counts)
        encoder = an_encoder(cells, seed)
        fresh, fresh_types, fresh_batches = simulate(seed=seed + 100)
        for strength, found in batch.items():
            result = finetune(
                encoder,
                cells,
                types,
                epochs=20,
                batch_size=60,
                random_state=seed,
                adversarial_weight=strength,
                batches=batches,
            )
            new = trained(encoder, result)
            found.append(predictability(new.encode(fresh), fresh_batches))
            kind[strength].append(accuracy(new, fresh, fresh_types))
    # Without it, the batch of most cells can be predicted; by chance it would be one half.
    assert min(batch[0.0]) > 0.75, batch
    gain = np.subtract(batch[0.0], batch[0.2])
    # Cross-validation on 240 cells is known to within 0.03.
    assert gain.min() > 0.05, batch
    assert gain.mean() > 0.12, batch
    # The types are told apart as before, to within three cells of a hundred.
    assert np.mean(kind[0.0]) > 0.95, kind
    assert np.mean(kind[0.2]) > np.mean(kind[0.0]) - 0.03, kind


@pytest.mark.parametrize("loss", ["triplet", "contrastive"])
def test_a_metric_loss_alone_separates_the_types(loss):
    from sklearn.metrics import silhouette_score

    counts, types, _ = simulate(shift=1)
    cells = as_cells(counts)
    encoder = an_encoder(cells)
    result = finetune(
        encoder, cells, types, epochs=12, learning_rate=5e-3, metric_loss=loss, metric_weight=1, margin=0.8
    )
    new = trained(encoder, result)
    fresh, fresh_types, _ = simulate(seed=9, shift=1)
    before, after = (silhouette_score(e.encode(fresh), fresh_types) for e in (encoder, new))
    assert before < 0.35
    assert after > before + 0.3
    # The classifier is accurate on an embedding that it did not shape.
    assert accuracy(new, fresh, fresh_types) > 0.95
    assert set(result.history) == {"total_loss", "loss", "latent_loss", "accuracy"}
    assert result.history["latent_loss"][-1] < result.history["latent_loss"][0] / 2


@pytest.mark.usefixtures("eager")
def test_with_a_metric_weight_of_one_the_classifier_does_not_change_the_embedding():
    """Class weights and smoothing change the classifier only; with a smaller weight, the embedding too."""
    counts, types, _ = simulate((40, 20, 20))
    cells = as_cells(counts)
    encoder = an_encoder(cells)

    def both(weight):
        losses = {"metric_loss": "triplet", "metric_weight": weight}
        one = finetune(encoder, cells, types, **losses)
        return one, finetune(encoder, cells, types, **losses, label_smoothing=0.4, class_weight_power=0.0)

    one, other = both(1)
    for a, b in zip(one.layers, other.layers, strict=True):
        np.testing.assert_allclose(a.kernel, b.kernel, atol=1e-6)
    assert np.abs(one.classifier.kernel - other.classifier.kernel).max() > 1e-3
    one, other = both(0.5)
    assert all(np.abs(a.kernel - b.kernel).max() > 1e-3 for a, b in zip(one.layers, other.layers, strict=True))


# What a type weighs.


@pytest.fixture
def read(monkeypatch):
    """Keep the batches of an epoch, those to learn from and those to stop by."""
    epochs = []
    fit = scquery_ae.nn.fit

    def keep(model, training, validation, **kwargs):
        epochs.append([[batches[i] for i in range(batches.num_batches)] for batches in (training, validation)])
        return fit(model, training, validation, **kwargs)

    monkeypatch.setattr(scquery_ae.nn, "fit", keep)
    return epochs


def totals(batches):
    """Return for each type how many cells are read, and what they weigh in the loss of the classifier."""
    seen = []
    for _, target, weight in batches:
        if isinstance(weight, dict):
            assert all((w == 1).all() for name, w in weight.items() if name != "classifier")
            target, weight = target["classifier"], weight["classifier"]
        seen.append((target.argmax(axis=1), weight))
    types, weights = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    return np.bincount(types, minlength=3), np.bincount(types, weights, minlength=3)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_type_weighs_the_same_in_balanced_batches(read, power):
    counts, types, _ = simulate((60, 24, 6))
    cells = as_cells(counts)
    encoder, held_out = an_encoder(cells), stratified_split(types, 0.2, 0)
    for loss in (None, "triplet"):
        finetune(encoder, cells, types, held_out, class_weight_power=power, metric_loss=loss)
    n = np.bincount(types[~held_out])
    (plain, plain_held_out), (balanced, balanced_held_out) = [[totals(part) for part in epoch] for epoch in read]
    np.testing.assert_array_equal(plain[0], n)
    # Three batches of eight cells of each type: as many in all.
    np.testing.assert_array_equal(balanced[0], n.sum() / 3)
    expected = n ** (1 - power) / (n ** (1 - power)).sum() * n.sum()
    np.testing.assert_allclose(plain[1], expected, rtol=1e-4)
    np.testing.assert_allclose(balanced[1], expected, rtol=1e-4)
    # Held-out cells are read one by one in either case, so that early stopping watches the same loss.
    np.testing.assert_array_equal(balanced_held_out[0], plain_held_out[0])
    np.testing.assert_allclose(balanced_held_out[1], plain_held_out[1], rtol=1e-4)
