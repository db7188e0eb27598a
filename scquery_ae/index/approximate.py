"""Approximate search through faiss: graphs, inverted lists, and compressed vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scquery_ae._checks import check_choice, check_neighbors
from scquery_ae._errors import ArgumentError
from scquery_ae.index.base import Neighbors, check_among, check_queries, check_vectors

#: What the kinds are in faiss; ``{lists}`` grows with the root of the number of vectors.
FACTORIES = {
    "hnsw": "HNSW32,Flat",
    "ivf": "IVF{lists},Flat",
    "int8": "IVF{lists},SQ8",
    "pq": "IVF{lists},PQ{parts}x8",
}
#: Classes of faiss that they are made of, and vectors that they need: lists and codes are trained.
CLASSES = {
    "hnsw": "IndexHNSWFlat",
    "ivf": "IndexIVFFlat",
    "int8": "IndexIVFScalarQuantizer",
    "pq": "IndexIVFPQ",
}
LEAST = {"hnsw": 1, "ivf": 40, "int8": 40, "pq": 9984}
#: Above this many vectors the means of the lists are sought in fewer rounds among fewer vectors: by faiss' own settings
#: the time grows with their 1.5th power, to hours for tens of millions.
MANY = 2_000_000
#: Breadth of the search: candidates of a graph, share of the lists.
EF_SEARCH = 128
PROBED = 16


@dataclass(frozen=True)
class ApproximateIndex:
    """An index of faiss over unit-length vectors, by inner product.

    Attributes
    ----------
    kind
        ``"hnsw"`` (a graph; fastest, most memory), ``"ivf"`` (inverted lists), ``"int8"`` (lists, a byte a number)
        or ``"pq"`` (product quantisation; smallest).
    index
        The index of faiss.
    """

    kind: str
    index: Any

    @classmethod
    def build(cls, vectors: np.ndarray, kind: str) -> ApproximateIndex:
        """Build an index of some kind over unit-length rows, float32 ``(n_items, n_latent)``.

        Raises
        ------
        ArgumentError
            If there are too few vectors to train the lists or codes of `kind`.
        """
        import faiss

        check_choice("index", kind, tuple(FACTORIES))
        vectors = check_vectors(vectors)
        n, width = vectors.shape
        if n < LEAST[kind]:
            msg = f'`index={kind!r}` needs at least {LEAST[kind]} vectors. Received {n}; use `index="exact"`.'
            raise ArgumentError(msg)
        # faiss wants 39 vectors a list to train on.
        lists = max(min(round(4 * math.sqrt(n)), n // 39), 1)
        parts = next(m for m in (32, 16, 8, 4, 2, 1) if width % m == 0 and m <= max(width // 2, 1))
        made = faiss.index_factory(width, FACTORIES[kind].format(lists=lists, parts=parts), faiss.METRIC_INNER_PRODUCT)
        if not made.is_trained:
            made.cp.seed = 0
            if n > MANY:
                made.cp.niter, made.cp.max_points_per_centroid = 10, 64
            made.train(vectors)
        made.add(vectors)
        return cls(kind, made)

    @classmethod
    def read(cls, path: Path, kind: str, shape: tuple[int, int]) -> ApproximateIndex:
        """Open an index that :meth:`write` wrote of vectors of some shape; where faiss can, it stays on disk."""
        import faiss

        check_choice("index", kind, tuple(FACTORIES))
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if kind != "hnsw" else 0)
        except RuntimeError as error:
            msg = f"{path.name} is no index of faiss: {error}."
            raise ArgumentError(msg) from error
        if type(index).__name__ != CLASSES[kind] or index.metric_type != faiss.METRIC_INNER_PRODUCT:
            msg = f"{path.name} is a {type(index).__name__}, not the {CLASSES[kind]} of {kind!r} by inner product."
            raise ArgumentError(msg)
        if (index.ntotal, index.d) != shape:
            msg = f"{path.name} indexes vectors of shape {(index.ntotal, index.d)} where {shape} is expected."
            raise ArgumentError(msg)
        return cls(kind, index)

    def write(self, path: Path) -> None:
        """Write the index as faiss does."""
        import faiss

        faiss.write_index(_whole(self.index), str(path))

    def __getstate__(self) -> dict[str, Any]:
        return {"kind": self.kind, "index": _whole(self.index)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def n_items(self) -> int:
        """How many vectors can be found."""
        return int(self.index.ntotal)

    def search(self, queries: np.ndarray, n_neighbors: int, *, among: np.ndarray | None = None) -> Neighbors:
        """Return the nearest vectors of each of ``(n_queries, n_latent)`` unit-length queries.

        Parameters
        ----------
        queries
            Unit-length rows.
        n_neighbors
            Hits per query.
        among
            Rows that may be found, int; None for all.
        """
        import faiss

        among = check_among(among, self.n_items)
        check_neighbors(n_neighbors, self.n_items if among is None else len(among))
        queries = check_queries(queries, self.index.d)
        selector = None if among is None else faiss.IDSelectorBatch(among)
        # A search that is cut to few vectors has to look farther for them.
        share = 1.0 if among is None else len(among) / self.n_items
        if self.kind == "hnsw":
            breadth = max(EF_SEARCH, 2 * n_neighbors)
            parameters = faiss.SearchParametersHNSW(
                efSearch=min(math.ceil(breadth / share), self.n_items), sel=selector
            )
        else:
            probed = max(PROBED, self.index.nlist // 16)
            parameters = faiss.SearchParametersIVF(
                nprobe=min(math.ceil(probed / share), self.index.nlist), sel=selector
            )
        similarity, indices = self.index.search(queries, n_neighbors, params=parameters)
        short = (indices < 0).any(axis=1)
        if short.any():
            # Lists or graph ran out before enough was found: look everywhere.
            wide = (
                faiss.SearchParametersHNSW(efSearch=self.n_items, sel=selector)
                if self.kind == "hnsw"
                else faiss.SearchParametersIVF(nprobe=self.index.nlist, sel=selector)
            )
            similarity[short], indices[short] = self.index.search(queries[short], n_neighbors, params=wide)
        return Neighbors.from_similarity(similarity, indices)


def _whole(index: Any) -> Any:
    """Return an index, its lists brought to memory: of lists that faiss reads from a file, it writes only the path."""
    import faiss

    old: Any = getattr(index, "invlists", None)
    if not isinstance(faiss.downcast_InvertedLists(old) if old else None, faiss.OnDiskInvertedLists):
        return index
    lists = faiss.ArrayInvertedLists(old.nlist, old.code_size)
    for i in range(old.nlist):
        if n := old.list_size(i):
            lists.add_entries(i, n, old.get_ids(i), old.get_codes(i))
    lists.this.disown()
    index.replace_invlists(lists, True)
    return index
