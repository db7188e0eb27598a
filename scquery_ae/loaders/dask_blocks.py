"""Functions applied to the blocks of a Dask matrix, in threads of this process or on a cluster."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scquery_ae._errors import ScqueryError, StorageError
from scquery_ae.loaders.cells import GeneColumns

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Work:
    """Arguments that are the same for all blocks. They are sent once, not with each block."""

    function: Callable[..., Arrays]
    shared: Any
    cells: GeneColumns

    def on(self, block: Any, *values: np.ndarray) -> Arrays:
        return self.function(self.shared, replace(self.cells, matrix=block), *values)


def map_blocks(
    function: Callable[..., Arrays], cells: GeneColumns, shared: Any, values: np.ndarray | None = None
) -> Arrays:
    """Apply a function to all blocks of a Dask matrix, and join its results in the order of the cells.

    The task that works on a block reads it, and only its result leaves the task: memory holds one block per running
    task. Dask uses its threads, or the cluster of the current ``dask.distributed.Client``. If a worker dies, others
    repeat its blocks.

    Checked first: ``dask.array.map_blocks``, which returns one array, not several, and ``dask.delayed`` on the blocks,
    which reads them in separate tasks, so that blocks may travel between workers.

    Parameters
    ----------
    function
        Called as ``function(shared, block)`` with a block of `cells` in memory, or as ``function(shared, block, part)``
        with the rows of `values`. Returns arrays with one row per cell, by name. Workers must be able to import it.
    cells
        Cells of a Dask array, at least one.
    shared
        An object that every block needs, such as the encoder. It is sent to a cluster once.
    values
        Values of the cells, ``(n_obs, k)``. Each block gets its rows.

    Raises
    ------
    StorageError
        If a worker cannot read a block.
    ScqueryError
        If `function` raises one.
    """
    import dask
    import dask.array as da

    # A block must have all columns.
    matrix = cells.matrix.rechunk({1: -1})
    rows = matrix.chunks[0]
    name = uuid.uuid4().hex
    work = dask.delayed(
        _Work(function, shared, replace(cells, matrix=None)), name=f"scquery_ae-work-{name}", traverse=False
    )
    arrays = [matrix, "ij"]
    if values is not None:
        arrays += [da.from_array(values, chunks=(rows, values.shape[1]), name=False), "ik"]
    index = "ij" if values is None else "ijk"
    # `blockwise` fuses reading and working into one task. Dask does not look at what the task returns.
    blocks = da.blockwise(
        _on_block,
        index,
        work,
        None,
        *arrays,
        name=f"scquery_ae-blocks-{name}",
        dtype=object,
        meta=np.empty((0,) * len(index), dtype=object),
        adjust_chunks=dict.fromkeys(index, lambda _: 1),
    )
    tasks = [task for task, n in zip(blocks.to_delayed().ravel(), rows, strict=True) if n]
    try:
        # Dask warns that the encoder is large for a graph, which users cannot change.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
            parts = list(dask.compute(*tasks))
    except ScqueryError:
        raise
    except OSError as error:
        msg = (
            f"Dask could not read a block of the cells: {error}. "
            "On a cluster, every worker must find the files of the cells under the same path."
        )
        raise StorageError(msg) from error
    return {key: joined([part.pop(key) for part in parts]) for key in list(parts[0])}


def _on_block(work: _Work, block: Any, *values: np.ndarray) -> Arrays:
    return work.on(block, *values)


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenate arrays, releasing each once it is copied."""
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=parts[0].dtype)
    end = len(whole)
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole
