"""Leave-one-out prediction, compared with references made without the cell."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.annotate import Calibration, TypeDensities, leave_one_out_members


def with_cells(reference, **changes):
    """The reference with other arrays or annotation of its cells."""
    fields = {name: changes.pop(name) for name in ("types",) if name in changes}
    cells = dataclasses.replace(reference.cells, **changes)
    return dataclasses.replace(reference, cells=cells, index=None, **fields)


def without(reference, row):
    """The reference made of all cells but one."""
    kept = np.arange(reference.n_obs) != row
    return dataclasses.replace(reference, cells=reference.cells.take(kept), index=None)


def leave_one_out(reference, rows, cells=None):
    stored = reference.cells.take(rows)
    return leave_one_out_members(
        reference.predictors, cells or stored, rows, stored.embedding, reference.search_index, reference.type_sums
    )


def assert_as_if_made_without(reference, rows):
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


def test_of_each_type_and_of_none(reference):
    rows = np.r_[[np.flatnonzero(reference.label_codes == kind)[3] for kind in range(-1, 3)], 0, 239]
    assert_as_if_made_without(reference, rows)


def test_the_only_cell_of_its_type_is_judged_by_a_type_without_cells(reference):
    obs = reference.obs.copy()
    mine = np.flatnonzero(reference.label_codes == 2)
    obs.loc[obs.index[mine[1:]], "cell_type"] = None
    alone = with_cells(reference, obs=obs)
    assert (alone.label_codes == 2).sum() == 1
    classifier, around, genes = assert_as_if_made_without(alone, mine[:3])
    # No neighbor and no mean embedding speak for it, and classifier and genes do; votes without a voter are those of chance.
    assert around[0, 2] <= 1 / 3
    assert around[0, 2] < around[0].max()
    assert classifier[0, 2] > 0
    assert genes[0, 2] > 0
    assert around[1, 2] > 0


def test_a_type_that_the_head_does_not_know(reference):
    """What classifier and genes say of it is what the others do, which must be without the cell too."""
    names = reference.obs["cell_type"].astype(object)
    new = np.flatnonzero(reference.label_codes == 1)[:3]
    names.iloc[new] = "newcomer"
    cells = dataclasses.replace(reference.cells, obs=reference.obs.assign(cell_type=pd.Categorical(names)))
    types = (*reference.types, "newcomer")
    codes = scq.Reference.label_codes.func(dataclasses.replace(reference, cells=cells))
    codes[new] = 3
    edited = dataclasses.replace(
        reference,
        cells=cells,
        types=types,
        densities=TypeDensities.fit(cells, codes, 4),
        calibration=Calibration.empty(4),
    )
    assert_as_if_made_without(edited, np.r_[new, 0, 10])


def test_copies_of_a_cell_are_other_cells(reference):
    """Only the cell itself is left out, whichever of its copies the search finds first."""
    embedding = np.asarray(reference.embedding).copy()
    embedding[1:8] = embedding[0]
    copies = with_cells(reference, embedding=embedding)
    assert_as_if_made_without(copies, np.array([0, 3, 7]))


def test_few_cells(reference):
    small = dataclasses.replace(reference)
    small.remove(small.obs.index[5:])
    assert small.n_obs == 5
    assert_as_if_made_without(small, np.arange(5))


def test_codes_may_be_others_than_those_that_are_kept(reference):
    """As simulated queries have it, which see the cell through fewer genes: what is left out is the cell that is kept."""
    # Types that overlap, of few cells: where one cell more or less shows.
    rng = np.random.default_rng(0)
    reference = blurred(reference)
    reference.remove(reference.obs.index[20:])
    rows = np.flatnonzero(reference.label_codes >= 0)[:8]
    latent = np.asarray(reference.embedding)[rows] + 0.4 * rng.standard_normal((8, 8)).astype(np.float32)
    latent /= np.linalg.norm(latent, axis=1, keepdims=True)
    seen = dataclasses.replace(reference.cells.take(rows), embedding=latent)
    _, around, genes = leave_one_out(reference, rows, seen)
    np.testing.assert_allclose(genes, reference.encoder.discriminant.probabilities(reference.cells.decision[rows]))
    for i, row in enumerate(rows):
        other = without(reference, row)
        neighbors = other.search_index.search(latent[i : i + 1], 15)
        expected = other.predictors.members(seen.take([i]), neighbors)
        np.testing.assert_allclose(around[i], expected[1][0], atol=1e-5)


# Calibration.


@pytest.fixture
def fitted(monkeypatch):
    """What calibrations are fitted to."""
    calls, fit = [], Calibration.fit.__func__

    def watched(cls, members, measures, truth, method):
        calls.append((members, measures.copy(), truth, method))
        return fit(cls, members, measures, truth, method)

    monkeypatch.setattr(Calibration, "fit", classmethod(watched))
    return calls


def blurred(reference):
    """The reference with some labels of chance, so that not every held-out cell is given its own."""
    names = reference.obs["cell_type"].astype(object)
    rng = np.random.default_rng(0)
    for row in np.flatnonzero(reference.label_codes >= 0)[::4]:
        names.iloc[row] = f"type {rng.integers(3)}"
    return with_cells(reference, obs=reference.obs.assign(cell_type=pd.Categorical(names)))


def test_calibration_measures_each_cell_from_means_without_it(reference, fitted):
    edited = blurred(reference)
    edited.densities = TypeDensities.fit(edited.cells, edited.label_codes, 3)
    edited.calibrate()
    ((members, measures, truth, method),) = fitted
    assert method == "held_out"
    rows = np.flatnonzero(edited.cells.held_out & (edited.label_codes >= 0))
    np.testing.assert_array_equal(truth, edited.label_codes[rows])
    classifier, around, _ = members
    given = (classifier + around).argmax(axis=1)
    assert 0 < (given != truth).sum() < len(rows)
    for kind, gaussians, x in (
        (1, edited.densities.embedding, np.asarray(edited.embedding, float)),
        (2, edited.densities.projected, np.asarray(edited.cells.projected, float)),
    ):
        for i, row in enumerate(rows):
            # The covariance stays that of all cells; the mean is fitted anew, without the cell.
            others = (edited.label_codes == given[i]) & (np.arange(edited.n_obs) != row)
            away = x[row] - x[others].mean(axis=0)
            assert measures[i, kind] == pytest.approx(np.linalg.norm(away @ gaussians.whitening), rel=1e-4)
    np.testing.assert_allclose(measures[:, 0], -edited.encoder.classify(np.asarray(edited.embedding)[rows]).max(axis=1))
    assert len(edited.calibration.scores) == len(rows)


def test_a_held_out_cell_that_is_its_type_s_only_one(reference, fitted):
    names = reference.obs["cell_type"].astype(object)
    mine = np.flatnonzero(reference.label_codes == 2)
    alone = mine[reference.cells.held_out[mine]][0]
    names.iloc[np.setdiff1d(mine, alone)] = None
    edited = with_cells(reference, obs=reference.obs.assign(cell_type=pd.Categorical(names)))
    edited.calibrate()
    ((_, measures, _, _),) = fitted
    assert np.isfinite(measures).all()
    assert np.isfinite(edited.calibration.scores).all()


def test_every_cell_held_out_calibrates_all(reference):
    """Nothing was to be searched before; now each is judged by all others."""
    edited = with_cells(reference, held_out=np.ones(240, bool))
    edited.calibrate()
    assert edited.calibration.method == "held_out"
    assert len(edited.calibration.scores) == (edited.label_codes >= 0).sum()


def test_one_labelled_cell_cannot_be_judged(reference):
    names = reference.obs["cell_type"].astype(object)
    names.iloc[1:] = None
    assert names.iloc[0] is None or pd.isna(names.iloc[0])
    names.iloc[0] = "type 0"
    edited = with_cells(
        reference, obs=reference.obs.assign(cell_type=pd.Categorical(names)), held_out=np.ones(240, bool)
    )
    edited.calibrate()
    assert edited.calibration.method == "none"


# Two references of one encoder.


def test_two_that_were_built_separately_are_merged(trained, query_adata, tmp_path):
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
