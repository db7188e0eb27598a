"""Checkpoints: the state of training after each epoch, so that an interrupted run can resume."""

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

#: Number of rows in the fingerprint of a run.
SAMPLED_ROWS = 64


@dataclass(frozen=True)
class Checkpoint:
    """A folder with one file for each trained model.

    Attributes
    ----------
    folder
        Path of the folder, which is made after the first epoch.
    fingerprint
        Hash of the settings and of a sample of the data, which identifies a run.
    """

    folder: Path
    fingerprint: str

    def load(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return the arrays and the record that were saved under a name, or None."""
        from safetensors import SafetensorError, safe_open

        path = self._path(name)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                record = json.loads((file.metadata() or {}).get("record", "{}"))
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, ValueError) as error:
            msg = f"`checkpoint` is damaged: {path} cannot be read ({error}). Delete the file and train again."
            raise ArgumentError(msg) from error
        if record.get("fingerprint") != self.fingerprint:
            msg = (
                f"`checkpoint` holds another run: {path} was written with other settings or other data than those of "
                "this call. Pass another folder, or delete this one."
            )
            raise ArgumentError(msg)
        return arrays, record

    def save(self, name: str, arrays: dict[str, np.ndarray], record: dict[str, Any]) -> None:
        """Save arrays and a record under a name, in one file that is replaced as a whole."""
        from safetensors.numpy import save

        path = self._path(name)
        part = path.with_suffix(".part")
        text = json.dumps({**record, "fingerprint": self.fingerprint})
        # Not `save_file`: each interrupted call would leave a file with a random name.
        # Not `np.ascontiguousarray`: it adds a dimension to scalars, such as the optimiser's number of steps.
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
                "Free some space or pass another folder, and call again: training resumes from the last saved epoch."
            )
            raise StorageError(msg) from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


class ResumePoint(keras.callbacks.Callback):
    """Save a model and the state of its optimiser and of early stopping after each epoch, and restore them.

    Checked first: ``keras.callbacks.BackupAndRestore``, which does not save the state of early stopping.

    Parameters
    ----------
    checkpoint
        Checkpoint to save to.
    name
        Name of the model in the checkpoint.
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
        """Restore a compiled model, and return its next epoch, at most `epochs`; None if training was finished."""
        self._stopper = stopper
        found = self._checkpoint.load(self._name)
        if found is None:
            return 0
        arrays, record = found
        model.optimizer.build(model.trainable_variables)
        for key, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
            for i, variable in enumerate(variables):
                # The optimiser of a finished run is not saved.
                if f"{key}.{i}" in arrays:
                    variable.assign(arrays[f"{key}.{i}"])
        self.history = record["history"]
        if record["finished"]:
            return None
        self._stopping = record["stopping"]
        self._best = [arrays[f"best.{i}"] for i in range(len(model.weights))] if "best.0" in arrays else None
        # Interrupted after early stopping and before `finish`: no epoch is left.
        return epochs if record["stopped"] else int(record["epoch"]) + 1

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 (the signature of Keras)
        """Restore the state of early stopping, which resets itself when training begins."""
        for name, value in self._stopping.items():
            setattr(self._stopper, name, value)
        if self._stopper is not None and self._best is not None:
            self._stopper.best_weights = self._best

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save the state after an epoch."""
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
        """Save the trained model without the state of its training."""
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
        Path of the folder, or None.
    rows
        Training data, of which a sample enters the fingerprint.
    arrays
        Further data and initial weights: whole arrays, or :class:`Rows`, of which a sample enters the fingerprint. None
        is ignored.
    settings
        Everything else that the result depends on, as values for JSON.
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
