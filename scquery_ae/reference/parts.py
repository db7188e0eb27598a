"""The parts of a bundle: which file holds what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError

from scquery_ae._errors import ArgumentError
from scquery_ae.encoder import DenseWeights, Encoder, Head
from scquery_ae.reference.calibration import Calibration
from scquery_ae.stats import Combination
from scquery_ae.transform import Transform

if TYPE_CHECKING:
    from scquery_ae.reference.reference import Reference

SUFFIXES = {
    "model": "json",
    "weights": "safetensors",
    "calibration": "safetensors",
    "obs": "parquet",
    "embedding": "npy",
}
NAMES = tuple(SUFFIXES)

#: What reading parts that passed their checksums may still raise: whoever wrote them made no reference.
UNREADABLE = (SafetensorError, ArgumentError, ArithmeticError, EOFError, LookupError, OSError, TypeError, ValueError)


def writers(reference: Reference) -> dict[str, Callable[[Path], None]]:
    """Return for each part the function that writes it to a path."""
    from safetensors.numpy import save_file

    encoder, calibration = reference.encoder, reference.calibration
    head = encoder.fitted_head
    weights = {
        "transform.mean": encoder.transform.mean,
        "transform.fraction": encoder.transform.fraction,
        "head.kernel": head.kernel,
        "head.bias": head.bias,
        "centroids": reference.centroids,
    }
    for i, layer in enumerate(encoder.layers):
        weights[f"layers.{i}.kernel"] = layer.kernel
        weights[f"layers.{i}.bias"] = layer.bias
        if layer.mask is not None:
            weights[f"layers.{i}.mask"] = layer.mask.astype(np.uint8)
    model = {
        "genes": [str(gene) for gene in encoder.genes],
        "target_sum": encoder.transform.target_sum,
        "activations": [layer.activation for layer in encoder.layers],
        "units": [layer.units for layer in encoder.layers],
        "types": list(head.types),
        "label_key": reference.label_key,
        "temperature": calibration.combination.temperature,
        "depth": reference.depth,
        "history": encoder.history,
        "parameters": encoder.parameters,
        "provenance": reference.provenance,
    }
    held_out = {
        "scores": np.asarray(calibration.scores, dtype=np.float64),
        "groups": np.asarray(calibration.groups, dtype=np.int64),
        "true_probabilities": np.asarray(calibration.true_probabilities, dtype=np.float64),
    }

    def save_arrays(arrays: dict[str, np.ndarray]) -> Callable[[Path], None]:
        return lambda path: save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)

    return {
        "model": lambda path: _write_text(path, json.dumps(model, allow_nan=False, default=np.generic.item)),
        "weights": save_arrays(weights),
        "calibration": save_arrays(held_out),
        "obs": reference.obs.to_parquet,
        "embedding": lambda path: np.save(path, np.asarray(reference.embedding, dtype=np.float32), allow_pickle=False),
    }


def load(files: dict[str, Path]) -> dict[str, Any]:
    """Return the contents of the verified part files, by the names of a reference's fields."""
    from safetensors.numpy import load_file

    model = json.loads(files["model"].read_bytes())
    weights = load_file(files["weights"])
    held_out = load_file(files["calibration"])
    transform = Transform(
        genes=np.asarray(model["genes"], dtype=object),
        target_sum=float(model["target_sum"]),
        mean=weights["transform.mean"],
        fraction=weights["transform.fraction"],
    )
    layers = tuple(_layer(model, weights, i) for i in range(len(model["activations"])))
    encoder = Encoder(
        transform=transform,
        layers=layers,
        head=Head(weights["head.kernel"], weights["head.bias"], tuple(model["types"])),
        history=model["history"],
        parameters=model["parameters"],
    )
    return {
        "encoder": encoder,
        "embedding": np.load(files["embedding"], mmap_mode="r", allow_pickle=False),
        "obs": pd.read_parquet(files["obs"]),
        "label_key": model["label_key"],
        "centroids": weights["centroids"],
        "calibration": Calibration(combination=Combination(float(model["temperature"])), **held_out),
        "depth": model["depth"],
        "provenance": model["provenance"],
    }


def _layer(model: dict[str, Any], weights: dict[str, np.ndarray], i: int) -> DenseWeights:
    # The first bundles had no gene sets: neither masks nor names of units.
    mask = weights.get(f"layers.{i}.mask")
    units = model.get("units", [None] * (i + 1))[i]
    return DenseWeights(
        weights[f"layers.{i}.kernel"],
        weights[f"layers.{i}.bias"],
        model["activations"][i],
        None if mask is None else mask.astype(bool),
        None if units is None else tuple(units),
    )


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
