"""Checks of arguments and AnnData. This module imports nothing that takes time."""

from __future__ import annotations

import errno
import numbers
from collections.abc import Collection, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scquery_ae._caller import argument, current, running, slot
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae._slots import Slots

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def is_integer(value: Any) -> bool:
    """Return whether `value` is an integer, of Python or NumPy, and not a boolean."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_several(value: Any) -> bool:
    """Return whether `value` is a collection, and not a text."""
    return isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1) == 1


def check_integer(name: str, value: Any, minimum: int = 1) -> int:
    """Return `value` as an int of at least `minimum`."""
    if not is_integer(value) or value < minimum:
        msg = f"{argument(name)} must be an integer of at least {minimum}. Received {value!r}."
        raise ArgumentError(msg)
    return int(value)


def check_neighbors(n_neighbors: Any, n_items: int) -> int:
    """Return `n_neighbors` as an int from 1 to `n_items`."""
    if check_integer("n_neighbors", n_neighbors) > n_items:
        msg = (
            f"{argument('n_neighbors', n_neighbors)} is more than there are reference cells ({n_items}). "
            f"Ask for at most {n_items}."
        )
        raise ArgumentError(msg)
    return int(n_neighbors)


def check_number(name: str, value: Any, low: float, high: float, *, closed: str = "both") -> float:
    """Return `value` as a float from `low` to `high`; `closed` names the included ends: both, left or neither."""
    opening, closing = ("[" if closed != "neither" else "("), ("]" if closed == "both" else ")")
    inside = (
        not isinstance(value, bool)
        and isinstance(value, numbers.Real)
        and (low <= _float(value) if closed != "neither" else low < _float(value))
        and (_float(value) <= high if closed == "both" else _float(value) < high)
    )
    if not inside:
        msg = f"{argument(name)} must be a number in {opening}{low:g}, {high:g}{closing}. Received {value!r}."
        raise ArgumentError(msg)
    return float(value)


def _float(value: numbers.Real) -> float:
    """Return `value` as a float, NaN if it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return float("nan")


def check_flag(name: str, value: Any) -> bool:
    """Return `value` if it is a boolean."""
    if not isinstance(value, bool | np.bool_):
        msg = f"{argument(name)} must be True or False. Received {value!r}."
        raise ArgumentError(msg)
    return bool(value)


def check_rate(name: str, value: Any) -> float:
    """Return `value` as a float in [0, 1)."""
    return check_number(name, value, 0, 1, closed="left")


def check_range(low_name: str, high_name: str, low: Any, high: Any) -> tuple[float, float]:
    """Return two rates in [0, 1), the first of which must not exceed the second."""
    low, high = check_rate(low_name, low), check_rate(high_name, high)
    if low > high:
        msg = f"{argument(low_name)} must not be above {argument(high_name)}. Received {low:g} and {high:g}."
        raise ArgumentError(msg)
    return low, high


def check_choice(name: str, value: Any, choices: Collection[str], *, optional: bool = False) -> Any:
    """Return `value` if it is one of `choices`, or None if `optional`."""
    if optional and value is None:
        return None
    if not isinstance(value, str) or value not in choices:
        allowed = f"{'None or ' if optional else ''}one of {', '.join(map(repr, choices))}"
        msg = f"{argument(name)} must be {allowed}. Received {value!r}."
        raise ArgumentError(msg)
    return value


def check_text(name: str, value: Any) -> str:
    """Return `value` if it is text."""
    if not isinstance(value, str):
        msg = f"{argument(name)} must be text. Received {value!r} of type {type(value).__name__}."
        raise ArgumentError(msg)
    return value


def check_mapping(name: str, value: Any, meaning: str) -> Mapping[Any, Any]:
    """Return `value` if it is a mapping; `meaning` describes its keys and values."""
    if not isinstance(value, Mapping):
        msg = f"{argument(name)} must map {meaning}. Received {type(value).__name__}; give a dictionary."
        raise ArgumentError(msg)
    return value


def check_slots(key_added: Any) -> Slots:
    """Return the slots under a prefix, if a file can hold such names."""
    if not isinstance(key_added, str) or not key_added or not key_added.isprintable() or "/" in key_added:
        msg = (
            f"{argument('key_added')} must be a prefix for names in a file: text that is not empty and has neither `/` "
            f"nor control characters. Received {key_added!r}."
        )
        raise ArgumentError(msg)
    return Slots(key_added)


def check_path(name: str, value: Any) -> Path:
    """Return `value` as a path that is valid in the file system; nothing need exist there."""
    if isinstance(value, str | PathLike):
        try:
            path = Path(value)
            path.stat()
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
                return path
        except (TypeError, ValueError):  # bytes, a NUL, half a character
            pass
        else:
            return path
    msg = (
        f"{argument(name)} must be a path: text or a `pathlib.Path` that is valid in the file system. "
        f"Received {_short(value)}."
    )
    raise ArgumentError(msg)


def check_folder(name: str, value: Any) -> Path:
    """Return `value` as the path of a folder, which need not exist."""
    path = check_path(name, value)
    if path.exists() and not path.is_dir():
        msg = f"{argument(name)} must be the path of a folder. Received {path}, which is a file."
        raise ArgumentError(msg)
    return path


def check_layer_sizes(layer_sizes: Any) -> tuple[int, ...]:
    """Return `layer_sizes` as a tuple of positive integers."""
    sizes = list(layer_sizes) if isinstance(layer_sizes, Iterable) and not isinstance(layer_sizes, str) else None
    if not sizes or not all(is_integer(size) and size > 0 for size in sizes):
        msg = (
            f"{argument('layer_sizes')} must be a non-empty sequence of positive integers, the widths of the encoder "
            f"layers from the input inwards. Received {layer_sizes!r}; pass for example `(512, 64)`."
        )
        raise ArgumentError(msg)
    return tuple(int(size) for size in sizes)


def check_fraction_range(name: str, value: Any) -> tuple[float, float]:
    """Return a fraction as the range from 0 to it, or a pair of fractions as it is, in [0, 1)."""
    if isinstance(value, tuple | list):
        if len(value) != 2:
            msg = (
                f"{argument(name)} must be a fraction in [0, 1), or a pair of the smallest and the largest. "
                f"Received {value!r}."
            )
            raise ArgumentError(msg)
        return check_range(f"{name}[0]", f"{name}[1]", *value)
    return 0.0, check_rate(name, value)


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert NumPy scalars and arrays to Python types: JSON takes none of them, and Keras not all."""
    return {name: _plain(value) for name, value in settings.items()}


def described(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert settings to plain types, and objects such as a custom corruption to their ``repr``."""
    return {name: _plain(value, as_text=True) for name, value in settings.items()}


def _plain(value: Any, *, as_text: bool = False) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item, as_text=as_text) for item in value]
    return repr(value) if as_text and callable(value) else value


def check_adata(adata: Any, function: str) -> None:
    """Raise unless `adata` is an AnnData with at least one cell and one gene."""
    from anndata import AnnData

    if not isinstance(adata, AnnData):
        msg = (
            f"{running(function)} takes an AnnData as its first argument. Received {type(adata).__name__}; "
            "wrap a matrix as `anndata.AnnData(X, obs=..., var=...)`."
        )
        raise ArgumentError(msg)
    for axis, length in (("cells", adata.n_obs), ("genes", adata.n_vars)):
        if length == 0:
            msg = (
                f"{running(function)} needs at least one cell and one gene. Received shape {adata.shape}: there are "
                f"no {axis}."
            )
            raise ArgumentError(msg)


def check_writable(adata: AnnData, function: str) -> None:
    """Raise if `adata` is a view of a backed AnnData: writing to it would copy the file into memory."""
    if adata.isbacked and adata.is_view:
        msg = (
            f"{running(function)} cannot write to a view of a backed AnnData. Call `adata.to_memory()` on the view "
            "first."
        )
        raise ArgumentError(msg)


def check_obs_key(adata: AnnData, key: str, name: str) -> pd.Series:
    """Return ``adata.obs[key]``; `name` is the argument that names the column."""
    if not isinstance(key, str) or key not in adata.obs.columns:
        msg = (
            f"{argument(name, key)} is not a column of {slot('obs')}. Expected one of {_listed(adata.obs.columns)}; "
            "add the column or name another."
        )
        raise MissingKeyError(msg)
    if list(adata.obs.columns).count(key) > 1:
        msg = f"{argument(name, key)} names more than one column of {slot('obs')}. Rename or drop all but one."
        raise ArgumentError(msg)
    column: pd.Series = adata.obs[key]
    return column


def check_layer(adata: AnnData, layer: str | None) -> Any:
    """Return ``adata.layers[layer]``, or ``adata.X`` for None."""
    if layer is None:
        if adata.X is None:
            msg = (
                f"{slot('X')} is empty. Expected expression values; set {slot('X')} or name a layer with "
                f"{argument('layer')}."
            )
            raise MissingKeyError(msg)
        return adata.X
    # anndata 0.13 lists X among the layers, under None.
    names = [name for name in adata.layers if name is not None]
    if not isinstance(layer, str) or layer not in names:
        msg = (
            f"{argument('layer', layer)} is not in {slot('layers')}. Expected one of {_listed(names)} or "
            f"{current().no_layer()}."
        )
        raise MissingKeyError(msg)
    return adata.layers[layer]


def check_unique(names: Any, what: str, fix: str) -> None:
    """Raise if `names` repeats; `what` names them, and `fix` ends the message."""
    array = np.asarray(names, dtype=object)
    values, counts = np.unique(array.astype(str), return_counts=True)
    repeated = values[counts > 1]
    if len(repeated):
        msg = f"{what} must be unique. Received {len(repeated)} repeated name(s) such as {shown(repeated)}; {fix}"
        raise ArgumentError(msg)


def shown(names: Iterable[Any], limit: int = 5) -> str:
    """Return the first few names, for a message."""
    names = list(names)
    text = ", ".join(repr(str(name)) for name in names[:limit])
    return text + (", ..." if len(names) > limit else "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _listed(names: Iterable[Any]) -> str:
    return shown(names, limit=20) or "(none there)"
