"""A collection of vectors in Milvus, to build, open, search and change."""

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
    """A collection of Milvus with unit-length vectors, by inner product.

    Made by :meth:`build` and found again by :meth:`open`; both take the path of a file that ends in ``.db``, which
    Milvus Lite keeps in this process, or the address of a server. It is closed by :meth:`close`, or at the end of a
    ``with`` block.

    A row number stays with its vector for good: :meth:`remove` leaves a gap, and :meth:`add` takes the numbers that it
    is given. A :class:`~scquery_ae.Reference` closes its gaps instead, so that its cells move up when some are removed:
    build the collection anew from ``reference.embedding`` then. Cells that are added to a reference go to its end;
    add them here under the numbers that they have there, and set ``reference.index`` again, which each change resets.

    Attributes
    ----------
    collection
        Its name.
    kind
        ``"exact"``, ``"hnsw"`` (a graph), ``"ivf"`` (inverted lists) or ``"int8"`` (lists, a byte a number).
    width
        Numbers of a vector.
    columns
        Metadata to filter by: ``"text"``, ``"whole"``, ``"number"`` or ``"flag"`` by name.
    """

    collection: str
    kind: str
    width: int
    columns: Mapping[str, str]
    _held: Collection

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
        """Make a collection of vectors, whole or not at all, and open it.

        It grows under a name of its own and gets its own at the end: whoever searches an older one finds that until
        then, and keeps it if this fails.

        Parameters
        ----------
        vectors
            Unit-length rows, float32 ``(n_items, n_latent)``.
        uri
            Path of a file that ends in ``.db``, or address of a server, such as ``"http://localhost:19530"``.
        collection
            Name of letters, digits and underscores.
        metadata
            Columns to filter by, one row a vector: text, categories, numbers or flags.
        kind
            As for :func:`scquery_ae.index.build_index`, without ``"pq"``.
        batch_size
            Most vectors in one request.
        token
            What the server knows its user by: ``"user:password"`` or a key. An embedded file has none.
        overwrite
            Replace a collection of that name.
        timeout
            Seconds to wait for an answer to one request, more than 0.

        Raises
        ------
        ArgumentError
            If there is such a collection, or an argument is wrong.
        SearchServiceError
            If Milvus is not installed, cannot be reached, or refuses.
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
            If there is no such collection.
        ArgumentError
            If it is not one of :meth:`build`, or an argument is wrong.
        SearchServiceError
            If Milvus is not installed, cannot be reached, or refuses.
        """
        check_name(collection)
        with Service.open(uri, token, timeout, there=True) as service:
            return cls._of(Collection.find(service, collection))

    @classmethod
    def _of(cls, held: Collection) -> MilvusIndex:
        return cls(held.name, held.kind, held.width, held.columns, held)

    @property
    def uri(self) -> str:
        """Path of the file or address of the server, without a password."""
        return redacted(self._held.service.uri)

    @property
    def n_items(self) -> int:
        """How many vectors can be found, counted now."""
        return self._held.count([""])

    def search(
        self,
        queries: np.ndarray,
        n_neighbors: int,
        *,
        among: np.ndarray | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> Neighbors:
        """Return the nearest vectors of each of ``(n_queries, n_latent)`` unit-length queries.

        Parameters
        ----------
        queries
            Unit-length rows.
        n_neighbors
            Hits per query, at most 16,384, which is Milvus' limit.
        among
            Rows that may be found, int; None for all. Those that are not there are not found. The numbers travel to
            Milvus, or those of the others if they are fewer: use `where` for what is a matter of metadata.
        where
            For columns of the metadata, the value or values that a vector's must have. Texts are compared as text;
            missing values equal none.

        Raises
        ------
        ArgumentError
            If fewer than `n_neighbors` vectors are left, or an argument is wrong.
        MissingKeyError
            If a column is not there.
        SearchServiceError
            If Milvus cannot be reached, or refuses.
        """
        queries = check_queries(queries, self.width)
        check_integer("n_neighbors", n_neighbors)
        return nearest(self._held, queries, n_neighbors, conditions(among, where, self.columns), by_value=bool(where))

    def add(
        self, vectors: np.ndarray, rows: np.ndarray, *, metadata: pd.DataFrame | None = None, batch_size: int = 4096
    ) -> None:
        """Add vectors under row numbers that are free; the next search finds them.

        Parameters
        ----------
        vectors
            Unit-length rows, float32 ``(n, n_latent)``.
        rows
            Their numbers, int ``(n,)``.
        metadata
            The columns that the collection has, one row a vector.
        batch_size
            Most vectors in one request.

        Raises
        ------
        ArgumentError
            If a number is taken or given twice, or an argument is wrong.
        MissingKeyError
            If a column is missing.
        SearchServiceError
            If Milvus cannot be reached, or refuses. What was added until then is taken back, if Milvus still answers.
        """
        vectors = check_queries(check_vectors(vectors), self.width)
        numbers = check_rows(rows, len(vectors))
        check_integer("batch_size", batch_size)
        self._held.add(vectors, numbers, read_metadata(metadata, len(vectors), self.columns), batch_size)

    def remove(self, rows: np.ndarray) -> None:
        """Take vectors out by row number; the next search does not find them, and the others keep their numbers.

        Parameters
        ----------
        rows
            Row numbers, int ``(n,)``.

        Raises
        ------
        MissingKeyError
            If a row is not there; then none is removed.
        ArgumentError
            If a number is given twice, or is none.
        SearchServiceError
            If Milvus cannot be reached, or refuses.
        """
        self._held.remove(check_rows(rows, None))

    def close(self) -> None:
        """Disconnect. What was added is kept; an embedded file may be opened by another process then."""
        self._held.service.close()

    def __enter__(self) -> MilvusIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"MilvusIndex({self.collection!r} at {self.uri}, {self.kind}, {self.width} numbers a vector)"
