"""One progress bar for a Keras ``fit``."""

from __future__ import annotations

from typing import Any

import keras
from tqdm.auto import tqdm


class ProgressBar(keras.callbacks.Callback):
    """Show epochs and the latest losses; silent where nobody looks (a pipe, a log)."""

    # tqdm.keras.TqdmCallback was checked: it shows a bar a batch beneath, and leaves both behind.

    def __init__(self, title: str, epochs: int, *, enabled: bool = True) -> None:
        super().__init__()
        self._title = title
        self._epochs = epochs
        self._enabled = enabled
        self._bar: Any = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        # None lets tqdm decide by whether the stream is a terminal.
        self._bar = tqdm(total=self._epochs, desc=self._title, unit="epoch", disable=None if self._enabled else True)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in (logs or {}).items()}, refresh=False)
        self._bar.update()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._bar.close()
