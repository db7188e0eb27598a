"""Training kept on disk epoch by epoch, so that an interrupted run can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from scquery_ae._checks import check_folder
from scquery_ae._errors import ArgumentError, StorageError
from scquery_ae.nn.rows import Rows

#: Rows that stand for the data when a run is recognised.
SAMPLED_ROWS = 64


@dataclass(frozen=True)
class Checkpoint:
    """A directory with one file for each model that is trained.

    Attributes
    ----------
    folder
        Made when the first epoch is finished.
    fingerprint
        What tells one run from another: its settings and a sample of its data.
    """

    folder: Path
    fingerprint: str

    def load(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return the arrays and the record that were kept under a name; None if there is nothing."""
        from safetensors import SafetensorError, safe_open

        path = self._path(name)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                record = json.loads((file.metadata() or {}).get("record", "{}"))
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, ValueError) as error:
            msg = f"`checkpoint` is damaged: {path} cannot be read ({error}). Delete it and train again."
            raise ArgumentError(msg) from error
        if record.get("fingerprint") != self.fingerprint:
            msg = (
                f"`checkpoint` holds another run: {path} was made with other settings or other data. "
                "Expected those of this call; name another folder, or delete this one."
            )
            raise ArgumentError(msg)
        return arrays, record

    def save(self, name: str, arrays: dict[str, np.ndarray], record: dict[str, Any]) -> None:
        """Keep arrays and a record under a name: one file, replaced as a whole, so that the two always fit."""
        from safetensors.numpy import save

        path = self._path(name)
        part = path.with_suffix(".part")
        text = json.dumps({**record, "fingerprint": self.fingerprint})
        # Not `save_file`: killed in the middle, it would leave a file of a random name each time.
        # `np.ascontiguousarray` would give a scalar, such as the optimiser's count of steps, a dimension.
        content = save({key: np.asarray(array, order="C") for key, array in arrays.items()}, metadata={"record": text})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            msg = (
                f"The checkpoint of {len(content) / 1e6:.3g} MB cannot be written to {self.folder} ({error}). "
                "Make room there or name another folder, and call again: training goes on from the last epoch kept."
            )
            raise StorageError(msg) from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


class ResumePoint(keras.callbacks.Callback):
    """Keep a model, its optimiser and what early stopping knows after each epoch, and go on from there.

    Checked first: ``keras.callbacks.BackupAndRestore``, which forgets what early stopping has seen.

    Parameters
    ----------
    checkpoint
        Where to keep it.
    name
        Under which name.
    """

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        super().__init__()
        self._checkpoint = checkpoint
        self._name = name
        self._stopping: dict[str, Any] = {}
        self._best: list[np.ndarray] | None = None
        self._stopper: keras.callbacks.EarlyStopping | None = None
        self.history: dict[str, list[float]] = {}

    def restore(self, model: keras.Model, stopper: keras.callbacks.EarlyStopping | None, epochs: int) -> int | None:
        """Bring a compiled model to where it was; return the next of `epochs`, or None if training was finished."""
        self._stopper = stopper
        found = self._checkpoint.load(self._name)
        if found is None:
            return 0
        arrays, record = found
        model.optimizer.build(model.trainable_variables)
        for key, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
            for i, variable in enumerate(variables):
                # A finished run keeps no optimiser.
                if f"{key}.{i}" in arrays:
                    variable.assign(arrays[f"{key}.{i}"])
        self.history = record["history"]
        if record["finished"]:
            return None
        self._stopping = record["stopping"]
        self._best = [arrays[f"best.{i}"] for i in range(len(model.weights))] if "best.0" in arrays else None
        # Stopped, but not finished: interrupted between the two. No epoch is left.
        return epochs if record["stopped"] else int(record["epoch"]) + 1

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 (the signature of Keras)
        """Tell early stopping, which has just forgotten everything, what it knew."""
        for name, value in self._stopping.items():
            setattr(self._stopper, name, value)
        if self._stopper is not None and self._best is not None:
            self._stopper.best_weights = self._best

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keep the state after an epoch."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        stopper = self._stopper
        names = ("wait", "best", "best_epoch", "stopped_epoch")
        stopping = {} if stopper is None else {name: _number(getattr(stopper, name)) for name in names}
        arrays = _arrays("model", self.model.variables) | _arrays("optimizer", self.model.optimizer.variables)
        if stopper is not None and stopper.best_weights is not None:
            arrays |= _arrays("best", stopper.best_weights)
        record = {
            "finished": False,
            "stopped": bool(self.model.stop_training),
            "epoch": epoch,
            "history": self.history,
            "stopping": stopping,
        }
        self._checkpoint.save(self._name, arrays, record)

    def finish(self, model: keras.Model) -> None:
        """Keep the trained model, with nothing that only training needs."""
        record = {"finished": True, "history": self.history}
        self._checkpoint.save(self._name, _arrays("model", model.variables), record)


def _arrays(key: str, values: Sequence[Any]) -> dict[str, np.ndarray]:
    return {f"{key}.{i}": np.asarray(keras.ops.convert_to_numpy(value)) for i, value in enumerate(values)}


def _number(value: Any) -> float | int | None:
    if value is None or isinstance(value, int):
        return value
    return float(value)


def open_checkpoint(folder: Any, rows: Rows, arrays: Sequence[Any], settings: Any) -> Checkpoint | None:
    """Return the checkpoint of a run in a folder, or None without a folder.

    Parameters
    ----------
    folder
        Path or None.
    rows
        What is trained on; a sample tells it from other data.
    arrays
        What belongs to the rows or is started from: arrays, taken whole, and other rows, sampled as well; None is left
        out.
    settings
        All else that the result depends on.
    """
    if folder is None:
        return None
    path = check_folder("checkpoint", folder)
    chosen = np.unique(np.linspace(0, rows.shape[0] - 1, SAMPLED_ROWS).astype(int))
    digest = hashlib.sha256(np.ascontiguousarray(rows.dense(rows.take(chosen))).tobytes())
    for array in arrays:
        if array is None:
            continue
        sampled = array.dense(array.take(chosen)) if hasattr(array, "dense") else array
        digest.update(np.ascontiguousarray(sampled).tobytes())
    digest.update(json.dumps([list(rows.shape), keras.config.backend(), settings], default=str).encode())
    return Checkpoint(path, digest.hexdigest())
