"""Progress bar of training, and the check that losses are finite."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from scquery_ae._errors import TrainingError


class ProgressBar(keras.callbacks.Callback):
    """Show the epochs and the latest losses on a terminal or in a notebook.

    Checked first: ``tqdm.keras.TqdmCallback``, which adds a bar for the batches, and leaves both bars behind.
    """

    def __init__(self, title: str, epochs: int, *, first: int = 0, enabled: bool = True) -> None:
        super().__init__()
        self._title = title
        self._epochs = epochs
        self._first = first
        self._enabled = enabled
        self._bar: Any = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Open the bar."""
        if not self._enabled:
            return
        # Imported only if needed: the import warns in notebooks without ipywidgets.
        from tqdm.auto import tqdm

        # `disable=None` shows the bar on a terminal only.
        self._bar = tqdm(total=self._epochs, initial=self._first, desc=self._title, unit="epoch", disable=None)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Advance the bar and show the losses."""
        if self._bar is None:
            return
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in (logs or {}).items()}, refresh=False)
        self._bar.update()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Close the bar, which stays visible."""
        if self._bar is not None:
            self._bar.close()


def check_converged(history: dict[str, list[float]]) -> None:
    """Raise if a loss is not finite."""
    for name, values in history.items():
        if not np.all(np.isfinite(values)):
            epoch = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
            msg = (
                f"Training diverged: `{name}` should be finite, but is {values[epoch - 1]} in epoch {epoch}. "
                "Lower `learning_rate`, or check the data for extreme values."
            )
            raise TrainingError(msg)
