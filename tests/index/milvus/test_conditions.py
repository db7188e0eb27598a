"""Filters by row and by value, evaluated by Python or by Milvus."""

import numpy as np
import pytest

from milvus.synthetic import AMONG, NASTY, N, same, table
from scquery_ae import ArgumentError, MissingKeyError
from scquery_ae.index import ExactIndex
from scquery_ae.index.milvus import conditions


@pytest.mark.parametrize("ids", [7, 1000])
@pytest.mark.parametrize("ranges", [1, 64])
@pytest.mark.parametrize("among", AMONG)
def test_each_row_meets_exactly_one_filter(monkeypatch, among, ranges, ids):
    monkeypatch.setattr(conditions, "MAX_IDS", ids)
    monkeypatch.setattr(conditions, "MAX_RANGES", ranges)
    filters = conditions.row_conditions(AMONG[among])
    # The filters are also valid Python, with the same meaning.
    read = [compile(f, "filter", "eval") for f in filters]
    passed = np.array([[eval(code, {"row": row}) for row in range(N)] for code in read])
    np.testing.assert_array_equal(passed.sum(axis=0), np.isin(np.arange(N), AMONG[among]))
    assert max(f.count(",") for f in filters) < ids
    assert max(f.count(" or ") for f in filters) < ranges


def test_a_filter_contains_the_shorter_list(monkeypatch):
    monkeypatch.setattr(conditions, "MAX_RANGES", 1)
    assert conditions.row_conditions(np.array([9, 3, 3, 100])) == ["row in [3,9,100]"]
    assert conditions.row_conditions(np.array([3, 5, 9])) == ["row in [3,5,9]"]
    assert conditions.row_conditions(np.array([2, 3, 4, 6, 7])) == ["row >= 2 and row <= 7 and not (row in [5])"]
    assert conditions.row_conditions(np.array([4, 2, 3])) == ["(row >= 2 and row <= 4)"]
    assert conditions.row_conditions(np.empty(0, np.int64)) == []


@pytest.mark.parametrize("ids", [100_000, 37])
@pytest.mark.parametrize("among", AMONG)
def test_only_the_rows_among_are_found(index, items, queries, monkeypatch, among, ids):
    monkeypatch.setattr(conditions, "MAX_IDS", ids)
    among = AMONG[among]
    same(index.search(queries, 9, among=among), ExactIndex(items).search(queries, 9, among=np.unique(among)))


@pytest.mark.parametrize(
    "where",
    [
        {"kind": "kind 1"},
        {"kind": ["kind 1", "kind 4"]},
        {"age": -7},
        {"age": np.array([3, -10])},
        {"fresh": True},
        {"fresh": [np.False_]},
        {"score": [float(x) for x in np.arange(30, 290, 3) / 7 - 20.5]},
        {"kind": ("kind 0", "kind 2", "none such"), "age": range(-5, 6), "fresh": False},
        *({"donor": value} for value in NASTY),
    ],
    ids=str,
)
def test_metadata_filters_agree_with_numpy(index, items, queries, where):
    allowed = np.ones(N, dtype=bool)
    for name, wanted in where.items():
        allowed &= table(N)[name].isin(list(np.atleast_1d(wanted)) if not isinstance(wanted, range) else wanted)
    assert 5 < allowed.sum() < N
    same(index.search(queries, 5, where=where), ExactIndex(items).search(queries, 5, among=np.flatnonzero(allowed)))
    both = np.flatnonzero(allowed)[::2]
    rows = np.concatenate([both, np.flatnonzero(~allowed)])
    same(index.search(queries, 5, among=rows, where=where), ExactIndex(items).search(queries, 5, among=both))


@pytest.mark.parametrize(
    "value", ['kind 1"] or row >= 0 or obs_kind in ["', 'kind 1" or true or "', "\\", "kind_1", "%", "\x01\b\f"]
)
def test_a_value_cannot_change_the_filter(index, queries, value):
    with pytest.raises(ArgumentError, match="`n_neighbors=1` is more than the 0 vectors that the filter leaves"):
        index.search(queries, 1, where={"kind": value})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"age": "5"}, r"`where\['age'\]` must be of kind 'whole', as the column is\. Received '5'"),
        ({"age": True}, "must be of kind 'whole'"),
        ({"age": 1.5}, "must be of kind 'whole'"),
        ({"age": 2**63}, r"`where\['age'\]` must fit into 64 bits\. Received 9223372036854775808\."),
        ({"score": "1 or 1"}, "must be of kind 'number'"),
        ({"score": np.inf}, r"`where\['score'\]` must be finite\. Received inf\."),
        ({"score": np.nan}, r"`where\['score'\]` must be finite"),
        ({"score": 10**400}, r"`where\['score'\]` must be finite"),
        ({"fresh": 1}, "must be of kind 'flag'"),
        ({"kind": None}, "must be of kind 'text'"),
        ({"kind": np.nan}, "must be of kind 'text'"),
        ({"kind": [["a"]]}, "must be of kind 'text'"),
        ({"kind": np.ones((2, 2))}, "must be of kind 'text'"),
        ({"kind": "half \ud800"}, r"must be text of at most 65535 bytes, without NUL"),
        ({"kind": "nul \0"}, "must be text of at most 65535 bytes, without NUL"),
        ({"kind": []}, "`where` has no value for 'kind'"),
        ("kind", "`where` must map columns to values"),
    ],
)
def test_values_of_another_kind_are_refused(where, message):
    with pytest.raises(ArgumentError, match=message):
        conditions.conditions(None, where, {"kind": "text", "age": "whole", "score": "number", "fresh": "flag"})


@pytest.mark.parametrize("name", ["row >= 0 or kind", "obs_kind", "vector", 3])
def test_missing_columns_are_refused(name):
    with pytest.raises(MissingKeyError, match=r"has no metadata column .*Expected one of: 'kind', 'donor'"):
        conditions.conditions(None, {name: "x"}, {"kind": "text", "donor": "text"})


def test_invalid_rows_are_refused():
    for rows in ([1, 1], [-1, 2], []):
        with pytest.raises(ArgumentError, match="`rows` must be one or more different row numbers of at least 0"):
            conditions.check_rows(rows, None)
    with pytest.raises(ArgumentError, match=r"`rows` must be an array of whole numbers of shape \(3\)"):
        conditions.check_rows([1, 2], 3)
    with pytest.raises(ArgumentError, match=r"`among` must be row numbers of at least 0\. Received -2"):
        conditions.conditions([5, 9, -2], None, {})
