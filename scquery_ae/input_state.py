"""The kind of values in an expression matrix, detected from the values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from scipy import sparse

from scquery_ae._caller import running
from scquery_ae._checks import shown
from scquery_ae._errors import InputStateError

Kind = Literal["counts", "normalized", "log1p", "log2p1", "scaled", "unknown"]

#: Bases of the logarithms that are detected and inverted.
BASES: dict[Kind, float] = {"log1p": np.e, "log2p1": 2.0}

#: Number of cells that detection looks at, spread evenly over the matrix.
SAMPLE = 512

#: Rows of a backed matrix that are read at once.
BACKED_ROWS = 4096

#: log1p of a million is 13.8, and its log2 is 20: no logged matrix exceeds this value, and counts almost always do.
MAX_LOGGED = 21.0

#: No count, TPM or intensity is as large, and sums of squares of larger values exceed the range of float32.
LARGEST = 1e15

#: Coefficient of variation of the sums of cells. Log-normalised cells with a random few hundred genes reach a third;
#: small fractional counts that are mistaken for logarithms exceed one.
MAX_LOGGED_SPREAD = 0.6

#: Coefficient of variation of the sums of cells: rounding only for CPM and TPM, about .1 for RPKM, .5 for counts.
EQUAL_SUMS, ALIKE_SUMS = 0.02, 0.2

#: Fraction of whole multiples: nearly one under the right base, about .1 under a wrong one.
MOSTLY_WHOLE = 0.8


@dataclass(frozen=True)
class InputState:
    """The kind of values in a matrix, and the reason for it.

    Attributes
    ----------
    kind
        ``"counts"`` (whole numbers, or fractions whose sums differ between cells, as in estimated counts),
        ``"normalized"`` (similar sums, as in CPM, TPM and RPKM, not logged), ``"log1p"`` (natural logarithm of one plus
        either), ``"log2p1"`` (the same to base 2), ``"scaled"`` (with negative values) or ``"unknown"``.
    reason
        The observation that decided, in words.
    certain
        Whether the values allow no other kind.
    """

    kind: Kind
    reason: str
    certain: bool = True


def detect_state(matrix: Any) -> InputState:
    """Detect whether a matrix holds counts, normalised, logged or scaled values, from a sample of the cells.

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
        return InputState("scaled", f"there are negative values (smallest {values.min():.3g})")
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
    """Detect the base of the logarithm: inverting the right one gives whole multiples, or equal sums."""
    undone = {name: _undo(sample, base) for name, base in BASES.items()}
    words: dict[Kind, str] = {"log1p": "natural logarithms", "log2p1": "logarithms to base 2"}
    whole = {name: _whole_multiples(matrix) for name, matrix in undone.items()}
    best = max(whole, key=whole.__getitem__)
    if whole[best] > MOSTLY_WHOLE:
        reason = (
            f"values are fractions up to {top:.3g}; as {words[best]}, the values of a cell are whole multiples of its "
            "smallest"
        )
        return InputState(best, reason)
    spreads = {name: _spread_of_sums(matrix)[0] for name, matrix in undone.items()}
    best = min(spreads, key=spreads.__getitem__)
    if spreads[best] < EQUAL_SUMS:
        reason = f"values are fractions up to {top:.3g}; inverted as {words[best]}, all cells have the same sum"
        return InputState(best, reason)
    spread = spreads["log1p"]
    reason = (
        f"values are fractions and none is above {top:.3g}; with the logarithm inverted, the sums of cells vary by "
        f"{spread:.0%}"
    )
    if spread >= MAX_LOGGED_SPREAD:
        return InputState("unknown", reason, certain=False)
    return InputState("log1p", reason + ", so the base of the logarithm is uncertain", certain=False)


def _undo(sample: sparse.csr_matrix, base: float) -> sparse.csr_matrix:
    undone = sample.copy()
    undone.data = np.expm1(sample.data.astype(np.float64) * np.log(base))
    return undone


def _whole_multiples(matrix: sparse.csr_matrix) -> float:
    """Return the fraction of values that are whole multiples of the smallest value of their cell.

    The smallest value is nearly always one count, whatever the counts were scaled by.
    """
    filled = np.flatnonzero(np.diff(matrix.indptr))
    least = np.minimum.reduceat(matrix.data, matrix.indptr[filled]) if len(filled) else np.ones(0)
    ratio = matrix.data / np.repeat(least, np.diff(matrix.indptr)[filled])
    # Above 50, rounding of the stored logarithm hides whether a multiple is whole.
    ratio = ratio[(ratio > 1.5) & (ratio < 50)]
    return float((np.abs(ratio - np.round(ratio)) < 0.02).mean()) if len(ratio) else 0.0


def _spread_of_sums(sample: sparse.csr_matrix) -> tuple[float, np.ndarray]:
    """Return the coefficient of variation of the sums of cells, and the sums that are not zero."""
    sums = np.asarray(sample.sum(axis=1, dtype=np.float64)).ravel()
    sums = sums[sums > 0]
    return float(sums.std() / sums.mean()), sums


def check_expression(matrix: Any, names: Any, function: str) -> tuple[float, float]:
    """Return the smallest and the largest value of a matrix; raise if a value is NaN, infinite or not a number.

    Parameters
    ----------
    matrix
        ``(n_obs, n_vars)``: dense, sparse, backed or Dask. The last two are read in blocks.
    names
        Gene names, for the message.
    function
        Name of the public call, for the message.
    """
    if matrix.dtype.kind not in "uifb" or matrix.dtype == np.float16:
        msg = f"{running(function)} needs numbers. Received values of type {matrix.dtype}; convert them to float32."
        raise InputStateError(msg)
    if not matrix.dtype.isnative or isinstance(matrix, np.ma.MaskedArray):
        kind = "a masked array" if isinstance(matrix, np.ma.MaskedArray) else f"another byte order ({matrix.dtype})"
        msg = f"{running(function)} needs plain numbers. Received {kind}; convert the values to an array of float32."
        raise InputStateError(msg)
    lowest = highest = 0.0
    for low, high, bad, columns in _extremes_of_blocks(matrix):
        if bad:
            genes = np.asarray(names)[columns]
            msg = (
                f"{running(function)} needs finite values. Received {bad} NaN or infinite value(s) in genes such "
                f"as {shown(genes)}; remove these genes or cells, or set the values."
            )
            raise InputStateError(msg)
        lowest, highest = min(lowest, low), max(highest, high)
    if max(-lowest, highest) > LARGEST:
        msg = (
            f"{running(function)} needs expression values up to {LARGEST:g}. Received values from {lowest:.3g} to "
            f"{highest:.3g}; check what the matrix holds."
        )
        raise InputStateError(msg)
    return lowest, highest


def read_rows(matrix: Any, rows: Any) -> Any:
    """Return rows of a matrix in memory; rows of a Dask array are computed."""
    block = matrix[rows]
    return block.compute() if is_lazy(block) else block


def row_blocks(matrix: Any, size: int) -> Iterator[Any]:
    """Yield all rows of a matrix in order, at most `size` at a time, in memory.

    Each chunk of a Dask array is computed once: shorter slices would compute it several times.
    """
    if is_lazy(matrix):
        bounds = np.concatenate([[0], np.cumsum(matrix.chunks[0])])
        for start, stop in pairwise(bounds):
            yield from row_blocks(read_rows(matrix, slice(int(start), int(stop))), size)
        return
    for start in range(0, matrix.shape[0], size):
        yield matrix[start : start + size]


def is_lazy(matrix: Any) -> bool:
    """Return whether a matrix is a Dask array."""
    return hasattr(matrix, "compute")


def in_memory(matrix: Any) -> bool:
    """Return whether a matrix is a NumPy array or a SciPy matrix, and neither backed nor a Dask array."""
    return sparse.issparse(matrix) or isinstance(matrix, np.ndarray)


#: Smallest and largest value of a block, number of values that are not finite, and the columns with such values.
Extremes = tuple[float, float, int, np.ndarray]


def _extremes_of_blocks(matrix: Any) -> Iterable[Extremes]:
    if in_memory(matrix):
        return [_extremes(matrix)]
    if not is_lazy(matrix):
        return map(_extremes, row_blocks(matrix, BACKED_ROWS))
    # Dask computes this where it reads the blocks, so that a cluster sends four numbers per block, not the block.
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
    # A NaN makes the extremes NaN, and infinity is an extreme.
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
