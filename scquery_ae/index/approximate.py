"""Approximate search with faiss: graphs, inverted lists and compressed vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scquery_ae._caller import argument
from scquery_ae._checks import check_choice, check_neighbors
from scquery_ae._errors import ArgumentError
from scquery_ae.index.base import Neighbors, check_among, check_queries, check_vectors


@dataclass(frozen=True)
class Kind:
    """What faiss needs to know about one kind of index.

    Attributes
    ----------
    description
        faiss' description. ``{lists}`` grows with the square root of the number of vectors.
    class_name
        Name of faiss' class.
    min_vectors
        Smallest number of vectors on which lists and quantizers can be trained.
    """

    description: str
    class_name: str
    min_vectors: int


KINDS = {
    "hnsw": Kind("HNSW32,Flat", "IndexHNSWFlat", 1),
    "ivf": Kind("IVF{lists},Flat", "IndexIVFFlat", 40),
    "int8": Kind("IVF{lists},SQ8", "IndexIVFScalarQuantizer", 40),
    "pq": Kind("IVF{lists},PQ{subvectors}x8", "IndexIVFPQ", 9984),
}
#: Above this number of vectors, the centroids of the lists are trained on a sample and in fewer iterations. With faiss'
#: defaults the training time grows with the 1.5th power of the number, to hours for tens of millions.
SAMPLE_ABOVE = 2_000_000
#: Smallest number of candidates in a search of a graph, and of lists that are searched.
EF_SEARCH = 128
N_PROBES = 16


@dataclass(frozen=True)
class ApproximateIndex:
    """A faiss index over unit-length vectors, by inner product.

    Attributes
    ----------
    kind
        ``"hnsw"`` (graph: fastest, most memory), ``"ivf"`` (inverted lists), ``"int8"`` (inverted lists, one byte per
        number) or ``"pq"`` (product quantization: smallest).
    index
        The faiss index.
    """

    kind: str
    index: Any

    @classmethod
    def build(cls, vectors: np.ndarray, kind: str) -> ApproximateIndex:
        """Build an index over unit-length rows, float32 ``(n_items, n_latent)``.

        Raises
        ------
        ArgumentError
            If there are too few vectors to train an index of this kind.
        """
        import faiss

        check_choice("index", kind, tuple(KINDS))
        vectors = check_vectors(vectors)
        n, width = vectors.shape
        if n < KINDS[kind].min_vectors:
            msg = (
                f"{argument('index', kind)} needs at least {KINDS[kind].min_vectors} vectors. Received {n}; use "
                f"{argument('index', 'exact')}."
            )
            raise ArgumentError(msg)
        # faiss warns if it has fewer than 39 training vectors per list.
        lists = max(min(round(4 * math.sqrt(n)), n // 39), 1)
        subvectors = next(m for m in (32, 16, 8, 4, 2, 1) if width % m == 0 and m <= max(width // 2, 1))
        description = KINDS[kind].description.format(lists=lists, subvectors=subvectors)
        made = faiss.index_factory(width, description, faiss.METRIC_INNER_PRODUCT)
        if not made.is_trained:
            made.cp.seed = 0
            if n > SAMPLE_ABOVE:
                made.cp.niter, made.cp.max_points_per_centroid = 10, 64
            made.train(vectors)
        made.add(vectors)
        return cls(kind, made)

    @classmethod
    def read(cls, path: Path, kind: str, shape: tuple[int, int]) -> ApproximateIndex:
        """Open an index that :meth:`write` wrote.

        Inverted lists stay on disk and are memory-mapped. A graph is read into memory.

        Parameters
        ----------
        path
            File of the index.
        kind
            Expected kind.
        shape
            Expected ``(n_items, n_latent)``.

        Raises
        ------
        ArgumentError
            If the file is not a faiss index of this kind and shape.
        """
        import faiss

        check_choice("index", kind, tuple(KINDS))
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if kind != "hnsw" else 0)
        except RuntimeError as error:
            msg = f"{path.name} is not a faiss index: {error}."
            raise ArgumentError(msg) from error
        expected = KINDS[kind].class_name
        if type(index).__name__ != expected or index.metric_type != faiss.METRIC_INNER_PRODUCT:
            msg = f"{path.name} is a {type(index).__name__}, not the {expected} of {kind!r} by inner product."
            raise ArgumentError(msg)
        if (index.ntotal, index.d) != shape:
            msg = f"{path.name} indexes vectors of shape {(index.ntotal, index.d)}, but {shape} is expected."
            raise ArgumentError(msg)
        return cls(kind, index)

    def write(self, path: Path) -> None:
        """Write the index in faiss' own format."""
        import faiss

        faiss.write_index(_in_memory(self.index), str(path))

    def __getstate__(self) -> dict[str, Any]:
        return {"kind": self.kind, "index": _in_memory(self.index)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def n_items(self) -> int:
        """Number of indexed vectors."""
        return int(self.index.ntotal)

    def search(self, queries: np.ndarray, n_neighbors: int, *, among: np.ndarray | None = None) -> Neighbors:
        """Return the nearest vectors of each query. See :meth:`NeighborIndex.search` for the parameters."""
        import faiss

        among = check_among(among, self.n_items)
        check_neighbors(n_neighbors, self.n_items if among is None else len(among))
        queries = check_queries(queries, self.index.d)
        selector = None if among is None else faiss.IDSelectorBatch(among)
        fraction = 1.0 if among is None else len(among) / self.n_items
        similarity, indices = self.index.search(
            queries, n_neighbors, params=self._parameters(n_neighbors, fraction, selector)
        )
        short = (indices < 0).any(axis=1)
        if short.any():
            # The lists or the graph ended before enough neighbors were found: search everything.
            exhaustive = self._parameters(n_neighbors, 0.0, selector)
            similarity[short], indices[short] = self.index.search(queries[short], n_neighbors, params=exhaustive)
        return Neighbors.from_similarity(similarity, indices)

    def _parameters(self, n_neighbors: int, fraction: float, selector: Any) -> Any:
        """Return faiss' search parameters. The smaller the fraction of searched vectors, the wider the search."""
        import faiss

        def widened(breadth: int, limit: int) -> int:
            return min(math.ceil(breadth / fraction), limit) if fraction else limit

        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(
                efSearch=widened(max(EF_SEARCH, 2 * n_neighbors), self.n_items), sel=selector
            )
        n_lists = self.index.nlist
        return faiss.SearchParametersIVF(nprobe=widened(max(N_PROBES, n_lists // 16), n_lists), sel=selector)


def _in_memory(index: Any) -> Any:
    """Load the inverted lists of an index into memory.

    faiss writes and pickles memory-mapped lists as the path of their file, without their content.
    """
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
