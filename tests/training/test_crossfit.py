"""Folds, and encoders that have not seen the labels of theirs."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from scquery_ae import NotFittedError
from scquery_ae.dense import DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows, GeneColumns
from scquery_ae.training import FinetuneSettings, crossfit, make_folds
from scquery_ae.transform import Transform

SETTINGS = FinetuneSettings(
    corruption_level=0.2, gene_masking=0.0, epochs=2, batch_size=16, learning_rate=1e-2, validation_fraction=0.2
)
TYPES = ("alpha", "beta", "gamma")


# Folds.


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    n_folds=st.integers(2, 6),
    seed=st.integers(0, 99),
)
def test_each_type_is_dealt_out_evenly(sizes, n_folds, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(-1, len(sizes) - 1), sizes))
    folds = make_folds(labels, None, n_folds, seed)
    assert folds.shape == labels.shape
    np.testing.assert_array_equal(folds == -1, labels == -1)
    for kind in range(len(sizes) - 1):
        counts = np.bincount(folds[labels == kind], minlength=n_folds)
        assert len(counts) == n_folds
        assert counts.max() - counts.min() <= 1


@given(
    n_batches=st.integers(2, 9),
    n=st.integers(20, 120),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_batches_stay_whole(n_batches, n, seed, data):
    rng = np.random.default_rng(seed)
    batches = np.r_[np.arange(n_batches), rng.integers(n_batches, size=n)]
    labels = rng.integers(-1, 3, size=len(batches))
    n_folds = data.draw(st.integers(2, n_batches))
    folds = make_folds(labels, batches, n_folds, seed)
    np.testing.assert_array_equal(folds == -1, labels == -1)
    for batch in range(n_batches):
        assert len(set(folds[(batches == batch) & (labels >= 0)])) <= 1


def test_large_batches_first_into_the_smallest_fold():
    # 50 | 30, then 50 | 50, then 65 | 50 (the first of equals), then 65 | 60.
    batches = np.repeat([3, 0, 4, 1, 2], [50, 30, 20, 15, 10])
    folds = make_folds(np.zeros(125, int), batches, 2, 0)
    assert [folds[batches == batch][0] for batch in (3, 0, 4, 1, 2)] == [0, 1, 1, 0, 1]
    np.testing.assert_array_equal(np.bincount(folds), [65, 60])


def test_cells_without_a_label_do_not_weigh():
    # Batch 0 is large, but for its labels.
    batches = np.repeat([0, 1, 2], [100, 10, 9])
    labels = np.r_[np.full(95, -1), np.zeros(24, int)]
    folds = make_folds(labels, batches, 2, 0)
    assert folds[batches == 1][0] != folds[batches == 2][0]
    assert folds[99] == folds[batches == 2][0]


def test_folds_depend_on_the_seed_alone():
    labels = np.arange(60) % 3
    np.testing.assert_array_equal(make_folds(labels, None, 4, 1), make_folds(labels, None, 4, 1))
    assert (make_folds(labels, None, 4, 1) != make_folds(labels, None, 4, 2)).any()


# Encoders.


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(3), 20))
    rates = np.ones((3, 18))
    for kind in range(3):
        rates[kind, 4 * kind : 4 * kind + 4] = 8
    columns = GeneColumns(sparse.csr_matrix(rng.poisson(rates[labels]).astype("float32")), np.arange(18))
    genes = np.array([f"g{i}" for i in range(18)], dtype=object)
    return CellRows.read(columns, Transform.fit(columns, genes)), labels


def an_encoder(rows, pretrained=True):
    rng = np.random.default_rng(1)
    layers = (DenseWeights((rng.normal(size=(18, 5)) / 4).astype("float32"), np.zeros(5, "float32"), "tanh"),)
    return Encoder(rows.transform, layers, pretrained=layers if pretrained else None)


def fitted(encoder, rows, labels, folds):
    return list(crossfit(encoder, rows, labels, folds, TYPES, SETTINGS))


@pytest.mark.backend
@pytest.mark.usefixtures("eager")
def test_a_folds_encoder_does_not_depend_on_the_folds_labels(cells):
    rows, labels = cells
    folds = make_folds(labels, None, 3, 0)
    encoder = an_encoder(rows)
    expected = fitted(encoder, rows, labels, folds)
    assert len(expected) == 3
    for fold, (inside, _) in enumerate(expected):
        np.testing.assert_array_equal(inside, folds == fold)
    # Other labels in fold 0, of the same types.
    changed = np.where(folds == 0, (labels + 1) % 3, labels)
    received = fitted(encoder, rows, changed, folds)

    def kernels(result):
        return result[1].layers[0].kernel, result[1].classifier.kernel

    for one, other in zip(kernels(expected[0]), kernels(received[0]), strict=True):
        np.testing.assert_array_equal(one, other)
    # The others have seen them.
    for fold in (1, 2):
        assert np.abs(kernels(expected[fold])[1] - kernels(received[fold])[1]).max() > 1e-4


@pytest.mark.backend
@pytest.mark.usefixtures("eager")
def test_each_fold_starts_from_the_pretrained_layers(cells, monkeypatch):
    # The function shadows its module as an attribute of the package.
    inner = sys.modules["scquery_ae.training.crossfit"]
    rows, labels = cells
    starts, seen = [], []
    plain = inner.finetune_encoder

    def spy(start, cells, known, held_out, types, settings, **kwargs):
        starts.append(start)
        seen.append((known.copy(), held_out.copy()))
        assert settings is SETTINGS
        return plain(start, cells, known, held_out, types, settings, **kwargs)

    monkeypatch.setattr(inner, "finetune_encoder", spy)
    encoder = an_encoder(rows)
    pretrained = encoder.pretrained
    # Fine-tuning has left something else.
    encoder.layers = (DenseWeights(pretrained[0].kernel + 9, pretrained[0].bias, "tanh"),)
    labels = labels.copy()
    labels[:6] = -1
    folds = make_folds(labels, None, 2, 0)
    fitted(encoder, rows, labels, folds)
    for fold, (start, (known, held_out)) in enumerate(zip(starts, seen, strict=True)):
        assert start.layers is pretrained
        assert start.classifier is None
        np.testing.assert_array_equal(known, np.where(folds == fold, -1, labels))
        # Early stopping watches a fifth of the other folds.
        assert (known[held_out] >= 0).all()
        assert held_out.sum() == pytest.approx(0.2 * (known >= 0).sum(), abs=2)
    np.testing.assert_array_equal(encoder.pretrained[0].kernel, pretrained[0].kernel)


def test_an_encoder_that_has_forgotten_its_pretraining_is_refused(cells):
    rows, labels = cells
    with pytest.raises(NotFittedError, match=r"starts from the pretrained layers, which are not saved to a file"):
        fitted(an_encoder(rows, pretrained=False), rows, labels, make_folds(labels, None, 2, 0))
