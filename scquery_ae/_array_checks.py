"""Checks of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from scquery_ae._checks import check_integer, check_number
from scquery_ae._errors import ArgumentError


def check_array(
    name: str, value: Any, shape: tuple[int | None, ...] | None = None, *, whole: bool = False, finite: bool = False
) -> np.ndarray:
    """Return `value` as an array of real numbers.

    Parameters
    ----------
    shape
        Expected shape, with None for any length; None for any shape.
    whole
        Accept integers only.
    finite
        Accept only values that float32 can hold.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # ragged
        array = np.empty(0, dtype=object)
    fits = array.dtype.kind in ("iu" if whole and array.size else "biuf") and array.dtype.type is not np.longdouble
    fits = fits and (
        shape is None
        or (len(shape) == array.ndim and all(want in (None, n) for want, n in zip(shape, array.shape, strict=True)))
    )
    if fits and finite and array.size and array.dtype.kind == "f":
        # Comparisons with NaN are false. This makes no copy, since the array may be a whole embedding.
        limit = np.finfo(np.float32).max
        fits = bool(array.min() >= -limit and array.max() <= limit)
    if not fits:
        lengths = "" if shape is None else f" of shape ({', '.join('n' if n is None else str(n) for n in shape)})"
        kind = "whole" if whole else "finite" if finite else "real"
        msg = (
            f"`{name}` must be an array of {kind} numbers{lengths}. "
            f"Received {type(value).__name__} with values of type {array.dtype} and shape {array.shape}."
        )
        raise ArgumentError(msg)
    return array


def check_n_types(n_types: Any) -> int:
    """Return a number of types that is small enough for arrays."""
    return int(check_number("n_types", check_integer("n_types", n_types), 1, 1e7))


def check_labels(name: str, value: Any, shape: tuple[int | None, ...], n_types: Any) -> np.ndarray:
    """Return label codes, integers from -1 (no label) to `n_types` - 1."""
    check_n_types(n_types)
    labels = check_array(name, value, shape, whole=True).astype(np.int64)
    if labels.size and not -1 <= labels.min() <= labels.max() < n_types:
        msg = (
            f"`{name}` must be positions among the {n_types} types, or -1 for none. "
            f"Received values from {labels.min()} to {labels.max()}."
        )
        raise ArgumentError(msg)
    return labels


def check_margin(margin: Any) -> np.ndarray:
    """Return a margin as a float64 scalar or square matrix."""
    try:
        array = np.asarray(margin, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.full(1, np.nan)
    if array.ndim not in (0, 2) or len(set(array.shape)) > 1 or not (np.isfinite(array) & (array >= 0)).all():
        msg = (
            "`margin` must be a number of at least 0, or a square matrix of such, one for each pair of types. "
            f"Received {margin!r}."
        )
        raise ArgumentError(msg)
    return array
