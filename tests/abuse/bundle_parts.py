"""Bad contents of the parts of a saved reference, with correct checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from abuse.world import Draft


def reseal(draft: Draft, root: Path, manifest: dict[str, Any], part: str) -> str:
    """Change the content of a part, and update its name and checksum."""
    file = root / manifest["parts"][part]["file"]
    done = {".json": _edit_json, ".safetensors": _edit_tensors, ".npy": _edit_array, ".parquet": _edit_table}[
        file.suffix
    ](draft, file)
    content = file.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    name = f"{part}.{checksum[:16]}{file.suffix}"
    file.rename(root / name)
    manifest["parts"][part] = {"file": name, "bytes": len(content), "sha256": checksum}
    (root / "manifest.json").write_text(json.dumps(manifest))
    return f"{part}, sealed anew: {done}"


def _edit_json(draft: Draft, file: Path) -> str:
    if draft.rng.random() < 0.15:
        file.write_text(draft.pick(["", "[]", "3", "[" * 100_000, "{", '"a"', "null"]))
        return "other JSON"
    model = json.loads(file.read_text())
    key = draft.pick(model)
    if draft.rng.random() < 0.25:
        del model[key]
        done = f"no {key}"
    else:
        junk = draft.pick([None, True, -1, 0, 1e300, 10**400, "x", "", [], [1], [None], {}, {"a": 1}, [["x"]]])
        if isinstance(model[key], list) and model[key] and draft.rng.random() < 0.5:
            model[key][0] = junk
        elif isinstance(model[key], dict) and model[key] and draft.rng.random() < 0.5:
            model[key][draft.pick(model[key])] = junk
        else:
            model[key] = junk
        done = f"{key}: {junk!r:.20}"
    text = json.dumps(model)
    if draft.rng.random() < 0.1:
        text, done = text.replace('"target_sum"', '"target_sum": NaN, "other"'), "target_sum NaN"
    file.write_text(text)
    return done


def _edit_tensors(draft: Draft, file: Path) -> str:
    from safetensors.numpy import load_file, save_file

    if draft.rng.random() < 0.1:
        file.write_bytes(draft.pick([b"", b"\xff" * 50, (2**60).to_bytes(8, "little") + b"{}", b"\2\0\0\0\0\0\0\0{}"]))
        return "other bytes"
    arrays = load_file(file)
    key = draft.pick(arrays)
    array = arrays[key]
    kinds: dict[str, Callable[[], np.ndarray | None]] = {
        "left out": lambda: None,
        "one shorter": lambda: array[:-1],
        "empty": lambda: array[:0],
        "one more axis": lambda: array[None],
        "flat": lambda: np.repeat(array.ravel(), 2),
        "transposed": lambda: np.ascontiguousarray(array.T),
        "NaN": lambda: np.full(array.shape, np.nan, array.dtype if array.dtype.kind == "f" else np.float32),
        "infinite": lambda: np.full(array.shape, np.inf, array.dtype if array.dtype.kind == "f" else np.float64),
        "1e38": lambda: np.full(array.shape, 1e38, np.float32),
        "zero": lambda: np.zeros_like(array),
        "-7": lambda: np.full(array.shape, -7).astype(array.dtype),
        "float64": lambda: array.astype(np.float64),
        "int64": lambda: np.nan_to_num(array).astype(np.int64),
        "large": lambda: np.full(array.shape, 100).astype(array.dtype),
        "bool": lambda: array.astype(bool),
    }
    kind = draft.pick(kinds)
    changed = kinds[kind]()
    del arrays[key]
    if changed is not None:
        arrays[key] = np.ascontiguousarray(changed)
    save_file(arrays, file)
    return f"{key} {kind}"


def _edit_array(draft: Draft, file: Path) -> str:
    array = np.load(file)
    kinds: dict[str, Callable[[], np.ndarray]] = {
        "one shorter": lambda: array[:-1],
        "one column less": lambda: array[:, :-1],
        "flat": array.ravel,
        "NaN": lambda: np.full_like(array, np.nan),
        "infinite": lambda: np.full_like(array, np.inf),
        "zero": lambda: np.zeros_like(array),
        "float64": lambda: array.astype(np.float64),
        "float16": lambda: array.astype(np.float16),
        "int8": lambda: array.astype(np.int8),
        "texts": lambda: array.astype(str),
        "complex": lambda: array.astype(complex),
        "pickled": lambda: array.astype(object),
        "Fortran": lambda: np.asfortranarray(array),
        "big-endian": lambda: array.astype(">f4"),
        "0-d": lambda: np.array(1.0, np.float32),
    }
    kind = draft.pick(kinds)
    if draft.rng.random() < 0.15:
        junk = draft.pick(
            [b"", b"\x93NUMPY", b"PK\3\4", b"\x93NUMPY\1\0\x20\0{'shape': (10**9,)}", file.read_bytes()[:-8]]
        )
        file.write_bytes(junk)
        return "other bytes"
    np.save(file, kinds[kind](), allow_pickle=True)
    return kind


def _edit_table(draft: Draft, file: Path) -> str:
    table = pd.read_parquet(file)
    kinds: dict[str, Callable[[], pd.DataFrame]] = {
        "one row less": lambda: table.iloc[:-1],
        "no rows": lambda: table.iloc[:0],
        "no labels": lambda: table.drop(columns="cell_type"),
        "labels of numbers": lambda: table.assign(cell_type=np.arange(len(table)) % 3),
        "missing labels": lambda: table.assign(cell_type=np.nan),
        "other labels": lambda: table.assign(cell_type="other"),
        "lists for labels": lambda: table.assign(cell_type=[[1]] * len(table)),
        "names twice": lambda: table.set_index(pd.Index(["same"] * len(table))),
        "numbers for names": lambda: table.reset_index(drop=True),
        "another order": lambda: table.iloc[::-1],
        "two indices": lambda: table.set_index([table.index, np.arange(len(table))]),
        "numbered columns": lambda: table.rename(columns={"batch": "0"}),
    }
    kind = draft.pick(kinds)
    if draft.rng.random() < 0.15:
        file.write_bytes(draft.pick([b"", b"PAR1", b"PAR1PAR1", file.read_bytes()[:-4], draft.rng.bytes(500)]))
        return "other bytes"
    kinds[kind]().to_parquet(file)
    return kind
