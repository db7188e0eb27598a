"""Bad arrays and expression matrices."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from scipy import sparse

from abuse.world import Draft


def _with(array: np.ndarray, value: Any) -> np.ndarray:
    changed = array.astype(object if array.dtype == object else np.float64)
    changed.flat[0] = value
    return changed


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _noncanonical(x: np.ndarray, *, duplicates: bool) -> Any:
    """Return CSR with each value stored as two halves, or with column indices in descending order."""
    csr = sparse.csr_matrix(x)
    if duplicates:
        pointers = csr.indptr * 2
        return sparse.csr_matrix((np.repeat(csr.data / 2, 2), np.repeat(csr.indices, 2), pointers), shape=csr.shape)
    rows = [slice(a, b) for a, b in zip(csr.indptr[:-1], csr.indptr[1:], strict=True)]
    data = np.concatenate([csr.data[row][::-1] for row in rows])
    indices = np.concatenate([csr.indices[row][::-1] for row in rows])
    return sparse.csr_matrix((data, indices, csr.indptr), shape=csr.shape)


def _explicit_zeros(x: np.ndarray, folder: Path) -> Any:
    csr = sparse.csr_matrix(x)
    csr.data[::3] = 0
    return csr


def _long_indices(x: np.ndarray, folder: Path) -> Any:
    csr = sparse.csr_matrix(x)
    csr.indices, csr.indptr = csr.indices.astype(np.int64), csr.indptr.astype(np.int64)
    return csr


def _memmap(x: np.ndarray, folder: Path) -> Any:
    path = folder / "matrix.npy"
    np.save(path, x)
    return np.load(path, mmap_mode="r")


def _with_zero_row(x: np.ndarray, folder: Path) -> Any:
    x = x.copy()
    x[0] = 0
    return x


MATRICES: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "one NaN": lambda x, _: _with(x, np.nan).astype(np.float32),
    "sparse with NaN": lambda x, _: sparse.csr_matrix(_with(x, np.nan).astype(np.float32)),
    "all NaN": lambda x, _: np.full_like(x, np.nan),
    "one infinity": lambda x, _: _with(x, np.inf).astype(np.float32),
    "one -infinity": lambda x, _: sparse.csc_matrix(_with(x, -np.inf).astype(np.float32)),
    "one negative": lambda x, _: _with(x, -1.0).astype(np.float32),
    "scaled": lambda x, _: (x - x.mean(axis=0)).astype(np.float32),
    "logged": lambda x, _: np.log1p(x),
    "logged twice": lambda x, _: np.log1p(np.log1p(x)),
    "fractions": lambda x, _: x * np.float32(0.37),
    "objects": lambda x, _: x.astype(object),
    "texts": lambda x, _: x.astype(str),
    "bytes": lambda x, _: x.astype("S"),
    "times": lambda x, _: x.astype("datetime64[s]"),
    "complex": lambda x, _: x.astype(np.complex64),
    "sparse complex": lambda x, _: sparse.csr_matrix(x.astype(np.complex64)),
    "int8": lambda x, _: np.minimum(x, 100).astype(np.int8),
    "uint8": lambda x, _: sparse.csr_matrix(np.minimum(x, 255).astype(np.uint8)),
    "int16": lambda x, _: x.astype(np.int16),
    "uint16": lambda x, _: sparse.csc_matrix(x.astype(np.uint16)),
    "int32": lambda x, _: x.astype(np.int32),
    "int64": lambda x, _: sparse.csr_matrix(x.astype(np.int64)),
    "uint64": lambda x, _: x.astype(np.uint64),
    "huge uint64": lambda x, _: np.full(x.shape, 2**64 - 1, np.uint64),
    "float16": lambda x, _: x.astype(np.float16),
    "float64": lambda x, _: x.astype(np.float64),
    "longdouble": lambda x, _: x.astype(np.longdouble),
    "bool": lambda x, _: x > 0,
    "sparse bool": lambda x, _: sparse.csr_matrix(x > 0),
    "all zero": lambda x, _: np.zeros_like(x),
    "empty sparse": lambda x, _: sparse.csr_matrix(x.shape, dtype=np.float32),
    "one cell zero": _with_zero_row,
    "constant": lambda x, _: np.ones_like(x),
    "1e300": lambda x, _: np.full(x.shape, 1e300),
    "one 1e300": lambda x, _: _with(x, 1e300),
    "1e38": lambda x, _: np.full(x.shape, 1e38, np.float32),
    "1e-300": lambda x, _: x.astype(np.float64) * 1e-300,
    "1e-40": lambda x, _: sparse.csr_matrix((x * 1e-40).astype(np.float32)),
    "masked": lambda x, _: np.ma.masked_array(x, mask=x > 3),
    "np.matrix": lambda x, _: np.matrix(x),
    "COO": lambda x, _: sparse.coo_matrix(x),
    "DOK": lambda x, _: sparse.dok_matrix(x),
    "LIL": lambda x, _: sparse.lil_matrix(x),
    "BSR": lambda x, _: sparse.bsr_matrix(x),
    "DIA": lambda x, _: sparse.dia_matrix(x),
    "CSR array": lambda x, _: sparse.csr_array(x),
    "CSC array": lambda x, _: sparse.csc_array(x),
    "COO array": lambda x, _: sparse.coo_array(x),
    "CSR with duplicates": lambda x, _: _noncanonical(x, duplicates=True),
    "CSR unsorted": lambda x, _: _noncanonical(x, duplicates=False),
    "CSR with zeros": _explicit_zeros,
    "CSR of int64 indices": _long_indices,
    "memory-mapped": _memmap,
    "read-only": lambda x, _: _read_only(x),
    "Fortran": lambda x, _: np.asfortranarray(x),
    "strided": lambda x, _: np.repeat(x, 2, axis=1)[:, ::2],
    "big-endian": lambda x, _: x.astype(">f4"),
}


def mutate_array(draft: Draft) -> str:
    """Damage an array among the arguments."""
    name = draft.pick(draft.named(np.ndarray) or draft.named(sparse.csr_matrix))
    value = draft.arguments[name]
    if sparse.issparse(value):
        kind = draft.pick(MATRICES)
        draft.arguments[name] = MATRICES[kind](value.toarray(), draft.folder)
        return f"{name}: {kind}"
    kinds: dict[str, Callable[[], Any]] = {
        "one NaN": lambda: _with(value, np.nan),
        "one infinity": lambda: _with(value, np.inf),
        "one 1e300": lambda: _with(value, 1e300),
        "one -5": lambda: _with(value, -5),
        "one 10**9": lambda: _with(value, 10**9),
        "as list": value.tolist,
        "as object": lambda: value.astype(object),
        "as text": lambda: value.astype(str),
        "as complex": lambda: value.astype(complex) if value.dtype != object else value.astype(str).astype("S"),
        "as float16": lambda: value.astype(np.float16) if value.dtype != object else value[::-1],
        "as bool": lambda: value.astype(bool),
        "one shorter": lambda: value[:-1],
        "empty": lambda: value[:0],
        "no columns": lambda: value[:, :0] if value.ndim > 1 else value[:0],
        "one more axis": lambda: value[..., None],
        "one axis less": lambda: value[0],
        "transposed": lambda: value.T,
        "read-only": lambda: _read_only(value),
        "big-endian": lambda: value.astype(value.dtype.newbyteorder(">")),
        "every other": lambda: np.repeat(value, 2, axis=0)[::2],
        "masked": lambda: np.ma.masked_array(value, mask=np.ones(value.shape, bool)),
        "all zero": lambda: np.zeros_like(value),
        "constant": lambda: np.ones_like(value),
    }
    kind = draft.pick(kinds)
    draft.arguments[name] = kinds[kind]()
    return f"{name} {kind}"


def mutate_matrix(draft: Draft) -> str:
    """Replace ``X`` or ``layers["counts"]`` by other values or another container."""
    name = draft.pick(draft.named(anndata.AnnData))
    adata = draft.arguments[name]
    kind = draft.pick(MATRICES)
    source = adata.layers.get("counts", adata.X)
    dense = source.toarray() if sparse.issparse(source) else np.array(source)
    matrix = MATRICES[kind](dense.astype(np.float32), draft.folder)
    where = draft.pick(["X", "counts", "layer"]) if "counts" in adata.layers else draft.pick(["X", "X", "layer"])
    if where == "X" and draft.rng.random() < 0.5:
        parts = {"obs": adata.obs, "var": adata.var, "uns": adata.uns, "obsm": dict(adata.obsm)}
        layers = {key: value for key, value in adata.layers.items() if key is not None}
        draft.arguments[name] = anndata.AnnData(matrix, layers=layers, **parts)
    elif where == "X":
        adata.X = matrix
    else:
        adata.layers["counts" if where == "counts" else "raw"] = matrix
        if where == "layer" and "layer" in inspect.signature(draft.function).parameters:
            draft.arguments["layer"] = "raw"
    return f"{where}: {kind}"


def mutate_shape(draft: Draft) -> str:
    """Keep few or no cells or genes, or no ``X``; or pass a view or a backed AnnData."""
    name = draft.pick(draft.named(anndata.AnnData))
    adata = draft.arguments[name]
    kinds: dict[str, Callable[[], anndata.AnnData]] = {
        "no cells": lambda: adata[:0].copy(),
        "no genes": lambda: adata[:, :0].copy(),
        "one cell": lambda: adata[:1].copy(),
        "two cells": lambda: adata[:2].copy(),
        "one gene": lambda: adata[:, :1].copy(),
        "few genes": lambda: adata[:, :15].copy(),
        "no X": lambda: anndata.AnnData(obs=adata.obs, var=adata.var),
        "view": lambda: adata[::-1],
        "view of genes": lambda: adata[:, ::2],
        "empty view": lambda: adata[:0],
        "view of a view": lambda: adata[::2][:, ::-1],
        "backed": lambda: _backed(draft, adata, "r"),
        "backed, writable": lambda: _backed(draft, adata, "r+"),
        "view of backed": lambda: _backed(draft, adata, "r")[:5],
        "cells twice": lambda: anndata.concat([adata, adata], merge="same", uns_merge="same"),
        "genes twice": lambda: adata[:, np.repeat(np.arange(adata.n_vars), 2)].copy(),
        "other genes": lambda: _renamed(adata),
    }
    kind = draft.pick(kinds)
    draft.arguments[name] = kinds[kind]()
    return kind


def _backed(draft: Draft, adata: anndata.AnnData, mode: str) -> anndata.AnnData:
    path = draft.folder / "backed.h5ad"
    adata.write_h5ad(path)
    return anndata.read_h5ad(path, backed=mode)


def _renamed(adata: anndata.AnnData) -> anndata.AnnData:
    adata = adata.copy()
    adata.var_names = [f"OTHER{i}" for i in range(adata.n_vars)]
    adata.var = adata.var[[]]
    return adata
