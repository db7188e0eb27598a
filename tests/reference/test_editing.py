"""Adding, removing, renaming and merging reference cells, without training."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import softmax

import scquery_ae as scq
from scquery_ae.annotate import EmbeddedCells
from scquery_ae.index import ExactIndex, Neighbors
from scquery_ae.reference import SearchFilter, simulate_query


@pytest.fixture
def edited(reference):
    """A reference that a test may edit."""
    return dataclasses.replace(reference)


@pytest.fixture
def more(make_adata):
    """New cells of the three types, with other names than the reference cells."""
    adata = make_adata(45, 120, seed=5)
    adata.obs_names = [f"new{i}" for i in range(45)]
    return adata


@pytest.fixture
def with_new_type(more):
    """New cells, every third of which is of a type that training has not seen, with its own marker genes."""
    counts = more.X.toarray()
    new = np.arange(45) % 3 == 2
    counts[new, :] = counts[new][:, ::-1] + 5 * (np.arange(120) < 15)
    more.X = counts.astype(np.float32)
    more.obs["cell_type"] = pd.Categorical(np.where(new, "new type", more.obs["cell_type"].astype(str)))
    return more


def embedded(adata, reference):
    """Return embedded cells, computed from the counts with NumPy and the weights of the encoder."""
    counts = adata[:, list(reference.encoder.genes)].X
    counts = np.asarray(counts.todense() if hasattr(counts, "todense") else counts)
    logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * reference.encoder.transform.target_sum)
    centred = logged - reference.encoder.transform.mean
    totals = counts.sum(axis=1)
    depth = np.minimum(totals / reference.encoder.transform.target_sum, 1)[:, None]
    decision = reference.encoder.discriminant.decision(sparse.csr_matrix(logged)) * depth
    projected = (centred @ reference.encoder.components).astype(np.float32)
    return EmbeddedCells(reference.encoder.encode(counts), projected, decision.astype(np.float32), totals)


def cells_of(reference, n):
    """Return the first `n` reference cells."""
    return reference.cells.take(slice(0, n))


def with_obs(reference, obs, **changes):
    """Return the reference with another annotation of its cells."""
    return dataclasses.replace(reference, cells=dataclasses.replace(reference.cells, obs=obs), **changes)


def neighbors_of_types(reference, kinds):
    """Return for 20 cells the same neighbors: cells of the given types at equal distances."""
    neighbors = [np.flatnonzero(reference.label_codes == kind)[0] for kind in kinds]
    return Neighbors(np.tile(neighbors, (20, 1)), np.full((20, len(kinds)), 0.1, np.float32))


def assert_consistent(reference):
    """Check what is derived from cells and labels against NumPy."""
    types = reference.types
    labels = reference.obs[reference.label_key].astype(object)
    expected = [types.index(str(label)) if pd.notna(label) else -1 for label in labels]
    np.testing.assert_array_equal(reference.label_codes, expected)
    latent = np.asarray(reference.embedding)
    reference.cells.validate({"n_latent": 8, "n_components": 50, "n_classifier_types": 3})
    assert reference.obs.index.is_unique
    for kind in range(len(types)):
        mine = reference.label_codes == kind
        mean = latent[mine].mean(axis=0) if mine.any() else np.zeros(8)
        np.testing.assert_allclose(
            reference.predictors.centroids[kind], mean / max(np.linalg.norm(mean), 1e-12), atol=1e-5
        )
        if mine.any():
            np.testing.assert_allclose(reference.densities.embedding.means[kind], mean, atol=1e-5)
            own = np.asarray(reference.cells.projected)[mine].mean(axis=0)
            np.testing.assert_allclose(reference.densities.projected.means[kind], own, atol=1e-4)
    # The calibration is fitted to the held-out cells with a label.
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


def test_adding_cells_of_known_types(edited, reference, more, query_adata, tmp_path):
    edited.add(more)
    assert edited.n_obs == 285
    assert edited.types == reference.types
    assert list(edited.obs.index) == [*reference.obs.index, *more.obs_names]
    for name, values in embedded(more, reference).arrays.items():
        np.testing.assert_allclose(getattr(edited.cells, name)[240:], values, rtol=1e-4, atol=1e-2, err_msg=name)
    for name, values in reference.cells.arrays.items():
        np.testing.assert_array_equal(getattr(edited.cells, name)[:240], values, err_msg=name)
    assert edited.cells.held_out[240:].all()
    assert edited.cells.added[240:].all()
    assert list(edited.obs["cell_type"][240:]) == list(more.obs["cell_type"])
    assert list(edited.obs["batch"][240:]) == list(more.obs["batch"])
    # A column that the new cells do not have is missing for them and unchanged for the others.
    assert edited.obs["quality"][240:].isna().all()
    pd.testing.assert_series_equal(edited.obs["quality"][:240], reference.obs["quality"])
    assert list(edited.obs.columns) == list(reference.obs.columns)
    assert last_step(edited) == {"step": "add", "n_cells": 45, "new_types": []}
    assert_consistent(edited)
    assert_survives_saving(edited, tmp_path / "a.scq", query_adata)


def test_editing_a_copy_leaves_the_original_unchanged(edited, reference, more):
    before = (reference.n_obs, reference.types, len(reference.provenance["steps"]), len(reference.calibration.scores))
    edited.add(more)
    edited.relabel({"type 0": "zero"})
    assert (
        reference.n_obs,
        reference.types,
        len(reference.provenance["steps"]),
        len(reference.calibration.scores),
    ) == before
    assert "zero" not in set(reference.obs["cell_type"])


def test_added_cells_can_be_found(edited, more):
    edited.search_index  # noqa: B018 (the index of the old cells must not be kept)
    edited.add(more)
    cells = embedded(more, edited)
    np.testing.assert_array_equal(edited.annotate(cells, n_neighbors=1).neighbors.indices.ravel(), np.arange(240, 285))


def test_a_new_type_can_be_predicted(edited, with_new_type, query_adata, tmp_path):
    edited.add(with_new_type)
    assert edited.types == ("type 0", "type 1", "type 2", "new type")
    np.testing.assert_array_equal(edited.classifier_columns, [0, 1, 2])
    assert last_step(edited) == {"step": "add", "n_cells": 45, "new_types": ["new type"]}
    assert_consistent(edited)
    cells = embedded(with_new_type, edited)
    new = np.arange(45) % 3 == 2
    found = edited.annotate(cells)
    # The added cells are their own neighbors: this tests whether the type can be predicted at all.
    assert (found.labels[new] == 3).mean() > 0.4
    assert found.probabilities[new, 3].mean() > 2 * found.probabilities[~new, 3].mean()
    assert (found.labels[~new] < 3).mean() > 0.8
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    assert_survives_saving(edited, tmp_path / "a.scq", query_adata)


def test_classifier_and_discriminant_take_a_new_type_from_the_neighbors(edited, with_new_type):
    edited.add(with_new_type)
    cells = cells_of(edited, 20)
    neighbors = neighbors_of_types(edited, [0, 3, 3, 1])
    members = edited.predictors.members(cells, neighbors)
    # All neighbors have a label, so centroids do not count.
    np.testing.assert_allclose(members.neighbors, np.tile([0.25, 0.25, 0, 0.5], (20, 1)))
    new = members.neighbors[:, 3]
    np.testing.assert_allclose(members.classifier[:, 3], new)
    np.testing.assert_allclose(
        members.classifier[:, :3], edited.encoder.classify(cells.embedding) * (1 - new)[:, None], rtol=1e-5
    )
    np.testing.assert_allclose(members.discriminant[:, 3], new)
    trained = softmax(np.asarray(cells.decision, float) / edited.encoder.discriminant.temperature, axis=1)
    # Two of four neighbors were added, so half of the probabilities are those of the neighbors.
    expected = (trained * (1 - new)[:, None] + members.neighbors[:, :3]) / 2
    np.testing.assert_allclose(members.discriminant[:, :3], expected, rtol=1e-5, atol=1e-12)


def test_added_neighbors_replace_the_discriminant_in_proportion(edited, more, tmp_path):
    before = edited.annotate(cells_of(edited, 20))
    edited.add(more)
    np.testing.assert_array_equal(np.flatnonzero(edited.cells.added), np.arange(240, 285))
    cells = cells_of(edited, 20)
    old = np.tile(np.arange(4), (20, 1))
    distances = np.full((20, 4), 0.1, np.float32)
    differences = []
    for n_added in range(5):
        neighbors = old.copy()
        neighbors[:, :n_added] += 240
        members = edited.predictors.members(cells, Neighbors(neighbors, distances))
        own = edited.encoder.discriminant.probabilities(cells.decision)
        added = n_added / 4
        expected = (1 - added) * own + added * members.neighbors
        np.testing.assert_allclose(members.discriminant, expected, rtol=1e-5, atol=1e-12)
        differences.append(np.abs(members.discriminant - own).mean())
    assert (np.diff(differences) > 0).all()
    edited.save(tmp_path / "a.scq")
    np.testing.assert_array_equal(scq.Reference.load(tmp_path / "a.scq").cells.added, edited.cells.added)
    edited.remove(list(edited.obs.index[240:]))
    assert not edited.cells.added.any()
    np.testing.assert_allclose(edited.annotate(cells_of(edited, 20)).probabilities, before.probabilities, rtol=1e-5)


def test_labels_in_another_column(edited, more):
    more.obs["kind"] = more.obs["cell_type"].astype(object).where(np.arange(45) % 5 != 0, None)
    del more.obs["cell_type"]
    edited.add(more, label_key="kind")
    assert "kind" not in edited.obs
    assert (edited.label_codes[240:] == -1).sum() == 9
    assert_consistent(edited)


def test_numeric_types_keep_their_names(reference, more, tmp_path):
    """pandas turns whole numbers with a missing one into fractions, and type "1" would become "1.0"."""
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


def test_dtypes_of_columns_are_kept(reference, more, tmp_path):
    obs = reference.obs.assign(
        day=pd.Timestamp("2024-05-01").as_unit("ns"),
        whole=np.arange(240),
        lane=np.arange(240),
        stage=pd.Categorical(["late", "early"] * 120, categories=["early", "late"], ordered=True),
    )
    edited = with_obs(reference, obs)
    more.obs["day"] = pd.Timestamp("2025-01-02").as_unit("s")
    more.obs["whole"] = np.arange(45)
    more.obs["lane"] = pd.array([None, *range(44)], dtype="Int64")
    more.obs["stage"] = pd.Categorical(["early"] * 45, categories=["early", "late"], ordered=True)
    edited.add(more)
    assert edited.obs["day"].dtype.kind == "M"
    assert edited.obs["day"].iloc[-1] == pd.Timestamp("2025-01-02")
    assert list(edited.obs["whole"]) == [*range(240), *range(45)]
    assert edited.obs["whole"].dtype == np.int64
    np.testing.assert_array_equal(edited.obs["lane"].astype(float), [*range(240), np.nan, *range(44)])
    assert edited.obs["stage"].cat.ordered
    edited.save(tmp_path / "a.scq")
    pd.testing.assert_frame_equal(scq.Reference.load(tmp_path / "a.scq").obs, edited.obs)


@pytest.mark.parametrize("where", ["reference", "new cells"])
def test_repeated_names_are_refused(edited, reference, more, where):
    more.obs_names = ["cell7" if where == "reference" else "new1", *more.obs_names[1:]]
    match = {
        "reference": r"1 cells have names that are in the reference already, such as 'cell7'\. Remove those first, or",
        "new cells": r"Names of the cells to add must be unique\. .* such as 'new1'; call `adata\.obs_names_make",
    }[where]
    before = edited.embedding
    with pytest.raises(scq.ArgumentError, match=match):
        edited.add(more)
    assert edited.embedding is before
    assert edited.provenance == reference.provenance


def test_missing_labels_and_too_few_genes_are_refused(edited, more, reference):
    del more.obs["cell_type"]
    with pytest.raises(scq.MissingKeyError, match=r"`label_key='cell_type'` is not a column of `adata\.obs`"):
        edited.add(more)
    more.obs["cell_type"] = "type 0"
    few = more[:, list(reference.encoder.genes[:30])].copy()
    # Enough for a query, but not for reference cells.
    with pytest.raises(
        scq.GeneOverlapError, match=r"Only 30 of the 100 model genes .*`min_gene_overlap=0\.5` is needed"
    ):
        edited.add(few)
    with pytest.warns(scq.ScqueryWarning, match=r"only 30 of the 100 model genes"):
        dataclasses.replace(edited).add(few, min_gene_overlap=0.3)
    assert edited.n_obs == 240


# Removing.


def test_cells_are_removed_by_name(edited, reference, query_adata, tmp_path):
    removed = list(reference.obs.index[[3, 50, 239]])
    edited.remove(removed)
    kept = ~reference.obs.index.isin(removed)
    assert list(edited.obs.index) == list(reference.obs.index[kept])
    for name, values in reference.cells.arrays.items():
        np.testing.assert_array_equal(getattr(edited.cells, name), values[kept], err_msg=name)
    assert last_step(edited) == {"step": "remove", "n_cells": 3, "where": {}}
    assert_consistent(edited)
    assert_survives_saving(edited, tmp_path / "a.scq", query_adata)


def test_a_single_name_may_be_text(edited):
    edited.remove("cell7")
    assert edited.n_obs == 239
    assert "cell7" not in edited.obs.index


def test_cells_are_removed_by_their_annotation(edited, reference):
    edited.remove(where={"batch": "batch 1"})
    assert set(edited.obs["batch"]) == {"batch 0"}
    assert edited.n_obs == (reference.obs["batch"] == "batch 0").sum()
    assert last_step(edited)["where"] == {"batch": "batch 1"}
    assert_consistent(edited)


def test_names_and_annotation_select_cells_that_match_both(edited, reference):
    names = list(reference.obs.index[:100])
    edited.remove(names, where={"batch": ["batch 1"], "cell_type": ["type 0", "type 2"]})
    first = reference.obs.iloc[:100]
    n_removed = ((first["batch"] == "batch 1") & first["cell_type"].isin(["type 0", "type 2"])).sum()
    assert 0 < n_removed < 100
    assert edited.n_obs == 240 - n_removed


def test_a_type_without_cells_stays_but_is_not_found(edited, query_adata):
    with pytest.warns(scq.ScqueryWarning, match=r"No cell of 'type 2' is left, but the classifier still predicts it\."):
        edited.remove(where={"cell_type": "type 2"})
    assert edited.types == ("type 0", "type 1", "type 2")
    np.testing.assert_array_equal(edited.predictors.centroids[2], 0)
    assert_consistent(edited)
    scq.tl.query(query_adata, edited)
    neighbors = edited.label_codes[query_adata.obsm["scquery_neighbors"]]
    assert (neighbors < 2).all()


@pytest.mark.parametrize("name", ["", " ", None, np.nan, ["b"]])
def test_a_type_needs_a_name_that_is_not_blank(edited, reference, name):
    with pytest.raises(scq.ArgumentError, match=r"`names` must give each type a name that is not blank\. Received"):
        edited.relabel({"type 1": name})
    assert edited.types == reference.types


def test_without_held_out_cells_the_calibration_is_empty(edited):
    edited.remove(edited.obs.index[edited.cells.held_out])
    assert edited.calibration.method == "none"
    assert len(edited.calibration.scores) == 0
    assert simulate_query(edited) is None


def test_simulation_counts_of_removed_cells_are_removed(edited, reference, more):
    """Otherwise another cell that is added under the same name would get the counts of the removed one."""
    name = reference.simulation_cells.names[0]
    edited.remove([name])
    assert name not in edited.simulation_cells.names
    assert (
        edited.simulation_cells.counts.shape[0]
        == len(edited.simulation_cells.names)
        == len(reference.simulation_cells.names) - 1
    )
    np.testing.assert_array_equal(
        edited.simulation_cells.counts.toarray(), reference.simulation_cells.counts.toarray()[1:]
    )
    more.obs_names = [name, *more.obs_names[1:]]
    edited.add(more)
    kept = edited.simulation_cells
    assert len(set(kept.names)) == len(kept.names) == len(reference.simulation_cells.names) - 1 + 45
    expected = more[name, list(edited.encoder.genes)].X.toarray()
    np.testing.assert_array_equal(kept.counts[kept.names == name].toarray(), expected)
    assert sum(simulate_query(edited).n_cells.values()) == len(kept.names)


@pytest.mark.parametrize(
    ("names", "where", "error", "match"),
    [
        (None, None, scq.ArgumentError, r"needs the cells to remove\. Received neither names nor values; give `names`"),
        (None, {}, scq.ArgumentError, r"`Reference\.remove` needs the cells to remove"),
        (
            ["cell1", "other"],
            None,
            scq.MissingKeyError,
            r"The reference has no cells called 'other'\. Expected names",
        ),
        (
            None,
            {"organ": "x"},
            scq.MissingKeyError,
            r"`where=\{'organ': 'x'\}` needs the column 'organ' in the reference's `obs`\. Expected",
        ),
        (None, {"batch": "batch 9"}, scq.ArgumentError, r"No cell of the reference matches .*Nothing was removed"),
        ([], None, scq.ArgumentError, r"No cell of the reference matches `names=\[\]`"),
        (None, {"cell_type": ["type 0", "type 1"]}, scq.ArgumentError, r"Removing 144 of 240 .* fewer than two types"),
    ],
)
def test_refused_removals_change_nothing(edited, reference, names, where, error, match):
    with pytest.raises(error, match=match):
        edited.remove(names, where=where)
    assert edited.n_obs == 240
    assert edited.provenance == reference.provenance
    assert len(edited.simulation_cells.names) == len(reference.simulation_cells.names)


# Renaming.


def test_types_are_renamed(edited, reference, query_adata, tmp_path):
    edited.relabel({"type 1": "B cell"})
    assert edited.types == ("type 0", "B cell", "type 2")
    np.testing.assert_array_equal(edited.label_codes, reference.label_codes)
    np.testing.assert_array_equal(edited.classifier_columns, [0, 1, 2])
    np.testing.assert_allclose(edited.calibration.scores, reference.calibration.scores)
    assert last_step(edited) == {"step": "relabel", "names": {"type 1": "B cell"}}
    one, other = query_adata.copy(), query_adata.copy()
    scq.tl.query(one, reference)
    scq.tl.query(other, edited)
    expected = one.obs["scquery_label"].astype(str).replace({"type 1": "B cell"})
    assert list(other.obs["scquery_label"].astype(str)) == list(expected)
    assert_consistent(edited)
    assert_survives_saving(edited, tmp_path / "a.scq", query_adata)


def test_types_can_swap_names(edited, reference):
    edited.relabel({"type 0": "type 1", "type 1": "type 0"})
    before = reference.obs["cell_type"].astype(object)
    after = edited.obs["cell_type"].astype(object)
    assert (after[before == "type 0"] == "type 1").all()
    assert (after[before == "type 1"] == "type 0").all()
    np.testing.assert_array_equal(edited.label_codes, reference.label_codes)
    assert_consistent(edited)


def test_types_with_one_name_become_one(edited, reference, query_adata, tmp_path):
    edited.relabel({"type 0": "lymphocyte", "type 2": "lymphocyte"})
    assert edited.types == ("lymphocyte", "type 1")
    np.testing.assert_array_equal(edited.classifier_columns, [0, 1, 0])
    np.testing.assert_array_equal(edited.label_codes, np.array([0, 1, 0, -1])[reference.label_codes])
    np.testing.assert_array_equal(edited.cells.decision, reference.cells.decision)
    cells = cells_of(edited, 10)
    neighbors = Neighbors(np.zeros((10, 1), int), np.zeros((10, 1), np.float32))
    members = edited.predictors.members(cells, neighbors)
    by_genes = softmax(np.asarray(cells.decision, float) / reference.encoder.discriminant.temperature, axis=1)
    by_classifier = reference.encoder.classify(cells.embedding)
    for received, before in ((members.classifier, by_classifier), (members.discriminant, by_genes)):
        expected = np.stack([before[:, 0] + before[:, 2], before[:, 1]], axis=1)
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-12)
    assert set(by_genes.argmax(axis=1)) == {0, 1, 2}
    assert_consistent(edited)
    assert_survives_saving(edited, tmp_path / "a.scq", query_adata)


def test_a_new_type_can_be_merged_into_a_type_of_the_classifier(edited, with_new_type):
    edited.add(with_new_type)
    edited.relabel({"new type": "type 0"})
    assert edited.types == ("type 0", "type 1", "type 2")
    np.testing.assert_array_equal(edited.classifier_columns, [0, 1, 2])
    assert_consistent(edited)


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
def test_refused_names_change_nothing(edited, reference, names, error, match):
    with pytest.raises(error, match=match):
        edited.relabel(names)
    assert edited.types == reference.types
    np.testing.assert_array_equal(edited.classifier_columns, reference.classifier_columns)
    assert edited.provenance == reference.provenance


# Merging.


def halves(reference):
    names = list(reference.obs.index)
    first, second = dataclasses.replace(reference), dataclasses.replace(reference)
    first.remove(names[120:])
    second.remove(names[:120])
    return first, second


def test_merging_two_halves_gives_the_whole(reference, query_adata, tmp_path):
    first, second = halves(reference)
    first.merge(second)
    for name, values in reference.cells.arrays.items():
        np.testing.assert_array_equal(getattr(first.cells, name), values, err_msg=name)
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


def test_a_loaded_reference_can_be_merged(reference, tmp_path):
    first, second = halves(reference)
    second.save(tmp_path / "second.zip")
    first.merge(scq.Reference.load(tmp_path / "second.zip"))
    np.testing.assert_array_equal(first.embedding, reference.embedding)


def test_a_merge_adds_new_types_and_drops_other_columns(reference):
    first, second = halves(reference)
    second.relabel({"type 2": "rare"})
    # The labels of the other are in another column, and it has a column with the first one's name.
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
    "part",
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
def test_another_encoder_is_refused(reference, part):
    first, second = halves(reference)
    assert first.encoder.layers[0].activation != "sigmoid"
    second.encoder = other_encoders(reference.encoder)[part]
    before = first.embedding
    match = r"needs two references made with one encoder: .*Received another encoder; add the cells of the other"
    with pytest.raises(scq.ArgumentError, match=match):
        first.merge(second)
    assert first.embedding is before


def test_cells_in_both_references_are_refused(reference):
    first, _ = halves(reference)
    with pytest.raises(scq.ArgumentError, match=r"120 cells are in both references, such as .*Remove them from one"):
        first.merge(reference)
    assert first.n_obs == 120


# Sequences of edits.


def test_the_provenance_lists_all_steps(edited, more, tmp_path):
    edited.add(more)
    edited.remove(list(more.obs_names[:5]))
    edited.relabel({"type 0": "zero"})
    edited.save(tmp_path / "a.scq")
    back = scq.Reference.load(tmp_path / "a.scq")
    back.remove(["cell0"])
    steps = back.provenance["steps"]
    assert [step["step"] for step in steps] == ["add", "remove", "relabel", "remove"]
    assert [step["n_obs"] for step in steps] == [285, 280, 280, 279]
    assert back.provenance["n_obs"] == 240


@pytest.mark.parametrize("kind", ["hnsw", "int8"])
def test_the_index_is_built_again_after_edits(reference, more, tmp_path, kind):
    edited = dataclasses.replace(reference, index_kind=kind, index=None)
    assert edited.search_index.n_items == 240
    edited.add(more)
    assert edited.search_index.n_items == 285
    edited.remove(where={"batch": "batch 0"})
    edited.save(tmp_path / "a.scq")
    back = scq.Reference.load(tmp_path / "a.scq")
    assert back.index.kind == kind
    assert back.index.n_items == edited.n_obs == back.n_obs
    neighbors = back.annotate(cells_of(back, 30), n_neighbors=3, rules=SearchFilter()).neighbors
    assert (neighbors.indices == np.arange(30)[:, None]).any(axis=1).mean() > 0.9


def test_too_few_cells_for_the_index_are_searched_exactly(reference, tmp_path, query_adata):
    edited = dataclasses.replace(reference, index_kind="int8", index=None)
    edited.remove(list(edited.obs.index[39:]))
    assert edited.n_obs == 39
    assert isinstance(edited.search_index, ExactIndex)
    assert_survives_saving(edited, tmp_path / "a.scq", query_adata)
    assert not list((tmp_path / "a.scq").glob("*.faiss"))


def test_depth_is_the_mean_weighted_by_cells(edited, reference, more):
    counts = more[:, list(reference.encoder.genes)].X.toarray()
    own = {"counts": np.median(counts.sum(axis=1)), "genes": np.median((counts > 0).sum(axis=1))}
    edited.add(more)
    for name, before in reference.depth.items():
        assert edited.depth[name] == pytest.approx((240 * before + 45 * own[name]) / 285)
