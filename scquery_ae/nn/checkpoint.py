"""Finished layers of a pretraining, kept on disk so that an interrupted run can go on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from scquery_ae._errors import ArgumentError
from scquery_ae.nn.autoencoder import Autoencoder
from scquery_ae.nn.rows import MatrixRows, Rows

#: Rows that stand for the data when a run is recognised.
SAMPLED_ROWS = 64


@dataclass(frozen=True)
class Checkpoint:
    """A directory with one file of weights and one of losses for each finished layer.

    Attributes
    ----------
    folder
        Made when the first layer is finished.
    fingerprint
        What tells one run from another: its settings and a sample of its data.
    """

    folder: Path
    fingerprint: str

    def load(self, depth: int, layer: Autoencoder) -> dict[str, list[float]] | None:
        """Put the weights of a finished layer into a built one and return its losses; None if it is not there."""
        from safetensors.numpy import load_file

        record_path, weights_path = self._paths(depth)
        if not record_path.is_file():
            return None
        record = json.loads(record_path.read_text(encoding="utf-8"))
        if record.get("fingerprint") != self.fingerprint:
            msg = (
                f"`checkpoint` holds another run: {record_path} was made with other settings or other data. "
                "Expected those of this call; name another folder, or delete this one."
            )
            raise ArgumentError(msg)
        saved = load_file(weights_path)
        layer.set_weights([saved[str(i)] for i in range(len(layer.weights))])
        return {str(name): [float(v) for v in values] for name, values in record["history"].items()}

    def save(self, depth: int, layer: Autoencoder, history: dict[str, list[float]]) -> None:
        """Keep a finished layer. The record comes last and by a rename: what is half written is not there."""
        from safetensors.numpy import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        record_path, weights_path = self._paths(depth)
        arrays = {str(i): np.ascontiguousarray(keras.ops.convert_to_numpy(w)) for i, w in enumerate(layer.weights)}
        part = weights_path.with_suffix(".part")
        save_file(arrays, part)
        part.replace(weights_path)
        part.write_text(json.dumps({"fingerprint": self.fingerprint, "history": history}), encoding="utf-8")
        part.replace(record_path)

    def _paths(self, depth: int) -> tuple[Path, Path]:
        return self.folder / f"layer_{depth}.json", self.folder / f"layer_{depth}.safetensors"


def open_checkpoint(folder: Any, rows: Rows, counts: Any, settings: Any) -> Checkpoint | None:
    """Return the checkpoint of a run in a folder, or None without a folder."""
    if folder is None:
        return None
    try:
        path = Path(folder)
    except TypeError as error:
        msg = f"`checkpoint` must be the path of a folder, or None. Received {folder!r}."
        raise ArgumentError(msg) from error
    if path.exists() and not path.is_dir():
        msg = f"`checkpoint` must be the path of a folder. Received {path}, which is a file."
        raise ArgumentError(msg)
    chosen = np.unique(np.linspace(0, rows.shape[0] - 1, SAMPLED_ROWS).astype(int))
    digest = hashlib.sha256(np.ascontiguousarray(rows.dense(rows.take(chosen))).tobytes())
    if counts is not None:
        digest.update(np.ascontiguousarray(MatrixRows(counts).dense(counts[chosen])).tobytes())
    digest.update(json.dumps([list(rows.shape), keras.config.backend(), settings], default=str).encode())
    return Checkpoint(path, digest.hexdigest())
