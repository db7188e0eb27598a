"""The state of values and files, to compare them before and after a call."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse


def state(value: Any) -> Any:
    """Return the content of a value, with types and dtypes, in a form that ``==`` compares."""
    if isinstance(value, anndata.AnnData):
        # A backed X is compared with the other files.
        slots = (*(() if value.isbacked else ("X",)), "obs", "var", "obsm", "varm", "obsp", "uns")
        # anndata 0.13 lists X among the layers, under None.
        layers = {key: state(layer) for key, layer in value.layers.items() if key is not None}
        return (value.is_view, value.isbacked, layers, *(state(getattr(value, slot)) for slot in slots))
    if sparse.issparse(value):
        if value.format in ("csr", "csc"):
            return (type(value), value.shape, state(value.data), state(value.indices), state(value.indptr))
        coo = value.tocoo()
        return (type(value), value.shape, state(coo.data), state(coo.row), state(coo.col))
    if isinstance(value, np.ndarray):
        content = repr(value.tolist()) if value.dtype.hasobject else value.tobytes()
        return (type(value), value.dtype.str, value.shape, content)
    if isinstance(value, pd.DataFrame):
        columns = [state(value.iloc[:, i]) for i in range(value.shape[1])]
        return (repr(list(value.columns)), columns, state(value.index), repr(value.attrs))
    if isinstance(value, pd.Series | pd.Index):
        if isinstance(value.dtype, pd.CategoricalDtype):
            held = value.cat if isinstance(value, pd.Series) else value
            return (type(value), state(np.asarray(held.codes)), state(held.categories), value.dtype.ordered)
        return (type(value), str(value.dtype), repr(value.tolist()))
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return (type(value), [(repr(key), state(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return (type(value), [state(item) for item in value])
    if is_dataclass(value) and not isinstance(value, type):
        # A search index can be built when it is first needed.
        kept = [part.name for part in fields(value) if part.name != "index"]
        return (type(value), [(name, state(getattr(value, name))) for name in kept])
    return (type(value), repr(value))


def files(folder: Path) -> dict[str, str]:
    """Return the type and hash of each file and directory in a folder, by relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_dir():
            found[name] = "directory"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
