"""Measure the time per epoch of each module, corruption and loss, relative to a plain tied layer.

    python benchmarks/toolkit.py

Trains one layer, 2000 to 256 units, and a classifier, 2000 to 256 to 32 units, on 4096 simulated cells for some
epochs. The first epoch is left out. Writes ``results/toolkit.md``: median seconds per epoch relative to the plain
layer or the plain classifier.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from scipy import sparse

from scquery_ae import nn
from scquery_ae.dense import DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows, GeneColumns
from scquery_ae.training import FinetuneSettings, finetune_encoder
from scquery_ae.transform import Transform

RESULTS = Path(__file__).parent / "results"
N_CELLS, N_GENES, UNITS, EPOCHS = 4096, 2000, 256, 6


class Clock(keras.callbacks.Callback):
    """Record the seconds of each epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.begun = perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Record the seconds since the start of the epoch."""
        seconds.append(perf_counter() - self.begun)


seconds: list[float] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.3, 1.0, (N_CELLS, N_GENES))).astype(np.float32)
    counts = sparse.csr_matrix(counts * (rng.random(counts.shape) < 0.3))
    columns = GeneColumns(counts, np.arange(N_GENES))
    transform = Transform.fit(columns, np.array([f"g{i}" for i in range(N_GENES)], dtype=object))
    cells = CellRows.read(columns, transform)
    unit = nn.MatrixRows(sparse.csr_matrix(cells.logged / cells.logged.max()))
    mask = rng.random((N_GENES, UNITS)) < 0.02
    mask[0] = True
    images = counts[:, :1936].toarray().reshape(-1, 44, 44, 1)

    def layer(x: Any, entry: Any = UNITS, **settings: Any) -> Callable[[], Any]:
        return lambda: nn.pretrain_stack(
            x, [entry() if callable(entry) else entry], epochs=EPOCHS, validation_fraction=0, progress=False, **settings
        )

    runs: dict[str, Callable[[], Any]] = {
        "plain tied layer, no noise": layer(cells, corruption="none"),
        "masking": layer(cells),
        "Gaussian noise": layer(cells, corruption="gaussian"),
        "salt and pepper": layer(cells, corruption="salt_and_pepper"),
        "gene-panel dropout": layer(cells, corruption=nn.FeatureMaskingNoise(0, 0.5)),
        "masking, uncorrupted weight 0.5": layer(cells, uncorrupted_weight=0.5),
        "cross-entropy": layer(unit, loss="cross_entropy"),
        "Poisson": layer(cells, loss="poisson", counts=cells.counts()),
        "negative binomial": layer(cells, loss="negative_binomial", counts=cells.counts()),
        "untied": layer(cells, module="untied"),
        "Boltzmann machine (CD-1)": layer(cells, module="rbm"),
        "gene sets (2 % of the connections)": layer(cells, lambda: nn.MaskedAutoencoder(mask)),
        "convolution, 8 filters of 5 x 5, stride 2": layer(images, lambda: nn.Conv2DAutoencoder(8, 5, strides=2)),
    }
    layers = tuple(
        DenseWeights(rng.normal(0, 0.03, shape).astype(np.float32), np.zeros(shape[1], np.float32), "relu")
        for shape in ((N_GENES, UNITS), (UNITS, 32))
    )
    encoder = Encoder(transform, layers)
    labels, batches = np.arange(N_CELLS) % 10, np.arange(N_CELLS) % 4

    def classifier(highest: float = 0.0, **objective: Any) -> Callable[[], Any]:
        settings = FinetuneSettings(
            gene_masking=(0.0, highest), epochs=EPOCHS, patience=EPOCHS, batch_size=128, **objective
        )
        held_out, types = np.zeros(N_CELLS, dtype=bool), tuple(map(str, range(10)))
        return lambda: finetune_encoder(encoder, cells, labels, held_out, types, settings, batches=batches)

    tuned = {
        "plain classifier": classifier(),
        "gene-panel dropout": classifier(0.5),
        "triplet": classifier(metric_loss="triplet"),
        "contrastive": classifier(metric_loss="contrastive"),
        "adversarial batch classifier": classifier(adversarial_weight=1.0),
    }
    lines = [f"Keras on {keras.config.backend()}.\n"]
    for title, group in (("Pretraining", runs), ("Fine-tuning", tuned)):
        taken = {name: time(run) for name, run in group.items()}
        plain = next(iter(taken.values()))
        lines += [f"## {title}", "", "| | time per epoch, relative |", "|---|---|"]
        lines += [f"| {name} | {value / plain:.2f} |" for name, value in taken.items()]
        lines.append("")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "toolkit.md").write_text("\n".join(lines))
    print("\n".join(lines))


def time(run: Callable[[], Any]) -> float:
    """Return the median seconds of an epoch, without the first one."""
    seconds.clear()
    fit = keras.Model.fit

    def timed(self: keras.Model, *arguments: Any, callbacks: Any = (), **settings: Any) -> Any:
        return fit(self, *arguments, callbacks=[*callbacks, Clock()], **settings)

    keras.Model.fit = timed
    try:
        run()
    finally:
        keras.Model.fit = fit
    return float(np.median(seconds[1:]))


if __name__ == "__main__":
    main()
