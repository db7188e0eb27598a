"""Validation of arguments and of AnnData, and what each refusal says."""

import anndata
import numpy as np
import pandas as pd
import pytest

from scquery_ae import ArgumentError, MissingKeyError
from scquery_ae import _checks as checks


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(3)])
def test_integers_pass(value):
    result = checks.check_integer("n", value)
    assert result == value
    assert type(result) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, np.float64(2), True, "3", None, [1]])
def test_other_values_than_positive_integers_are_refused(value):
    with pytest.raises(ArgumentError, match=r"`n` must be an integer of at least 1\. Received "):
        checks.check_integer("n", value)


def test_the_minimum_of_an_integer():
    assert checks.check_integer("n", 0, 0) == 0
    with pytest.raises(ArgumentError, match=r"at least 5\. Received 4\."):
        checks.check_integer("n", 4, 5)


@pytest.mark.parametrize(
    ("closed", "value", "passes"),
    [
        ("both", 0, True),
        ("both", 1, True),
        ("left", 0, True),
        ("left", 1, False),
        ("neither", 0, False),
        ("neither", 1, False),
        ("neither", 0.5, True),
        ("both", np.float32(0.5), True),
        ("both", -1e-9, False),
        ("both", 1.0001, False),
        ("both", float("nan"), False),
        ("both", True, False),
        ("both", "0.5", False),
        ("both", None, False),
        ("both", 0.5j, False),
    ],
)
def test_numbers_in_an_interval(closed, value, passes):
    if passes:
        result = checks.check_number("x", value, 0, 1, closed=closed)
        assert result == value
        assert type(result) is float
        return
    shown = {"both": r"\[0, 1\]", "left": r"\[0, 1\)", "neither": r"\(0, 1\)"}[closed]
    with pytest.raises(ArgumentError, match=rf"`x` must be a number in {shown}\. Received "):
        checks.check_number("x", value, 0, 1, closed=closed)


@pytest.mark.parametrize("value", [np.inf, 0.0])
def test_an_open_end_at_infinity(value):
    with pytest.raises(ArgumentError, match=r"`x` must be a number in \(0, inf\)"):
        checks.check_number("x", value, 0, np.inf, closed="neither")


def test_rates_exclude_one():
    assert checks.check_rate("r", 0) == 0
    with pytest.raises(ArgumentError, match=r"`r` must be a number in \[0, 1\)\. Received 1\."):
        checks.check_rate("r", 1)


@pytest.mark.parametrize("value", ["c", "", None, 1, ["a"]])
def test_choices(value):
    assert checks.check_choice("kind", "a", ("a", "b")) == "a"
    with pytest.raises(ArgumentError, match=r"`kind` must be one of 'a', 'b'\. Received "):
        checks.check_choice("kind", value, ("a", "b"))


@pytest.mark.parametrize("sizes", [(512, 64), [512, 64], np.array([512, 64]), iter((512, 64))])
def test_layer_sizes(sizes):
    result = checks.check_layer_sizes(sizes)
    assert result == (512, 64)
    assert all(type(size) is int for size in result)


@pytest.mark.parametrize("sizes", [(), 64, "64", (64, 0), (64, -1), (64.0,), (True,), None, ("64",)])
def test_wrong_layer_sizes(sizes):
    with pytest.raises(
        ArgumentError, match=r"`layer_sizes` must be a non-empty sequence of positive integers.*\(512, 64\)"
    ):
        checks.check_layer_sizes(sizes)


@pytest.mark.parametrize(
    ("value", "name"), [(np.zeros((2, 2)), "ndarray"), (None, "NoneType"), (pd.DataFrame(), "DataFrame")]
)
def test_other_types_than_anndata(value, name):
    with pytest.raises(
        ArgumentError, match=rf"`f` takes an AnnData as its first argument\. Received {name}; wrap a matrix as"
    ):
        checks.check_adata(value, "f")


@pytest.mark.parametrize(
    ("shape", "said"),
    [((0, 3), r"shape \(0, 3\): there are no cells"), ((3, 0), r"shape \(3, 0\): there are no genes")],
)
def test_an_empty_anndata(shape, said):
    with pytest.raises(ArgumentError, match=rf"`f` needs at least one cell and one gene\. Received {said}"):
        checks.check_adata(anndata.AnnData(np.zeros(shape)), "f")


def test_columns_of_obs(make_adata):
    adata = make_adata(5, 3)
    assert list(checks.check_obs_key(adata, "batch", "batch_key")) == list(adata.obs["batch"])
    with pytest.raises(
        MissingKeyError,
        match=r"`batch_key='donor'` is not a column of `adata\.obs`\. Expected one of 'cell_type', 'batch'; add the",
    ):
        checks.check_obs_key(adata, "donor", "batch_key")
    with pytest.raises(MissingKeyError, match=r"`label_key=3` is not a column"):
        checks.check_obs_key(adata, 3, "label_key")
    del adata.obs["batch"], adata.obs["cell_type"]
    with pytest.raises(MissingKeyError, match=r"Expected one of \(none there\)"):
        checks.check_obs_key(adata, "donor", "batch_key")


def test_layers(make_adata):
    adata = make_adata(5, 3)
    adata.layers["raw"] = adata.X * 2
    assert checks.check_layer(adata, None) is adata.X
    assert checks.check_layer(adata, "raw") is adata.layers["raw"]
    with pytest.raises(
        MissingKeyError, match=r"`layer='counts'` is not in `adata\.layers`\. Expected one of 'raw' or None for X"
    ):
        checks.check_layer(adata, "counts")
    adata.X = None
    with pytest.raises(MissingKeyError, match=r"`adata\.X` is empty.*set `adata\.X` or name a layer with `layer`"):
        checks.check_layer(adata, None)


def test_unique_names():
    checks.check_unique(["a", "b"], "Names", "rename them.")
    with pytest.raises(
        ArgumentError, match=r"Names must be unique\. Received 2 repeated name\(s\) such as 'a', 'c'; rename them\."
    ):
        checks.check_unique(["c", "a", "b", "a", "c"], "Names", "rename them.")


def test_long_lists_of_names_are_cut():
    assert checks.shown(range(3)) == "'0', '1', '2'"
    assert checks.shown(iter("abcdefg")) == "'a', 'b', 'c', 'd', 'e', ..."
    assert checks.shown("abcde") == "'a', 'b', 'c', 'd', 'e'"
    assert checks.shown([]) == ""
