"""``tl.finetune`` as a call: which cells it trains on, what it writes, and that a refusal changes nothing."""

import copy
import importlib
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.dense import Classifier
from scquery_ae.loaders import CellRows, open_training
from scquery_ae.stats import GeneDiscriminant
from scquery_ae.training import FinetuneResult

QUICK = {"label_key": "cell_type", "epochs": 1, "batch_size": 32, "progress": False}


@pytest.fixture
def cells(make_adata):
    adata = make_adata(60, 30)
    scq.pp.normalize(adata, n_top_genes=20)
    return adata


@pytest.fixture
def encoder(cells, make_encoder):
    model = make_encoder(cells[:, cells.var["highly_variable"]].copy(), (6, 3))
    model.transform = type(model.transform).from_dict(cells.uns["scquery_transform"])
    model.classifier = None
    return model


@pytest.fixture
def asked(monkeypatch):
    """Instead of training, keep what training was asked for."""
    calls = []

    def keep(encoder, cells, labels, held_out, types, settings, **kwargs):
        calls.append(
            SimpleNamespace(cells=cells, labels=labels, held_out=held_out, types=types, settings=settings, **kwargs)
        )
        classifier = Classifier(
            np.zeros((encoder.n_latent, len(types)), np.float32), np.zeros(len(types), np.float32), types
        )
        return FinetuneResult(encoder.layers, classifier, None, {"loss": [1.0]})

    monkeypatch.setattr(importlib.import_module("scquery_ae.tl.finetune"), "finetune_encoder", keep)
    return calls


def weights(encoder):
    arrays = [array for layer in encoder.layers for array in (layer.kernel, layer.bias)]
    if encoder.discriminant is not None:
        arrays += vars(encoder.discriminant).values()
    return arrays if encoder.classifier is None else [*arrays, encoder.classifier.kernel, encoder.classifier.bias]


def same(one, other):
    ours, theirs = weights(one), weights(other)
    return len(ours) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_what_is_changed_and_written(cells, encoder):
    before = copy.deepcopy(encoder)
    assert scq.tl.finetune(cells, encoder, **QUICK) is None
    assert [layer.kernel.shape for layer in encoder.layers] == [(20, 6), (6, 3)]
    # All layers are trained, not the classifier alone.
    assert all((a.kernel != b.kernel).any() for a, b in zip(encoder.layers, before.layers, strict=True))
    assert encoder.classifier.types == ("type 0", "type 1", "type 2")
    assert encoder.classifier.kernel.shape == (3, 3)
    assert encoder.classifier.kernel.dtype == np.float32
    assert encoder.discriminant.means.shape == (3, 20)
    assert encoder.discriminant.temperature > 1
    assert {"loss", "val_loss"} <= set(encoder.history["finetune"])
    assert all(len(values) == 1 for values in encoder.history["finetune"].values())
    split = cells.obs["scquery_split"]
    assert isinstance(split.dtype, pd.CategoricalDtype)
    assert list(split.cat.categories) == ["train", "validation"]
    # A tenth of twenty cells of each type.
    assert (
        cells.obs.groupby("cell_type", observed=True)["scquery_split"]
        .apply(lambda s: (s == "validation").sum())
        .tolist()
        == [2] * 3
    )
    assert encoder.parameters["finetune"]["label_key"] == "cell_type"
    assert json.loads(json.dumps(encoder.parameters))["finetune"]["epochs"] == 1


def test_training_with_unlabelled_cells_is_training_without_them(cells, encoder):
    labels = cells.obs["cell_type"].astype(object).to_numpy(copy=True)
    labels[::7] = np.nan
    cells.obs["cell_type"] = pd.Categorical(labels)
    unlabelled = np.arange(60) % 7 == 0
    alone, other = cells[~unlabelled].copy(), copy.deepcopy(encoder)
    scq.tl.finetune(cells, encoder, **QUICK)
    scq.tl.finetune(alone, other, **QUICK)
    assert same(encoder, other)
    split = cells.obs["scquery_split"]
    np.testing.assert_array_equal(split.isna(), unlabelled)
    assert list(split[~unlabelled]) == list(alone.obs["scquery_split"])


@pytest.mark.usefixtures("eager")
def test_discriminant_is_fitted_to_the_training_cells(cells, encoder):
    """Held-out and unlabelled cells are not used."""
    cells.obs["cell_type"] = cells.obs["cell_type"].where(np.arange(60) % 7 != 0)
    scq.tl.finetune(cells, encoder, **QUICK, validation_fraction=0.3)
    training = (cells.obs["scquery_split"] == "train").to_numpy()
    assert 0 < training.sum() < cells.obs["cell_type"].notna().sum() < 60
    rows = CellRows.read(open_training(cells, encoder.transform, "the test"), encoder.transform)
    expected = GeneDiscriminant.fit(rows.logged, np.where(training, np.arange(60) % 3, -1), 3)
    for name in ("center", "scale", "means", "seen", "loadings", "noise"):
        np.testing.assert_allclose(
            getattr(encoder.discriminant, name), getattr(expected, name), rtol=1e-6, err_msg=name
        )


def test_a_type_with_one_cell_is_kept_for_training(cells, encoder):
    labels = cells.obs["cell_type"].astype(object).to_numpy(copy=True)
    labels[11] = "rare"
    cells.obs["cell_type"] = labels
    scq.tl.finetune(cells, encoder, **QUICK, validation_fraction=0.9)
    assert encoder.classifier.types == ("rare", "type 0", "type 1", "type 2")
    assert cells.obs["scquery_split"].iloc[11] == "train"
    assert all(np.isfinite(array).all() for array in weights(encoder))


def test_it_can_be_called_again_with_other_labels(cells, encoder):
    encoder.classifier = Classifier(np.ones((3, 3), np.float32), np.zeros(3, np.float32), ("a", "b", "c"))
    scq.tl.finetune(cells, encoder, **(QUICK | {"label_key": "batch"}))
    assert encoder.classifier.types == ("batch 0", "batch 1")
    assert encoder.classifier.kernel.shape == (3, 2)
    assert encoder.discriminant.means.shape == (2, 20)


@pytest.mark.parametrize("missing", [None, pd.NA, float("nan")])
def test_a_missing_label_of_any_kind_is_none(cells, encoder, asked, missing):
    labels = cells.obs["cell_type"].astype(object).to_numpy(copy=True)
    labels[[0, 4]] = missing
    cells.obs["cell_type"] = labels
    scq.tl.finetune(cells, encoder, **QUICK)
    expected = np.arange(60) % 3
    expected[[0, 4]] = -1
    np.testing.assert_array_equal(asked[0].labels, expected)
    assert not asked[0].held_out[[0, 4]].any()
    assert asked[0].types == ("type 0", "type 1", "type 2")


def test_labels_of_other_types_than_text(cells, encoder, asked):
    cells.obs["cluster"] = cells.obs["cell_type"].cat.codes.astype(int) + 9
    scq.tl.finetune(cells, encoder, **(QUICK | {"label_key": "cluster"}))
    # In the order of text, as everywhere.
    assert encoder.classifier.types == ("10", "11", "9")
    np.testing.assert_array_equal(asked[0].labels, np.tile([2, 0, 1], 20))


def test_unused_categories_are_no_types(cells, encoder, asked):
    cells.obs["cell_type"] = cells.obs["cell_type"].cat.add_categories("gone")
    scq.tl.finetune(cells, encoder, **QUICK)
    assert asked[0].types == ("type 0", "type 1", "type 2")


def test_held_out_cells_come_from_every_type_in_every_batch(cells, encoder, asked):
    cells.obs["batch"] = pd.Categorical(np.where(np.arange(60) < 30, "one", "two"))
    scq.tl.finetune(cells, encoder, **QUICK, batch_key="batch", validation_fraction=0.2)
    held_out = cells.obs[cells.obs["scquery_split"] == "validation"]
    assert held_out.groupby(["cell_type", "batch"], observed=True).size().tolist() == [2] * 6
    assert encoder.parameters["finetune"]["batch_key"] == "batch"
    np.testing.assert_array_equal(asked[0].held_out, cells.obs["scquery_split"] == "validation")


def test_nothing_held_out(cells, encoder, asked):
    scq.tl.finetune(cells, encoder, **QUICK, validation_fraction=0)
    assert (cells.obs["scquery_split"] == "train").all()
    assert not asked[0].held_out.any()


def test_key_added_names_the_split(cells, encoder, asked):
    scq.tl.finetune(cells, encoder, **QUICK, key_added="mine")
    assert "mine_split" in cells.obs
    assert "scquery_split" not in cells.obs


def test_settings_are_passed_on_and_recorded(cells, encoder, asked):
    settings = {
        "class_weight_power": 0.25,
        "label_smoothing": 0.05,
        "corruption_level": 0.2,
        "gene_masking": 0.4,
        "dropout": 0.15,
        "epochs": 7,
        "patience": 2,
        "batch_size": 11,
        "learning_rate": 0.02,
        "random_state": 3,
    }
    scq.tl.finetune(cells, encoder, label_key="cell_type", **settings, progress=False)
    found, expected = asked[0].settings, settings | {"gene_masking": (0.0, 0.4)}
    assert {name: getattr(found, name) for name in expected} == expected
    recorded = encoder.parameters["finetune"]
    assert {name: recorded[name] for name in settings} == settings | {"gene_masking": [0.0, 0.4]}
    assert encoder.history["finetune"] == {"loss": [1.0]}


def test_the_default_batch_size_depends_on_the_labelled_cells(make_adata, make_encoder, asked):
    adata = make_adata(2200, 6)
    adata.obs["cell_type"] = adata.obs["cell_type"].where(np.arange(2200) >= 600)
    scq.pp.normalize(adata)
    encoder = make_encoder(adata)
    scq.tl.finetune(adata, encoder, **(QUICK | {"batch_size": None}))
    # 1,600 of 2,200 cells have a label, and make 32 steps of 50.
    assert asked[0].settings.batch_size == encoder.parameters["finetune"]["batch_size"] == 50


# Refusals leave the encoder and the AnnData as they were.


def refused(cells, encoder, error, match, **arguments):
    before, columns = copy.deepcopy(encoder), list(cells.obs)
    with pytest.raises(error, match=match):
        scq.tl.finetune(cells, encoder, **(QUICK | arguments))
    assert same(encoder, before)
    assert encoder.classifier is None
    assert (encoder.history, encoder.parameters) == (before.history, before.parameters)
    assert list(cells.obs) == columns


@pytest.mark.parametrize("labels", ["one type", "no label"])
def test_fewer_than_two_types_are_refused(cells, encoder, labels):
    cells.obs["cell_type"] = "T cell" if labels == "one type" else np.nan
    received = r"1 \(60 of 60" if labels == "one type" else r"0 \(0 of 60"
    refused(
        cells,
        encoder,
        scq.ArgumentError,
        rf"`label_key='cell_type'` must give at least two cell types\. Received {received} cells have a label\); label",
    )


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (
            {"label_key": "type"},
            scq.MissingKeyError,
            r"`label_key='type'` is not a column of `adata\.obs`\. Expected one of 'cell_t",
        ),
        ({"batch_key": "donor"}, scq.MissingKeyError, r"`batch_key='donor'` is not a column of `adata\.obs`"),
        ({"label_smoothing": 1}, scq.ArgumentError, r"`label_smoothing` must be a number in \[0, 1\)\. Received 1"),
        (
            {"corruption_level": -0.1},
            scq.ArgumentError,
            r"`corruption_level` must be a number in \[0, 1\)\. Received -0\.1",
        ),
        ({"dropout": 1.0}, scq.ArgumentError, r"`dropout` must be a number in \[0, 1\)\. Received 1\.0"),
        ({"validation_fraction": 1.0}, scq.ArgumentError, r"`validation_fraction` must be a number in \[0, 1\)"),
        (
            {"class_weight_power": 2},
            scq.ArgumentError,
            r"`class_weight_power` must be a number in \[0, 1\]\. Received 2",
        ),
        ({"learning_rate": -1}, scq.ArgumentError, r"`learning_rate` must be a number in \(0, inf\)\. Received -1"),
        ({"epochs": 0}, scq.ArgumentError, "`epochs` must be an integer of at least 1. Received 0"),
        ({"patience": None}, scq.ArgumentError, "`patience` must be an integer of at least 1. Received None"),
        ({"batch_size": True}, scq.ArgumentError, "`batch_size` must be an integer of at least 1. Received True"),
        ({"random_state": "x"}, scq.ArgumentError, "`random_state` must be an integer of at least 0. Received 'x'"),
    ],
)
def test_wrong_arguments_are_refused(cells, encoder, arguments, error, match):
    refused(cells, encoder, error, match, **arguments)


def test_counts_are_needed(cells, encoder):
    del cells.layers["counts"]
    refused(
        cells, encoder, scq.NotFittedError, r'`tl\.finetune` trains on `adata\.layers\["counts"\]`, which is missing'
    )


def test_the_encoders_genes_are_needed(cells, encoder):
    fewer = cells[:, cells.var_names != encoder.genes[3]].copy()
    refused(
        fewer,
        encoder,
        scq.NotFittedError,
        r"`tl\.finetune` needs all 20 model genes that `scq\.pp\.normalize` chose\. 1 are missing",
    )


def test_an_encoder_is_needed(cells):
    with pytest.raises(
        scq.ArgumentError, match=r"`tl\.finetune` needs the encoder of `scq\.tl\.pretrain`\. Received NoneType"
    ):
        scq.tl.finetune(cells, None, **QUICK)


# Metric and adversarial losses.


@pytest.fixture
def batches(cells):
    """The cells, half of which come from another batch."""
    cells.obs["donor"] = pd.Categorical(np.where(np.arange(60) < 30, "one", "two"))
    return cells


def recorded(encoder):
    """Return the parameters after a round trip through JSON, as a saved reference has them."""
    return json.loads(json.dumps(encoder.parameters))["finetune"]


def test_without_further_losses_the_classifier_has_the_only_loss(cells, encoder, asked):
    scq.tl.finetune(cells, encoder, **QUICK)
    assert asked[0].settings.is_plain
    assert asked[0].batches is None
    kept = recorded(encoder)
    assert (kept["metric_loss"], kept["adversarial_weight"], kept["margin"]) == (None, 0, 0.5)


def test_the_objective_is_passed_on_and_recorded(batches, encoder, asked):
    settings = {"metric_loss": "contrastive", "metric_weight": 0.2, "margin": 0.3, "adversarial_weight": 0.1}
    scq.tl.finetune(batches, encoder, **QUICK, **settings, batch_key="donor")
    assert {name: getattr(asked[0].settings, name) for name in settings} == pytest.approx(settings)
    np.testing.assert_array_equal(asked[0].batches, np.repeat([0, 1], 30))
    assert {name: recorded(encoder)[name] for name in settings} == settings


@pytest.mark.parametrize(
    ("masking", "low", "high"), [(0.5, 0.0, 0.5), ((0.25, 0.75), 0.25, 0.75), ([0.5, 0.5], 0.5, 0.5), (0, 0, 0)]
)
def test_gene_masking_is_a_number_or_a_pair(cells, encoder, asked, masking, low, high):
    scq.tl.finetune(cells, encoder, **QUICK, gene_masking=masking)
    assert asked[0].settings.gene_masking == (low, high)
    assert recorded(encoder)["gene_masking"] == [low, high]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("loss", ["triplet", "contrastive"])
@pytest.mark.parametrize("weight", [0.5, 1])
def test_metric_losses_train(cells, encoder, loss, weight):
    before = copy.deepcopy(encoder)
    scq.tl.finetune(cells, encoder, **QUICK, metric_loss=loss, metric_weight=weight)
    losses = {"total_loss", "loss", "latent_loss", "accuracy"}
    assert set(encoder.history["finetune"]) == losses | {f"val_{name}" for name in losses}
    assert all(np.isfinite(values).all() for values in encoder.history["finetune"].values())
    assert all((a.kernel != b.kernel).any() for a, b in zip(encoder.layers, before.layers, strict=True))
    assert encoder.classifier.types == ("type 0", "type 1", "type 2")
    assert recorded(encoder)["metric_loss"] == loss


@pytest.mark.usefixtures("eager")
def test_adversarial_training_changes_the_result(batches, encoder):
    before, other = copy.deepcopy(encoder), copy.deepcopy(encoder)
    scq.tl.finetune(batches, encoder, **QUICK, batch_key="donor", adversarial_weight=0.5)
    losses = {"total_loss", "loss", "batch_loss", "accuracy"}
    assert set(encoder.history["finetune"]) == losses | {f"val_{name}" for name in losses}
    # What told batches apart is not kept.
    assert [layer.kernel.shape for layer in encoder.layers] == [layer.kernel.shape for layer in before.layers]
    assert encoder.classifier.kernel.shape == (3, 3)
    scq.tl.finetune(batches, other, **QUICK, batch_key="donor")
    assert not same(encoder, other)
    assert set(other.history["finetune"]) == {"loss", "accuracy", "val_loss", "val_accuracy"}


def test_missing_labels_stay_out_of_balanced_batches(batches, encoder, asked):
    labels = batches.obs["cell_type"].astype(object).to_numpy(copy=True)
    labels[:7] = np.nan
    batches.obs["cell_type"] = labels
    scq.tl.finetune(batches, encoder, **QUICK, metric_loss="triplet", batch_key="donor", adversarial_weight=1)
    assert (asked[0].labels[:7] == -1).all()
    assert len(asked[0].batches) == len(asked[0].labels) == 60


TABLE = pd.DataFrame(
    [[0, 1, 2, 9], [1, 0, 3, 9], [2, 3, 0, 9], [9, 9, 9, 0]],
    index=["type 2", "type 0", "type 1", "other"],
    columns=["type 2", "type 0", "type 1", "other"],
    dtype=float,
)


def test_a_table_of_margins_is_put_in_the_order_of_the_types(cells, encoder, asked):
    # The columns in yet another order than the rows, and a type that the labels lack.
    table = TABLE[["other", "type 1", "type 2", "type 0"]]
    scq.tl.finetune(cells, encoder, **QUICK, metric_loss="triplet", margin=table)
    expected = [[0, 3, 1], [3, 0, 2], [1, 2, 0]]
    np.testing.assert_array_equal(asked[0].settings.margin, expected)
    assert recorded(encoder)["margin"] == expected


@pytest.mark.usefixtures("eager")
def test_a_table_of_margins_trains(cells, encoder):
    margins = {"number": 0.7, "table of one number": TABLE * 0 + 0.7, "wide": TABLE}
    results = {name: copy.deepcopy(encoder) for name in margins}
    for name, margin in margins.items():
        scq.tl.finetune(cells, results[name], **QUICK, metric_loss="contrastive", margin=margin)
    assert same(results["number"], results["table of one number"])
    losses = {name: result.history["finetune"]["latent_loss"][0] for name, result in results.items()}
    assert losses["wide"] > losses["number"] + 0.1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            {"metric_loss": "angular"},
            "`metric_loss` must be None or one of 'triplet', 'contrastive'. Received 'angular'",
        ),
        ({"metric_loss": True}, "`metric_loss` must be None or one of 'triplet', 'contrastive'. Received True"),
        (
            {"metric_loss": "triplet", "metric_weight": 0},
            r"`metric_weight` must be in \(0, 1\]\. Received 0; use `metric_loss=None` for the classifier's loss alone",
        ),
        ({"metric_weight": 1.5}, r"`metric_weight` must be a number in \[0, 1\]\. Received 1\.5"),
        ({"metric_weight": "half"}, r"`metric_weight` must be a number in \[0, 1\]\. Received 'half'"),
        ({"margin": -0.5}, r"`margin` must be a number of at least 0, or a square matrix of such.*Received -0\.5"),
        ({"margin": "wide"}, "`margin` must be a number of at least 0, .*Received 'wide'"),
        ({"margin": float("nan")}, "`margin` must be a number of at least 0, .*Received nan"),
        ({"margin": None}, "`margin` must be a number of at least 0, .*Received None"),
        ({"margin": [0.1, 0.2, 0.3]}, r"`margin` must be a number of at least 0, .*Received \[0\.1, 0\.2, 0\.3\]"),
        ({"margin": np.ones((3, 2))}, "`margin` must be a number of at least 0, .*Received array"),
        ({"margin": np.ones((2, 2)), "metric_loss": "triplet"}, "`margin`"),
        ({"margin": TABLE - 1}, "`margin` must be a number of at least 0, or a square matrix of such, one for each"),
        ({"margin": TABLE.iloc[1:, 1:]}, "`margin` needs a row and a column for each type. Received none for 'type 2'"),
        ({"margin": TABLE.iloc[:, [0, 3]]}, "Received none for 'type 0', 'type 1'; add them, or give one number"),
        ({"margin": TABLE.iloc[[0, 1], :]}, "`margin` needs a row and a column .* Received none for 'type 1'; add"),
        ({"adversarial_weight": -1}, r"`adversarial_weight` must be a number in \[0, inf\)\. Received -1"),
        ({"adversarial_weight": np.inf}, r"`adversarial_weight` must be a number in \[0, inf\)\. Received inf"),
        ({"adversarial_weight": True}, r"`adversarial_weight` must be a number in \[0, inf\)\. Received True"),
        (
            {"adversarial_weight": 0.5},
            "`adversarial_weight` needs `batch_key` with at least two batches of labelled cells. Received None; name",
        ),
        (
            {"adversarial_weight": 0.5, "batch_key": "one"},
            "`adversarial_weight` needs `batch_key` with at least two batches of labelled cells. Received 'one' with",
        ),
        ({"gene_masking": 1.0}, r"`gene_masking` must be a number in \[0, 1\)\. Received 1\.0"),
        (
            {"gene_masking": (0.6, 0.3)},
            r"`gene_masking\[0\]` must not be above `gene_masking\[1\]`\. Received 0\.6",
        ),
        ({"gene_masking": (0.6, 1)}, r"`gene_masking\[1\]` must be a number in \[0, 1\)\. Received 1"),
        ({"gene_masking": (0.1, 0.2, 0.3)}, r"`gene_masking` must be a .* in \[0, 1\), or a pair"),
    ],
)
def test_wrong_losses_are_refused(cells, encoder, arguments, match):
    cells.obs["one"] = "batch"
    refused(cells, encoder, scq.ArgumentError, match, **arguments)


def test_batches_of_cells_that_are_not_trained_on_are_no_batches(batches, encoder):
    # The second batch has no label: there is nothing to be unlearnt.
    labels = batches.obs["cell_type"].astype(object).to_numpy(copy=True)
    labels[30:] = np.nan
    batches.obs["cell_type"] = labels
    refused(
        batches,
        encoder,
        scq.ArgumentError,
        "`adversarial_weight` needs `batch_key` with at least two batches",
        batch_key="donor",
        adversarial_weight=0.5,
    )


def test_labels_that_are_not_text_have_margins_too(cells, encoder, asked):
    cells.obs["cluster"] = cells.obs["cell_type"].cat.codes.astype(int) + 9
    table = pd.DataFrame([[0, 1, 2], [1, 0, 3], [2, 3, 0]], index=[9, 10, 11], columns=[9, 10, 11], dtype=float)
    scq.tl.finetune(cells, encoder, **(QUICK | {"label_key": "cluster"}), metric_loss="triplet", margin=table)
    # In the order of text: 10, 11, 9.
    np.testing.assert_array_equal(asked[0].settings.margin, [[0, 3, 1], [3, 0, 2], [1, 2, 0]])
