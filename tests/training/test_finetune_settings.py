"""One object holds the settings of fine-tuning: every field is a parameter, is recorded, and marks a checkpoint."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields, replace

import numpy as np
import pytest

import scquery_ae as scq
from scquery_ae.training import FinetuneSettings, finetune_encoder
from scquery_ae.training.finetune_settings import METRIC_LOSSES

#: Another value for every field than the one in `STARTED`.
OTHER = {
    "class_weight_power": 0.3,
    "label_smoothing": 0.2,
    "corruption_level": 0.05,
    "gene_masking": (0.1, 0.5),
    "metric_loss": "triplet",
    "metric_weight": 0.3,
    "margin": 0.7,
    "adversarial_weight": 0.2,
    "dropout": 0.1,
    "epochs": 3,
    "patience": 4,
    "batch_size": 16,
    "learning_rate": 0.02,
    "validation_fraction": 0.3,
    "label_issues": "drop",
    "random_state": 4,
}
STARTED = FinetuneSettings(epochs=1, batch_size=32)

#: Keywords of ``tl.finetune`` that do not change the training: where to read, write, store and show.
NOT_SETTINGS = {"label_key", "batch_key", "checkpoint", "key_added", "progress"}


def test_every_field_is_a_keyword_of_finetune_with_the_same_default():
    parameters = inspect.signature(scq.tl.finetune).parameters
    keywords = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert set(keywords) - NOT_SETTINGS == {field.name for field in fields(FinetuneSettings)}
    defaults = {name: value for name, value in keywords.items() if name not in NOT_SETTINGS}
    assert FinetuneSettings(**defaults) == FinetuneSettings()


@pytest.mark.backend
@pytest.mark.usefixtures("eager")
def test_another_value_of_any_field_is_another_run(make_adata, make_encoder, tmp_path):
    from scquery_ae.loaders import CellRows, open_training

    assert set(OTHER) == {field.name for field in fields(FinetuneSettings)}
    adata = make_adata(60, 20)
    scq.pp.normalize(adata)
    encoder = make_encoder(adata, (6, 3))
    cells = CellRows.read(open_training(adata, encoder.transform, "the test"), encoder.transform)
    labels = np.arange(60) % 3

    def train(settings):
        return finetune_encoder(encoder, cells, labels, labels < 0, ("a", "b", "c"), settings, checkpoint=tmp_path)

    first = train(STARTED)
    for name, value in OTHER.items():
        with pytest.raises(scq.ArgumentError, match="`checkpoint` holds another run"):
            train(replace(STARTED, **{name: value}))
    # The same settings are the same run, whether their values are NumPy's or Python's.
    again = train(FinetuneSettings(epochs=np.int64(1), batch_size=np.int32(32), gene_masking=[0.0, np.float64(0.5)]))
    np.testing.assert_array_equal(again.classifier.kernel, first.classifier.kernel)


@pytest.mark.parametrize("name", list(OTHER))
def test_every_field_survives_provenance(name):
    settings = replace(FinetuneSettings(), **{name: OTHER[name]})
    assert settings != FinetuneSettings()
    parameters = json.loads(json.dumps({"finetune": {"label_key": "cell_type", **settings.to_parameters()}}))
    assert FinetuneSettings.from_parameters(parameters) == settings


def test_a_table_of_margins_survives_provenance():
    table = np.array([[0, 1.5], [1.5, 0]])
    settings = FinetuneSettings(margin=table)
    again = FinetuneSettings.from_parameters(json.loads(json.dumps({"finetune": settings.to_parameters()})))
    assert again == settings
    np.testing.assert_array_equal(again.margin, table)


def test_without_provenance_nothing_can_be_repeated():
    with pytest.raises(scq.NotFittedError, match=r"`encoder\.parameters` does not hold any\. Fine-tune the encoder"):
        FinetuneSettings.from_parameters({"pretrain": {}})


def test_parameters_are_plain_values():
    settings = FinetuneSettings(
        epochs=np.int64(3), learning_rate=np.float32(0.5), margin=np.float64(1), gene_masking=np.float64(0.25)
    )
    found = settings.to_parameters()
    assert (found["epochs"], found["learning_rate"], found["margin"], found["gene_masking"]) == (3, 0.5, 1.0, [0, 0.25])
    assert all(type(value) in (int, float, str, list, type(None)) for value in found.values())


@pytest.mark.parametrize(("batch_size", "n_labelled", "expected"), [(None, 640, 32), (None, 3200, 100), (7, 640, 7)])
def test_cells_per_step(batch_size, n_labelled, expected):
    assert FinetuneSettings(batch_size=batch_size).cells_per_step(n_labelled) == expected


@pytest.mark.backend
def test_metric_losses_are_those_of_nn():
    from scquery_ae import nn

    assert set(METRIC_LOSSES) == set(nn.METRIC_LOSSES)
