"""Public methods and their arguments."""

import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from milvus.synthetic import N
from scquery_ae import ArgumentError
from scquery_ae.index import MilvusIndex


def test_invalid_arguments_are_refused(file, index, items, queries):
    for options, message in (
        ({"kind": "pq"}, "`kind` must be one of 'auto', 'exact', 'hnsw', 'ivf', 'int8'"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"overwrite": 1}, "`overwrite` must be True or False"),
        ({"timeout": 0}, "`timeout` must be a number in"),
        ({"token": 3}, "`token` must be text"),
    ):
        with pytest.raises(ArgumentError, match=message):
            MilvusIndex.build(items, file, collection="wrong", **options)
    with pytest.raises(ArgumentError, match=r"Queries must have shape \(n_queries, 8\)"):
        index.search(np.ones((2, 3)), 1)
    for k in (0, 1.0, None):
        with pytest.raises(ArgumentError, match="`n_neighbors` must be an integer of at least 1"):
            index.search(queries, k)
    with pytest.raises(ArgumentError, match=rf"`n_neighbors={N + 1}` is more than there are reference cells \({N}\)"):
        index.search(queries[:2], N + 1)
    with pytest.raises(ArgumentError, match=rf"more than there are reference cells \({N}\)"):
        index.search(queries[:0], N + 1)
    with pytest.raises(ArgumentError, match=r"more than there are reference cells \(2\)"):
        index.search(queries, 3, among=[5, 9, 5000])
    with pytest.raises(ArgumentError, match=r"more than there are reference cells \(0\)"):
        index.search(queries, 1, among=np.empty(0, int))
    with pytest.raises(ArgumentError, match=r"`among` must be row numbers of at least 0\. Received -2"):
        index.search(queries, 3, among=[5, 9, -2])
    with pytest.raises(ArgumentError, match="`n_neighbors=4` is more than the 3 vectors that the filter leaves"):
        index.search(queries, 4, among=[0, 5, 10, 11], where={"kind": "kind 0"})


def test_a_reference_can_use_it_as_its_index(make_adata, make_encoder, library, tmp_path):
    cells = make_adata(60, 25)
    encoder = make_encoder(cells)
    cells.obs["scquery_split"] = pd.Categorical(np.where(np.arange(60) % 4 == 0, "validation", "train"))
    scq.pp.normalize(cells)
    reference = scq.tl.build_reference(cells, encoder, label_key="cell_type")
    expected, received, filtered = (make_adata(9, 25, seed=2) for _ in range(3))
    scq.tl.query(expected, reference, n_neighbors=7)
    with MilvusIndex.build(reference.embedding, tmp_path / "r.db", metadata=reference.obs[["batch"]]) as built:
        reference.index = built
        scq.tl.query(received, reference, n_neighbors=7)
        np.testing.assert_array_equal(received.obsm["scquery_neighbors"], expected.obsm["scquery_neighbors"])
        np.testing.assert_allclose(received.obsm["scquery_distances"], expected.obsm["scquery_distances"], atol=1e-5)
        assert list(received.obs["scquery_label"]) == list(expected.obs["scquery_label"])
        scq.tl.query(filtered, reference, n_neighbors=7, where={"batch": "batch 1"})
        rows = filtered.obsm["scquery_neighbors"]
        assert set(reference.obs["batch"].to_numpy()[rows].ravel()) == {"batch 1"}
        here = built.search(filtered.obsm["X_scquery"], 7, where={"batch": "batch 1"})
        np.testing.assert_array_equal(here.indices, rows)


def test_its_repr(index):
    assert repr(index).startswith("MilvusIndex('scquery' at ")
    assert repr(index).endswith("cells.db, exact, vectors of width 8)")
