"""``tl.audit``: wrong labels rank first."""

import importlib
import logging

import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.encoder import Encoder
from scquery_ae.training.label_issues import LABEL_ISSUE_GAP

pytestmark = [pytest.mark.backend, pytest.mark.usefixtures("eager_module")]

N_CELLS, N_WRONG = 160, 9


@pytest.fixture(scope="module")
def eager_module():
    """Run short ``fit`` without compiling, for fixtures of the module too."""
    import keras

    with pytest.MonkeyPatch.context() as patch:
        fit = keras.Model.fit

        def eager_fit(self, *args, **kwargs):
            self.run_eagerly = kwargs["epochs"] < 5
            return fit(self, *args, **kwargs)

        patch.setattr(keras.Model, "fit", eager_fit)
        yield


@pytest.fixture(scope="module")
def mislabelled(eager_module, make_adata):
    """Cells of three types, some with a wrong label and four with none, and an encoder fine-tuned on them."""
    adata = make_adata(N_CELLS, 60, seed=4, n_batches=4)
    adata.obs["true"] = adata.obs["cell_type"]
    rows = np.random.default_rng(0).choice(N_CELLS - 4, N_WRONG, replace=False)
    labels = adata.obs["cell_type"].cat.codes.to_numpy().copy()
    labels[rows] = (labels[rows] + 1) % 3
    labels[-4:] = -1
    adata.obs["cell_type"] = pd.Categorical.from_codes(labels, adata.obs["true"].cat.categories)
    scq.pp.normalize(adata, n_top_genes=60)
    encoder = scq.tl.pretrain(adata, layer_sizes=(12, 6), epochs=2, batch_size=32, progress=False)
    settings = {"epochs": 4, "batch_size": 16, "learning_rate": 1e-2, "label_issues": "keep", "progress": False}
    scq.tl.finetune(adata, encoder, label_key="cell_type", **settings)
    return adata, encoder, set(adata.obs_names[rows])


@pytest.fixture(scope="module")
def table(mislabelled):
    adata, encoder, _ = mislabelled
    return scq.tl.audit(adata, encoder, label_key="cell_type", n_folds=3, progress=False)


def test_wrong_labels_rank_first(mislabelled, table):
    _, _, wrong = mislabelled
    first = set(table.index[:N_WRONG])
    # In random order, about one in twenty would be there.
    assert len(first & wrong) >= 0.9 * N_WRONG
    found = set(table.index[table["is_label_issue"]])
    assert len(found & wrong) >= 0.8 * N_WRONG
    assert len(found & wrong) >= 0.8 * len(found)


def test_the_true_type_is_suggested(mislabelled, table):
    adata, _, wrong = mislabelled
    rows = table.loc[[name for name in table.index if name in wrong]]
    true = adata.obs.loc[rows.index, "true"].astype(str)
    assert (rows["suggested"] == true).mean() >= 0.9
    assert (rows["suggested"] != rows["label"]).mean() >= 0.9


def test_the_returned_table(mislabelled, table):
    adata, _, _ = mislabelled
    assert list(table) == ["label", "suggested", "p_label", "p_suggested", "is_label_issue"]
    # Each labelled cell once.
    assert sorted(table.index) == sorted(adata.obs_names[:-4])
    assert list(table["label"]) == list(adata.obs.loc[table.index, "cell_type"].astype(str))
    gap = table["p_suggested"] - table["p_label"]
    assert (gap >= 0).all()
    assert (np.diff(gap) <= 0).all()
    np.testing.assert_array_equal(table["is_label_issue"], gap > LABEL_ISSUE_GAP)
    assert table["p_suggested"].between(1 / 3, 1).all()
    np.testing.assert_array_equal(table["suggested"] == table["label"], gap == 0)


@pytest.mark.slow
def test_nothing_is_changed_and_one_line_is_logged(mislabelled, caplog, capsys):
    adata, encoder, _ = mislabelled
    obs, layers, classifier, kept = adata.obs.copy(), encoder.layers, encoder.classifier, encoder.pretrained
    with caplog.at_level(logging.INFO, logger="scquery_ae"):
        again = scq.tl.audit(adata, encoder, label_key="cell_type", batch_key="batch", n_folds=2, progress=False)
    pd.testing.assert_frame_equal(adata.obs, obs)
    assert encoder.layers is layers
    assert encoder.classifier is classifier
    assert encoder.pretrained is kept
    messages = [record.getMessage() for record in caplog.records if record.name == "scquery_ae"]
    counted = f"audited {N_CELLS - 4} cells: {again['is_label_issue'].sum()} label issues"
    assert messages == [f"{counted}; returned a table, and wrote nothing into the AnnData"]
    assert capsys.readouterr().out == ""


def test_batches_are_predicted_by_the_others(mislabelled, monkeypatch):
    # The function hides the module of its name.
    module = importlib.import_module("scquery_ae.training.out_of_fold")
    adata, encoder, _ = mislabelled
    seen = []

    def untrained(encoder, cells, labels, folds, types, settings, **kwargs):
        seen.append(folds)
        for fold in range(folds.max() + 1):
            yield folds == fold, encoder

    monkeypatch.setattr(module, "crossfit", untrained)
    scq.tl.audit(adata, encoder, label_key="cell_type", batch_key="batch", n_folds=4, progress=False)
    (folds,) = seen
    batches = adata.obs["batch"].astype(str).to_numpy()
    assert {len(set(folds[(batches == batch) & (folds >= 0)])) for batch in set(batches)} == {1}
    assert set(folds) == {-1, 0, 1, 2, 3}


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"n_folds": 1}, scq.ArgumentError, r"`n_folds` must be an integer of at least 2\. Received 1"),
        ({"random_state": -1}, scq.ArgumentError, r"`random_state` must be an integer of at least 0\. Received -1"),
        ({"label_key": "kind"}, scq.MissingKeyError, r"`label_key='kind'` is not a column of `adata\.obs`"),
        ({"batch_key": "lab"}, scq.MissingKeyError, r"`batch_key='lab'` is not a column of `adata\.obs`"),
        (
            {"batch_key": "batch"},
            scq.ArgumentError,
            r"`n_folds=5` is more than the 4 batches of 'batch'\. Ask for fewer\.",
        ),
        (
            {"label_key": "batch"},
            scq.ArgumentError,
            r"`label_key='batch'` holds types that the encoder was not fine-tuned on: 'batch 0'.*fine-tune on this",
        ),
    ],
)
def test_wrong_arguments_are_refused(mislabelled, arguments, error, match):
    adata, encoder, _ = mislabelled
    with pytest.raises(error, match=match):
        scq.tl.audit(adata, encoder, **{"label_key": "cell_type", "progress": False, **arguments})


def test_unsuitable_encoders_are_refused(mislabelled):
    adata, encoder, _ = mislabelled
    with pytest.raises(scq.ArgumentError, match=r"`tl\.audit` needs a fine-tuned encoder\. Received str"):
        scq.tl.audit(adata, "encoder", label_key="cell_type")
    with pytest.raises(scq.NotFittedError, match=r"pretrained but not fine-tuned"):
        scq.tl.audit(adata, Encoder(encoder.transform, encoder.layers), label_key="cell_type")
    # A loaded encoder has no pretrained layers, and its layers have seen all labels.
    loaded = Encoder(encoder.transform, encoder.layers, encoder.classifier, parameters=encoder.parameters)
    with pytest.raises(scq.NotFittedError, match=r"starts from the pretrained layers, which are not saved"):
        scq.tl.audit(adata, loaded, label_key="cell_type", progress=False)
