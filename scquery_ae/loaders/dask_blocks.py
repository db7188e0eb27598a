"""Work on the blocks of a Dask matrix where Dask does it: in threads of this process, or on a cluster."""

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
    """What all blocks have in common: sent once, and not with each of them."""

    function: Callable[..., Arrays]
    shared: Any
    cells: GeneColumns

    def on(self, block: Any, *values: np.ndarray) -> Arrays:
        return self.function(self.shared, replace(self.cells, matrix=block), *values)


def map_blocks(
    function: Callable[..., Arrays], cells: GeneColumns, shared: Any, values: np.ndarray | None = None
) -> Arrays:
    """Return what a function gives of all blocks of a Dask matrix, put together in the order of the cells.

    A block is read by the task that works on it, and only the task's result leaves it: no more blocks are in memory
    than tasks run at once. Dask takes its threads, or the cluster of the current ``dask.distributed.Client``, where the
    blocks of a worker that dies are done again by the others.

    Checked first: ``dask.array.map_blocks``, which gives one array, not several, and ``dask.delayed`` on the blocks,
    which reads them in tasks of their own, so that they may travel between workers.

    Parameters
    ----------
    function
        Called as ``function(shared, block)`` with a block of `cells` in memory, or as ``function(shared, block, part)``
        with its part of `values`. Returns arrays with one row a cell, by name. It has to be importable on workers.
    cells
        Over a Dask array with at least one cell.
    shared
        What every block needs, such as the encoder. It travels to a cluster once and from worker to worker.
    values
        What belongs to the cells, ``(n_obs, k)``: each block gets its rows.

    Raises
    ------
    StorageError
        If a worker cannot read a block.
    ScqueryError
        What `function` raises of this package's errors.
    """
    import dask
    import dask.array as da

    # Columns in several blocks are put side by side first.
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
    # Block by block, so that reading and working become one task; what a task returns is not looked at.
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
        # The encoder is large for a graph, and Dask would say so to users who cannot help it.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
            parts = list(dask.compute(*tasks))
    except ScqueryError:
        raise
    except OSError as error:
        msg = (
            f"A block of the cells could not be read where Dask works on it: {error}. "
            "On a cluster, the files of the cells must lie under the same path for every worker."
        )
        raise StorageError(msg) from error
    return {key: joined([part.pop(key) for part in parts]) for key in list(parts[0])}


def _on_block(work: _Work, block: Any, *values: np.ndarray) -> Arrays:
    return work.on(block, *values)


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Return arrays one after the other, letting go of each as it is copied."""
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=parts[0].dtype)
    end = len(whole)
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole
