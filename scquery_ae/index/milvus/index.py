"""``MilvusIndex``: build, open, search and change a collection of vectors in Milvus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from scquery_ae._checks import check_choice, check_flag, check_integer
from scquery_ae.index.base import Neighbors, check_queries, check_vectors
from scquery_ae.index.choose import usable_index
from scquery_ae.index.milvus.collection import INDEX_TYPES, Collection, check_name
from scquery_ae.index.milvus.columns import read_metadata
from scquery_ae.index.milvus.conditions import check_rows, conditions
from scquery_ae.index.milvus.search import nearest
from scquery_ae.index.milvus.service import Service, redacted


@dataclass(frozen=True, eq=False, repr=False)
class MilvusIndex:
    """A Milvus collection of unit-length vectors, searched by inner product.

    :meth:`build` makes a collection and :meth:`open` opens an existing one. Both take the path of a file that ends in
    ``.db``, which Milvus Lite serves from this process, or the address of a server. Close the index with :meth:`close`
    or use it in a ``with`` block.

    The row number of a vector never changes: :meth:`remove` leaves a gap, and :meth:`add` takes row numbers. A
    :class:`~scquery_ae.Reference` instead renumbers its cells when some are removed. After a removal, build the
    collection again from ``reference.embedding``. Cells that are added to a reference come last: add them here under
    the row numbers that they have in the reference, and then set ``reference.index`` again, because every change of a
    reference resets it.

    Attributes
    ----------
    collection
        Name of the collection.
    kind
        ``"exact"``, ``"hnsw"`` (graph), ``"ivf"`` (inverted lists) or ``"int8"`` (inverted lists, one byte per number).
    width
        Width of the vectors.
    columns
        Kind of each metadata column by name: ``"text"``, ``"whole"``, ``"number"`` or ``"flag"``.
    """

    collection: str
    kind: str
    width: int
    columns: Mapping[str, str]
    _opened: Collection

    @classmethod
    def build(
        cls,
        vectors: np.ndarray,
        uri: str | PathLike[str],
        *,
        collection: str = "scquery",
        metadata: pd.DataFrame | None = None,
        kind: str = "auto",
        batch_size: int = 4096,
        token: str | None = None,
        overwrite: bool = False,
        timeout: float = 60.0,
    ) -> MilvusIndex:
        """Build a collection of vectors and open it.

        The collection is built under a temporary name and renamed at the end. Until then, a collection that it replaces
        can be searched; if the build fails, that collection is kept.

        Parameters
        ----------
        vectors
            Unit-length rows, float32 ``(n_items, n_latent)``.
        uri
            Path of a file that ends in ``.db``, or address of a server, such as ``"http://localhost:19530"``.
        collection
            Name of the collection: letters, digits and underscores.
        metadata
            Columns to filter by, one row for each vector: text, categories, numbers or booleans.
        kind
            As for :func:`scquery_ae.index.build_index`, without ``"pq"``.
        batch_size
            Largest number of vectors in one request.
        token
            Credentials for the server: ``"user:password"`` or an API key. A local file needs none.
        overwrite
            Replace an existing collection of the same name.
        timeout
            Seconds to wait for the answer to a request, more than 0.

        Raises
        ------
        ArgumentError
            If the collection exists and `overwrite` is False, or an argument is invalid.
        SearchServiceError
            If Milvus is not installed, cannot be reached, or refuses a request.
        """
        vectors = check_vectors(vectors)
        check_name(collection)
        check_choice("kind", kind, ("auto", *INDEX_TYPES))
        check_integer("batch_size", batch_size)
        check_flag("overwrite", overwrite)
        table = read_metadata(metadata, len(vectors))
        kind = usable_index(len(vectors), kind)
        with Service.open(uri, token, timeout) as service:
            return cls._of(Collection.build(service, collection, kind, vectors, table, batch_size, overwrite=overwrite))

    @classmethod
    def open(
        cls,
        uri: str | PathLike[str],
        *,
        collection: str = "scquery",
        token: str | None = None,
        timeout: float = 60.0,
    ) -> MilvusIndex:
        """Open a collection that :meth:`build` made.

        Parameters
        ----------
        uri, collection, token, timeout
            As for :meth:`build`.

        Raises
        ------
        MissingKeyError
            If there is no collection of this name.
        ArgumentError
            If :meth:`build` did not make the collection, or an argument is invalid.
        SearchServiceError
            If Milvus is not installed, cannot be reached, or refuses a request.
        """
        check_name(collection)
        with Service.open(uri, token, timeout, must_exist=True) as service:
            return cls._of(Collection.find(service, collection))

    @classmethod
    def _of(cls, opened: Collection) -> MilvusIndex:
        return cls(opened.name, opened.kind, opened.width, opened.columns, opened)

    @property
    def uri(self) -> str:
        """Path of the file, or address of the server without a password."""
        return redacted(self._opened.service.uri)

    @property
    def n_items(self) -> int:
        """Number of vectors, as Milvus counts them now."""
        return self._opened.count([""])

    def search(
        self,
        queries: np.ndarray,
        n_neighbors: int,
        *,
        among: np.ndarray | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> Neighbors:
        """Return the nearest vectors of each query.

        Parameters
        ----------
        queries
            Unit-length rows, ``(n_queries, n_latent)``.
        n_neighbors
            Neighbors per query, at most 16,384 (Milvus' limit).
        among
            Rows to search, int; None for all. Rows that do not exist are ignored. The request contains these numbers,
            or those of the other rows if they are fewer; `where` is faster if metadata determines the rows.
        where
            One or more allowed values for each of some metadata columns. Text matches exactly. A missing value matches
            nothing.

        Raises
        ------
        ArgumentError
            If the filters leave fewer than `n_neighbors` vectors, or an argument is invalid.
        MissingKeyError
            If the collection lacks a column of `where`.
        SearchServiceError
            If Milvus cannot be reached, or refuses a request.
        """
        queries = check_queries(queries, self.width)
        check_integer("n_neighbors", n_neighbors)
        filters = conditions(among, where, self.columns)
        return nearest(self._opened, queries, n_neighbors, filters, by_value=bool(where))

    def add(
        self, vectors: np.ndarray, rows: np.ndarray, *, metadata: pd.DataFrame | None = None, batch_size: int = 4096
    ) -> None:
        """Add vectors under unused row numbers. The next search finds them.

        Parameters
        ----------
        vectors
            Unit-length rows, float32 ``(n, n_latent)``.
        rows
            Row numbers, int ``(n,)``.
        metadata
            The metadata columns of the collection, one row for each vector.
        batch_size
            Largest number of vectors in one request.

        Raises
        ------
        ArgumentError
            If a row number is in use or repeated, or an argument is invalid.
        MissingKeyError
            If the columns of `metadata` are not those of the collection.
        SearchServiceError
            If Milvus cannot be reached, or refuses a request. The vectors that were already added are then removed, if
            Milvus still answers.
        """
        vectors = check_queries(check_vectors(vectors), self.width)
        numbers = check_rows(rows, len(vectors))
        check_integer("batch_size", batch_size)
        self._opened.add(vectors, numbers, read_metadata(metadata, len(vectors), self.columns), batch_size)

    def remove(self, rows: np.ndarray) -> None:
        """Remove vectors by row number. The other vectors keep their row numbers.

        Parameters
        ----------
        rows
            Row numbers, int ``(n,)``.

        Raises
        ------
        MissingKeyError
            If a row does not exist. No vector is removed then.
        ArgumentError
            If a row number is repeated or invalid.
        SearchServiceError
            If Milvus cannot be reached, or refuses a request.
        """
        self._opened.remove(check_rows(rows, None))

    def close(self) -> None:
        """Disconnect. The collection is kept, and another process can then open a local file."""
        self._opened.service.close()

    def __enter__(self) -> MilvusIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"MilvusIndex({self.collection!r} at {self.uri}, {self.kind}, vectors of width {self.width})"
