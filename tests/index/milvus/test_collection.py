"""Building, opening and changing a collection, also when a step fails."""

import itertools

import numpy as np
import pytest

from milvus.synthetic import WIDTH, same, table
from scquery_ae import ArgumentError, MissingKeyError, SearchServiceError
from scquery_ae.index import ExactIndex, MilvusIndex
from scquery_ae.index.milvus.collection import Collection


def test_added_vectors_are_found_at_once_and_kept(changing, items, file, index):
    changing.add(items[50:60], np.arange(50, 60))
    assert changing.n_items == 60
    same(changing.search(items[:60], 4), ExactIndex(items[:60]).search(items[:60], 4))
    changing.add(items[60:62], [1000, 70], batch_size=1)
    np.testing.assert_array_equal(changing.search(items[60:62], 1).indices, [[1000], [70]])
    changing.close()
    with MilvusIndex.open(file, collection="changing") as back:
        assert back.n_items == 62
        np.testing.assert_array_equal(back.search(items[60:62], 1).indices, [[1000], [70]])


def test_removed_vectors_are_not_found_and_leave_a_gap(changing, items):
    gone = np.array([3, 40, 7])
    changing.remove(gone)
    kept = np.setdiff1d(np.arange(50), gone)
    assert changing.n_items == 47
    same(changing.search(items[:50], 5), ExactIndex(items).search(items[:50], 5, among=kept))
    with pytest.raises(MissingKeyError, match=r"1 of the 2 rows to remove are not in 'changing'\. Nothing was removed"):
        changing.remove([2, 3])
    assert changing.n_items == 47
    changing.add(items[200:201], [3])
    np.testing.assert_array_equal(changing.search(items[200:201], 1).indices, [[3]])
    with pytest.raises(ArgumentError, match=r"`n_neighbors=49` is more than there are reference cells \(48\)"):
        changing.search(items[:2], 49)


def test_an_addition_that_fails_midway_is_undone(changing, items, monkeypatch, at_once, quiet):
    from pymilvus.exceptions import MilvusException

    write = changing._opened.service.client.upsert
    calls = itertools.count()

    def broken(*args, **kwargs):
        if next(calls) == 2:
            raise MilvusException(message="disk full")
        return write(*args, **kwargs)

    monkeypatch.setattr(changing._opened.service.client, "upsert", broken)
    with pytest.raises(SearchServiceError, match=r"Milvus at .*cells\.db refused the request: disk full"):
        changing.add(items[50:60], np.arange(50, 60), batch_size=3)
    assert changing.n_items == 50


def test_a_collection_is_replaced_only_with_overwrite(file, index, items):
    options = {"collection": "again", "overwrite": True}
    MilvusIndex.build(items[:20], file, metadata=table(20), **options).close()
    with pytest.raises(ArgumentError, match=r"already has a collection 'again'\. Open it.*`overwrite=True`"):
        MilvusIndex.build(items[:30, :5], file, collection="again")
    with MilvusIndex.open(file, collection="again") as old:
        assert (old.n_items, old.width) == (20, WIDTH)
    with MilvusIndex.build(items[:30, :5], file, metadata=table(30)[["age"]], **options) as new:
        assert (new.n_items, new.width, list(new.columns)) == (30, 5, ["age"])
        # The client's cache of the old collection does not interfere.
        new.add(items[30:31, :5], [30], metadata=table(31)[["age"]][30:])
        assert new.n_items == 31
        collections = new._opened.service("list_collections")
    assert sum(name.startswith("again") for name in collections) == 1


@pytest.mark.parametrize("step", ["insert", "create_index", "load_collection", "rename_collection"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_build_that_fails_changes_nothing(file, index, items, monkeypatch, quiet, step, overwrite):
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    if overwrite:
        # The old collection stays open, as for another user who searches it.
        old = MilvusIndex.build(items[:20], file, collection="half", overwrite=True)
        before = old.search(items[:9], 20)
    names = set(index._opened.service("list_collections"))
    real, calls = getattr(MilvusClient, step), itertools.count()

    def broken(*args, **kwargs):
        # Fail in the last call of each step: the third write, the renaming to the final name.
        if next(calls) == {"insert": 2, "load_collection": 1, "rename_collection": int(overwrite)}.get(step, 0):
            raise MilvusException(message="out of order")
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(MilvusClient, step, broken)
        with pytest.raises(SearchServiceError, match="out of order"):
            MilvusIndex.build(items[:30], file, collection="half", batch_size=10, overwrite=overwrite)
    assert set(index._opened.service("list_collections")) == names
    if overwrite:
        same(old.search(items[:9], 20), before)
        old._opened.service("drop_collection", "half")
        old.close()


def test_lost_vectors_are_noticed(file, index, items, monkeypatch):
    write = Collection._write
    monkeypatch.setattr(Collection, "_write", lambda self, m, v, *a: write(self, m, v[:-1], *a))
    with pytest.raises(SearchServiceError, match=r"stored 19 of 20 vectors\. The new collection was removed"):
        MilvusIndex.build(items[:20], file, collection="lost")
    assert not any(name.startswith("lost") for name in index._opened.service("list_collections"))


def test_foreign_and_missing_collections_are_refused(file, index):
    with pytest.raises(MissingKeyError, match=r"has no collection 'other'\. Expected one of .*'scquery'"):
        MilvusIndex.open(file, collection="other")
    index._opened.service.client.create_collection("foreign", dimension=4)
    with pytest.raises(
        ArgumentError, match=r"`MilvusIndex\.build` did not make the collection 'foreign'\. .*'id', 'vector'"
    ):
        MilvusIndex.open(file, collection="foreign")
    for name in ("1st", "a b", "", "x" * 201, "drop;"):
        with pytest.raises(ArgumentError, match="`collection` must be up to 200 letters, digits and underscores"):
            MilvusIndex.open(file, collection=name)
