"""``tl.build_reference``: what a reference holds, and on which cells it is calibrated."""

import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest

import scquery_ae as sq
from scquery_ae.encoder import Head
from scquery_ae.reference.calibration import nonconformity


@pytest.fixture
def cells(make_adata):
    """Ready for a reference: normalised, all genes in the model, every fourth cell held out."""
    adata = make_adata(60, 25)
    sq.pp.normalize(adata)
    adata.obs["scquery_split"] = pd.Categorical(np.where(np.arange(60) % 4 == 0, "validation", "train"))
    return adata


@pytest.fixture
def encoder(make_adata, make_encoder):
    return make_encoder(make_adata(60, 25), (7, 4))


def test_what_it_holds(trained):
    reference = trained.reference
    assert reference.n_obs == len(reference.obs) == 240
    assert reference.types == ("type 0", "type 1", "type 2")
    assert reference.label_key == "cell_type"
    assert reference.encoder is trained.encoder
    assert reference.embedding.dtype == np.float32
    np.testing.assert_allclose(reference.embedding, trained.adata.obsm["X_scquery"], atol=1e-6)
    assert list(reference.obs.index) == list(trained.adata.obs_names)
    assert reference.provenance["n_obs"] == 240
    assert reference.provenance["scquery_ae"] == sq.__version__
    expected = trained.adata.obs["cell_type"].cat.codes.to_numpy()
    np.testing.assert_array_equal(reference.label_codes, expected)
    assert reference.label_codes.dtype == np.int64
    assert (expected == -1).sum() == 24
    assert repr(reference) == "Reference(240 cells, 3 types by 'cell_type', Encoder(100 -> 16 -> 8, 3 types))"


def test_the_anndata_is_left_as_it_is(cells, encoder):
    before = cells.copy()
    sq.tl.build_reference(cells, encoder, label_key="cell_type")
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    assert (cells.X != before.X).nnz == 0
    assert (sorted(cells.uns), sorted(cells.obsm), sorted(name for name in cells.layers if name)) == (
        sorted(before.uns),
        sorted(before.obsm),
        sorted(name for name in before.layers if name),
    )


def test_depth_is_that_of_the_counts_in_the_model_genes(cells, encoder):
    counts = cells.layers["counts"].toarray()
    reference = sq.tl.build_reference(cells, encoder, label_key="cell_type")
    assert reference.depth == {"counts": np.median(counts.sum(axis=1)), "genes": np.median((counts > 0).sum(axis=1))}


def test_it_is_calibrated_on_held_out_cells_searched_among_the_others(cells, encoder):
    reference = sq.tl.build_reference(cells, encoder, label_key="cell_type")
    held_out = np.arange(60) % 4 == 0
    codes = encoder.encode(cells.layers["counts"])
    distances = 1 - codes[held_out].astype(np.float64) @ codes[~held_out].T.astype(np.float64)
    nearest = np.sort(distances, axis=1)[:, :15].astype(np.float32)
    calibration = reference.calibration
    assert len(calibration.scores) == len(calibration.groups) == len(calibration.true_probabilities) == 15
    # Had the held-out cells found themselves, their mean distance would be smaller than this.
    probability = 1 - (1 - calibration.scores) / (1 - nearest[:, :5].mean(axis=1))
    top = 1 - probability
    assert (top <= 1 + 1e-5).all()
    assert (top >= calibration.true_probabilities - 1e-5).all()
    right = calibration.groups == (np.arange(60) % 3)[held_out]
    assert right.any()
    np.testing.assert_allclose(top[right], calibration.true_probabilities[right], atol=1e-4)


def test_unlabelled_held_out_cells_do_not_calibrate(cells, encoder):
    cells.obs["cell_type"] = cells.obs["cell_type"].where(np.arange(60) % 8 != 0)
    reference = sq.tl.build_reference(cells, encoder, label_key="cell_type")
    # Fifteen cells were held out, and every other of them has lost its label.
    assert len(reference.calibration.scores) == 7


def test_a_custom_prefix(cells, encoder):
    expected = sq.tl.build_reference(cells, encoder, label_key="cell_type")
    cells.obs = cells.obs.rename(columns={"scquery_split": "mine_split"})
    reference = sq.tl.build_reference(cells, encoder, label_key="cell_type", key_added="mine")
    np.testing.assert_array_equal(reference.calibration.scores, expected.calibration.scores)


@pytest.mark.parametrize(
    ("split", "match"),
    [
        (
            None,
            r'`adata\.obs\["scquery_split"\]` is not there, so no cells are known to be held out.*confidence is not',
        ),
        ("train", r"Fine-tuning held no cells out: confidence is not calibrated.*`validation_fraction` above 0"),
    ],
)
def test_without_held_out_cells_nothing_is_called_unknown(cells, encoder, split, match):
    if split is None:
        del cells.obs["scquery_split"]
    else:
        cells.obs["scquery_split"] = split
    with pytest.warns(sq.ScqueryWarning, match=match):
        reference = sq.tl.build_reference(cells, encoder, label_key="cell_type")
    assert reference.calibration.combination.temperature == 1
    query = cells[:10].copy()
    sq.tl.query(query, reference)
    assert (query.obs["scquery_pvalue"] == 1).all()
    assert not query.obs["scquery_unknown"].any()
    # Nothing can be ruled out either.
    assert {len(names.split("|")) for names in query.obs["scquery_label_set"]} == {3}


def test_labels_of_numbers(cells, encoder):
    numbered = copy.copy(encoder)
    numbered.head = Head(encoder.head.kernel, encoder.head.bias, ("0", "1", "2"))
    cells.obs["cluster"] = cells.obs["cell_type"].cat.codes.astype(int)
    reference = sq.tl.build_reference(cells, numbered, label_key="cluster")
    np.testing.assert_array_equal(reference.label_codes, np.arange(60) % 3)


def test_strangers_among_the_labels_are_refused(cells, encoder):
    cells.obs["cell_type"] = cells.obs["cell_type"].cat.rename_categories({"type 1": "B cell"})
    with pytest.raises(
        sq.ArgumentError,
        match=r"`label_key='cell_type'` holds types that the encoder was not fine-tuned on: 'B cell'\. Expected '",
    ):
        sq.tl.build_reference(cells, encoder, label_key="cell_type")


def test_repeated_cell_names_are_refused(cells, encoder):
    cells.obs_names = ["same", *cells.obs_names[1:-1], "same"]
    with pytest.raises(
        sq.ArgumentError,
        match=r"`adata\.obs_names` must be unique\. Received 1 repeated name\(s\) such as 'same'; call `adata\.obs",
    ):
        sq.tl.build_reference(cells, encoder, label_key="cell_type")


def test_steps_left_out_are_named(cells, encoder):
    bare = copy.copy(encoder)
    bare.head = None
    with pytest.raises(
        sq.NotFittedError, match=r"no classifier: it was pretrained but not fine-tuned\. Call `sq\.tl\.finetune"
    ):
        sq.tl.build_reference(cells, bare, label_key="cell_type")
    with pytest.raises(sq.MissingKeyError, match=r"`label_key='type'` is not a column of `adata\.obs`"):
        sq.tl.build_reference(cells, encoder, label_key="type")
    with pytest.raises(sq.ArgumentError, match=r"`tl\.build_reference` needs a fine-tuned encoder\. Received dict"):
        sq.tl.build_reference(cells, {}, label_key="cell_type")
    del cells.layers["counts"]
    with pytest.raises(sq.NotFittedError, match=r'`tl\.build_reference` trains on|needs `adata\.layers\["counts"\]`'):
        sq.tl.build_reference(cells, encoder, label_key="cell_type")


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        (
            "embedding",
            np.zeros((239, 8), np.float32),
            r"one code a cell, shape \(240, 8\) for its 240 rows of `obs`.*Received an embedding of shape \(239, 8\)",
        ),
        (
            "label_key",
            "type",
            r"A reference needs its labels in `obs`\. Received the key 'type' and \['cell_type', 'batch'",
        ),
        ("centroids", np.zeros((2, 8), np.float32), r"one mean code a type\. Received \(2, 8\) for 3 types"),
    ],
)
def test_parts_that_do_not_fit_are_refused(reference, name, value, match):
    with pytest.raises(sq.ArgumentError, match=match):
        dataclasses.replace(reference, **{name: value})


def test_nonconformity_by_hand():
    from scquery_ae.index import Neighbors

    distances = np.array([[0, 0.1, 0.2, 0.3, 0.4, 2], [1.5, 1.5, 1.5, 1.5, 1.5, 1.5]], dtype=np.float32)
    neighbors = Neighbors(np.zeros((2, 6), np.int64), distances)
    # Mean of five distances 0.2, so a similarity of 0.8, times 0.75; opposite cells have none.
    received = nonconformity(np.array([[0.75, 0.25], [1.0, 0.0]]), neighbors)
    np.testing.assert_allclose(received, [1 - 0.8 * 0.75, 1], rtol=1e-6)
