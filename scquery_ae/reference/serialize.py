"""The parts of a bundle: which file holds what."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from safetensors import SafetensorError
from scipy import sparse

from scquery_ae._errors import ArgumentError
from scquery_ae.dense import Classifier, DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.index import ApproximateIndex, choose_index
from scquery_ae.reference.calibration import Calibration
from scquery_ae.reference.novelty import N_KINDS, Novelty
from scquery_ae.reference.simulate import SimulationCells
from scquery_ae.stats import Combination, GeneDiscriminant, Standardization, TypeGaussians
from scquery_ae.transform import Transform

if TYPE_CHECKING:
    from scquery_ae.reference.reference import Reference

SUFFIXES = {
    "model": "json",
    "weights": "safetensors",
    "calibration": "safetensors",
    "obs": "parquet",
    "embedding": "npy",
    "projected": "npy",
    "decision": "npy",
    "index": "faiss",
}
#: Names of part files: no separators, so that none can point outside.
PART_FILE = re.compile(rf"[a-z]+\.[0-9a-f]{{16}}\.({'|'.join(sorted(set(SUFFIXES.values())))})")

#: What names all others.
MANIFEST = "manifest.json"

#: Parts that every bundle has. An exact search needs no index beside the embedding.
REQUIRED = tuple(name for name in SUFFIXES if name not in ("index", "decision"))

#: What reading parts that passed their checksums may still raise: whoever wrote them made no reference.
UNREADABLE = (
    SafetensorError,
    ArgumentError,
    ArithmeticError,
    BadZipFile,
    EOFError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


def writers(reference: Reference) -> dict[str, Callable[[Path], None]]:
    """Return for each part the function that writes it to a path."""
    from safetensors.numpy import save_file

    encoder, calibration = reference.encoder, reference.calibration
    classifier = encoder.fitted_classifier
    weights = {
        "transform.mean": encoder.transform.mean,
        "transform.fraction": encoder.transform.fraction,
        "classifier.kernel": classifier.kernel,
        "classifier.bias": classifier.bias,
        "classifier.columns": np.asarray(reference.classifier_columns, dtype=np.int64),
        "components": encoder.components,
        "novelty.latent.means": reference.novelty.latent.means,
        "novelty.latent.whitening": reference.novelty.latent.whitening,
        "novelty.components.means": reference.novelty.components.means,
        "novelty.components.whitening": reference.novelty.components.whitening,
        "held_out": reference.held_out.astype(np.uint8),
        "added": reference.added.astype(np.uint8),
        "simulation.data": reference.simulation_cells.counts.data,
        "simulation.indices": reference.simulation_cells.counts.indices.astype(np.int32),
        "simulation.indptr": reference.simulation_cells.counts.indptr.astype(np.int64),
    }
    if encoder.discriminant is not None:
        weights |= {f"discriminant.{name}": array for name, array in _discriminant_arrays(encoder.discriminant).items()}
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
        "classifier_types": list(classifier.types),
        "simulation_names": [str(name) for name in reference.simulation_cells.names],
        "types": list(reference.types),
        "label_key": reference.label_key,
        "temperature": calibration.combination.temperature,
        "discriminant_temperature": encoder.discriminant.temperature if encoder.discriminant else 1.0,
        "calibration_method": calibration.method,
        "depth": reference.depth,
        "index_kind": reference.index_kind,
        "history": encoder.history,
        "parameters": encoder.parameters,
        "provenance": reference.provenance,
    }
    held_out = {
        "scores": np.asarray(calibration.scores, dtype=np.float64),
        "groups": np.asarray(calibration.groups, dtype=np.int64),
        "true_probabilities": np.asarray(calibration.true_probabilities, dtype=np.float64),
        "locations": np.stack([scale.location for scale in calibration.scales]),
        "spreads": np.stack([scale.spread for scale in calibration.scales]),
    }

    def save_arrays(arrays: dict[str, np.ndarray]) -> Callable[[Path], None]:
        return lambda path: save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)

    def save_array(array: np.ndarray) -> Callable[[Path], None]:
        return lambda path: np.save(path, np.asarray(array, dtype=np.float32), allow_pickle=False)

    written: dict[str, Callable[[Path], None]] = {
        "model": lambda path: _write_text(path, json.dumps(model, allow_nan=False, default=np.generic.item)),
        "weights": save_arrays(weights),
        "calibration": save_arrays(held_out),
        "obs": reference.obs.to_parquet,
        "embedding": save_array(reference.embedding),
        "projected": save_array(reference.projected),
    }
    if encoder.discriminant is not None:
        written["decision"] = save_array(reference.decision)
    index = reference.search_index
    if isinstance(index, ApproximateIndex):
        written["index"] = index.write
    return written


def load(files: dict[str, Path]) -> dict[str, Any]:
    """Return the contents of the verified part files, by the names of a reference's fields."""
    from safetensors.numpy import load_file

    model = json.loads(files["model"].read_bytes())
    weights = load_file(files["weights"])
    held_out = load_file(files["calibration"])
    for name, array in [*weights.items(), *held_out.items()]:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            msg = f"{name} is not finite"
            raise ValueError(msg)
    transform = Transform(
        genes=np.asarray(model["genes"], dtype=object),
        target_sum=float(model["target_sum"]),
        mean=weights["transform.mean"],
        fraction=weights["transform.fraction"],
    )
    encoder = Encoder(
        transform=transform,
        layers=tuple(_layer(model, weights, i) for i in range(len(model["activations"]))),
        classifier=Classifier(
            weights["classifier.kernel"], weights["classifier.bias"], tuple(model["classifier_types"])
        ),
        history=model["history"],
        parameters=model["parameters"],
        components=weights["components"],
        discriminant=_discriminant(model, weights),
    )
    embedding = open_memmap(files["embedding"], mode="r")
    index = None
    if "index" in files:
        index = ApproximateIndex.read(
            files["index"], choose_index(len(embedding), model["index_kind"]), embedding.shape
        )
    names = np.asarray(model["simulation_names"], dtype=object)
    if any(weights[name].dtype.kind not in "iu" for name in ("simulation.indices", "simulation.indptr")):
        msg = "the places of the counts kept for simulated queries are no whole numbers"
        raise ValueError(msg)
    counts = sparse.csr_matrix(
        (weights["simulation.data"], weights["simulation.indices"], weights["simulation.indptr"]),
        shape=(len(names), transform.n_genes),
    )
    counts.check_format()
    pairs = zip(held_out.pop("locations"), held_out.pop("spreads"), strict=True)
    scales = [Standardization(location, spread) for location, spread in pairs]
    if len(scales) == N_KINDS:
        # Earlier versions had no unit for all types.
        scales.append(scales[-1])
    return {
        "encoder": encoder,
        "embedding": embedding,
        # Threads of Arrow that are still at work when a short process ends can bring it down.
        "obs": pd.read_parquet(files["obs"], use_threads=False, pre_buffer=False),
        "label_key": model["label_key"],
        "types": tuple(model["types"]),
        "classifier_columns": weights["classifier.columns"],
        "held_out": weights["held_out"].astype(bool),
        # Earlier versions did not say.
        "added": weights["added"].astype(bool) if "added" in weights else None,
        "novelty": Novelty(
            *(
                TypeGaussians(weights[f"novelty.{space}.means"], weights[f"novelty.{space}.whitening"])
                for space in ("latent", "components")
            )
        ),
        "projected": open_memmap(files["projected"], mode="r"),
        "decision": open_memmap(files["decision"], mode="r") if "decision" in files else None,
        "calibration": Calibration(
            combination=Combination(float(model["temperature"])),
            scales=tuple(scales),
            method=model["calibration_method"],
            **held_out,
        ),
        "simulation_cells": SimulationCells(counts, names),
        "depth": model["depth"],
        "index_kind": model["index_kind"],
        "index": index,
        "provenance": model["provenance"],
    }


def _layer(model: dict[str, Any], weights: dict[str, np.ndarray], i: int) -> DenseWeights:
    mask = weights.get(f"layers.{i}.mask")
    # Bundles of references without gene sets may lack the names of units.
    units = (model.get("units") or [None] * (i + 1))[i]
    return DenseWeights(
        weights[f"layers.{i}.kernel"],
        weights[f"layers.{i}.bias"],
        model["activations"][i],
        None if mask is None else mask.astype(bool),
        None if units is None else tuple(units),
    )


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _discriminant_arrays(discriminant: GeneDiscriminant) -> dict[str, np.ndarray]:
    return {
        name: array.astype(np.uint8) if array.dtype == bool else array
        for name, array in vars(discriminant).items()
        if name != "temperature"
    }


def _discriminant(model: dict[str, Any], weights: dict[str, np.ndarray]) -> GeneDiscriminant | None:
    """Return the discriminant, or None where an earlier version wrote the bundle, which had none."""
    prefix = "discriminant."
    arrays = {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
    if not arrays:
        return None
    seen = arrays.pop("seen").astype(bool)
    return GeneDiscriminant(**arrays, seen=seen, temperature=float(model["discriminant_temperature"]))
