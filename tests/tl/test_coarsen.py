"""``tl.coarsen``: one name for each prediction set."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.tl.coarsen import split_set

OBO = """format-version: 1.2

[Term]
id: T:1
name: cell

[Term]
id: T:2
name: T cell
is_a: T:1

[Term]
id: T:3
name: CD4 T cell
is_a: T:2

[Term]
id: T:4
name: CD8 T cell
is_a: T:2

[Term]
id: T:5
name: monocyte
is_a: T:1

[Term]
id: T:6
name: rock
"""
TERMS = {"CD4|naive": "CD4 T cell", "CD8": "T:4", "Mono": "monocyte"}
TYPES = ["CD4|naive", "CD8", "Mono", "Other"]


@pytest.fixture
def obo(tmp_path):
    path = tmp_path / "cells.obo"
    path.write_text(OBO)
    return path


def queried(sets):
    adata = anndata.AnnData(np.zeros((len(sets), 1), np.float32))
    adata.obs["scquery_prediction_set"] = pd.Categorical(sets)
    adata.uns["scquery"] = {"types": np.array(TYPES, dtype=object)}
    return adata


def test_sets_are_named_by_their_common_ancestor(obo):
    adata = queried(["CD8", "CD8|CD4|naive", "Mono|CD8", "CD4|naive", "CD8|Other", None])
    scq.tl.coarsen(adata, obo, TERMS)
    named = adata.obs["scquery_label_coarse"]
    assert isinstance(named.dtype, pd.CategoricalDtype)
    assert list(named[:5]) == ["CD8", "T cell", "cell", "CD4|naive", "unresolved"]
    assert pd.isna(named.iloc[5])


def test_an_ontology_may_be_an_object(obo):
    adata = queried(["CD8|CD4|naive"])
    scq.tl.coarsen(adata, scq.ontology.CellOntology.read(obo), TERMS)
    assert list(adata.obs["scquery_label_coarse"]) == ["T cell"]


def test_types_without_a_common_ancestor_are_not_resolved(obo):
    adata = queried(["CD8|Other"])
    scq.tl.coarsen(adata, obo, {**TERMS, "Other": "rock"})
    assert list(adata.obs["scquery_label_coarse"]) == ["unresolved"]


def test_names_that_contain_the_separator():
    assert split_set("CD8|CD4|naive|Mono", TYPES) == ["CD8", "CD4|naive", "Mono"]
    assert split_set("a|b", ["a", "b", "a|b"]) == ["a|b"]
    with pytest.raises(scq.ArgumentError, match=r"The prediction set 'CD8\|cat' holds a type that is not"):
        split_set("CD8|cat", TYPES)


def test_after_a_query(query_adata, reference, obo):
    adata = query_adata.copy()
    scq.tl.query(adata, reference, coverage=0.99)
    scq.tl.coarsen(adata, obo, dict(zip(reference.types, ("CD4 T cell", "CD8 T cell", "monocyte"), strict=True)))
    one = adata.obs["scquery_prediction_set"].isin(reference.types)
    assert (adata.obs["scquery_label_coarse"][one].astype(str) == adata.obs["scquery_label"][one].astype(str)).all()


def test_missing_terms_and_results_are_reported(obo, tmp_path):
    adata = queried(["CD8"])
    with pytest.raises(scq.MissingKeyError, match=r"There is no ontology at .*none\.obo"):
        scq.tl.coarsen(adata, tmp_path / "none.obo", TERMS)
    with pytest.raises(scq.MissingKeyError, match=r"The ontology has no term 'stone'"):
        scq.tl.coarsen(adata, obo, {"CD8": "stone"})
    with pytest.raises(scq.ArgumentError, match=r"`terms` must map the reference's types.*Received list"):
        scq.tl.coarsen(adata, obo, ["CD8"])
    del adata.uns["scquery"]
    with pytest.raises(scq.MissingKeyError, match=r"`tl\.coarsen` needs the `adata\.uns\[\"scquery\"\]` that"):
        scq.tl.coarsen(adata, obo, TERMS)
    with pytest.raises(scq.MissingKeyError, match=r"scquery_prediction_set"):
        scq.tl.coarsen(anndata.AnnData(np.zeros((1, 1), np.float32)), obo, TERMS)
    assert "scquery_label_coarse" not in adata.obs
