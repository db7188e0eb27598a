"""Leave-one-out prediction, compared with references made without the cell."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.annotate import Calibration, TypeDensities, leave_one_out_members


def with_cells(reference, **changes):
    """Return the reference with other arrays or another annotation of its cells."""
    return dataclasses.replace(reference, cells=dataclasses.replace(reference.cells, **changes), index=None)


def without(reference, row):
    """Return the reference of all cells except one."""
    kept = np.arange(reference.n_obs) != row
    return dataclasses.replace(reference, cells=reference.cells.take(kept), index=None)


def leave_one_out(reference, rows, cells=None):
    stored = reference.cells.take(rows)
    return leave_one_out_members(
        reference.predictors, cells or stored, rows, stored.embedding, reference.search_index, reference.type_sums
    )


def assert_predicted_as_if_removed(reference, rows):
    members = leave_one_out(reference, rows)
    assert [member.shape for member in members] == [(len(rows), len(reference.types))] * 3
    for i, row in enumerate(rows):
        other = without(reference, row)
        cell = reference.cells.take(rows[i : i + 1])
        neighbors = other.search_index.search(cell.embedding, min(15, other.n_obs))
        expected = other.predictors.members(cell, neighbors)
        for mine, theirs in zip(members, expected, strict=True):
            np.testing.assert_allclose(mine[i], theirs[0], atol=1e-5)
    return members


def test_cells_of_each_type_and_without_a_label(reference):
    rows = np.r_[[np.flatnonzero(reference.label_codes == kind)[3] for kind in range(-1, 3)], 0, 239]
    assert_predicted_as_if_removed(reference, rows)


def test_the_only_cell_of_its_type(reference):
    obs = reference.obs.copy()
    mine = np.flatnonzero(reference.label_codes == 2)
    obs.loc[obs.index[mine[1:]], "cell_type"] = None
    alone = with_cells(reference, obs=obs)
    assert (alone.label_codes == 2).sum() == 1
    classifier, neighbors, discriminant = assert_predicted_as_if_removed(alone, mine[:3])
    # Without the cell, the type has no neighbors and no centroid, but classifier and discriminant still know it.
    assert neighbors[0, 2] <= 1 / 3
    assert neighbors[0, 2] < neighbors[0].max()
    assert classifier[0, 2] > 0
    assert discriminant[0, 2] > 0
    assert neighbors[1, 2] > 0


def test_a_type_that_the_classifier_does_not_know(reference):
    """Classifier and discriminant take its probability from the neighbors, which must leave the cell out too."""
    names = reference.obs["cell_type"].astype(object)
    new = np.flatnonzero(reference.label_codes == 1)[:3]
    names.iloc[new] = "new type"
    cells = dataclasses.replace(reference.cells, obs=reference.obs.assign(cell_type=pd.Categorical(names)))
    types = (*reference.types, "new type")
    labels = reference.label_codes.copy()
    labels[new] = 3
    edited = dataclasses.replace(
        reference,
        cells=cells,
        types=types,
        densities=TypeDensities.fit(cells.embedding, cells.projected, labels, 4),
        calibration=Calibration.empty(4),
    )
    assert_predicted_as_if_removed(edited, np.r_[new, 0, 10])


def test_copies_of_a_cell_are_not_left_out(reference):
    """Only the cell itself is left out, whichever of its copies the search finds first."""
    embedding = np.asarray(reference.embedding).copy()
    embedding[1:8] = embedding[0]
    copies = with_cells(reference, embedding=embedding)
    assert_predicted_as_if_removed(copies, np.array([0, 3, 7]))


def test_few_cells(reference):
    small = dataclasses.replace(reference)
    small.remove(small.obs.index[5:])
    assert small.n_obs == 5
    assert_predicted_as_if_removed(small, np.arange(5))


def test_cells_may_have_other_embeddings_than_in_the_reference(reference):
    """In a simulated query, cells have fewer genes; the stored cell is left out."""
    # With few cells of overlapping types, one cell more or less changes the result.
    rng = np.random.default_rng(0)
    reference = with_some_random_labels(reference)
    reference.remove(reference.obs.index[20:])
    rows = np.flatnonzero(reference.label_codes >= 0)[:8]
    latent = np.asarray(reference.embedding)[rows] + 0.4 * rng.standard_normal((8, 8)).astype(np.float32)
    latent /= np.linalg.norm(latent, axis=1, keepdims=True)
    seen = dataclasses.replace(reference.cells.take(rows), embedding=latent)
    members = leave_one_out(reference, rows, seen)
    np.testing.assert_allclose(
        members.discriminant, reference.encoder.discriminant.probabilities(reference.cells.decision[rows])
    )
    for i, row in enumerate(rows):
        other = without(reference, row)
        neighbors = other.search_index.search(latent[i : i + 1], 15)
        expected = other.predictors.members(seen.take([i]), neighbors)
        np.testing.assert_allclose(members.neighbors[i], expected.neighbors[0], atol=1e-5)


# Calibration.


@pytest.fixture
def fitted(monkeypatch):
    """The arguments of each call of ``Calibration.fit``."""
    calls, fit = [], Calibration.fit.__func__

    def watched(cls, members, measures, truth, method):
        calls.append((members, measures.copy(), truth, method))
        return fit(cls, members, measures, truth, method)

    monkeypatch.setattr(Calibration, "fit", classmethod(watched))
    return calls


def with_some_random_labels(reference):
    """Return the reference with some random labels, so that some held-out cells get another type."""
    names = reference.obs["cell_type"].astype(object)
    rng = np.random.default_rng(0)
    for row in np.flatnonzero(reference.label_codes >= 0)[::4]:
        names.iloc[row] = f"type {rng.integers(3)}"
    return with_cells(reference, obs=reference.obs.assign(cell_type=pd.Categorical(names)))


def test_calibration_uses_means_without_the_cell(reference, fitted):
    edited = with_some_random_labels(reference)
    edited.densities = TypeDensities.fit(edited.cells.embedding, edited.cells.projected, edited.label_codes, 3)
    edited.calibrate()
    ((members, measures, truth, method),) = fitted
    assert method == "held_out"
    rows = np.flatnonzero(edited.cells.held_out & (edited.label_codes >= 0))
    np.testing.assert_array_equal(truth, edited.label_codes[rows])
    types = (members.classifier + members.neighbors).argmax(axis=1)
    assert 0 < (types != truth).sum() < len(rows)
    for column, gaussians, x in (
        (1, edited.densities.embedding, np.asarray(edited.embedding, float)),
        (2, edited.densities.projected, np.asarray(edited.cells.projected, float)),
    ):
        for i, row in enumerate(rows):
            # The covariance is that of all cells; only the mean is computed without the cell.
            others = (edited.label_codes == types[i]) & (np.arange(edited.n_obs) != row)
            difference = x[row] - x[others].mean(axis=0)
            expected = np.linalg.norm(difference @ gaussians.whitening)
            assert measures[i, column] == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(measures[:, 0], -edited.encoder.classify(np.asarray(edited.embedding)[rows]).max(axis=1))
    assert len(edited.calibration.scores) == len(rows)


def test_calibration_on_the_only_cell_of_a_type(reference, fitted):
    names = reference.obs["cell_type"].astype(object)
    mine = np.flatnonzero(reference.label_codes == 2)
    alone = mine[reference.cells.held_out[mine]][0]
    names.iloc[np.setdiff1d(mine, alone)] = None
    edited = with_cells(reference, obs=reference.obs.assign(cell_type=pd.Categorical(names)))
    edited.calibrate()
    ((_, measures, _, _),) = fitted
    assert np.isfinite(measures).all()
    assert np.isfinite(edited.calibration.scores).all()


def test_all_cells_may_be_held_out(reference):
    """Each is predicted from all others."""
    edited = with_cells(reference, held_out=np.ones(240, bool))
    edited.calibrate()
    assert edited.calibration.method == "held_out"
    assert len(edited.calibration.scores) == (edited.label_codes >= 0).sum()


def test_a_single_labelled_cell_cannot_calibrate(reference):
    names = reference.obs["cell_type"].astype(object)
    names.iloc[1:] = None
    names.iloc[0] = "type 0"
    edited = with_cells(
        reference, obs=reference.obs.assign(cell_type=pd.Categorical(names)), held_out=np.ones(240, bool)
    )
    edited.calibrate()
    assert edited.calibration.method == "none"


# Two references made with one encoder.


def test_merging_references_that_were_built_separately(trained, query_adata, tmp_path):
    whole = trained.reference
    halves = [trained.adata[:100].copy(), trained.adata[100:].copy()]
    first, second = (scq.tl.build_reference(half, trained.encoder, label_key="cell_type") for half in halves)
    np.testing.assert_array_equal(first.encoder.components, whole.encoder.components)
    second.save(tmp_path / "second.scq")
    first.merge(scq.Reference.load(tmp_path / "second.scq"))
    np.testing.assert_allclose(first.embedding, whole.embedding, atol=1e-6)
    np.testing.assert_allclose(first.cells.projected, whole.cells.projected, atol=1e-5)
    np.testing.assert_array_equal(first.label_codes, whole.label_codes)
    np.testing.assert_array_equal(first.cells.held_out, whole.cells.held_out)
    assert first.types == whole.types
    assert list(first.obs.index) == list(whole.obs.index)
    for space in ("embedding", "projected"):
        mine, theirs = getattr(first.densities, space), getattr(whole.densities, space)
        np.testing.assert_allclose(mine.means, theirs.means, atol=1e-4)
        np.testing.assert_allclose(mine.whitening, theirs.whitening, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(first.calibration.scores, whole.calibration.scores, atol=1e-3)
    assert sorted(first.simulation_cells.names) == sorted(whole.simulation_cells.names)
    one, other = query_adata.copy(), query_adata.copy()
    scq.tl.query(one, whole)
    scq.tl.query(other, first)
    np.testing.assert_array_equal(one.obs["scquery_label"], other.obs["scquery_label"])
    np.testing.assert_allclose(one.obs["scquery_pvalue"], other.obs["scquery_pvalue"], atol=1e-3)
    np.testing.assert_allclose(one.obs["scquery_confidence"], other.obs["scquery_confidence"], atol=1e-3)
