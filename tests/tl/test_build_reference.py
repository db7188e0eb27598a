"""``tl.build_reference``: the contents of a reference, and the cells that it is calibrated on."""

import copy
import dataclasses
import importlib

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import mahalanobis
from scipy.special import softmax

import scquery_ae as scq
from scquery_ae.annotate import Calibration, MemberProbabilities
from scquery_ae.dense import Classifier
from scquery_ae.stats import GeneDiscriminant
from scquery_ae.training import make_folds


@pytest.fixture
def cells(make_adata):
    """Normalised cells, all of whose genes are model genes. Every fourth cell is held out."""
    adata = make_adata(60, 25)
    scq.pp.normalize(adata)
    adata.obs["scquery_split"] = pd.Categorical(np.where(np.arange(60) % 4 == 0, "validation", "train"))
    return adata


@pytest.fixture
def encoder(make_adata, make_encoder):
    return make_encoder(make_adata(60, 25), (7, 4))


def test_contents_of_a_reference(trained, genes_by_hand):
    reference = trained.reference
    assert reference.n_obs == len(reference.obs) == 240
    assert reference.types == ("type 0", "type 1", "type 2")
    assert reference.label_key == "cell_type"
    assert reference.encoder is trained.encoder
    assert reference.embedding.dtype == np.float32
    np.testing.assert_allclose(reference.embedding, trained.adata.obsm["X_scquery"], atol=1e-6)
    assert list(reference.obs.index) == list(trained.adata.obs_names)
    assert reference.provenance["n_obs"] == 240
    assert reference.provenance["scquery_ae"] == scq.__version__
    expected = trained.adata.obs["cell_type"].cat.codes.to_numpy()
    np.testing.assert_array_equal(reference.label_codes, expected)
    assert reference.label_codes.dtype == np.int64
    assert (expected == -1).sum() == 24
    np.testing.assert_array_equal(reference.cells.held_out, trained.adata.obs["scquery_split"] == "validation")
    np.testing.assert_array_equal(reference.classifier_columns, [0, 1, 2])
    assert reference.cells.projected.shape == (240, 50)
    counts = trained.adata[:, list(trained.encoder.genes)].layers["counts"].toarray()
    by_genes = trained.encoder.discriminant.probabilities(reference.cells.decision)
    np.testing.assert_allclose(by_genes, genes_by_hand(trained.encoder, counts), atol=1e-4)
    np.testing.assert_array_equal(reference.cells.totals, counts.sum(axis=1))
    assert not reference.cells.added.any()
    assert reference.provenance["steps"] == []
    assert repr(reference) == "Reference(240 cells, 3 types by 'cell_type', Encoder(100 -> 16 -> 8, 3 types))"


def test_the_anndata_is_not_changed(cells, encoder):
    before = cells.copy()
    scq.tl.build_reference(cells, encoder, label_key="cell_type")
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    assert (cells.X != before.X).nnz == 0
    assert (sorted(cells.uns), sorted(cells.obsm), sorted(name for name in cells.layers if name)) == (
        sorted(before.uns),
        sorted(before.obsm),
        sorted(name for name in before.layers if name),
    )


def test_depth_is_the_median_in_the_model_genes(cells, encoder):
    counts = cells.layers["counts"].toarray()
    reference = scq.tl.build_reference(cells, encoder, label_key="cell_type")
    assert reference.depth == {"counts": np.median(counts.sum(axis=1)), "genes": np.median((counts > 0).sum(axis=1))}


@pytest.mark.parametrize("random_labels", [False, True])
def test_calibration_on_held_out_cells_by_hand(cells, encoder, genes_by_hand, random_labels):
    """Each held-out cell is predicted from all other cells."""
    if random_labels:
        labels = np.random.default_rng(0).integers(3, size=60)
        fitted = GeneDiscriminant.fit(encoder.transform.log_normalize(cells.layers["counts"]), labels, 3)
        encoder.discriminant = dataclasses.replace(fitted, temperature=5.0)
    reference = scq.tl.build_reference(cells, encoder, label_key="cell_type")
    held_out = np.arange(60) % 4 == 0
    truth = np.arange(60) % 3
    latent = encoder.encode(cells.layers["counts"])
    calibration = reference.calibration
    assert calibration.method == "held_out"
    assert len(calibration.scores) == len(calibration.groups) == len(calibration.true_probabilities) == 15

    # The member probabilities, each without the cell itself. All neighbors have a label.
    rows, latent = np.flatnonzero(held_out), latent.astype(float)
    votes = np.zeros((15, 3))
    for i, row in enumerate(rows):
        others, kinds = np.delete(latent, row, axis=0), np.delete(truth, row)
        d = np.clip(1 - others @ latent[row], 0, 2)
        nearest = np.argsort(d)[:15]
        weight = np.exp(-d[nearest] / max(d[nearest][2], 1e-6))
        votes[i] = [weight[kinds[nearest] == kind].sum() / weight.sum() for kind in range(3)]
    classifier = softmax(latent[rows] @ encoder.classifier.kernel + encoder.classifier.bias, axis=1)
    genes = genes_by_hand(encoder, cells.layers["counts"].toarray()[rows])
    labels = (classifier + votes).argmax(axis=1)
    # The discriminant prefers other types for some cells.
    assert (labels != (classifier + votes + 1.6 * genes).argmax(axis=1)).any()

    # The nonconformity measures: minus the classifier's largest probability, and the distances to the type in embedding
    # and principal components. Covariances are those of all cells; the mean of a cell's type is taken without it.
    measures = [-classifier.max(axis=1)]
    for x in (latent, reference.cells.projected.astype(float)):
        width = x.shape[1]
        rest = np.concatenate([x[truth == kind] - x[truth == kind].mean(axis=0) for kind in range(3)])
        covariance = rest.T @ rest / 60
        inverse = np.linalg.inv(covariance + 0.1 * np.trace(covariance) / width * np.eye(width))
        measures.append(
            [
                mahalanobis(x[row], x[(truth == kind) & (np.arange(60) != row)].mean(axis=0), inverse)
                for row, kind in zip(rows, labels, strict=True)
            ]
        )
    members = MemberProbabilities(classifier, votes, genes)
    expected = Calibration.fit(members, np.stack(measures, axis=1), truth[held_out], "held_out")
    np.testing.assert_array_equal(calibration.groups, expected.groups)
    np.testing.assert_allclose(calibration.true_probabilities, expected.true_probabilities, rtol=1e-4)
    np.testing.assert_allclose(calibration.scores, expected.scores, rtol=1e-4, atol=1e-4)


def test_unlabelled_held_out_cells_do_not_calibrate(cells, encoder):
    cells.obs["cell_type"] = cells.obs["cell_type"].where(np.arange(60) % 8 != 0)
    reference = scq.tl.build_reference(cells, encoder, label_key="cell_type")
    # Fifteen cells are held out, and every second of them has no label.
    assert len(reference.calibration.scores) == 7


def test_a_custom_prefix(cells, encoder):
    expected = scq.tl.build_reference(cells, encoder, label_key="cell_type")
    cells.obs = cells.obs.rename(columns={"scquery_split": "mine_split"})
    reference = scq.tl.build_reference(cells, encoder, label_key="cell_type", key_added="mine")
    np.testing.assert_array_equal(reference.calibration.scores, expected.calibration.scores)


@pytest.mark.parametrize(
    ("split", "match"),
    [
        (
            None,
            r'`adata\.obs\["scquery_split"\]` is missing, so that no cells are known to be held out.*confidence is not',
        ),
        ("train", r"Fine-tuning held out no cells: confidence is not calibrated.*`validation_fraction` above 0"),
    ],
)
def test_without_held_out_cells_nothing_is_called_unknown(cells, encoder, split, match):
    if split is None:
        del cells.obs["scquery_split"]
    else:
        cells.obs["scquery_split"] = split
    with pytest.warns(scq.ScqueryWarning, match=match):
        reference = scq.tl.build_reference(cells, encoder, label_key="cell_type")
    assert reference.calibration.combination.temperature == 1
    query = cells[:10].copy()
    scq.tl.query(query, reference)
    assert (query.obs["scquery_pvalue"] == 1).all()
    assert not query.obs["scquery_unknown"].any()
    # No type can be ruled out.
    assert {len(names.split("|")) for names in query.obs["scquery_prediction_set"]} == {3}


def test_labels_of_numbers(cells, encoder):
    numbered = copy.copy(encoder)
    numbered.classifier = Classifier(encoder.classifier.kernel, encoder.classifier.bias, ("0", "1", "2"))
    cells.obs["cluster"] = cells.obs["cell_type"].cat.codes.astype(int)
    reference = scq.tl.build_reference(cells, numbered, label_key="cluster")
    np.testing.assert_array_equal(reference.label_codes, np.arange(60) % 3)


def test_labels_that_the_encoder_does_not_know_are_refused(cells, encoder):
    cells.obs["cell_type"] = cells.obs["cell_type"].cat.rename_categories({"type 1": "B cell"})
    with pytest.raises(
        scq.ArgumentError,
        match=r"`label_key='cell_type'` holds types that the encoder was not fine-tuned on: 'B cell'\. Expected '",
    ):
        scq.tl.build_reference(cells, encoder, label_key="cell_type")


def test_repeated_cell_names_are_refused(cells, encoder):
    cells.obs_names = ["same", *cells.obs_names[1:-1], "same"]
    with pytest.raises(
        scq.ArgumentError,
        match=r"`adata\.obs_names` must be unique\. Received 1 repeated name\(s\) such as 'same'; call `adata\.obs",
    ):
        scq.tl.build_reference(cells, encoder, label_key="cell_type")


def test_missing_steps_are_named(cells, encoder):
    bare = copy.copy(encoder)
    bare.classifier = None
    with pytest.raises(
        scq.NotFittedError, match=r"no classifier: it was pretrained but not fine-tuned\. Call `scq\.tl\.finetune"
    ):
        scq.tl.build_reference(cells, bare, label_key="cell_type")
    with pytest.raises(scq.MissingKeyError, match=r"`label_key='type'` is not a column of `adata\.obs`"):
        scq.tl.build_reference(cells, encoder, label_key="type")
    with pytest.raises(scq.ArgumentError, match=r"`tl\.build_reference` needs a fine-tuned encoder\. Received dict"):
        scq.tl.build_reference(cells, {}, label_key="cell_type")
    del cells.layers["counts"]
    with pytest.raises(scq.NotFittedError, match=r'`tl\.build_reference` trains on|needs `adata\.layers\["counts"\]`'):
        scq.tl.build_reference(cells, encoder, label_key="cell_type")


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        (
            "label_key",
            "type",
            r"A reference needs its label column 'type' in `obs`\. Received the columns \['cell_type', 'batch'",
        ),
        (
            "types",
            ("type 0", "type 1"),
            r"A reference's `densities\.embedding\.means` must have shape \(2, 8\)\. Received \(3, 8\)",
        ),
        ("classifier_columns", np.arange(2), r"`classifier_columns` must have shape \(3,\)\. Received \(2,\)"),
        ("classifier_columns", np.arange(1, 4), r"`classifier_columns` must be positions among its 3 types, or -1"),
        (
            "calibration",
            Calibration.empty(2),
            r"`calibration\.scales\[0\]` must have shape \(2, 3\)\. Received \(2, 2\)",
        ),
        ("index_kind", "tree", r"A reference's index must be one of \('auto', 'exact', .*Received 'tree'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(reference, name, value, match):
    with pytest.raises(scq.ArgumentError, match=match):
        dataclasses.replace(reference, **{name: value})


@pytest.mark.parametrize(
    ("part", "error", "match"),
    [
        (
            "components",
            scq.ArgumentError,
            r"A reference needs an encoder with principal components, as `scq\.tl\.pretrain`",
        ),
        ("discriminant", scq.NotFittedError, r"The encoder has no discriminant: it was not fine-tuned"),
        ("classifier", scq.NotFittedError, r"The encoder has no classifier"),
    ],
)
def test_an_incomplete_encoder_is_refused(reference, part, error, match):
    with pytest.raises(error, match=match):
        dataclasses.replace(reference, encoder=dataclasses.replace(reference.encoder, **{part: None}))


def test_projected_are_principal_component_scores(trained):
    reference, adata = trained.reference, trained.adata
    counts = adata[:, list(trained.encoder.genes)].layers["counts"].toarray()
    logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * trained.encoder.transform.target_sum)
    spread = np.sqrt(logged.var(axis=0) + 0.05**2)
    _, values, directions = np.linalg.svd((logged - logged.mean(axis=0)) / spread, full_matrices=False)
    unit = np.sqrt((values[:50] ** 2).mean() / 239)
    # Signs of directions are arbitrary, and the last of the 50 directions are too similar to compare.
    np.testing.assert_allclose(
        np.abs(reference.cells.projected[:, :5]),
        np.abs((logged - trained.encoder.transform.mean) / spread @ directions[:5].T) / unit,
        atol=2e-3,
    )
    np.testing.assert_allclose(reference.cells.projected.std(axis=0)[:5] * np.sqrt(240), values[:5] / unit, rtol=1e-3)


@pytest.mark.parametrize("kind", ["exact", "hnsw", "ivf", "int8", "auto"])
def test_every_kind_of_index_is_stored_and_searched(cells, encoder, kind):
    reference = scq.tl.build_reference(cells, encoder, label_key="cell_type", index=kind)
    assert reference.index_kind == kind
    assert getattr(reference.search_index, "kind", "exact") == (kind if kind != "auto" else "exact")
    query = cells[:8].copy()
    scq.tl.query(query, reference, n_neighbors=3)
    # Reference cells find themselves, or a cell with the same embedding.
    own = np.einsum("ij,ij->i", query.obsm["X_scquery"], reference.embedding[query.obsm["scquery_neighbors"][:, 0]])
    assert (own > 0.99).all()


def test_wrong_kinds_of_index_and_calibration_are_refused(cells, encoder):
    with pytest.raises(scq.ArgumentError, match=r"`index` must be one of 'auto', 'exact', .*Received 'annoy'"):
        scq.tl.build_reference(cells, encoder, label_key="cell_type", index="annoy")
    with pytest.raises(
        scq.ArgumentError,
        match=rf"`index='pq'` must be trained on more than the {cells.n_obs} cells received\. Use `index='exact'` or",
    ):
        scq.tl.build_reference(cells, encoder, label_key="cell_type", index="pq")
    with pytest.raises(scq.ArgumentError, match=r"`calibration` must be one of 'held_out', .*Received 'none'"):
        scq.tl.build_reference(cells, encoder, label_key="cell_type", calibration="none")


# Calibration by cross-validation.


@pytest.fixture(scope="module")
def tuned(make_adata):
    """Cells of three types and three batches, some without a label, and an encoder that was fine-tuned on them."""
    adata = make_adata(90, 30, n_batches=3)
    adata.obs.loc[adata.obs_names[::9], "cell_type"] = None
    scq.pp.normalize(adata)
    encoder = scq.tl.pretrain(adata, layer_sizes=(6, 4), epochs=1, batch_size=45, progress=False)
    scq.tl.finetune(
        adata,
        encoder,
        label_key="cell_type",
        epochs=2,
        batch_size=45,
        learning_rate=1e-2,
        validation_fraction=0.2,
        progress=False,
    )
    return adata, encoder


def spied_fits(monkeypatch):
    """Return a list that gets the labels and the held-out cells of each fine-tuning to come."""
    # The function hides the module of its name.
    crossfit = importlib.import_module("scquery_ae.training.crossfit")
    seen, original = [], crossfit.finetune_encoder

    def spy(start, cells, labels, held_out, types, settings, **kwargs):
        seen.append((start, labels.copy(), held_out.copy(), settings))
        return original(start, cells, labels, held_out, types, settings, **kwargs)

    monkeypatch.setattr(crossfit, "finetune_encoder", spy)
    return seen


@pytest.mark.slow
@pytest.mark.backend
@pytest.mark.parametrize("calibration", ["cross_validated", "leave_one_batch_out"])
def test_every_labelled_cell_is_predicted_by_an_encoder_that_has_not_seen_its_label(
    tuned, eager, monkeypatch, calibration, tmp_path
):
    adata, encoder = tuned
    kernel = encoder.layers[0].kernel.copy()
    seen = spied_fits(monkeypatch)
    reference = scq.tl.build_reference(
        adata, encoder, label_key="cell_type", batch_key="batch", calibration=calibration, progress=False
    )
    labels = reference.label_codes
    labelled = labels >= 0
    assert len(seen) == (5 if calibration == "cross_validated" else 3)
    hidden = np.stack([labelled & (known < 0) for _, known, _, _ in seen])
    # Each labelled cell is left out once, and keeps its label everywhere else.
    np.testing.assert_array_equal(hidden.sum(axis=0), labelled)
    for start, known, held_out, settings in seen:
        np.testing.assert_array_equal(known[known >= 0], labels[known >= 0])
        assert held_out.any()
        assert (known[held_out] >= 0).all()
        # From the layers before fine-tuning, because fine-tuning has seen all labels, and with its settings.
        assert start.classifier is None
        np.testing.assert_array_equal(start.layers[0].kernel, encoder.pretrained[0].kernel)
        assert (settings.epochs, settings.batch_size, settings.learning_rate) == (2, 45, 1e-2)
    if calibration == "leave_one_batch_out":
        batches = adata.obs["batch"].to_numpy()
        assert sorted(sorted(set(batches[inside])) for inside in hidden) == [[f"batch {i}"] for i in range(3)]
    else:
        # The folds have about as many cells of each type.
        by_type = np.stack([np.bincount(labels[inside], minlength=3) for inside in hidden])
        assert (by_type.max(axis=0) - by_type.min(axis=0)).max() <= 1
    fitted = reference.calibration
    assert fitted.method == calibration
    assert len(fitted.scores) == len(fitted.true_probabilities) == labelled.sum() > reference.cells.held_out.sum()
    assert reference.encoder is encoder
    np.testing.assert_array_equal(encoder.layers[0].kernel, kernel)
    reference.save(tmp_path / "a.scq")
    assert scq.Reference.load(tmp_path / "a.scq").calibration.method == calibration
    query = adata[:10].copy()
    scq.tl.query(query, reference)
    assert ((query.obs["scquery_pvalue"] > 0) & (query.obs["scquery_pvalue"] <= 1)).all()


@pytest.mark.backend
def test_cross_validated_probabilities_by_hand(tuned, eager, monkeypatch, genes_by_hand):
    """The probability of the true type, computed from the encoder of each fold."""
    crossfit = importlib.import_module("scquery_ae.training.crossfit")
    adata, encoder = tuned
    results, original = [], crossfit.finetune_encoder

    def spy(start, cells, labels, *args, **settings):
        results.append((labels.copy(), original(start, cells, labels, *args, **settings)))
        return results[-1][1]

    monkeypatch.setattr(crossfit, "finetune_encoder", spy)
    reference = scq.tl.build_reference(
        adata,
        encoder,
        label_key="cell_type",
        batch_key="batch",
        calibration="leave_one_batch_out",
        progress=False,
    )
    labels = reference.label_codes
    counts = adata[:, list(encoder.genes)].layers["counts"]
    expected = []
    for known, result in results:
        fold = dataclasses.replace(
            encoder, layers=result.layers, classifier=result.classifier, discriminant=result.discriminant
        )
        genes = genes_by_hand(fold, counts.toarray())
        inside = (labels >= 0) & (known < 0)
        latent = fold.encode(counts).astype(float)
        rest, rest_labels = latent[~inside], labels[~inside]
        means = np.stack([rest[rest_labels == kind].mean(axis=0) for kind in range(3)])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        for row in np.flatnonzero(inside):
            d = np.clip(1 - rest @ latent[row], 0, 2)
            nearest = np.argsort(d)[:15]
            nearest = nearest[rest_labels[nearest] >= 0]
            weight = np.exp(-d[nearest] / max(d[nearest][2], 1e-6))
            votes = np.array([weight[rest_labels[nearest] == kind].sum() for kind in range(3)]) / weight.sum()
            classifier = softmax(latent[row] @ fold.classifier.kernel + fold.classifier.bias)
            labelled = len(nearest) / 15
            neighbors = labelled * votes + (1 - labelled) * softmax(40 * means @ latent[row])
            mixed = (classifier + neighbors + 1.6 * genes[row]) / 3.6
            mixed = (0.999 * mixed + 0.001 / 3) ** (1 / reference.calibration.combination.temperature)
            expected.append(mixed[labels[row]] / mixed.sum())
    np.testing.assert_allclose(reference.calibration.true_probabilities, expected, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_leave_one_batch_out_needs_two_batches(tuned, batch_key):
    adata, encoder = tuned
    adata = adata.copy()
    adata.obs["batch"] = "one"
    match = r"`calibration='leave_one_batch_out'` needs `batch_key` with at least two labelled batches\. Received "
    with pytest.raises(scq.ArgumentError, match=match + ("None;" if batch_key is None else "'batch' with one;")):
        scq.tl.build_reference(
            adata, encoder, label_key="cell_type", batch_key=batch_key, calibration="leave_one_batch_out"
        )
    with pytest.raises(scq.MissingKeyError, match=r"`batch_key='study'` is not a column"):
        scq.tl.build_reference(
            adata, encoder, label_key="cell_type", batch_key="study", calibration="leave_one_batch_out"
        )


def test_a_type_of_a_single_batch_can_be_left_out(tuned, eager):
    """The encoder of the fold has not seen the type, so its cells get a low probability."""
    adata, encoder = tuned
    adata = adata.copy()
    only = (adata.obs["cell_type"] == "type 2").to_numpy()
    adata.obs["batch"] = np.where(only, "own", np.where(np.arange(90) % 2, "odd", "even"))
    reference = scq.tl.build_reference(
        adata, encoder, label_key="cell_type", batch_key="batch", calibration="leave_one_batch_out", progress=False
    )
    labels = np.concatenate([reference.label_codes[adata.obs["batch"] == batch] for batch in ("own", "odd", "even")])
    n_own = (reference.label_codes == 2).sum()
    assert len(reference.calibration.scores) == (labels >= 0).sum()
    assert np.isfinite(reference.calibration.scores).all()
    assert np.sort(reference.calibration.true_probabilities)[:n_own].max() < 0.5


def test_adversarial_fine_tuning_needs_the_batches(tuned):
    adata, encoder = tuned
    settings = encoder.parameters["finetune"] | {"adversarial_weight": 0.1}
    other = dataclasses.replace(encoder, parameters=encoder.parameters | {"finetune": settings})
    with pytest.raises(
        scq.ArgumentError, match=r"fine-tuned with `adversarial_weight`, and .*Pass the same `batch_key`"
    ):
        scq.tl.build_reference(adata, other, label_key="cell_type", calibration="cross_validated", progress=False)


def test_an_encoder_from_a_file_cannot_be_cross_validated(tuned):
    adata, encoder = tuned
    loaded = dataclasses.replace(encoder, pretrained=None)
    with pytest.raises(scq.NotFittedError, match=r"starts from the pretrained layers, which are not saved"):
        scq.tl.build_reference(adata, loaded, label_key="cell_type", calibration="cross_validated", progress=False)


def test_batches_without_a_label_do_not_count(tuned, monkeypatch, eager):
    adata, encoder = tuned
    adata = adata.copy()
    adata.obs["batch"] = np.where(adata.obs["cell_type"].isna(), "unlabelled", adata.obs["batch"].astype(str))
    seen = spied_fits(monkeypatch)
    scq.tl.build_reference(
        adata, encoder, label_key="cell_type", batch_key="batch", calibration="leave_one_batch_out", progress=False
    )
    assert len(seen) == 3
    adata.obs["batch"] = np.where(adata.obs["cell_type"].isna(), "unlabelled", "one")
    with pytest.raises(scq.ArgumentError, match=r"at least two labelled batches\. Received 'batch' with one"):
        scq.tl.build_reference(
            adata, encoder, label_key="cell_type", batch_key="batch", calibration="leave_one_batch_out"
        )


def test_folds_keep_batches_whole_and_are_about_equal():
    rng = np.random.default_rng(0)
    batches = rng.choice(25, 4000, p=rng.dirichlet(np.full(25, 2.0)))
    labels = rng.integers(-1, 4, 4000)
    folds = make_folds(labels, batches, 10, 0)
    assert ((folds == -1) == (labels == -1)).all()
    for batch in range(25):
        assert len(set(folds[(batches == batch) & (labels >= 0)])) == 1
    sizes = np.bincount(folds[folds >= 0], minlength=10)
    largest = np.bincount(batches[labels >= 0]).max()
    assert sizes.min() > 0
    assert sizes.max() <= max(largest, 1.5 * sizes.mean())


def test_folds_without_batches_are_stratified():
    labels = np.repeat([0, 1, 2, -1], [53, 7, 2, 10])
    folds = make_folds(labels, None, 5, 0)
    assert (folds[labels == -1] == -1).all()
    for kind in range(3):
        sizes = np.bincount(folds[labels == kind], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    np.testing.assert_array_equal(folds, make_folds(labels, None, 5, 0))
    assert (folds != make_folds(labels, None, 5, 1)).any()
