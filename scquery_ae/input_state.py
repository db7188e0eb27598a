"""What an expression matrix holds, told from its values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from scipy import sparse

from scquery_ae._checks import shown
from scquery_ae._errors import InputStateError

Kind = Literal["counts", "normalized", "log1p", "log2p1", "scaled", "unknown"]

#: Bases of the logarithms that are told apart, and undone.
BASES: dict[Kind, float] = {"log1p": np.e, "log2p1": 2.0}

#: Cells that the decision looks at, spread evenly over the matrix.
SAMPLE = 512

#: Rows of a backed matrix that are checked at once.
BACKED_ROWS = 4096

#: log1p of a million is 13.8 and log2 of it 20: no logged matrix goes above, and counts almost always do.
MAX_LOGGED = 21.0

#: No count, TPM or intensity is as large; sums of squares beyond it leave the range of float32.
LARGEST = 1e15

#: Log-normalised cells, cut to a few hundred genes at random, vary by up to a third in their sums; small fractional
#: counts taken for logarithms vary by more than their mean.
MAX_LOGGED_SPREAD = 0.6

#: Sums of CPM and TPM vary by rounding; those of RPKM by a tenth or so, and of counts by half.
EQUAL_SUMS, ALIKE_SUMS = 0.02, 0.2

#: Share of whole multiples under the right base (nearly all), well above that under a wrong one (a tenth).
MOSTLY_WHOLE = 0.8


@dataclass(frozen=True)
class InputState:
    """The kind of values in a matrix, and why.

    Attributes
    ----------
    kind
        ``"counts"`` (whole, or fractional with sums that differ, as estimated counts and RPKM have them),
        ``"normalized"`` (equal sums, as CPM or TPM, not logged), ``"log1p"`` (natural logarithm of one plus either),
        ``"log2p1"`` (the same to base 2), ``"scaled"`` (with negative values) or ``"unknown"``.
    reason
        What was seen, in words.
    certain
        Whether the reason leaves no other reading.
    """

    kind: Kind
    reason: str
    certain: bool = True


def detect_state(matrix: Any) -> InputState:
    """Tell counts, normalised, logged and scaled values apart, from a sample of the cells.

    Parameters
    ----------
    matrix
        Expression values, ``(n_obs, n_vars)``: dense, sparse, backed or Dask; finite.
    """
    n = matrix.shape[0]
    rows = np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(int))
    sample = sparse.csr_matrix(read_rows(matrix, rows))
    sample.eliminate_zeros()
    values = sample.data
    if not len(values):
        return InputState("counts", "all sampled values are zero")
    if values.min() < 0:
        return InputState("scaled", f"there are negative values (least {values.min():.3g})")
    top = float(values.max())
    if np.all(values == np.round(values)):
        return InputState("counts", f"all values are whole numbers (largest {top:g})")
    if top <= MAX_LOGGED:
        return _logged_state(sample, top)
    spread, sums = _spread_of_sums(sample)
    if spread < EQUAL_SUMS:
        return InputState("normalized", f"values are fractions and every cell sums to about {np.median(sums):.4g}")
    if spread < ALIKE_SUMS:
        reason = f"values are fractions up to {top:.4g}, and sums of cells vary by {spread:.0%} only, as with RPKM"
        return InputState("normalized", reason)
    return InputState(
        "counts", f"values are fractions up to {top:.4g} and cells sum to {sums.min():.4g} to {sums.max():.4g}"
    )


def _logged_state(sample: sparse.csr_matrix, top: float) -> InputState:
    """Tell the base of the logarithm: undone rightly, cells are made of whole multiples, or have equal sums."""
    undone = {name: _undo(sample, base) for name, base in BASES.items()}
    words: dict[Kind, str] = {"log1p": "natural logarithms", "log2p1": "logarithms to base 2"}
    whole = {name: _whole_multiples(matrix) for name, matrix in undone.items()}
    best = max(whole, key=whole.__getitem__)
    if whole[best] > MOSTLY_WHOLE:
        reason = f"values are fractions up to {top:.3g}; as {words[best]}, cells hold whole multiples of their least"
        return InputState(best, reason)
    spreads = {name: _spread_of_sums(matrix)[0] for name, matrix in undone.items()}
    best = min(spreads, key=spreads.__getitem__)
    if spreads[best] < EQUAL_SUMS:
        reason = f"values are fractions up to {top:.3g}; as {words[best]}, the sums of cells are equal once undone"
        return InputState(best, reason)
    spread = spreads["log1p"]
    reason = (
        f"values are fractions and none is above {top:.3g}; with the logarithm undone, sums of cells vary by "
        f"{spread:.0%}"
    )
    if spread >= MAX_LOGGED_SPREAD:
        return InputState("unknown", reason, certain=False)
    return InputState("log1p", reason + ", and the base cannot be told", certain=False)


def _undo(sample: sparse.csr_matrix, base: float) -> sparse.csr_matrix:
    undone = sample.copy()
    undone.data = np.expm1(sample.data.astype(np.float64) * np.log(base))
    return undone


def _whole_multiples(matrix: sparse.csr_matrix) -> float:
    """Return the share of values that are whole multiples of their cell's least, among those well above it.

    A cell's least value is one count nearly always, whatever the counts were scaled by.
    """
    filled = np.flatnonzero(np.diff(matrix.indptr))
    least = np.minimum.reduceat(matrix.data, matrix.indptr[filled]) if len(filled) else np.ones(0)
    ratio = matrix.data / np.repeat(least, np.diff(matrix.indptr)[filled])
    # Above 50, rounding of the stored logarithm and whole numbers can no longer be told apart.
    ratio = ratio[(ratio > 1.5) & (ratio < 50)]
    return float((np.abs(ratio - np.round(ratio)) < 0.02).mean()) if len(ratio) else 0.0


def _spread_of_sums(sample: sparse.csr_matrix) -> tuple[float, np.ndarray]:
    """Return the coefficient of variation of the cells' sums, and those sums that are not zero."""
    sums = np.asarray(sample.sum(axis=1, dtype=np.float64)).ravel()
    sums = sums[sums > 0]
    return float(sums.std() / sums.mean()), sums


def check_expression(matrix: Any, names: Any, function: str) -> tuple[float, float]:
    """Return the lowest and the highest value of a matrix; raise if any is NaN, infinite or not a number.

    Parameters
    ----------
    matrix
        ``(n_obs, n_vars)``: dense, sparse, backed or Dask; the last two are read by chunks.
    names
        Gene names, for the message.
    function
        Name of the public call, for the message.
    """
    if matrix.dtype.kind not in "uifb" or matrix.dtype == np.float16:
        msg = f"`{function}` needs numbers. Received values of type {matrix.dtype}; convert them to float32."
        raise InputStateError(msg)
    if not matrix.dtype.isnative or isinstance(matrix, np.ma.MaskedArray):
        kind = "a masked array" if isinstance(matrix, np.ma.MaskedArray) else f"another byte order ({matrix.dtype})"
        msg = f"`{function}` needs plain numbers. Received {kind}; convert the values to an array of float32."
        raise InputStateError(msg)
    lowest = highest = 0.0
    for low, high, bad, columns in _extremes_of_blocks(matrix):
        if bad:
            genes = np.asarray(names)[columns]
            msg = (
                f"`{function}` needs finite values. Received {bad} NaN or infinite value(s) in genes such "
                f"as {shown(genes)}; remove these genes or cells, or set the values."
            )
            raise InputStateError(msg)
        lowest, highest = min(lowest, low), max(highest, high)
    if max(-lowest, highest) > LARGEST:
        msg = (
            f"`{function}` needs values that can be added up and squared, up to {LARGEST:g}. Received values from "
            f"{lowest:.3g} to {highest:.3g}, which are no expression; look for what they stand for."
        )
        raise InputStateError(msg)
    return lowest, highest


def read_rows(matrix: Any, rows: Any) -> Any:
    """Return some rows of a matrix in memory; those of a Dask array are computed."""
    block = matrix[rows]
    return block.compute() if is_lazy(block) else block


def row_blocks(matrix: Any, size: int) -> Iterator[Any]:
    """Yield all rows of a matrix in order, at most `size` at a time, in memory.

    A Dask array is computed by its own chunks, each once: shorter cuts would compute each chunk several times.
    """
    if is_lazy(matrix):
        bounds = np.concatenate([[0], np.cumsum(matrix.chunks[0])])
        for start, stop in pairwise(bounds):
            yield from row_blocks(read_rows(matrix, slice(int(start), int(stop))), size)
        return
    for start in range(0, matrix.shape[0], size):
        yield matrix[start : start + size]


def is_lazy(matrix: Any) -> bool:
    """Whether a matrix is a Dask array."""
    return hasattr(matrix, "compute")


def in_memory(matrix: Any) -> bool:
    """Whether a matrix is an array or a SciPy matrix: not one backed by a file, and no Dask array."""
    return sparse.issparse(matrix) or isinstance(matrix, np.ndarray)


#: Lowest and highest value of a block, how many are not finite, and the columns that these are in.
Extremes = tuple[float, float, int, np.ndarray]


def _extremes_of_blocks(matrix: Any) -> Iterable[Extremes]:
    if in_memory(matrix):
        return [_extremes(matrix)]
    if not is_lazy(matrix):
        return map(_extremes, row_blocks(matrix, BACKED_ROWS))
    # Where Dask reads the blocks, so that a cluster sends four numbers for each and not the block.
    blocks = matrix.rechunk({1: -1})
    found = blocks.map_blocks(
        _extremes_in_array, dtype=object, meta=np.empty((0, 0), dtype=object), chunks=((1,) * blocks.numblocks[0], (1,))
    )
    return list(found.compute().ravel())


def _extremes(block: Any) -> Extremes:
    values = block.data if sparse.issparse(block) else block
    if values.size == 0:
        return 0.0, 0.0, 0, np.zeros(0, dtype=int)
    low, high = float(values.min()), float(values.max())
    # NaN spreads to the extremes, and infinity is one.
    if np.isfinite(low) and np.isfinite(high):
        return low, high, 0, np.zeros(0, dtype=int)
    bad = ~np.isfinite(values)
    columns = (
        np.unique(sparse.coo_matrix(block).col[bad]) if sparse.issparse(block) else np.flatnonzero(bad.any(axis=0))
    )
    return low, high, int(bad.sum()), columns


def _extremes_in_array(block: Any) -> np.ndarray:
    array = np.empty((1, 1), dtype=object)
    array[0, 0] = _extremes(block)
    return array
