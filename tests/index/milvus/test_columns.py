"""Conversion of metadata columns."""

import numpy as np
import pandas as pd
import pytest

from milvus.synthetic import same, table
from scquery_ae import ArgumentError, MissingKeyError
from scquery_ae.index import ExactIndex, MilvusIndex
from scquery_ae.index.milvus.columns import read_metadata


def test_the_kind_of_a_column_follows_from_its_dtype():
    frame = pd.DataFrame(
        {
            "text": pd.Series(["a", None, 3], dtype=object),
            "string": pd.Series(["a", pd.NA, "c"], dtype="string"),
            "category": pd.Categorical([1, 2, None]),
            "whole": pd.Series([1, None, 3], dtype="Int64"),
            "number": np.array([0.5, np.nan, 2], dtype=np.float32),
            "flag": pd.Series([True, None, False], dtype="boolean"),
        }
    )
    assert read_metadata(frame, 3) == {
        "text": ("text", ["a", None, "3"]),
        "string": ("text", ["a", None, "c"]),
        "category": ("text", ["1", "2", None]),
        "whole": ("whole", [1, None, 3]),
        "number": ("number", [0.5, None, 2.0]),
        "flag": ("flag", [True, None, False]),
    }
    assert read_metadata(None, 3) == {}
    received = read_metadata(frame[["whole"]], 3, {"whole": "number"})
    assert received == {"whole": ("number", [1.0, None, 3.0])}
    assert type(received["whole"][1][0]) is float


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (pd.DataFrame({"a": [1, 2]}), r"must be a data frame of 3 rows, one for each vector\. Received 2 rows"),
        ({"a": [1, 2, 3]}, r"must be a data frame of 3 rows, one for each vector\. Received dict"),
        (
            pd.DataFrame({"a b": [1, 2, 3]}),
            r"letters, digits and underscores, and be unique\. Received 'a b'; rename it",
        ),
        (pd.DataFrame([[1, 2]] * 3, columns=["a", "a"]), "letters, digits and underscores, and be unique"),
        (
            pd.DataFrame({"a": pd.to_datetime(["2020-01-01"] * 3)}),
            r"`metadata\['a'\]` must be text, numbers or booleans",
        ),
        (pd.DataFrame({"a": [0, 1, 2**64 - 1]}), r"`metadata\['a'\]` must fit into 64 bits"),
        (pd.DataFrame({"a": [0, 1, np.inf]}), r"`metadata\['a'\]` must be finite"),
        (pd.DataFrame({"a": ["x", "y", "é" * 40_000]}), r"`metadata\['a'\]` must be text of at most 65535 bytes"),
    ],
)
def test_unsupported_metadata_is_refused(metadata, message, items, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        MilvusIndex.build(items[:3], tmp_path / "x.db", metadata=metadata)


def test_metadata_is_added_with_the_vectors(file, index, items):
    frame = table(60)
    with MilvusIndex.build(items[:40], file, collection="meta", metadata=frame[:40], overwrite=True) as built:
        assert built.columns == {"kind": "text", "donor": "text", "age": "whole", "score": "number", "fresh": "flag"}
        built.add(items[40:60], np.arange(40, 60), metadata=frame[40:].assign(score=range(20)))
        allowed = np.flatnonzero(frame["age"] == 5)
        assert len(allowed) == 2
        same(built.search(items[:9], 2, where={"age": 5}), ExactIndex(items[:60]).search(items[:9], 2, among=allowed))
        np.testing.assert_array_equal(built.search(items[:1], 1, where={"score": 7}).indices, [[47]])
        with pytest.raises(
            MissingKeyError, match=r"has the metadata columns 'kind', .*Received 'age'; pass a data frame"
        ):
            built.add(items[60:61], [60], metadata=frame[["age"]][:1])
        with pytest.raises(MissingKeyError, match=r"has the metadata columns 'kind', .*Received none"):
            built.add(items[60:61], [60])
        with pytest.raises(ArgumentError, match=r"`metadata\['age'\]` must be of kind 'whole', as in the collection"):
            built.add(items[60:61], [60], metadata=frame[:1].assign(age=0.5))


def test_keywords_of_milvus_can_be_column_names(file, index, items):
    frame = pd.DataFrame({name: ["x", "y", None] for name in ("in", "not", "row", "vector", "true", "1", "Null")})
    with MilvusIndex.build(items[:3], file, collection="words", metadata=frame, overwrite=True) as built:
        for name in frame:
            np.testing.assert_array_equal(built.search(items[:1], 1, where={name: "y"}).indices, [[1]])
            with pytest.raises(ArgumentError, match="more than the 1 vectors"):
                built.search(items[:1], 2, where={name: "y"})
