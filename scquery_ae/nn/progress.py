"""Watching a Keras ``fit``."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from scquery_ae._errors import TrainingError


class ProgressBar(keras.callbacks.Callback):
    """Show epochs and the latest losses; silent where nobody looks (a pipe, a log)."""

    # tqdm.keras.TqdmCallback was checked: it shows a bar a batch beneath, and leaves both behind.

    def __init__(self, title: str, epochs: int, *, first: int = 0, enabled: bool = True) -> None:
        super().__init__()
        self._title = title
        self._epochs = epochs
        self._first = first
        self._enabled = enabled
        self._bar: Any = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Open the bar."""
        # Imported only where a bar is wanted: without ipywidgets it warns in notebooks.
        if not self._enabled:
            return
        from tqdm.auto import tqdm

        # None lets tqdm decide by whether the stream is a terminal.
        self._bar = tqdm(total=self._epochs, initial=self._first, desc=self._title, unit="epoch", disable=None)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Move it on and show the losses."""
        if self._bar is None:
            return
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in (logs or {}).items()}, refresh=False)
        self._bar.update()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Close it, leaving its last state."""
        if self._bar is not None:
            self._bar.close()


def check_converged(history: dict[str, list[float]]) -> None:
    """Raise if a loss is not finite."""
    for name, values in history.items():
        if not np.all(np.isfinite(values)):
            epoch = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
            msg = (
                f"Training diverged: `{name}` should be finite, but is {values[epoch - 1]} in epoch {epoch}. "
                "Lower `learning_rate`, or look for extreme values in the data."
            )
            raise TrainingError(msg)
