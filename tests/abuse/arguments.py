"""Bad arguments: values of another type, also in dictionaries, and damaged encoders."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

import scquery_ae as scq
from abuse.world import Draft

#: Values that hardly any argument accepts, by name.
BAD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "empty text": lambda: "",
    "unknown text": lambda: "no such thing",
    "long text": lambda: "x" * 5000,
    "text with NUL": lambda: "a\0b",
    "path upwards": lambda: "../../x",
    "newline": lambda: "a\nb",
    "right-to-left": lambda: "\u202eevil\u202c",
    "lone surrogate": lambda: "\ud800",
    "number as text": lambda: "3",
    "bytes": lambda: b"bytes",
    "empty list": list,
    "list": lambda: [1, 2],
    "list of text": lambda: ["cell_type", "batch"],
    "nested list": lambda: [[1], [2, 3]],
    "list of None": lambda: [None],
    "empty tuple": tuple,
    "pair": lambda: (0.9, 0.1),
    "empty dict": dict,
    "dict": lambda: {"a": 1},
    "dict of None": lambda: {None: None},
    "dict of lists": lambda: {"batch": [[1], 2]},
    "dict of objects": lambda: {object(): object()},
    "set": lambda: {1, 2},
    "object": object,
    "class": lambda: int,
    "function": lambda: len,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-inf": lambda: float("-inf"),
    "-1": lambda: -1,
    "0": lambda: 0,
    "1": lambda: 1,
    "2.5": lambda: 2.5,
    "10**30": lambda: 10**30,
    "-10**30": lambda: -(10**30),
    "10**400": lambda: 10**400,
    "1e300": lambda: 1e300,
    "5e-324": lambda: 5e-324,
    "True": lambda: True,
    "False": lambda: False,
    "complex": lambda: 1j,
    "Decimal": lambda: Decimal("0.5"),
    "Decimal NaN": lambda: Decimal("NaN"),
    "Fraction": lambda: Fraction(1, 3),
    "float32": lambda: np.float32(0.5),
    "int64": lambda: np.int64(3),
    "NumPy bool": lambda: np.bool_(True),
    "NumPy text": lambda: np.str_("no such thing"),
    "NaT": lambda: np.datetime64("NaT"),
    "pandas NA": lambda: pd.NA,
    "array": lambda: np.array([1.0, 2.0]),
    "array of text": lambda: np.array(["a", "b"]),
    "array of objects": lambda: np.array([None, "a", 1], dtype=object),
    "empty array": lambda: np.zeros(0),
    "0-d array": lambda: np.array(3),
    "matrix": lambda: np.ones((2, 3)),
    "ragged shape": lambda: np.ones((2, 0, 3)),
    "Series": lambda: pd.Series([1.0, 2.0]),
    "DataFrame": lambda: pd.DataFrame({"a": [1.0]}),
    "DataFrame of text": lambda: pd.DataFrame({"similarity": ["a"], "distance": [None]}),
    "sparse": lambda: sparse.csr_matrix(np.eye(2)),
    "AnnData": lambda: anndata.AnnData(np.ones((2, 2), np.float32)),
    "path": lambda: Path("nowhere"),
    "directory": Path.cwd,
    "iterator": lambda: iter([1, 2]),
    "range": lambda: range(3),
}


def mutate_argument(draft: Draft) -> str:
    """Replace an argument by a value of another type."""
    names = [
        name
        for name, parameter in inspect.signature(draft.function).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and name not in draft.fixed
    ]
    name, kind = draft.pick(names), draft.pick(BAD)
    draft.arguments[name] = BAD[kind]()
    return f"{name}={kind}"


def mutate_mapping(draft: Draft) -> str:
    """Change a key or a value of a dictionary among the arguments."""
    name = draft.pick(draft.named(dict))
    mapping = dict(draft.arguments[name])
    key = draft.pick(mapping) if mapping else "key"
    kind = draft.pick(BAD)
    value = BAD[kind]()
    if draft.rng.random() < 0.3 and _hashable(value):
        mapping[value] = mapping.pop(key, None)
        draft.arguments[name] = mapping
        return f"{name}: the key {kind}"
    mapping[key] = value
    draft.arguments[name] = mapping
    return f"{name}[{key!r}]={kind}"


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def mutate_owner(draft: Draft) -> str:
    """Change a field of an encoder or a reference among the arguments, as a user could."""
    name = draft.pick(draft.named(scq.Encoder))
    encoder = copy.deepcopy(draft.arguments[name])
    kinds: dict[str, Callable[[], object]] = {
        "no classifier": lambda: setattr(encoder, "classifier", None),
        "no pretrained layers": lambda: setattr(encoder, "pretrained", None),
        "no parameters": encoder.parameters.clear,
        "no history": encoder.history.clear,
        "empty history": lambda: encoder.history.update(pretrain=[], finetune={}),
        "history with NaN": lambda: encoder.history.update(finetune={"loss": [np.nan], "val_loss": [np.nan]}),
        "history of text": lambda: encoder.history.update(finetune={"loss": ["a"]}),
        "history of another kind": lambda: encoder.history.update(pretrain=3),
    }
    kind = draft.pick(kinds)
    kinds[kind]()
    draft.arguments[name] = encoder
    return f"{name}: {kind}"
