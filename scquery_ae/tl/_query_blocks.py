"""What a reference says about the blocks of a Dask matrix, each asked where Dask works on it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from os import PathLike
from pathlib import Path
from threading import Lock

import numpy as np

from scquery_ae._errors import BundleError
from scquery_ae._logging import logger
from scquery_ae.index import Neighbors
from scquery_ae.input_state import is_lazy
from scquery_ae.loaders import GeneColumns
from scquery_ae.loaders.dask_blocks import joined, map_blocks
from scquery_ae.reference import Annotation, EmbeddedCells, Reference, SearchFilter, digest

#: Cells that are annotated, and their label sets put in order, at once: numbers of each type for all cells may be
#: gigabytes.
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


def ask(
    reference: Reference,
    source: Reference | str | PathLike[str],
    sha256: str,
    cells: GeneColumns,
    *,
    n_neighbors: int,
    coverage: float,
    rules: SearchFilter,
) -> tuple[EmbeddedCells, Annotation]:
    """Embed some cells and return them with what a reference says about them; of a Dask array block by block.

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

    Returns
    -------
    The cells, of a Dask array without their principal components, and the annotation.
    """
    if not is_lazy(cells.matrix):
        embedded = reference.embed(cells)
        parts = []
        for start in range(0, max(cells.shape[0], 1), CELLS):
            rows = slice(start, start + CELLS)
            own = replace(rules, excluded={key: values[rows] for key, values in rules.excluded.items()})
            parts.append(
                _kept(reference.annotate(embedded[rows], n_neighbors=n_neighbors, coverage=coverage, rules=own))
            )
        return embedded, _annotation(reference, {key: joined([part.pop(key) for part in parts]) for key in [*parts[0]]})
    excluded = np.column_stack(list(rules.excluded.values())) if rules.excluded else None
    function = partial(_ask_block, n_neighbors, coverage, replace(rules, excluded={}), tuple(rules.excluded))
    _ready(reference)
    if isinstance(source, Reference):
        found = map_blocks(function, cells, reference, excluded)
    else:
        try:
            found = map_blocks(function, cells, SavedReference(Path(source).absolute(), sha256, reference), excluded)
        except NotThereError as error:
            logger.info("%s; it is sent to the workers", error)
            found = map_blocks(function, cells, reference, excluded)
    embedded = EmbeddedCells(found.pop("codes"), np.empty((cells.shape[0], 0), np.float32), found.pop("totals"))
    return embedded, _annotation(reference, found)


def _ask_block(
    n_neighbors: int,
    coverage: float,
    rules: SearchFilter,
    columns: tuple[str, ...],
    reference: Reference | SavedReference,
    cells: GeneColumns,
    excluded: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Return what is kept of one block, by name; `excluded` has the block's values of the columns."""
    if excluded is not None:
        rules = replace(rules, excluded=dict(zip(columns, excluded.T, strict=True)))
    opened = reference.open() if isinstance(reference, SavedReference) else reference
    embedded, found = ask(opened, opened, "", cells, n_neighbors=n_neighbors, coverage=coverage, rules=rules)
    return {"codes": embedded.codes, "totals": embedded.totals, **_kept(found)}


def _kept(found: Annotation) -> dict[str, np.ndarray]:
    """Return the arrays of an annotation by name."""
    return {
        "labels": found.labels,
        # Half of the bytes of what grows most with the query.
        "probabilities": found.probabilities.astype(np.float32),
        "pvalues": found.pvalues,
        "strangeness": found.strangeness,
        "label_sets": found.label_sets,
        "indices": found.neighbors.indices,
        "distances": found.neighbors.distances,
    }


def _annotation(reference: Reference, kept: dict[str, np.ndarray]) -> Annotation:
    """Return the annotation of such arrays."""
    neighbors = Neighbors(kept.pop("indices"), kept.pop("distances"))
    return Annotation(reference.types, neighbors=neighbors, **kept)
