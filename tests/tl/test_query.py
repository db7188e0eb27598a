"""``tl.query``: slots, neighbors, labels, and independence of the other cells."""

import dataclasses
import functools

import anndata
import dask.array
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from matplotlib import pyplot as plt
from scipy import sparse
from scipy.special import softmax

import scquery_ae as scq
from scquery_ae.loaders import open_cells
from scquery_ae.reference import digest
from scquery_ae.stats import Combination, centroid_probabilities

FORMATS = ["csr", "csc", "dense"]
OBS = [
    "scquery_label",
    "scquery_confidence",
    "scquery_pvalue",
    "scquery_novelty",
    "scquery_unknown",
    "scquery_prediction_set",
]


def queried(adata, reference, **arguments):
    assert scq.tl.query(adata, reference, **arguments) is None
    return adata


def as_dense(matrix):
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def assert_same_answers(one, other, atol=1e-5):
    """Compare all that a query writes except the neighbors, which may tie."""
    assert list(one.obs["scquery_label"]) == list(other.obs["scquery_label"])
    for name in ("scquery_confidence", "scquery_pvalue"):
        np.testing.assert_allclose(one.obs[name], other.obs[name], atol=max(atol, 1e-4), err_msg=name)
    for name in ("X_scquery", "scquery_distances"):
        np.testing.assert_allclose(one.obsm[name], other.obsm[name], atol=atol, err_msg=name)
    np.testing.assert_array_equal(one.obs["scquery_unknown"], other.obs["scquery_unknown"])


def embedded(adata, reference):
    return reference.embed(open_cells(adata, reference.encoder.genes, function="test").cells)


def with_obs(reference, obs):
    """Return the reference with another annotation of its cells."""
    return dataclasses.replace(reference, cells=dataclasses.replace(reference.cells, obs=obs))


def neighbors_by_hand(reference, cells, distances, neighbors):
    """Return the member probabilities of the neighbors, given as distances and rows."""
    labels = reference.label_codes[neighbors]
    weights = np.exp(-distances / distances[:, 2:3])[:, :, None] * (labels[:, :, None] == np.arange(3))
    votes = weights.sum(axis=1) / weights.sum(axis=(1, 2))[:, None]
    labelled = (labels >= 0).mean(axis=1, keepdims=True)
    by_centroids = softmax(40 * cells.embedding @ reference.predictors.centroids.T, axis=1)
    return labelled * votes + (1 - labelled) * by_centroids


def test_novelty_ranks_cells_whose_p_values_tie(make_adata, reference):
    adata = make_adata(200, 120, fmt="dense", seed=5)
    # Cells that lie farther away than any held-out cell.
    adata.X[150:] = np.random.default_rng(0).poisson(20, (50, 120))
    obs = queried(adata, reference).obs
    least = obs["scquery_pvalue"] == obs["scquery_pvalue"].min()
    assert least.sum() > 10
    assert obs["scquery_novelty"][least].nunique() == least.sum()
    assert obs["scquery_novelty"].corr(obs["scquery_pvalue"], method="spearman") < -0.7
    assert obs["scquery_novelty"].iloc[150:].min() > obs["scquery_novelty"].iloc[:150].max()


def test_slots(query_adata, reference):
    adata = queried(query_adata, reference, n_neighbors=7)
    assert list(adata.obs) == ["cell_type", "batch", *OBS]
    label = adata.obs["scquery_label"]
    assert isinstance(label.dtype, pd.CategoricalDtype)
    assert tuple(label.cat.categories) == reference.types
    assert label.notna().all()
    assert adata.obs["scquery_confidence"].dtype == np.float32
    assert adata.obs["scquery_confidence"].between(1 / 3, 1).all()
    assert adata.obs["scquery_pvalue"].dtype == np.float32
    assert ((adata.obs["scquery_pvalue"] > 0) & (adata.obs["scquery_pvalue"] <= 1)).all()
    assert adata.obs["scquery_novelty"].dtype == np.float32
    assert np.isfinite(adata.obs["scquery_novelty"]).all()
    assert adata.obs["scquery_unknown"].dtype == bool
    assert isinstance(adata.obs["scquery_prediction_set"].dtype, pd.CategoricalDtype)
    shapes = {name: (adata.obsm[name].dtype.name, adata.obsm[name].shape) for name in adata.obsm}
    assert shapes == {
        "X_scquery": ("float32", (30, 8)),
        "scquery_neighbors": ("int64", (30, 7)),
        "scquery_distances": ("float32", (30, 7)),
    }
    np.testing.assert_allclose(np.linalg.norm(adata.obsm["X_scquery"], axis=1), 1, rtol=1e-5)
    record = adata.uns["scquery"]
    assert record["reference"] == {"name": "", "sha256": ""}
    assert record["version"] == scq.__version__
    assert record["parameters"] == {
        "n_neighbors": 7,
        "alpha": 0.05,
        "corr_method": "",
        "where": {},
        "exclude_key": "",
        "diversify_key": "",
        "ignore_case": False,
        "orthologs": False,
        "coverage": 0.98,
        "source": "X",
        "input_state": "counts",
    }
    assert record["genes"] == {
        "n_genes": 100,
        "n_found": 100,
        "key": "var_names",
        "guessed": True,
        "missing": [],
        "ambiguous": [],
    }


def test_labels_are_right_where_types_are_distinct(query_adata, reference):
    adata = queried(query_adata, reference)
    assert list(adata.obs["scquery_label"].astype(str)) == list(adata.obs["cell_type"].astype(str))


def test_neighbors_are_those_of_brute_force(query_adata, reference):
    adata = queried(query_adata, reference)
    latent = adata.obsm["X_scquery"].astype(np.float64)
    distances = 1 - latent @ reference.embedding.T.astype(np.float64)
    neighbors = adata.obsm["scquery_neighbors"]
    assert neighbors.min() >= 0
    assert neighbors.max() < reference.n_obs
    assert all(len(set(row)) == 15 for row in neighbors)
    received = adata.obsm["scquery_distances"]
    assert (np.diff(received, axis=1) >= 0).all()
    assert received.min() >= 0
    assert received.max() <= 2
    np.testing.assert_allclose(received, np.sort(distances, axis=1)[:, :15], atol=1e-5)
    # The distances belong to the neighbors.
    np.testing.assert_allclose(np.take_along_axis(distances, neighbors, axis=1), received, atol=1e-5)


def test_the_confidence_is_the_probability_of_the_label(query_adata, reference):
    adata = queried(query_adata, reference)
    found = reference.annotate(embedded(query_adata, reference))
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(adata.obs["scquery_confidence"], found.probabilities.max(axis=1), rtol=1e-6)
    assert [reference.types[i] for i in found.probabilities.argmax(axis=1)] == list(adata.obs["scquery_label"])


def test_results_survive_a_file(query_adata, reference, tmp_path):
    few = query_adata[:, reference.encoder.genes[:70]].copy()
    adata = queried(few, reference)
    adata.write_h5ad(tmp_path / "q.h5ad")
    back = anndata.read_h5ad(tmp_path / "q.h5ad")
    pd.testing.assert_frame_equal(back.obs, adata.obs)
    assert sorted(back.obsm) == sorted(adata.obsm)
    for name in adata.obsm:
        np.testing.assert_array_equal(back.obsm[name], adata.obsm[name])
        assert back.obsm[name].dtype == adata.obsm[name].dtype
    record, expected = back.uns["scquery"], adata.uns["scquery"]
    assert record["parameters"] == expected["parameters"]
    assert record["genes"]["n_found"] == 70
    assert list(record["genes"]["missing"]) == expected["genes"]["missing"]
    assert len(record["genes"]["missing"]) == 30


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", ["int32", "float64"])
def test_the_query_matrix_is_not_changed(make_adata, reference, fmt, dtype):
    adata = make_adata(30, 120, fmt=fmt, dtype=dtype, seed=2)
    adata.layers["log"] = (adata.X * 1.0).log1p() if fmt != "dense" else np.log1p(adata.X)
    adata.uns["mine"] = {"a": 1}
    matrices = {"X": adata.X, "log": adata.layers["log"]}
    before, obs, var = {name: m.copy() for name, m in matrices.items()}, adata.obs.copy(), adata.var.copy()
    queried(adata, reference)
    assert adata.X is matrices["X"]
    assert [name for name in adata.layers if name] == ["log"]
    for name, matrix in (("X", adata.X), ("log", adata.layers["log"])):
        assert matrix.dtype == before[name].dtype
        for part in ("data", "indices", "indptr") if fmt != "dense" else ():
            assert getattr(matrix, part).tobytes() == getattr(before[name], part).tobytes()
        np.testing.assert_array_equal(as_dense(matrix), as_dense(before[name]))
    pd.testing.assert_frame_equal(adata.obs[list(obs)], obs)
    pd.testing.assert_frame_equal(adata.var, var)
    assert adata.uns["mine"] == {"a": 1}


@pytest.mark.parametrize("sparse_blocks", [False, True])
def test_a_dask_array_is_read_by_its_chunks(query_adata, reference, sparse_blocks):
    expected = queried(query_adata.copy(), reference)
    lazy = dask.array.from_array(query_adata.X.toarray(), chunks=(7, 120 if sparse_blocks else 50))
    query_adata.X = lazy.map_blocks(sparse.csr_matrix) if sparse_blocks else lazy
    assert_same_answers(queried(query_adata, reference), expected)
    assert isinstance(query_adata.X, dask.array.Array)
    assert scq.pp.check(query_adata, reference).n_obs == 30


@pytest.mark.parametrize("fmt", FORMATS)
def test_formats_and_files_agree(make_adata, query_adata, reference, saved_reference, fmt, tmp_path):
    expected = queried(query_adata, reference)
    adata = make_adata(30, 120, fmt=fmt, seed=2)
    adata.write_h5ad(tmp_path / "q.h5ad")
    assert_same_answers(queried(adata, saved_reference), expected)
    backed = anndata.read_h5ad(tmp_path / "q.h5ad", backed="r")
    assert_same_answers(queried(backed, str(saved_reference)), expected)
    backed.file.close()


def test_a_saved_reference_is_recorded(query_adata, saved_reference):
    adata = queried(query_adata, saved_reference)
    assert adata.uns["scquery"]["reference"] == {"name": "small.scq", "sha256": digest(saved_reference)}


def test_counts_and_their_logarithm_get_the_same_answers(make_adata, query_adata, reference):
    expected = queried(query_adata, reference)
    logged = make_adata(30, 120, seed=2)
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    queried(logged, reference)
    assert logged.uns["scquery"]["parameters"]["input_state"] == "log1p"
    assert_same_answers(logged, expected, atol=1e-4)


def test_gene_order_and_other_genes_do_not_matter(make_adata, query_adata, reference):
    expected = queried(query_adata, reference)
    plain = make_adata(30, 120, seed=2)
    rng = np.random.default_rng(0)
    order = rng.permutation(150)
    counts = np.hstack([plain.X.toarray(), rng.poisson(30, (30, 30))])[:, order].astype(np.float32)
    names = np.array([*plain.var_names, *(f"other{i}" for i in range(30))])[order]
    adata = anndata.AnnData(sparse.csr_matrix(counts), obs=plain.obs, var=pd.DataFrame(index=names))
    assert_same_answers(queried(adata, reference), expected)


def test_ids_in_a_column_of_the_query_are_found(make_adata, query_adata, reference):
    expected = queried(query_adata, reference)
    adata = make_adata(30, 120, seed=2)
    adata.var["gene_symbols"] = adata.var_names
    adata.var_names = adata.var["ensembl"].to_numpy()
    assert_same_answers(queried(adata, reference), expected)
    assert adata.uns["scquery"]["genes"]["key"] == "gene_symbols"


def test_results_do_not_depend_on_the_other_cells(make_adata, query_adata, reference):
    together = queried(query_adata, reference)
    for i in (0, 13, 29):
        alone = queried(make_adata(30, 120, seed=2)[[i]].copy(), reference)
        assert_same_answers(alone, together[[i]])
        assert alone.obs["scquery_prediction_set"].iloc[0] == together.obs["scquery_prediction_set"].iloc[i]


def test_a_view_is_queried_without_changing_its_parent(query_adata, reference):
    expected = queried(query_adata.copy(), reference)
    view = query_adata[5:15]
    queried(view, reference)
    assert not view.is_view
    assert_same_answers(view, expected[5:15])
    assert list(query_adata.obs) == ["cell_type", "batch"]


def test_reference_cells_find_themselves(trained):
    own = trained.adata.copy()
    queried(own, trained.reference, n_neighbors=3)
    np.testing.assert_allclose(own.obsm["scquery_distances"][:, 0], 0, atol=1e-5)
    itself = (own.obsm["scquery_neighbors"] == np.arange(240)[:, None]).any(axis=1)
    assert itself.all()


def test_key_added_renames_every_slot(query_adata, reference):
    adata = queried(query_adata, reference, key_added="mine")
    assert [name for name in adata.obs if "scquery" in name] == []
    assert [name for name in adata.obs if name.startswith("mine_")] == [name.replace("scquery", "mine") for name in OBS]
    assert sorted(adata.obsm) == ["X_mine", "mine_distances", "mine_neighbors"]
    assert list(adata.uns) == ["mine"]


def test_one_line_is_logged_and_nothing_printed(query_adata, reference, caplog, capsys):
    with caplog.at_level("INFO", logger="scquery_ae"):
        queried(query_adata, reference)
    (record,) = [r for r in caplog.records if r.name == "scquery_ae"]
    assert record.getMessage().startswith(
        "queried 30 cells from X (counts, 100 of 100 model genes found (100%), matched by"
    )
    assert "obs['scquery_label']" in record.getMessage()
    assert capsys.readouterr() == ("", "")


def test_two_queries_stand_side_by_side(query_adata, reference):
    adata = queried(queried(query_adata, reference), reference, key_added="again", n_neighbors=3)
    assert adata.obsm["scquery_neighbors"].shape == (30, 15)
    assert adata.obsm["again_neighbors"].shape == (30, 3)


def test_missing_genes_are_tolerated_with_a_warning(query_adata, reference):
    genes = reference.encoder.genes
    queried(query_adata[:, genes[:50]].copy(), reference)  # half of them: no warning, which would be an error here
    few = query_adata[:, genes[:49]].copy()
    with pytest.warns(scq.ScqueryWarning, match=r"The cells have only 49 of the 100 model genes \(49%\)"):
        queried(few, reference)
    assert few.uns["scquery"]["genes"]["n_found"] == 49
    assert np.isfinite(few.obsm["X_scquery"]).all()


def test_nine_matched_genes_are_refused(query_adata, reference):
    genes = reference.encoder.genes
    others = [name for name in query_adata.var_names if name not in set(genes)]
    adata = query_adata[:, [*genes[:9], *others]].copy()
    with pytest.raises(
        scq.GeneOverlapError,
        match=r"Only 9 of the 100 model genes are among the genes of the cells \(9\.0%; `min_gene_overlap=0\.1` is",
    ):
        scq.tl.query(adata, reference)
    assert list(adata.obs) == ["cell_type", "batch"]
    assert len(adata.obsm) == len(adata.uns) == 0
    # Ten are enough, and nine where the user says so; both with a warning.
    with pytest.warns(scq.ScqueryWarning, match="only 10 of the 100"):
        scq.tl.query(query_adata[:, [*genes[:10], *others]].copy(), reference)
    with pytest.warns(scq.ScqueryWarning, match="only 9 of the 100 model genes"):
        scq.tl.query(adata, reference, min_gene_overlap=0.09)


def test_without_genes_there_are_no_labels(query_adata, reference):
    # Otherwise every cell would get the same embedding, and with it a label.
    query_adata.var = pd.DataFrame(index=[f"x{i}" for i in range(120)])
    with pytest.warns(scq.ScqueryWarning) as caught:
        scq.tl.query(query_adata, reference, min_gene_overlap=0)
    messages = [str(warning.message) for warning in caught]
    assert messages[0].startswith("The cells have only 0 of the 100 model genes (0%)")
    assert messages[1].startswith(
        "30 cells have no count in the model genes and get no label, such as 'cell0', 'cell1'"
    )
    assert query_adata.obs["scquery_label"].isna().all()
    assert query_adata.obs["scquery_unknown"].all()


def test_unlabelled_reference_cells_are_neighbors_but_do_not_vote(query_adata, reference):
    unlabelled = reference.label_codes < 0
    cells = embedded(query_adata, reference)
    neighbors = reference.annotate(cells).neighbors
    assert unlabelled[neighbors.indices].any()
    by_neighbors = reference.predictors.members(cells, neighbors).neighbors
    # The votes are those of a reference of the labelled cells alone, searched for as many labelled neighbors.
    labelled_only = dataclasses.replace(reference, cells=reference.cells.take(~unlabelled), index=None)
    n_labelled = (~unlabelled[neighbors.indices]).sum(axis=1)
    by_centroids = centroid_probabilities(cells.embedding, reference.predictors.centroids)
    for n in np.unique(n_labelled):
        rows = np.flatnonzero(n_labelled == n)
        some = cells.take(rows)
        found = labelled_only.annotate(some, n_neighbors=int(n)).neighbors
        votes = labelled_only.predictors.members(some, found).neighbors
        expected = (n * votes + (15 - n) * by_centroids[rows]) / 15
        np.testing.assert_allclose(by_neighbors[rows], expected, atol=1e-4)


def test_a_reference_with_labels_of_one_type_only(query_adata, reference, genes_by_hand):
    """Only this type gets votes, and centroids replace the votes of the unlabelled neighbors."""
    obs = reference.obs.copy()
    obs["cell_type"] = obs["cell_type"].where(obs["cell_type"] == "type 1")
    bare = with_obs(reference, obs)
    cells = embedded(query_adata, reference)
    found = bare.annotate(cells, n_neighbors=240)
    labelled = (bare.label_codes >= 0).mean()
    assert 0.2 < labelled < 0.5
    by_centroids = centroid_probabilities(cells.embedding, bare.predictors.centroids)
    members = [
        bare.encoder.classify(cells.embedding),
        labelled * np.array([0.0, 1.0, 0.0]) + (1 - labelled) * by_centroids,
        genes_by_hand(bare.encoder, query_adata[:, list(bare.encoder.genes)].X.toarray()),
    ]
    expected = bare.calibration.combination(members, (1, 1, 1.6))
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-3, atol=1e-6)


def with_other_discriminant(reference):
    """Return the reference with a discriminant that prefers other types, and without a temperature."""
    discriminant = dataclasses.replace(
        reference.encoder.discriminant, means=reference.encoder.discriminant.means[[1, 2, 0]], temperature=100.0
    )
    return dataclasses.replace(
        reference,
        encoder=dataclasses.replace(reference.encoder, discriminant=discriminant),
        calibration=dataclasses.replace(reference.calibration, combination=Combination(1.0)),
    )


@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_classifier_and_neighbors_are_weighted_by_the_fraction_of_genes(
    query_adata, reference, genes_by_hand, fraction
):
    made = with_other_discriminant(reference)
    cells = embedded(query_adata, made)
    found = made.annotate(cells, gene_fraction=fraction)
    by_classifier = made.encoder.classify(cells.embedding)
    by_neighbors = neighbors_by_hand(made, cells, found.neighbors.distances, found.neighbors.indices)
    by_genes = genes_by_hand(made.encoder, query_adata[:, list(made.encoder.genes)].X.toarray())
    mixed = (fraction * (by_classifier + by_neighbors) + 1.6 * by_genes) / (2 * fraction + 1.6)
    np.testing.assert_allclose(found.probabilities, 0.999 * mixed + 0.001 / 3, atol=1e-4)
    np.testing.assert_array_equal(found.labels, found.probabilities.argmax(axis=1))
    # The p-value refers to the type of classifier and neighbors, whichever type the discriminant prefers.
    if fraction < 1:
        assert (found.labels != (by_classifier + by_neighbors).argmax(axis=1)).any()
    plain = reference.annotate(cells)
    np.testing.assert_array_equal(found.pvalues, plain.pvalues)
    np.testing.assert_array_equal(found.novelty, plain.novelty)


def test_a_query_with_fewer_genes_weights_by_their_fraction(query_adata, reference):
    made = with_other_discriminant(reference)
    few = query_adata[:, reference.encoder.genes[:25]].copy()
    with pytest.warns(scq.ScqueryWarning, match="only 25 of the 100"):
        queried(few, made)
    with pytest.warns(scq.ScqueryWarning, match="only 25 of the 100"):
        cells = embedded(few, made)
    expected = made.annotate(cells, gene_fraction=0.25).probabilities.max(axis=1)
    np.testing.assert_allclose(few.obs["scquery_confidence"], expected, rtol=1e-6)
    assert np.abs(expected - made.annotate(cells).probabilities.max(axis=1)).max() > 0.01
    queried(query_adata, made)
    expected = made.annotate(embedded(query_adata, made), gene_fraction=1.0).probabilities.max(axis=1)
    np.testing.assert_allclose(query_adata.obs["scquery_confidence"], expected, rtol=1e-6)


def test_alpha_and_coverage(query_adata, reference):
    found = reference.annotate(embedded(query_adata, reference))
    for alpha in (0.01, 0.2, 0.9):
        adata = queried(query_adata.copy(), reference, alpha=alpha)
        np.testing.assert_array_equal(adata.obs["scquery_unknown"], found.pvalues <= alpha)
    sizes = [
        queried(query_adata.copy(), reference, coverage=coverage)
        .obs["scquery_prediction_set"]
        .str.split("|")
        .str.len()
        .sum()
        for coverage in (0.1, 0.9, 0.999)
    ]
    # More coverage needs larger sets; with 65 held-out cells, .999 needs all types.
    assert sizes[0] <= sizes[1] <= sizes[2] == 90


def test_prediction_sets_are_sorted_by_probability(query_adata, reference):
    found = reference.annotate(embedded(query_adata, reference), coverage=0.999)
    adata = queried(query_adata, reference, coverage=0.999)
    for row, names in enumerate(adata.obs["scquery_prediction_set"]):
        expected = [reference.types[i] for i in np.argsort(-found.probabilities[row])]
        assert names.split("|") == expected
        assert names.split("|")[0] == adata.obs["scquery_label"].iloc[row]


def test_cells_unlike_the_reference_are_called_unknown(query_adata, reference):
    # Counts of the types with genes in random order: cells of realistic depth but of no type.
    rng = np.random.default_rng(0)
    adata = query_adata.copy()
    adata.X = rng.permuted(query_adata.X.toarray(), axis=1)
    shuffled = queried(adata, reference, alpha=0.1).obs["scquery_unknown"].mean()
    plain = queried(query_adata, reference, alpha=0.1).obs["scquery_unknown"].mean()
    assert plain < 0.3 < shuffled


def test_cells_without_a_count_in_the_model_genes_get_no_label(make_adata, query_adata, reference, tmp_path):
    expected = queried(query_adata, reference, alpha=1e-6)
    adata = make_adata(30, 120, fmt="dense", seed=2)
    adata.X[4] = 0
    # Counts only in genes that are not model genes.
    adata.X[7] = ~adata.var_names.isin(reference.encoder.genes)
    with pytest.warns(
        scq.ScqueryWarning,
        match=r"2 cells have no count in the model genes and get no label, such as 'cell4', 'cell7'",
    ):
        # With 65 held-out cells no p-value is that small: only empty cells are unknown.
        queried(adata, reference, alpha=1e-6)
    empty, rest = [4, 7], np.delete(np.arange(30), [4, 7])
    obs = adata.obs.iloc[empty]
    assert obs["scquery_label"].isna().all()
    assert obs["scquery_prediction_set"].isna().all()
    assert obs["scquery_novelty"].isna().all()
    assert obs["scquery_unknown"].all()
    assert (obs[["scquery_confidence", "scquery_pvalue"]] == 0).all(axis=None)
    assert all(np.isfinite(adata.obsm[name]).all() for name in adata.obsm)
    assert not adata.obs["scquery_unknown"].iloc[rest].any()
    assert_same_answers(adata[rest], expected[rest])
    adata.write_h5ad(tmp_path / "q.h5ad")
    pd.testing.assert_frame_equal(anndata.read_h5ad(tmp_path / "q.h5ad").obs, adata.obs)


def test_n_neighbors_is_at_most_the_number_of_cells(query_adata, reference):
    adata = queried(query_adata, reference, n_neighbors=240)
    assert all(len(set(row)) == 240 for row in adata.obsm["scquery_neighbors"])
    other = query_adata.copy()
    with pytest.raises(
        scq.ArgumentError,
        match=r"`n_neighbors=241` is more than there are reference cells \(240\)\. Ask for at most 240\.",
    ):
        scq.tl.query(other, reference, n_neighbors=241, key_added="more")
    assert not [name for name in (*other.obs, *other.obsm, *other.uns) if "more" in name]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"n_neighbors": 0}, scq.ArgumentError, "`n_neighbors` must be an integer of at least 1. Received 0"),
        ({"n_neighbors": 2.0}, scq.ArgumentError, "`n_neighbors` must be an integer of at least 1. Received 2.0"),
        ({"alpha": 0}, scq.ArgumentError, r"`alpha` must be a number in \(0, 1\)\. Received 0"),
        ({"coverage": 1}, scq.ArgumentError, r"`coverage` must be a number in \(0, 1\)\. Received 1"),
        ({"min_gene_overlap": -1}, scq.ArgumentError, r"`min_gene_overlap` must be a number in \[0, 1\]\. Received -1"),
        (
            {"input_state": "tpm"},
            scq.ArgumentError,
            "`input_state` must be one of 'auto', 'counts', 'log1p', 'log2p1'. Received 'tpm'",
        ),
        ({"layer": "raw"}, scq.MissingKeyError, r"`layer='raw'` is not in `adata\.layers`"),
        (
            {"gene_key": "id"},
            scq.MissingKeyError,
            r"`gene_key='id'` holds no gene names\. Expected one of 'var_names', 'ensembl'",
        ),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(query_adata, reference, arguments, error, match):
    with pytest.raises(error, match=match):
        scq.tl.query(query_adata, reference, **arguments)
    assert list(query_adata.obs) == ["cell_type", "batch"]
    assert len(query_adata.obsm) == len(query_adata.uns) == 0


def test_other_objects_and_paths_are_refused_as_reference(query_adata, tmp_path):
    with pytest.raises(
        scq.ArgumentError, match=r"`tl\.query` needs a reference or the path of a saved one\. Received int"
    ):
        scq.tl.query(query_adata, 3)
    with pytest.raises(scq.BundleError, match="There is no reference at"):
        scq.tl.query(query_adata, tmp_path / "none.scq")
    with pytest.raises(scq.BundleError, match="There is no reference at"):
        scq.tl.query(query_adata, "none.scq")


def test_other_objects_and_empty_cells_are_refused_as_query(reference):
    with pytest.raises(scq.ArgumentError, match=r"`tl\.query` takes an AnnData as its first argument\. Received str"):
        scq.tl.query("mine.h5ad", reference)
    with pytest.raises(scq.ArgumentError, match=r"`tl\.query` needs at least one cell and one gene"):
        scq.tl.query(anndata.AnnData(np.zeros((0, 3))), reference)


@pytest.mark.slow
def test_the_workflow_of_the_readme(monkeypatch, tmp_path):
    for name in ("pretrain", "finetune"):
        monkeypatch.setattr(scq.tl, name, functools.partial(getattr(scq.tl, name), epochs=2, progress=False))
    monkeypatch.chdir(tmp_path)
    scq.datasets.pbmc68k_reduced()[:40].copy().write_h5ad("mine.h5ad")

    adata = scq.datasets.pbmc68k_reduced()
    scq.pp.normalize(adata, n_top_genes=2000, batch_key="study")
    encoder = scq.tl.pretrain(adata, layer_sizes=(512, 64), corruption="masking", corruption_level=0.3)
    scq.tl.finetune(adata, encoder, label_key="cell_type", batch_key="study")
    scq.tl.embed(adata, encoder)
    # UMAP's own graph would be compiled first, which takes longer than all other steps.
    sc.pp.neighbors(adata, use_rep="X_scquery", method="gauss")
    reference = scq.tl.build_reference(adata, encoder, label_key="cell_type")
    reference.save("pbmc.scq")

    query = sc.read_h5ad("mine.h5ad")
    report = scq.pp.check(query, "pbmc.scq")
    scq.tl.query(query, "pbmc.scq", n_neighbors=15)
    figure = scq.pl.query(query, show=False)

    assert "no problems found" in str(report)
    assert adata.obsm["X_scquery"].shape == (700, 64)
    assert adata.obsp["connectivities"].shape == (700, 700)
    assert query.obsm["scquery_neighbors"].shape == (40, 15)
    # The query cells are in the reference: each finds itself.
    np.testing.assert_allclose(query.obsm["scquery_distances"][:, 0], 0, atol=1e-5)
    assert (query.obs["scquery_label"].astype(str) == query.obs["cell_type"].astype(str)).mean() > 0.5
    assert figure is not None
    plt.close(figure)


# Tests for unknown cells, and filters of the search.


def test_p_values_and_novelty_by_hand(query_adata, reference):
    cells = embedded(query_adata, reference)
    adata = queried(query_adata, reference)
    classifier = reference.encoder.classifier
    by_classifier = softmax(cells.embedding.astype(float) @ classifier.kernel + classifier.bias, axis=1)
    by_neighbors = neighbors_by_hand(reference, cells, adata.obsm["scquery_distances"], adata.obsm["scquery_neighbors"])
    types = (by_classifier + by_neighbors).argmax(axis=1)
    measures = [-by_classifier.max(axis=1)]
    # The Mahalanobis distances, from the precision matrix of the whitening.
    densities = reference.densities
    for gaussians, x in ((densities.embedding, cells.embedding), (densities.projected, cells.projected)):
        precision = gaussians.whitening.astype(float) @ gaussians.whitening.T.astype(float)
        difference = x - gaussians.means[types]
        measures.append(np.sqrt(np.einsum("ij,jk,ik->i", difference, precision, difference)))
    calibration = reference.calibration

    def standardized(measure, scale):
        return (measure - scale.location[types]) / scale.spread[types]

    score = sum(standardized(m, scale) for m, scale in zip(measures, calibration.scales[:3], strict=True))
    expected = np.empty(30)
    for i in range(30):
        own = calibration.scores[calibration.groups == types[i]]
        used = own if len(own) >= 20 else calibration.scores
        expected[i] = (1 + (used >= score[i]).sum()) / (1 + len(used))
    # One rank of rounding where two scores are almost equal.
    np.testing.assert_allclose(adata.obs["scquery_pvalue"], expected, atol=0.06)
    assert np.mean(np.isclose(adata.obs["scquery_pvalue"], expected, atol=1e-5)) > 0.9
    # The last measure of the novelty score is in units of all cells, not of the type.
    all_cells = calibration.scales[3]
    assert len(set(all_cells.spread)) == 1
    novelty = (
        0.5 * standardized(measures[0], calibration.scales[0])
        + standardized(measures[1], calibration.scales[1])
        + 2 * standardized(measures[2], all_cells)
    )
    np.testing.assert_allclose(adata.obs["scquery_novelty"], novelty, rtol=1e-3, atol=1e-3)


def test_benjamini_hochberg_controls_the_false_discovery_rate(query_adata, reference):
    rng = np.random.default_rng(0)
    query_adata.X = query_adata.X.toarray()
    query_adata.X[:8] = rng.permuted(query_adata.X[:8], axis=1)
    by_cell = queried(query_adata.copy(), reference, alpha=0.3)
    adata = queried(query_adata, reference, alpha=0.3, corr_method="benjamini-hochberg")
    np.testing.assert_array_equal(adata.obs["scquery_pvalue"], by_cell.obs["scquery_pvalue"])
    pvalues = adata.obs["scquery_pvalue"].to_numpy().astype(float)
    ordered = np.sort(pvalues)
    within = np.flatnonzero(ordered <= 0.3 * np.arange(1, 31) / 30 + 1e-6)
    assert len(within)
    np.testing.assert_array_equal(adata.obs["scquery_unknown"], pvalues <= ordered[within[-1]])
    assert 0 < adata.obs["scquery_unknown"].sum() < by_cell.obs["scquery_unknown"].sum()
    assert adata.uns["scquery"]["parameters"]["corr_method"] == "benjamini-hochberg"


def allowed_neighbors(reference, latent, allowed, n):
    """Return the nearest of the allowed rows and their distances, by brute force."""
    distances = np.where(allowed, 1 - latent.astype(float) @ reference.embedding.T.astype(float), np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :n], np.sort(distances, axis=1)[:, :n]


@pytest.mark.parametrize("wanted", ["batch 1", ["batch 1"], ("batch 1", "nowhere")])
def test_where_restricts_the_search(query_adata, reference, wanted):
    adata = queried(query_adata, reference, where={"batch": wanted}, n_neighbors=9)
    allowed = (reference.obs["batch"] == "batch 1").to_numpy()
    neighbors = adata.obsm["scquery_neighbors"]
    assert allowed[neighbors].all()
    _, distances = allowed_neighbors(reference, adata.obsm["X_scquery"], allowed, 9)
    np.testing.assert_allclose(adata.obsm["scquery_distances"], distances, atol=1e-5)


def test_two_columns_of_where_must_both_match(query_adata, reference):
    adata = queried(query_adata, reference, where={"batch": "batch 0", "cell_type": ["type 2"]}, n_neighbors=5)
    neighbors = reference.obs.iloc[adata.obsm["scquery_neighbors"].ravel()]
    assert set(neighbors["batch"]) == {"batch 0"}
    assert set(neighbors["cell_type"]) == {"type 2"}


def test_exclude_key_excludes_cells_with_the_same_value(query_adata, reference):
    query_adata.obs["batch"] = [f"batch {i % 3}" for i in range(30)]
    adata = queried(query_adata, reference, exclude_key="batch", n_neighbors=6)
    own = adata.obs["batch"].to_numpy()[:, None]
    found = reference.obs["batch"].astype(str).to_numpy()[adata.obsm["scquery_neighbors"]]
    assert (found != own).all()
    allowed = reference.obs["batch"].astype(str).to_numpy()[None] != own
    # Batch 2 is not in the reference, so its cells can find all.
    assert allowed[2].all()
    _, distances = allowed_neighbors(reference, adata.obsm["X_scquery"], allowed, 6)
    np.testing.assert_allclose(adata.obsm["scquery_distances"], distances, atol=1e-5)


def test_a_missing_value_excludes_no_cells(query_adata, reference):
    query_adata.obs["batch"] = pd.Categorical(["batch 0", None] * 15)
    obs = reference.obs.copy()
    obs["batch"] = obs["batch"].astype(object)
    obs.iloc[:7, obs.columns.get_loc("batch")] = None
    adata = queried(query_adata, with_obs(reference, obs), exclude_key="batch", n_neighbors=6)
    unfiltered = queried(query_adata.copy(), reference, n_neighbors=6)
    np.testing.assert_array_equal(adata.obsm["scquery_neighbors"][1::2], unfiltered.obsm["scquery_neighbors"][1::2])
    found = obs["batch"].to_numpy()[adata.obsm["scquery_neighbors"][::2]]
    assert not (found == "batch 0").any()


def test_diversify_key_spreads_the_neighbors(query_adata, reference):
    # A third study of four cells.
    obs = reference.obs.copy()
    obs["study"] = np.where(np.arange(240) < 100, "a", "b")
    obs.iloc[[20, 90, 150, 230], obs.columns.get_loc("study")] = "c"
    spread = with_obs(reference, obs)
    adata = queried(query_adata.copy(), spread, diversify_key="study", n_neighbors=9)
    studies = obs["study"].to_numpy()[adata.obsm["scquery_neighbors"]]
    for study in "abc":
        np.testing.assert_array_equal((studies == study).sum(axis=1), 3)
    # The nearest of each study, all in order of distance.
    assert (np.diff(adata.obsm["scquery_distances"], axis=1) >= 0).all()
    own, _ = allowed_neighbors(spread, adata.obsm["X_scquery"], (obs["study"] == "a").to_numpy(), 3)
    for neighbors, nearest in zip(adata.obsm["scquery_neighbors"], own, strict=True):
        assert set(nearest) <= set(neighbors)
    # Study c has fewer than five cells: the nearest of the others replace them.
    adata = queried(query_adata, spread, diversify_key="study", n_neighbors=15)
    studies = obs["study"].to_numpy()[adata.obsm["scquery_neighbors"]]
    assert ((studies == "c").sum(axis=1) == 4).all()
    assert (((studies == "a").sum(axis=1) >= 5) & ((studies == "b").sum(axis=1) >= 5)).all()


def test_all_filters_can_be_combined(query_adata, reference):
    adata = queried(
        query_adata,
        reference,
        where={"cell_type": ["type 0", "type 1"]},
        exclude_key="batch",
        diversify_key="cell_type",
        n_neighbors=4,
    )
    neighbors = adata.obsm["scquery_neighbors"]
    types = reference.obs["cell_type"].astype(str).to_numpy()[neighbors]
    np.testing.assert_array_equal((types == "type 0").sum(axis=1), 2)
    np.testing.assert_array_equal((types == "type 1").sum(axis=1), 2)
    batches = reference.obs["batch"].astype(str).to_numpy()[neighbors]
    assert (batches != adata.obs["batch"].astype(str).to_numpy()[:, None]).all()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (
            {"corr_method": "bh"},
            scq.ArgumentError,
            "`corr_method` must be None or one of 'benjamini-hochberg'. Received 'bh'",
        ),
        (
            {"where": ["liver"]},
            scq.ArgumentError,
            r"`where` must map columns of the reference's `obs` to the values to search\. Received list; give for",
        ),
        (
            {"where": {"organ": "liver"}},
            scq.MissingKeyError,
            r"`where=\{'organ': 'liver'\}` needs the column 'organ' in the reference's `obs`\. Expected",
        ),
        (
            {"where": {"batch": ["batch 9"]}},
            scq.ArgumentError,
            r"No reference cell matches `where=\{'batch': \['batch 9'\]\}`\. Expected some of 'batch \d', 'batch \d'",
        ),
        (
            {"where": {"batch": "batch 0"}, "n_neighbors": 130},
            scq.ArgumentError,
            r"`n_neighbors=130` is more than the \d+ reference cells that the filter leaves\. Ask for fewer, or filter",
        ),
        ({"exclude_key": "donor"}, scq.MissingKeyError, r"`exclude_key='donor'` is not a column of `adata\.obs`"),
        (
            {"diversify_key": "study"},
            scq.MissingKeyError,
            r"`diversify_key='study'` needs the column 'study' in the reference's `obs`\. Expected",
        ),
        ({"ignore_case": 1}, scq.ArgumentError, r"`ignore_case` must be True or False\. Received 1"),
        (
            {"orthologs": ["Ins1", "INS"]},
            scq.ArgumentError,
            r"`orthologs` must map gene names of the cells to gene names of the reference: .*\. Received list",
        ),
    ],
)
def test_wrong_filters_are_refused_and_nothing_is_written(query_adata, reference, arguments, error, match):
    with pytest.raises(error, match=match):
        scq.tl.query(query_adata, reference, **arguments)
    assert list(query_adata.obs) == ["cell_type", "batch"]
    assert len(query_adata.obsm) == len(query_adata.uns) == 0


def test_logarithms_to_base_2_get_the_same_answers(make_adata, query_adata, reference):
    expected = queried(query_adata, reference)
    adata = make_adata(30, 120, seed=2)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata, base=2)
    stated = adata.copy()
    queried(adata, reference)
    assert adata.uns["scquery"]["parameters"]["input_state"] == "log2p1"
    assert_same_answers(adata, expected, atol=1e-4)
    assert_same_answers(queried(stated, reference, input_state="log2p1"), expected, atol=1e-4)


def test_genes_of_another_species(make_adata, query_adata, reference):
    expected = queried(query_adata, reference)
    mouse = make_adata(30, 120, seed=2)
    mouse.var_names = [name.capitalize() for name in mouse.var_names]
    with pytest.raises(scq.GeneOverlapError, match="Only 0 of the 100 model genes"):
        scq.tl.query(mouse, reference, gene_key="var_names")
    assert_same_answers(queried(mouse.copy(), reference, gene_key="var_names", ignore_case=True), expected)
    mouse.var_names = [f"Orth{i}" for i in range(120)]
    table = {f"Orth{i}": f"GENE{i}" for i in range(120)}
    for orthologs in (table, pd.Series(table)):
        adata = queried(mouse.copy(), reference, gene_key="var_names", orthologs=orthologs)
        assert_same_answers(adata, expected)
