"""Label issues: which labels fine-tuning drops, its warning, and what becomes of the cells in a reference."""

import importlib
import logging
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.dense import Classifier
from scquery_ae.loaders import CellRows, open_training
from scquery_ae.stats import GeneDiscriminant
from scquery_ae.training import FinetuneResult, find_label_issues, principal_components

N, N_WRONG = 300, 30
QUICK = {"label_key": "cell_type", "epochs": 1, "batch_size": 64, "learning_rate": 1e-2, "progress": False}


@pytest.fixture(scope="module")
def mixed_up(make_adata):
    """Cells of three types in three batches: 30 labels are another type's, and 15 are missing."""
    adata = make_adata(N, 60, n_batches=3, seed=3)
    adata.obs["true"] = adata.obs["cell_type"]
    order = np.random.default_rng(0).permutation(N)
    latent = adata.obs["cell_type"].cat.codes.to_numpy().copy()
    wrong, bare = order[:N_WRONG], order[N_WRONG : N_WRONG + 15]
    latent[wrong] = (latent[wrong] + 1 + np.arange(N_WRONG) % 2) % 3
    latent[bare] = -1
    adata.obs["cell_type"] = pd.Categorical.from_codes(latent, adata.obs["true"].cat.categories)
    scq.pp.normalize(adata, n_top_genes=60)
    return adata, np.isin(np.arange(N), wrong), np.isin(np.arange(N), bare)


@pytest.fixture
def encoder(mixed_up, make_encoder):
    """An encoder with components, as pretraining makes one."""
    adata, _, _ = mixed_up
    made = make_encoder(adata.copy(), (6, 4))
    made.transform = type(made.transform).from_dict(adata.uns["scquery_transform"])
    rows = CellRows.read(open_training(adata, made.transform, "the test"), made.transform)
    return replace(made, classifier=None, components=principal_components(rows.logged))


@pytest.fixture
def asked(monkeypatch):
    """Instead of training, keep what training was asked for."""
    calls = []

    def keep(encoder, cells, labels, held_out, types, settings, **kwargs):
        calls.append(SimpleNamespace(labels=labels.copy(), held_out=held_out, types=types, **kwargs))
        classifier = Classifier(
            np.zeros((encoder.n_latent, len(types)), np.float32), np.zeros(len(types), np.float32), types
        )
        return FinetuneResult(encoder.layers, classifier, None, {"loss": [1.0]})

    monkeypatch.setattr(importlib.import_module("scquery_ae.tl.finetune"), "finetune_encoder", keep)
    return calls


def test_many_wrong_labels_are_dropped_with_a_warning(mixed_up, encoder, asked):
    adata, wrong, bare = mixed_up
    adata = adata.copy()
    with pytest.warns(scq.ScqueryWarning) as caught:
        scq.tl.finetune(adata, encoder, **QUICK)
    split = adata.obs["scquery_split"]
    label_issue = (split == "label_issue").to_numpy()
    assert label_issue[wrong].mean() >= 0.9
    assert wrong[label_issue].mean() >= 0.9
    rows = CellRows.read(open_training(adata, encoder.transform, "the test"), encoder.transform)
    labels = adata.obs["cell_type"].cat.codes.to_numpy().astype(int)
    n_contradicted = find_label_issues(encoder.project(rows.logged), labels, 3, 0).n_contradicted
    (warning,) = caught
    assert str(warning.message) == (
        f"Many labels seem to be wrong: {label_issue.sum()} of 285 are label issues, and {n_contradicted} are much "
        "less probable than their type is on average. Cells with a label issue count as unlabelled. Inspect them with "
        "`scq.tl.audit`; pass `label_issues='keep'` to train on all labels, or 'drop' to drop label issues without "
        "this warning."
    )
    # Training sees them without a label, and nobody holds them out.
    (call,) = asked
    np.testing.assert_array_equal(call.labels, np.where(label_issue, -1, labels))
    assert not (call.held_out & (label_issue | bare)).any()
    np.testing.assert_array_equal(split == "validation", call.held_out)
    assert list(split.cat.categories) == ["train", "validation", "label_issue"]
    np.testing.assert_array_equal(split.isna(), bare)
    assert encoder.parameters["finetune"]["label_issues"] == "auto"
    # The labels themselves are the user's.
    np.testing.assert_array_equal(adata.obs["cell_type"].cat.codes, labels)


@pytest.mark.usefixtures("eager")
def test_the_discriminant_is_not_fitted_to_label_issues(mixed_up, encoder):
    adata = mixed_up[0].copy()
    scq.tl.finetune(adata, encoder, **QUICK, label_issues="drop")
    split = adata.obs["scquery_split"]
    assert (split == "label_issue").sum() > 20
    rows = CellRows.read(open_training(adata, encoder.transform, "the test"), encoder.transform)
    labels = adata.obs["cell_type"].cat.codes.to_numpy().astype(int)
    expected = GeneDiscriminant.fit(rows.logged, np.where(split == "train", labels, -1), 3)
    with_issues = GeneDiscriminant.fit(rows.logged, np.where(split == "validation", -1, labels), 3)
    for name in ("center", "scale", "means", "loadings", "noise"):
        fitted = getattr(encoder.discriminant, name)
        np.testing.assert_allclose(fitted, getattr(expected, name), rtol=1e-6, err_msg=name)
        assert np.abs(fitted - getattr(with_issues, name)).max() > 1e-4


def test_all_labels_are_kept_if_asked_for(mixed_up, encoder, asked):
    adata, _, bare = mixed_up
    adata = adata.copy()
    scq.tl.finetune(adata, encoder, **QUICK, label_issues="keep")
    np.testing.assert_array_equal(asked[0].labels, adata.obs["cell_type"].cat.codes)
    assert list(adata.obs["scquery_split"].cat.categories) == ["train", "validation"]
    np.testing.assert_array_equal(adata.obs["scquery_split"].isna(), bare)
    assert encoder.parameters["finetune"]["label_issues"] == "keep"


def test_labels_are_dropped_in_silence_if_asked_for(mixed_up, encoder, asked):
    adata, wrong, _ = mixed_up
    adata = adata.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scq.tl.finetune(adata, encoder, **QUICK, label_issues="drop")
    label_issue = (adata.obs["scquery_split"] == "label_issue").to_numpy()
    assert label_issue[wrong].mean() >= 0.9
    assert encoder.parameters["finetune"]["label_issues"] == "drop"


def test_a_few_wrong_labels_are_dropped_only_if_asked_for(mixed_up, encoder, asked):
    adata = mixed_up[0].copy()
    latent = adata.obs["true"].cat.codes.to_numpy().copy()
    latent[:3] = (latent[:3] + 1) % 3
    adata.obs["cell_type"] = pd.Categorical.from_codes(latent, adata.obs["true"].cat.categories)
    scq.tl.finetune(adata, encoder, **QUICK)
    assert (asked[0].labels >= 0).all()
    assert list(adata.obs["scquery_split"].cat.categories) == ["train", "validation"]
    scq.tl.finetune(adata, encoder, **QUICK, label_issues="drop")
    label_issue = (adata.obs["scquery_split"] == "label_issue").to_numpy()
    assert label_issue[:3].all()
    assert label_issue.sum() < 10
    np.testing.assert_array_equal(asked[1].labels < 0, label_issue)


@pytest.mark.parametrize("label_issues", ["auto", "drop"])
def test_without_components_all_labels_are_kept(mixed_up, encoder, asked, label_issues):
    adata = mixed_up[0].copy()
    scq.tl.finetune(adata, replace(encoder, components=None), **QUICK, label_issues=label_issues)
    np.testing.assert_array_equal(asked[0].labels, adata.obs["cell_type"].cat.codes)


def test_the_seed_reaches_the_trees(mixed_up, encoder, asked, monkeypatch):
    module = importlib.import_module("scquery_ae.training.label_issues")
    seeds, original = [], module.find_label_issues

    def spy(projected, labels, n_types, random_state):
        seeds.append(random_state)
        return original(projected, labels, n_types, random_state)

    monkeypatch.setattr(module, "find_label_issues", spy)
    scq.tl.finetune(mixed_up[0].copy(), encoder, **QUICK, label_issues="drop", random_state=7)
    assert seeds == [7]


def test_held_out_cells_still_come_from_every_batch(mixed_up, encoder, asked):
    adata = mixed_up[0].copy()
    scq.tl.finetune(adata, encoder, **QUICK, label_issues="drop", batch_key="batch", validation_fraction=0.3)
    held_out = adata.obs["scquery_split"] == "validation"
    assert (pd.crosstab(adata.obs["true"][held_out], adata.obs["batch"][held_out]) > 0).all(axis=None)
    n_left = (adata.obs["scquery_split"].isin(["train", "validation"])).sum()
    assert abs(held_out.sum() - 0.3 * n_left) < 5


@pytest.mark.parametrize("value", ["Drop", None, True, "remove"])
def test_other_values_are_refused(mixed_up, encoder, value):
    adata = mixed_up[0].copy()
    with pytest.raises(scq.ArgumentError, match=r"`label_issues` must be one of 'auto', 'keep', 'drop'\. Received "):
        scq.tl.finetune(adata, encoder, **QUICK, label_issues=value)
    assert "scquery_split" not in adata.obs
    assert encoder.classifier is None


# What becomes of them in a reference.


@pytest.fixture(scope="module")
def tuned(mixed_up):
    """The cells with what fine-tuning wrote, and the encoder it trained, without compiling."""
    import keras

    adata = mixed_up[0].copy()
    with pytest.MonkeyPatch.context() as patch:
        fit = keras.Model.fit

        def eager_fit(self, *args, **kwargs):
            self.run_eagerly = True
            return fit(self, *args, **kwargs)

        patch.setattr(keras.Model, "fit", eager_fit)
        encoder = scq.tl.pretrain(adata, layer_sizes=(8, 4), epochs=1, batch_size=64, progress=False)
        settings = {**QUICK, "epochs": 3, "validation_fraction": 0.2, "label_issues": "drop", "batch_key": "batch"}
        scq.tl.finetune(adata, encoder, **settings)
    return adata, encoder, (adata.obs["scquery_split"] == "label_issue").to_numpy()


def test_pretraining_gives_the_components_of_its_cells(tuned):
    adata, encoder, label_issue = tuned
    rows = CellRows.read(open_training(adata, encoder.transform, "the test"), encoder.transform)
    np.testing.assert_array_equal(encoder.components, principal_components(rows.logged))
    assert label_issue.sum() >= 0.9 * N_WRONG


def test_label_issues_are_missing_in_the_reference(tuned, caplog):
    adata, encoder, label_issue = tuned
    before = adata.copy()
    with caplog.at_level(logging.INFO, logger="scquery_ae"):
        reference = scq.tl.build_reference(adata, encoder, label_key="cell_type")
    assert f"without the labels of {label_issue.sum()} cells with a label issue" in caplog.text
    labels = reference.obs["cell_type"]
    assert labels[label_issue].isna().all()
    pd.testing.assert_series_equal(labels[~label_issue], adata.obs["cell_type"][~label_issue])
    np.testing.assert_array_equal(reference.label_codes < 0, label_issue | adata.obs["cell_type"].isna())
    # The cells can be found; the user's labels are where they were.
    assert reference.n_obs == N
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert not (reference.cells.held_out & label_issue).any()
    assert not set(reference.simulation_cells.names) & set(adata.obs_names[label_issue])


def test_cells_with_a_label_issue_do_not_vote(tuned):
    adata, encoder, label_issue = tuned
    reference = scq.tl.build_reference(adata, encoder, label_key="cell_type")
    unlabelled = adata.copy()
    unlabelled.obs["cell_type"] = unlabelled.obs["cell_type"].mask(label_issue)
    unlabelled.obs["scquery_split"] = unlabelled.obs["scquery_split"].astype(object).where(~label_issue, None)
    expected = scq.tl.build_reference(unlabelled, encoder, label_key="cell_type")
    np.testing.assert_array_equal(reference.label_codes, expected.label_codes)
    np.testing.assert_array_equal(reference.predictors.centroids, expected.predictors.centroids)
    np.testing.assert_array_equal(reference.densities.projected.means, expected.densities.projected.means)
    np.testing.assert_array_equal(reference.densities.embedding.whitening, expected.densities.embedding.whitening)
    np.testing.assert_array_equal(reference.calibration.scores, expected.calibration.scores)
    query, other = (adata[label_issue].copy() for _ in range(2))
    scq.tl.query(query, reference)
    scq.tl.query(other, expected)
    pd.testing.assert_frame_equal(query.obs, other.obs)
    # Under another column of labels they are label_issue all the same: it is the cells that the split names.
    right = scq.tl.build_reference(adata, encoder, label_key="true")
    assert right.obs["true"][label_issue].isna().all()


def test_references_with_label_issues_can_be_saved(tuned, tmp_path):
    adata, encoder, label_issue = tuned
    reference = scq.tl.build_reference(adata, encoder, label_key="cell_type")
    reference.save(tmp_path / "a.scq")
    back = scq.Reference.load(tmp_path / "a.scq")
    pd.testing.assert_frame_equal(back.obs, reference.obs)
    assert back.encoder.parameters["finetune"]["label_issues"] == "drop"
    assert (back.obs["scquery_split"] == "label_issue").sum() == label_issue.sum()


@pytest.mark.backend
@pytest.mark.parametrize("calibration", ["cross_validated", "leave_one_batch_out"])
def test_cross_validation_uses_the_remaining_cells(tuned, eager, calibration):
    adata, encoder, label_issue = tuned
    reference = scq.tl.build_reference(
        adata, encoder, label_key="cell_type", batch_key="batch", calibration=calibration, progress=False
    )
    known = ~label_issue & adata.obs["cell_type"].notna()
    assert reference.calibration.method == calibration
    assert len(reference.calibration.scores) == known.sum()
    assert len(reference.calibration.scales) == 4
    assert np.isfinite(reference.calibration.scores).all()


@pytest.mark.backend
def test_an_audit_covers_label_issues_too(tuned, eager):
    adata, encoder, label_issue = tuned
    table = scq.tl.audit(adata, encoder, label_key="cell_type", n_folds=2, progress=False)
    assert sorted(table.index) == sorted(adata.obs_names[adata.obs["cell_type"].notna()])
    # What trees on components doubt, the audit ranks high as well: by chance a tenth of it would be on top.
    top = set(table.index[: label_issue.sum()])
    assert len(top & set(adata.obs_names[label_issue])) > 0.4 * label_issue.sum()
