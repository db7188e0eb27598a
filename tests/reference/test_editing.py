"""Cells that come and go, and types that are renamed, without training."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import softmax

import scquery_ae as scq
from scquery_ae.annotate import EmbeddedCells
from scquery_ae.annotate.predictors import neighbor_probabilities
from scquery_ae.index import ExactIndex, Neighbors
from scquery_ae.reference import SearchFilter, simulate_query


@pytest.fixture
def living(reference):
    """A reference of this test's own."""
    return dataclasses.replace(reference)


@pytest.fixture
def more(make_adata):
    """New cells of the three types, under names of their own."""
    adata = make_adata(45, 120, seed=5)
    adata.obs_names = [f"new{i}" for i in range(45)]
    return adata


@pytest.fixture
def with_new_type(more):
    """Every third of them is of a type that training never saw, with markers of its own."""
    counts = more.X.toarray()
    odd = np.arange(45) % 3 == 2
    counts[odd, :] = counts[odd][:, ::-1] + 5 * (np.arange(120) < 15)
    more.X = counts.astype(np.float32)
    more.obs["cell_type"] = pd.Categorical(np.where(odd, "newcomer", more.obs["cell_type"].astype(str)))
    return more


def embedded(adata, reference):
    """All cells as the reference sees them, from the counts, by the encoder's own arithmetic."""
    counts = adata[:, list(reference.encoder.genes)].X
    counts = np.asarray(counts.todense() if hasattr(counts, "todense") else counts)
    logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * reference.encoder.transform.target_sum)
    centred = logged - reference.encoder.transform.mean
    totals = counts.sum(axis=1)
    worth = np.minimum(totals / reference.encoder.transform.target_sum, 1)[:, None]
    decision = reference.encoder.discriminant.scores(sparse.csr_matrix(logged)) * worth
    projected = (centred @ reference.encoder.components).astype(np.float32)
    return EmbeddedCells(reference.encoder.encode(counts), projected, decision.astype(np.float32), totals)


def cells_of(reference, n):
    """The first `n` of its cells."""
    return reference.cells.take(slice(0, n))


def with_obs(reference, obs, **changes):
    """The reference with another annotation of its cells."""
    return dataclasses.replace(reference, cells=dataclasses.replace(reference.cells, obs=obs), **changes)


def hits_of_types(reference, kinds):
    """For 20 cells the same neighbors, of the given types and equally near."""
    neighbors = [np.flatnonzero(reference.label_codes == kind)[0] for kind in kinds]
    return Neighbors(np.tile(neighbors, (20, 1)), np.full((20, len(kinds)), 0.1, np.float32))


def assert_consistent(reference):
    """What follows from cells and labels is what a reference made of them anew would have."""
    n, types = reference.n_obs, reference.types
    labels = reference.obs[reference.label_key].astype(object)
    expected = [types.index(str(label)) if pd.notna(label) else -1 for label in labels]
    np.testing.assert_array_equal(reference.label_codes, expected)
    latent = np.asarray(reference.embedding)
    assert latent.shape == (n, 8)
    assert reference.cells.projected.shape[0] == reference.cells.held_out.shape[0] == n
    assert reference.cells.decision.shape == (n, 3)
    assert latent.dtype == reference.cells.projected.dtype == reference.cells.decision.dtype == np.float32
    assert reference.obs.index.is_unique
    for kind in range(len(types)):
        mine = reference.label_codes == kind
        mean = latent[mine].mean(axis=0) if mine.any() else np.zeros(8)
        np.testing.assert_allclose(reference.predictors.centroids[kind], mean / max(np.linalg.norm(mean), 1e-12), atol=1e-5)
        if mine.any():
            np.testing.assert_allclose(reference.densities.embedding.means[kind], mean, atol=1e-5)
            own = np.asarray(reference.cells.projected)[mine].mean(axis=0)
            np.testing.assert_allclose(reference.densities.projected.means[kind], own, atol=1e-4)
    # Calibration is that of the held-out cells that have labels.
    held_out = reference.cells.held_out & (reference.label_codes >= 0)
    assert len(reference.calibration.scores) == held_out.sum()
    again = dataclasses.replace(reference)
    again.calibrate()
    np.testing.assert_array_equal(again.calibration.scores, reference.calibration.scores)
    assert all(len(scale.location) == len(types) for scale in reference.calibration.scales)


def assert_survives_saving(reference, path, adata):
    reference.save(path)
    back = scq.Reference.load(path)
    assert_consistent(back)
    pd.testing.assert_frame_equal(back.obs, reference.obs)
    assert back.types == reference.types
    assert back.provenance == reference.provenance
    one, other = adata.copy(), adata.copy()
    scq.tl.query(one, reference)
    scq.tl.query(other, back)
    pd.testing.assert_frame_equal(one.obs, other.obs)
    np.testing.assert_array_equal(one.obsm["scquery_neighbors"], other.obsm["scquery_neighbors"])


def last_step(reference):
    step = dict(reference.provenance["steps"][-1])
    assert pd.Timestamp(step.pop("time")).tzinfo is not None
    assert step.pop("scquery_ae") == scq.__version__
    assert step.pop("n_obs") == reference.n_obs
    return step


# Adding.


def test_cells_of_known_types_are_added(living, reference, more, query_adata, tmp_path):
    living.add(more)
    assert living.n_obs == 285
    assert living.types == reference.types
    assert list(living.obs.index) == [*reference.obs.index, *more.obs_names]
    cells = embedded(more, reference)
    np.testing.assert_allclose(living.embedding[240:], cells.embedding, atol=1e-5)
    np.testing.assert_allclose(living.cells.projected[240:], cells.projected, atol=1e-3)
    np.testing.assert_allclose(living.cells.decision[240:], cells.decision, rtol=1e-4, atol=1e-2)
    np.testing.assert_array_equal(living.embedding[:240], reference.embedding)
    np.testing.assert_array_equal(living.cells.decision[:240], reference.cells.decision)
    np.testing.assert_array_equal(living.cells.held_out, [*reference.cells.held_out, *[True] * 45])
    assert list(living.obs["cell_type"][240:]) == list(more.obs["cell_type"])
    assert list(living.obs["batch"][240:]) == list(more.obs["batch"])
    # Columns that the new cells lack are missing there and what they were elsewhere.
    assert living.obs["quality"][240:].isna().all()
    pd.testing.assert_series_equal(living.obs["quality"][:240], reference.obs["quality"])
    assert list(living.obs.columns) == list(reference.obs.columns)
    assert last_step(living) == {"step": "add", "n_cells": 45, "new_types": []}
    assert_consistent(living)
    assert_survives_saving(living, tmp_path / "a.scq", query_adata)


def test_the_original_is_not_touched_by_what_happens_to_a_copy(living, reference, more):
    before = (reference.n_obs, reference.types, len(reference.provenance["steps"]), len(reference.calibration.scores))
    living.add(more)
    living.relabel({"type 0": "zero"})
    assert (
        reference.n_obs,
        reference.types,
        len(reference.provenance["steps"]),
        len(reference.calibration.scores),
    ) == before
    assert "zero" not in set(reference.obs["cell_type"])


def test_added_cells_are_found_by_their_likes(living, more):
    living.search_index  # noqa: B018 (an index of the old cells must not be kept)
    living.add(more)
    cells = embedded(more, living)
    np.testing.assert_array_equal(living.annotate(cells, n_neighbors=1).neighbors.indices.ravel(), np.arange(240, 285))


def test_a_new_type_is_named_by_neighbors_and_mean_codes(living, with_new_type, query_adata, tmp_path):
    living.add(with_new_type)
    assert living.types == ("type 0", "type 1", "type 2", "newcomer")
    np.testing.assert_array_equal(living.classifier_columns, [0, 1, 2])
    assert last_step(living) == {"step": "add", "n_cells": 45, "new_types": ["newcomer"]}
    assert_consistent(living)
    cells = embedded(with_new_type, living)
    odd = np.arange(45) % 3 == 2
    found = living.annotate(cells)
    # Found among themselves: this is about whether they can be named at all, and how well depends on the training.
    assert (found.labels[odd] == 3).mean() > 0.4
    assert found.probabilities[odd, 3].mean() > 2 * found.probabilities[~odd, 3].mean()
    assert (found.labels[~odd] < 3).mean() > 0.8
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    assert_survives_saving(living, tmp_path / "a.scq", query_adata)


def test_head_and_genes_say_of_a_new_type_what_the_others_do(living, with_new_type):
    living.add(with_new_type)
    cells = cells_of(living, 20)
    neighbors = hits_of_types(living, [0, 3, 3, 1])
    classifier, around, genes = living.predictors.members(cells, neighbors)
    # All neighbors have a label, so that centroids do not count.
    np.testing.assert_allclose(around, np.tile([0.25, 0.25, 0, 0.5], (20, 1)))
    share = around[:, 3]
    np.testing.assert_allclose(classifier[:, 3], share)
    np.testing.assert_allclose(
        classifier[:, :3], living.encoder.classify(cells.embedding) * (1 - share)[:, None], rtol=1e-5
    )
    np.testing.assert_allclose(genes[:, 3], share)
    said = softmax(np.asarray(cells.decision, float) / living.encoder.discriminant.temperature, axis=1)
    # Two neighbors of four were added: for so much of it the genes have nothing of their own to say.
    expected = (said * (1 - share)[:, None] + around[:, :3]) / 2
    np.testing.assert_allclose(genes[:, :3], expected, rtol=1e-5, atol=1e-12)


def test_genes_leave_cells_that_lie_among_added_ones_to_the_others(living, more, tmp_path):
    before = living.annotate(cells_of(living, 20))
    living.add(more)
    np.testing.assert_array_equal(np.flatnonzero(living.cells.added), np.arange(240, 285))
    cells = cells_of(living, 20)
    old = np.tile(np.arange(4), (20, 1))
    distances = np.full((20, 4), 0.1, np.float32)
    shares = []
    for n_added in range(5):
        neighbors = old.copy()
        neighbors[:, :n_added] += 240
        _, around, genes = living.predictors.members(cells, Neighbors(neighbors, distances))
        own = living.encoder.discriminant.probabilities(cells.decision)
        share = n_added / 4
        np.testing.assert_allclose(genes, (1 - share) * own + share * around, rtol=1e-5, atol=1e-12)
        shares.append(np.abs(genes - own).mean())
    assert (np.diff(shares) > 0).all()
    living.save(tmp_path / "a.scq")
    np.testing.assert_array_equal(scq.Reference.load(tmp_path / "a.scq").cells.added, living.cells.added)
    living.remove(list(living.obs.index[240:]))
    assert not living.cells.added.any()
    np.testing.assert_allclose(living.annotate(cells_of(living, 20)).probabilities, before.probabilities, rtol=1e-5)


def test_centroids_replace_the_votes_of_neighbors_without_a_label():
    distances = np.full((3, 4), 0.1, np.float32)
    labels = np.array([[0, 0, 1, 1], [0, -1, -1, 1], [-1, -1, -1, -1]])
    near = np.array([[0.7, 0.1, 0.2]] * 3)
    received = neighbor_probabilities(Neighbors(np.zeros((3, 4), int), distances), labels, near)
    np.testing.assert_allclose(received, [[0.5, 0.5, 0], [0.6, 0.3, 0.1], [0.7, 0.1, 0.2]])


def test_labels_under_another_column_and_missing_ones(living, more):
    more.obs["kind"] = more.obs["cell_type"].astype(object).where(np.arange(45) % 5 != 0, None)
    del more.obs["cell_type"]
    living.add(more, label_key="kind")
    assert "kind" not in living.obs
    assert (living.label_codes[240:] == -1).sum() == 9
    assert_consistent(living)


def test_types_in_numbers_stay_what_they_were(reference, more, tmp_path):
    """One missing number makes pandas turn all into fractions, and type "1" would become "1.0"."""
    codes = pd.Series(reference.label_codes, reference.obs.index).astype("Int64")
    obs = reference.obs.assign(cell_type=codes.where(codes >= 0))
    numbered = with_obs(reference, obs, types=("0", "1", "2"))
    np.testing.assert_array_equal(numbered.label_codes, reference.label_codes)
    more.obs["cell_type"] = pd.array([None, *[1] * 44], dtype="Int64")
    numbered.add(more)
    np.testing.assert_array_equal(numbered.label_codes, [*reference.label_codes, -1, *[1] * 44])
    numbered.relabel({"1": "one"})
    assert numbered.types == ("0", "one", "2")
    np.testing.assert_array_equal(numbered.label_codes, [*reference.label_codes, -1, *[1] * 44])
    numbered.save(tmp_path / "a.scq")
    np.testing.assert_array_equal(scq.Reference.load(tmp_path / "a.scq").label_codes, numbered.label_codes)


def test_kinds_of_columns_are_kept(reference, more, tmp_path):
    obs = reference.obs.assign(
        day=pd.Timestamp("2024-05-01").as_unit("ns"),
        whole=np.arange(240),
        lane=np.arange(240),
        stage=pd.Categorical(["late", "early"] * 120, categories=["early", "late"], ordered=True),
    )
    living = with_obs(reference, obs)
    more.obs["day"] = pd.Timestamp("2025-01-02").as_unit("s")
    more.obs["whole"] = np.arange(45)
    more.obs["lane"] = pd.array([None, *range(44)], dtype="Int64")
    more.obs["stage"] = pd.Categorical(["early"] * 45, categories=["early", "late"], ordered=True)
    living.add(more)
    assert living.obs["day"].dtype.kind == "M"
    assert living.obs["day"].iloc[-1] == pd.Timestamp("2025-01-02")
    assert list(living.obs["whole"]) == [*range(240), *range(45)]
    assert living.obs["whole"].dtype == np.int64
    np.testing.assert_array_equal(living.obs["lane"].astype(float), [*range(240), np.nan, *range(44)])
    assert living.obs["stage"].cat.ordered
    living.save(tmp_path / "a.scq")
    pd.testing.assert_frame_equal(scq.Reference.load(tmp_path / "a.scq").obs, living.obs)


@pytest.mark.parametrize("where", ["reference", "themselves"])
def test_names_that_clash_are_refused_and_nothing_is_added(living, reference, more, where):
    more.obs_names = ["cell7" if where == "reference" else "new1", *more.obs_names[1:]]
    match = {
        "reference": r"1 cells have names that are in the reference already, such as 'cell7'\. Remove those first, or",
        "themselves": r"Names of the cells to add must be unique\. Received 1 repeated name\(s\) such as 'new1'; give",
    }[where]
    before = living.embedding
    with pytest.raises(scq.ArgumentError, match=match):
        living.add(more)
    assert living.embedding is before
    assert living.provenance == reference.provenance


def test_cells_that_cannot_be_read_are_refused(living, more, reference):
    del more.obs["cell_type"]
    with pytest.raises(scq.MissingKeyError, match=r"`label_key='cell_type'` is not a column of `adata\.obs`"):
        living.add(more)
    more.obs["cell_type"] = "type 0"
    few = more[:, list(reference.encoder.genes[:30])].copy()
    # A query may have as few genes; cells that answer others may not.
    with pytest.raises(
        scq.GeneOverlapError, match=r"Only 30 of the reference's 100 genes .*`min_gene_overlap=0\.5` is needed"
    ):
        living.add(few)
    with pytest.warns(scq.ScqueryWarning, match=r"Only 30 of 100 model genes"):
        dataclasses.replace(living).add(few, min_gene_overlap=0.3)
    assert living.n_obs == 240


# Removing.


def test_cells_are_removed_by_name(living, reference, query_adata, tmp_path):
    gone = list(reference.obs.index[[3, 50, 239]])
    living.remove(gone)
    kept = ~reference.obs.index.isin(gone)
    assert list(living.obs.index) == list(reference.obs.index[kept])
    np.testing.assert_array_equal(living.embedding, reference.embedding[kept])
    np.testing.assert_array_equal(living.cells.projected, reference.cells.projected[kept])
    np.testing.assert_array_equal(living.cells.decision, reference.cells.decision[kept])
    np.testing.assert_array_equal(living.cells.held_out, reference.cells.held_out[kept])
    assert last_step(living) == {"step": "remove", "n_cells": 3, "where": {}}
    assert_consistent(living)
    assert_survives_saving(living, tmp_path / "a.scq", query_adata)


def test_one_name_is_no_list_of_letters(living):
    living.remove("cell7")
    assert living.n_obs == 239
    assert "cell7" not in living.obs.index


def test_cells_are_removed_by_their_annotation(living, reference):
    living.remove(where={"batch": "batch 1"})
    assert set(living.obs["batch"]) == {"batch 0"}
    assert living.n_obs == (reference.obs["batch"] == "batch 0").sum()
    assert last_step(living)["where"] == {"batch": "batch 1"}
    assert_consistent(living)


def test_names_and_annotation_together_mean_cells_of_both(living, reference):
    names = list(reference.obs.index[:100])
    living.remove(names, where={"batch": ["batch 1"], "cell_type": ["type 0", "type 2"]})
    first = reference.obs.iloc[:100]
    n_gone = ((first["batch"] == "batch 1") & first["cell_type"].isin(["type 0", "type 2"])).sum()
    assert 0 < n_gone < 100
    assert living.n_obs == 240 - n_gone


def test_a_type_without_cells_stays_and_is_not_given(living, query_adata):
    living.remove(where={"cell_type": "type 2"})
    assert living.types == ("type 0", "type 1", "type 2")
    np.testing.assert_array_equal(living.predictors.centroids[2], 0)
    assert_consistent(living)
    scq.tl.query(query_adata, living)
    neighbors = living.label_codes[query_adata.obsm["scquery_neighbors"]]
    assert (neighbors < 2).all()


def test_without_any_held_out_cell_calibration_is_empty(living):
    living.remove(living.obs.index[living.cells.held_out])
    assert living.calibration.method == "none"
    assert len(living.calibration.scores) == 0
    assert simulate_query(living) is None


def test_counts_of_removed_cells_go_with_them(living, reference, more):
    """Another cell that comes under the old name must not be judged by the counts of the one that went."""
    name = reference.simulation_cells.names[0]
    living.remove([name])
    assert name not in living.simulation_cells.names
    assert (
        living.simulation_cells.counts.shape[0]
        == len(living.simulation_cells.names)
        == len(reference.simulation_cells.names) - 1
    )
    np.testing.assert_array_equal(
        living.simulation_cells.counts.toarray(), reference.simulation_cells.counts.toarray()[1:]
    )
    more.obs_names = [name, *more.obs_names[1:]]
    living.add(more)
    kept = living.simulation_cells
    assert len(set(kept.names)) == len(kept.names) == len(reference.simulation_cells.names) - 1 + 45
    expected = more[name, list(living.encoder.genes)].X.toarray()
    np.testing.assert_array_equal(kept.counts[kept.names == name].toarray(), expected)
    assert sum(simulate_query(living).n_cells.values()) == len(kept.names)


@pytest.mark.parametrize(
    ("names", "where", "error", "match"),
    [
        (None, None, scq.ArgumentError, r"Nothing says which cells to remove\. Give `names` of cells, or `where`"),
        (None, {}, scq.ArgumentError, r"Nothing says which cells to remove"),
        (
            ["cell1", "nobody"],
            None,
            scq.MissingKeyError,
            r"The reference has no cells called 'nobody'\. Expected names",
        ),
        (None, {"organ": "x"}, scq.MissingKeyError, r"The reference's `obs` has no column 'organ'\. Expected one of"),
        (None, {"batch": "batch 9"}, scq.ArgumentError, r"No cell of the reference is meant by .*Nothing was removed"),
        ([], None, scq.ArgumentError, r"No cell of the reference is meant by names=\[\] and where=None"),
        (None, {"cell_type": ["type 0", "type 1"]}, scq.ArgumentError, r"Removing 144 of 240 .* fewer than two types"),
    ],
)
def test_removals_that_make_no_sense_change_nothing(living, reference, names, where, error, match):
    with pytest.raises(error, match=match):
        living.remove(names, where=where)
    assert living.n_obs == 240
    assert living.provenance == reference.provenance
    assert len(living.simulation_cells.names) == len(reference.simulation_cells.names)


# Renaming.


def test_types_are_renamed(living, reference, query_adata, tmp_path):
    living.relabel({"type 1": "B cell"})
    assert living.types == ("type 0", "B cell", "type 2")
    np.testing.assert_array_equal(living.label_codes, reference.label_codes)
    np.testing.assert_array_equal(living.classifier_columns, [0, 1, 2])
    np.testing.assert_allclose(living.calibration.scores, reference.calibration.scores)
    assert last_step(living) == {"step": "relabel", "names": {"type 1": "B cell"}}
    one, other = query_adata.copy(), query_adata.copy()
    scq.tl.query(one, reference)
    scq.tl.query(other, living)
    expected = one.obs["scquery_label"].astype(str).replace({"type 1": "B cell"})
    assert list(other.obs["scquery_label"].astype(str)) == list(expected)
    assert_consistent(living)
    assert_survives_saving(living, tmp_path / "a.scq", query_adata)


def test_types_change_names_with_each_other(living, reference):
    living.relabel({"type 0": "type 1", "type 1": "type 0"})
    before = reference.obs["cell_type"].astype(object)
    after = living.obs["cell_type"].astype(object)
    assert (after[before == "type 0"] == "type 1").all()
    assert (after[before == "type 1"] == "type 0").all()
    np.testing.assert_array_equal(living.label_codes, reference.label_codes)
    assert_consistent(living)


def test_types_that_get_one_name_become_one(living, reference, query_adata, tmp_path):
    living.relabel({"type 0": "lymphocyte", "type 2": "lymphocyte"})
    assert living.types == ("lymphocyte", "type 1")
    np.testing.assert_array_equal(living.classifier_columns, [0, 1, 0])
    np.testing.assert_array_equal(living.label_codes, np.array([0, 1, 0, -1])[reference.label_codes])
    np.testing.assert_array_equal(living.cells.decision, reference.cells.decision)
    cells = cells_of(living, 10)
    neighbors = Neighbors(np.zeros((10, 1), int), np.zeros((10, 1), np.float32))
    classifier, _, genes = living.predictors.members(cells, neighbors)
    said = softmax(np.asarray(cells.decision, float) / reference.encoder.discriminant.temperature, axis=1)
    for received, before in ((classifier, reference.encoder.classify(cells.embedding)), (genes, said)):
        expected = np.stack([before[:, 0] + before[:, 2], before[:, 1]], axis=1)
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-12)
    assert set(said.argmax(axis=1)) == {0, 1, 2}
    assert_consistent(living)
    assert_survives_saving(living, tmp_path / "a.scq", query_adata)


def test_a_new_type_may_join_one_that_the_head_knows(living, with_new_type):
    living.add(with_new_type)
    living.relabel({"newcomer": "type 0"})
    assert living.types == ("type 0", "type 1", "type 2")
    np.testing.assert_array_equal(living.classifier_columns, [0, 1, 2])
    assert_consistent(living)


@pytest.mark.parametrize(
    ("names", "error", "match"),
    [
        (
            {"type 9": "x"},
            scq.MissingKeyError,
            r"The reference has no types called 'type 9'\. Expected some of 'type 0', ",
        ),
        (
            {f"type {i}": "cell" for i in range(3)},
            scq.ArgumentError,
            r"Renaming would leave the single type 'cell'\. Keep",
        ),
    ],
)
def test_names_that_make_no_sense_change_nothing(living, reference, names, error, match):
    with pytest.raises(error, match=match):
        living.relabel(names)
    assert living.types == reference.types
    np.testing.assert_array_equal(living.classifier_columns, reference.classifier_columns)
    assert living.provenance == reference.provenance


# Merging.


def halves(reference):
    names = list(reference.obs.index)
    first, second = dataclasses.replace(reference), dataclasses.replace(reference)
    first.remove(names[120:])
    second.remove(names[:120])
    return first, second


def test_two_halves_make_the_whole(reference, query_adata, tmp_path):
    first, second = halves(reference)
    first.merge(second)
    np.testing.assert_array_equal(first.embedding, reference.embedding)
    np.testing.assert_array_equal(first.cells.decision, reference.cells.decision)
    np.testing.assert_array_equal(first.cells.held_out, reference.cells.held_out)
    pd.testing.assert_frame_equal(first.obs, reference.obs)
    np.testing.assert_array_equal(first.calibration.scores, reference.calibration.scores)
    assert second.n_obs == 120
    assert last_step(first) == {"step": "merge", "n_cells": 120, "new_types": []}
    assert [step["step"] for step in first.provenance["steps"]] == ["remove", "merge"]
    one, other = query_adata.copy(), query_adata.copy()
    scq.tl.query(one, reference)
    scq.tl.query(other, first)
    np.testing.assert_array_equal(one.obsm["scquery_neighbors"], other.obsm["scquery_neighbors"])
    np.testing.assert_array_equal(one.obsm["scquery_distances"], other.obsm["scquery_distances"])
    pd.testing.assert_frame_equal(one.obs, other.obs)
    assert_consistent(first)
    assert_survives_saving(first, tmp_path / "a.scq", query_adata)


def test_one_that_was_saved_can_be_merged(reference, tmp_path):
    first, second = halves(reference)
    second.save(tmp_path / "second.zip")
    first.merge(scq.Reference.load(tmp_path / "second.zip"))
    np.testing.assert_array_equal(first.embedding, reference.embedding)


def test_a_merge_brings_new_types_and_other_columns(reference):
    first, second = halves(reference)
    second.relabel({"type 2": "rare"})
    # The other's labels have another name, and it has a column of the first one's.
    kinds = second.obs["cell_type"]
    second = with_obs(second, second.obs.assign(kind=kinds, cell_type="something else"), label_key="kind")
    first.merge(second)
    assert first.types == ("type 0", "type 1", "type 2", "rare")
    assert last_step(first) == {"step": "merge", "n_cells": 120, "new_types": ["rare"]}
    expected = np.where((reference.label_codes == 2) & (np.arange(240) >= 120), 3, reference.label_codes)
    np.testing.assert_array_equal(first.label_codes, expected)
    assert "kind" not in first.obs
    assert_consistent(first)


DISCRIMINANT = ("center", "scale", "means", "seen", "loadings", "noise", "temperature")


def other_discriminant(encoder, name):
    value = getattr(encoder.discriminant, name)
    changed = np.array([False, True, True]) if name == "seen" else value * 2
    return dataclasses.replace(encoder, discriminant=dataclasses.replace(encoder.discriminant, **{name: changed}))


def other_encoders(encoder):
    first, *rest = encoder.layers
    transform = encoder.transform
    return {
        "kernel": dataclasses.replace(encoder, layers=(dataclasses.replace(first, kernel=first.kernel * 2), *rest)),
        "bias": dataclasses.replace(encoder, layers=(dataclasses.replace(first, bias=first.bias + 1), *rest)),
        "activation": dataclasses.replace(encoder, layers=(dataclasses.replace(first, activation="sigmoid"), *rest)),
        "genes": dataclasses.replace(
            encoder, transform=dataclasses.replace(transform, genes=np.array([f"G{i}" for i in range(100)], object))
        ),
        "mean": dataclasses.replace(encoder, transform=dataclasses.replace(transform, mean=transform.mean + 1)),
        "target": dataclasses.replace(encoder, transform=dataclasses.replace(transform, target_sum=1e4)),
        "components": dataclasses.replace(encoder, components=encoder.components[:, ::-1]),
        **{f"discriminant {name}": other_discriminant(encoder, name) for name in DISCRIMINANT},
    }


@pytest.mark.parametrize(
    "what",
    [
        "kernel",
        "bias",
        "activation",
        "genes",
        "mean",
        "target",
        "components",
        *(f"discriminant {name}" for name in DISCRIMINANT),
    ],
)
def test_another_encoder_is_refused(reference, what):
    first, second = halves(reference)
    assert first.encoder.layers[0].activation != "sigmoid"
    second.encoder = other_encoders(reference.encoder)[what]
    before = first.embedding
    with pytest.raises(
        scq.ArgumentError, match=r"needs two references made with one encoder: .*Received another encoder; add the other's"
    ):
        first.merge(second)
    assert first.embedding is before


def test_cells_of_both_are_refused(reference):
    first, _ = halves(reference)
    with pytest.raises(scq.ArgumentError, match=r"120 cells are in both references, such as .*Remove them from one"):
        first.merge(reference)
    assert first.n_obs == 120


# All together.


def test_steps_are_written_down_in_their_order(living, more, tmp_path):
    living.add(more)
    living.remove(list(more.obs_names[:5]))
    living.relabel({"type 0": "zero"})
    living.save(tmp_path / "a.scq")
    back = scq.Reference.load(tmp_path / "a.scq")
    back.remove(["cell0"])
    steps = back.provenance["steps"]
    assert [step["step"] for step in steps] == ["add", "remove", "relabel", "remove"]
    assert [step["n_obs"] for step in steps] == [285, 280, 280, 279]
    assert back.provenance["n_obs"] == 240


@pytest.mark.parametrize("kind", ["hnsw", "int8"])
def test_an_index_follows_the_cells(reference, more, tmp_path, kind):
    living = dataclasses.replace(reference, index_kind=kind, index=None)
    assert living.search_index.n_items == 240
    living.add(more)
    assert living.search_index.n_items == 285
    living.remove(where={"batch": "batch 0"})
    living.save(tmp_path / "a.scq")
    back = scq.Reference.load(tmp_path / "a.scq")
    assert back.index.kind == kind
    assert back.index.n_items == living.n_obs == back.n_obs
    neighbors = back.annotate(cells_of(back, 30), n_neighbors=3, rules=SearchFilter()).neighbors
    assert (neighbors.indices == np.arange(30)[:, None]).any(axis=1).mean() > 0.9


def test_an_index_that_has_too_few_cells_left_gives_way_to_exact_search(reference, tmp_path, query_adata):
    living = dataclasses.replace(reference, index_kind="int8", index=None)
    living.remove(list(living.obs.index[39:]))
    assert living.n_obs == 39
    assert isinstance(living.search_index, ExactIndex)
    assert_survives_saving(living, tmp_path / "a.scq", query_adata)
    assert not list((tmp_path / "a.scq").glob("*.faiss"))


def test_depth_goes_with_the_cells(living, reference, more):
    counts = more[:, list(reference.encoder.genes)].X.toarray()
    own = {"counts": np.median(counts.sum(axis=1)), "genes": np.median((counts > 0).sum(axis=1))}
    living.add(more)
    for name, before in reference.depth.items():
        assert living.depth[name] == pytest.approx((240 * before + 45 * own[name]) / 285)
