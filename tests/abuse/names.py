"""Bad names and annotation of cells and genes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from abuse.arguments import BAD
from abuse.world import Draft

NAMES: dict[str, Callable[[int], Any]] = {
    "all the same": lambda n: ["same"] * n,
    "one repeated": lambda n: ["a0", *[f"a{i}" for i in range(n - 1)]],
    "empty": lambda n: [""] * n,
    "long": lambda n: [f"{'long' * 500}{i}" for i in range(n)],
    "right-to-left": lambda n: [f"\u202e\u05d0{i}" for i in range(n)],
    "astral": lambda n: [f"\U0001d518\u0301{i}" for i in range(n)],
    "NUL": lambda n: [f"a\0{i}" for i in range(n)],
    "newlines": lambda n: [f"a\n\t{i}" for i in range(n)],
    "paths": lambda n: [f"../../x{i}" for i in range(n)],
    "absolute paths": lambda n: [f"/etc/{i}" for i in range(n)],
    "numbers": lambda n: [str(i) for i in range(n)],
    "fractions": lambda n: [f"{i}.0" for i in range(n)],
    "words for missing": lambda n: (["nan", "None", "NA", "<NA>", ""] * n)[:n],
    "markup": lambda n: [f"<script>{i}</script>$x^{i}_$" for i in range(n)],
    "braces": lambda n: [f"{{0}}%s{i}{{" for i in range(n)],
    "integers": lambda n: pd.Index(range(n)),
    "floats": lambda n: pd.Index(np.arange(n) / 2),
    "missing": lambda n: pd.Index([None, np.nan, *map(str, range(n))][:n]),
    "categorical": lambda n: pd.CategoricalIndex([f"c{i}" for i in range(n)]),
    "mixed": lambda n: pd.Index([1, "1", 2.0, None, *map(str, range(n))][:n], dtype=object),
    "with versions": lambda n: [f"ENSG{i:011d}.9" for i in range(n)],
}


COLUMNS: dict[str, Callable[[int], Any]] = {
    "all missing": lambda n: np.full(n, np.nan),
    "all None": lambda n: np.full(n, None),
    "mixed": lambda n: ([1, "1", 2.5, None, True, b"x"] * n)[:n],
    "integers": lambda n: np.arange(n) % 3,
    "floats": lambda n: np.arange(n) % 3 + 0.5,
    "floats with NaN": lambda n: np.where(np.arange(n) % 4, np.arange(n) % 3, np.nan),
    "bool": lambda n: np.arange(n) % 2 == 0,
    "nullable": lambda n: pd.array([None, *(np.arange(n) % 3)][:n], dtype="Int64"),
    "nullable bool": lambda n: pd.array([None, *(np.arange(n) % 2 == 0)][:n], dtype="boolean"),
    "nullable text": lambda n: pd.array([None, *(f"type {i % 3}" for i in range(n))][:n], dtype="string"),
    "dates": lambda n: pd.date_range("2020-01-01", periods=n),
    "spans": lambda n: pd.to_timedelta(np.arange(n), unit="s"),
    "one type": lambda n: ["type 0"] * n,
    "every cell its own": lambda n: [f"type {i}" for i in range(n)],
    "unused categories": lambda n: pd.Categorical(["type 0"] * n, categories=["type 0", "type 1", "unused"]),
    "more categories than cells": lambda n: pd.Categorical(
        ["type 0"] * n, categories=[f"type {i}" for i in range(900)]
    ),
    "categories of numbers": lambda n: pd.Categorical(np.arange(n) % 3),
    "ordered": lambda n: pd.Categorical(["low", *["high"] * (n - 1)][:n], categories=["low", "high"], ordered=True),
    "bars": lambda n: [f"type|{i % 3}|" for i in range(n)],
    "slashes": lambda n: [f"type/../{i % 3}" for i in range(n)],
    "empty text": lambda n: ["", "type 1"] * (n // 2) + [""] * (n % 2),
    "long": lambda n: [f"{'long' * 500}{i % 3}" for i in range(n)],
    "hostile": lambda n: [f"\0\n\u202e$_{{^{i % 3}" for i in range(n)],
    "lists": lambda n: [[i] for i in range(n)],
    "one of each but two": lambda n: ["a"] * (n - 1) + ["b"],
    "infinite": lambda n: np.full(n, np.inf),
    "complex": lambda n: np.full(n, 1j),
}


def mutate_names(draft: Draft) -> str:
    """Give cells, genes or a column of ``var`` other names."""
    adata = draft.arguments[draft.pick(draft.named(anndata.AnnData))]
    kind, axis = draft.pick(NAMES), draft.pick(["obs", "var", "ensembl"])
    if axis == "ensembl":
        adata.var["ensembl"] = list(NAMES[kind](adata.n_vars))
    else:
        setattr(adata, f"{axis}_names", NAMES[kind](getattr(adata, f"n_{axis}" if axis == "obs" else "n_vars")))
    return f"{axis} names: {kind}"


def mutate_column(draft: Draft) -> str:
    """Replace or delete a column of ``obs``."""
    adata = draft.arguments[draft.pick(draft.named(anndata.AnnData))]
    keys = [key for key in adata.obs if not str(key).startswith("scquery") or draft.rng.random() < 0.5]
    key = draft.pick(keys or list(adata.obs))
    if draft.rng.random() < 0.1:
        del adata.obs[key]
        return f"no obs[{key!r}]"
    if draft.rng.random() < 0.1:
        table = adata.obs.copy()
        table.insert(0, key, 0, allow_duplicates=True)
        adata.obs = table
        return f"obs[{key!r}] twice"
    kind = draft.pick(COLUMNS)
    values = COLUMNS[kind](adata.n_obs)
    if len(values) != adata.n_obs:
        return f"obs[{key!r}] as it was"
    adata.obs[key] = pd.Series(values, index=adata.obs_names, dtype=object) if kind in ("lists", "mixed") else values
    if "batch_key" in inspect.signature(draft.function).parameters and key == "batch":
        draft.arguments["batch_key"] = "batch"
    return f"obs[{key!r}]: {kind}"


def mutate_slot(draft: Draft) -> str:
    """Damage results of earlier calls in ``uns``, ``obsm`` or ``layers``."""
    adata = draft.arguments[draft.pick(draft.named(anndata.AnnData))]
    slot = draft.pick(["uns", "uns", "uns", "obsm", "layers"])
    kind = draft.pick(BAD)
    if slot == "obsm":
        key = draft.pick([*adata.obsm, "X_scquery"])
        n = adata.n_obs
        values: Any = draft.pick(
            [np.ones((n, 1)), np.full((n, 2), np.nan), np.ones((n, 2), object), np.ones((n, 0)), np.ones((n, 2)) * 1j]
        )
        adata.obsm[key] = values
        return f"obsm[{key!r}] {values.dtype} {values.shape}"
    if slot == "layers":
        key = draft.pick(["counts", "../x", ""])
        adata.layers[key] = sparse.random(*adata.shape, 0.1, format="csr", random_state=0)
        return f"layers[{key!r}]"
    key = draft.pick(["scquery", "scquery_transform", "log1p", "cell_type_colors"])
    old = adata.uns.get(key)
    if isinstance(old, Mapping) and old and draft.rng.random() < 0.6:
        part = draft.pick(old)
        adata.uns[key] = {**old, part: BAD[kind]()}
        return f"uns[{key!r}][{part!r}]={kind}"
    adata.uns[key] = BAD[kind]()
    return f"uns[{key!r}]={kind}"
