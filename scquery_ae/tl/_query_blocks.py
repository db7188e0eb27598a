"""What a reference says about cells, block by block; those of a Dask matrix are asked where Dask works on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd

from scquery_ae._errors import BundleError
from scquery_ae._logging import logger
from scquery_ae.input_state import is_lazy
from scquery_ae.loaders import GeneColumns
from scquery_ae.loaders.dask_blocks import map_blocks
from scquery_ae.reference import Annotation, EmbeddedCells, Reference, SearchFilter, digest

#: Cells that are embedded and annotated at once: numbers of each type for all cells may be gigabytes.
CELLS = 65_536

_OPENING = Lock()


class NotThereError(BundleError):
    """A worker has no such reference under the path that it was given."""


class SavedReference:
    """A reference that travels as its path and hash, and is opened once in each process that asks it.

    Attributes
    ----------
    path
        Where it is saved.
    sha256
        Its :func:`scquery_ae.reference.digest`.
    """

    def __init__(self, path: Path, sha256: str, loaded: Reference | None = None) -> None:
        self.path, self.sha256 = path, sha256
        self._loaded = loaded

    def __reduce__(self) -> tuple[type[SavedReference], tuple[Path, str]]:
        return SavedReference, (self.path, self.sha256)

    def open(self) -> Reference:
        """Return the reference; its embedding is memory-mapped.

        Raises
        ------
        NotThereError
            If there is no reference under the path, or another one.
        """
        if self._loaded is not None:
            return self._loaded
        # The threads of a worker wait for the first of them.
        with _OPENING:
            return _opened(self.path, self.sha256)


@lru_cache(maxsize=1)
def _opened(path: Path, sha256: str) -> Reference:
    try:
        reference = Reference.load(path)
        if digest(path) == sha256:
            return _ready(reference)
        reason = "it is another one by now"
    except (BundleError, OSError) as error:
        reason = str(error)
    msg = f"The reference {path} cannot be opened where Dask works: {reason}"
    raise NotThereError(msg)


def _ready(reference: Reference) -> Reference:
    """Return the reference, with made what threads would otherwise make at the same time."""
    _ = reference.search_index, reference.centroids
    return reference


@dataclass
class Answers:
    """What a query keeps of each cell: what it writes, and no more.

    Attributes
    ----------
    latent
        Unit-length embeddings, float32 ``(n, n_latent)``.
    seen
        Whether a cell has a count in the model genes, bool ``(n,)``: nothing is known of one that has none.
    labels
        Most probable type, int32 ``(n,)``, a position in the reference's types; -1 for a cell that was not seen.
    confidence
        Its probability, float32 ``(n,)``; 0 for a cell that was not seen.
    pvalues
        Of being an ordinary cell of the type near which its embedding lies, float64 ``(n,)``, since one may equal an error
        rate; 0 for a cell that was not seen.
    novelty
        What the p-values are made of, float32 ``(n,)``, larger is stranger; NaN for a cell that was not seen.
    prediction_sets
        Types that cannot be ruled out, likeliest first, object ``(n,)``: tuples of positions, one for all cells of a
        block that have the same.
    indices, distances
        The nearest reference cells, int64 and float32 ``(n, n_neighbors)``.
    """

    latent: np.ndarray
    seen: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    pvalues: np.ndarray
    novelty: np.ndarray
    prediction_sets: np.ndarray
    indices: np.ndarray
    distances: np.ndarray

    @classmethod
    def empty(cls, n: int, n_latent: int, n_neighbors: int) -> Answers:
        """Return arrays for `n` cells, to be filled."""
        return cls(
            latent=np.empty((n, n_latent), dtype=np.float32),
            seen=np.empty(n, dtype=bool),
            labels=np.empty(n, dtype=np.int32),
            confidence=np.empty(n, dtype=np.float32),
            pvalues=np.empty(n, dtype=np.float64),
            novelty=np.empty(n, dtype=np.float32),
            prediction_sets=np.empty(n, dtype=object),
            indices=np.empty((n, n_neighbors), dtype=np.int64),
            distances=np.empty((n, n_neighbors), dtype=np.float32),
        )

    def write(self, start: int, cells: EmbeddedCells, found: Annotation) -> None:
        """Fill in what was found of some cells, from row `start` on."""
        rows = slice(start, start + len(cells.totals))
        seen = cells.totals > 0
        self.latent[rows] = cells.latent
        self.seen[rows] = seen
        self.labels[rows] = np.where(seen, found.labels, -1)
        self.confidence[rows] = np.where(seen, found.probabilities.max(axis=1), 0)
        self.pvalues[rows] = np.where(seen, found.pvalues, 0)
        self.novelty[rows] = np.where(seen, found.novelty, np.nan)
        self.prediction_sets[rows] = _ordered_sets(found)
        self.indices[rows] = found.neighbors.indices
        self.distances[rows] = found.neighbors.distances


def _ordered_sets(found: Annotation) -> np.ndarray:
    """Return the members of each prediction set, likeliest first, object ``(n,)``."""
    sizes = found.prediction_sets.sum(axis=1)
    # Members are a prefix of the order, since a set holds all types above a threshold. In single precision, for what
    # differs by rounding is not ordered by it.
    order = np.argsort(-found.probabilities.astype(np.float32), axis=1, kind="stable")[:, : sizes.max(initial=0)]
    members = np.where(np.arange(order.shape[1]) < sizes[:, None], order, -1)
    # Few distinct sets occur.
    distinct, which = np.unique(members, axis=0, return_inverse=True)
    sets = np.empty(len(distinct), dtype=object)
    sets[:] = [tuple(row[row >= 0].tolist()) for row in distinct]
    return sets[which.ravel()]


def ask(
    reference: Reference,
    source: Reference | str | PathLike[str],
    sha256: str,
    cells: GeneColumns,
    *,
    n_neighbors: int,
    coverage: float,
    rules: SearchFilter,
) -> Answers:
    """Embed some cells and return what a reference says about them.

    Parameters
    ----------
    reference
        The reference.
    source, sha256
        Where it came from: itself, or its path with its hash, which is all that a cluster then gets of it.
    cells
        Counts of its genes.
    n_neighbors, coverage, rules
        As for :meth:`Reference.annotate`.
    """
    answers = Answers.empty(cells.shape[0], reference.encoder.n_latent, n_neighbors)
    if not is_lazy(cells.matrix):
        _fill(answers, 0, reference, cells, n_neighbors, coverage, rules)
        return answers
    own, distinct = _numbered(cells.shape[0], rules.excluded)
    question = _Question(n_neighbors, coverage, replace(rules, excluded=distinct), answers, cells.matrix.numblocks[0])
    _ready(reference)
    if isinstance(source, Reference):
        sent = map_blocks(question, cells, reference, own)
    else:
        try:
            sent = map_blocks(question, cells, SavedReference(Path(source).absolute(), sha256, reference), own)
        except NotThereError as error:
            logger.debug("%s; it is sent to the workers", error)
            sent = map_blocks(question, cells, reference, own)
    return Answers(**sent) if sent else answers


def _numbered(n: int, excluded: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return what blocks have to know of their own cells, int64 ``(n, 1 + n_columns)``, and what it stands for.

    That is the row, and for each column to exclude which of its distinct values. Missing ones are -1: the last, None.
    """
    own, distinct = np.empty((n, 1 + len(excluded)), dtype=np.int64), {}
    own[:, 0] = np.arange(n)
    for i, (key, values) in enumerate(excluded.items(), start=1):
        # As text, which is what is compared: 1 and True are the same value otherwise.
        own[:, i], text = pd.factorize(pd.Series(values, dtype=object).map(str, na_action="ignore"))
        distinct[key] = np.array([*text, None], dtype=object)
    return own, distinct


@dataclass(frozen=True)
class _Question:
    """What is asked about every block of a Dask array.

    Attributes
    ----------
    n_neighbors, coverage
        As for :meth:`Reference.annotate`.
    rules
        The same, with the distinct values of each column to exclude.
    answers
        Where the answers about all cells go. They stay in this process: its threads write to them, so that no answer is
        held twice; from other processes answers are sent back.
    n_blocks
        How many there are.
    """

    n_neighbors: int
    coverage: float
    rules: SearchFilter
    answers: Answers | None
    n_blocks: int

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "answers": None}

    def __call__(
        self, reference: Reference | SavedReference, cells: GeneColumns, own: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Answer for one block, with its part of :func:`_numbered`; return what is to be sent back, by name."""
        opened = reference.open() if isinstance(reference, SavedReference) else reference
        numbers = zip(self.rules.excluded.items(), own[:, 1:].T, strict=True)
        excluded = {key: distinct[which] for (key, distinct), which in numbers}
        asked = (opened, cells, self.n_neighbors, self.coverage, replace(self.rules, excluded=excluded))
        if self.answers is not None:
            with _few_threads(self.n_blocks):
                _fill(self.answers, own[0, 0], *asked)
            return {}
        answers = Answers.empty(len(own), opened.encoder.n_latent, self.n_neighbors)
        _fill(answers, 0, *asked)
        return vars(answers)


@contextmanager
def _few_threads(n_blocks: int) -> Iterator[None]:
    """Let the searches of this thread alone use its share of faiss' threads: those of other blocks use theirs."""
    import faiss

    most = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(max(most // n_blocks, 1))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(most)


def _fill(
    answers: Answers,
    start: int,
    reference: Reference,
    cells: GeneColumns,
    n_neighbors: int,
    coverage: float,
    rules: SearchFilter,
) -> None:
    """Ask about cells that are not a Dask array, and write the answers from row `start` on."""
    done = 0
    for embedded in reference.embed_blocks(cells, CELLS):
        rows = slice(done, done + len(embedded.totals))
        own = replace(rules, excluded={key: values[rows] for key, values in rules.excluded.items()})
        found = reference.annotate(embedded, n_neighbors=n_neighbors, coverage=coverage, rules=own, share=cells.share)
        answers.write(start + done, embedded, found)
        done = rows.stop
