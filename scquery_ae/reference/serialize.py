"""Writing the contents of a reference to the files of a bundle, and reading them back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from safetensors import SafetensorError
from scipy import sparse

from scquery_ae._errors import ArgumentError
from scquery_ae.annotate import Calibration, TypeDensities
from scquery_ae.dense import Classifier, DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.index import ApproximateIndex, choose_index
from scquery_ae.reference.cells import ReferenceCells
from scquery_ae.reference.contents import ReferenceContents
from scquery_ae.reference.simulation_cells import SimulationCells
from scquery_ae.stats import Combination, GeneDiscriminant, Standardization, TypeGaussians
from scquery_ae.transform import Transform

#: Suffix of the file of each part. Each per-cell array is a part of its own.
SUFFIXES = {
    "model": "json",
    "weights": "safetensors",
    "calibration": "safetensors",
    "simulation": "safetensors",
    "obs": "parquet",
    **dict.fromkeys(ReferenceCells.per_cell(), "npy"),
    "index": "faiss",
}
#: Parts that every bundle has. An exact search needs no index beside the embedding.
REQUIRED = tuple(name for name in SUFFIXES if name != "index")

#: Names of part files. They contain no separator, so that none can point outside the bundle.
PART_FILE = re.compile(rf"[a-z_]+\.[0-9a-f]{{16}}\.({'|'.join(sorted(set(SUFFIXES.values())))})")

#: The file that names all others.
MANIFEST = "manifest.json"

#: Exceptions that loading raises if parts have the right checksums, but are not those of a reference.
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

_SPACES = ("embedding", "projected")
Arrays = dict[str, np.ndarray]


def writers(contents: ReferenceContents) -> dict[str, Callable[[Path], None]]:
    """Return for each part the function that writes it to a path."""
    model = json.dumps(_model(contents), allow_nan=False, default=np.generic.item)
    parts: dict[str, Callable[[Path], None]] = {
        "model": lambda path: _write_text(path, model),
        "weights": _save_arrays(_weights(contents)),
        "calibration": _save_arrays(_calibration_arrays(contents.calibration)),
        "simulation": _save_arrays(_simulation_arrays(contents.simulation_cells)),
        "obs": contents.cells.obs.to_parquet,
        **{name: _save_array(values) for name, values in contents.cells.arrays.items()},
    }
    if isinstance(contents.index, ApproximateIndex):
        parts["index"] = contents.index.write
    return parts


def load(files: dict[str, Path]) -> dict[str, Any]:
    """Return the contents of verified part files, by the names of the fields of :class:`ReferenceContents`."""
    from safetensors.numpy import load_file

    model = json.loads(files["model"].read_bytes())
    weights, calibration, simulation = (load_file(files[name]) for name in ("weights", "calibration", "simulation"))
    for name, array in [*weights.items(), *calibration.items(), *simulation.items()]:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            msg = f"{name} is not finite"
            raise ValueError(msg)
    cells = _load_cells(files)
    index = None
    if "index" in files:
        kind = choose_index(len(cells.embedding), model["index_kind"])
        index = ApproximateIndex.read(files["index"], kind, cells.embedding.shape)
    encoder = _load_encoder(model, weights)
    return {
        "encoder": encoder,
        "cells": cells,
        "label_key": model["label_key"],
        "types": tuple(model["types"]),
        "classifier_columns": weights["classifier.columns"],
        "densities": TypeDensities(
            *(
                TypeGaussians(weights[f"densities.{space}.means"], weights[f"densities.{space}.whitening"])
                for space in _SPACES
            )
        ),
        "calibration": Calibration(
            combination=Combination(float(model["temperature"])),
            scales=tuple(
                Standardization(location, spread)
                for location, spread in zip(calibration.pop("locations"), calibration.pop("spreads"), strict=True)
            ),
            method=model["calibration_method"],
            **calibration,
        ),
        "simulation_cells": _load_simulation(simulation, model["simulation_names"], encoder.transform.n_genes),
        "depth": model["depth"],
        "index_kind": model["index_kind"],
        "index": index,
        "provenance": model["provenance"],
    }


def _model(contents: ReferenceContents) -> dict[str, Any]:
    encoder = contents.encoder
    return {
        "genes": [str(gene) for gene in encoder.genes],
        "target_sum": encoder.transform.target_sum,
        "activations": [layer.activation for layer in encoder.layers],
        "units": [layer.units for layer in encoder.layers],
        "classifier_types": list(encoder.fitted_classifier.types),
        "simulation_names": [str(name) for name in contents.simulation_cells.names],
        "types": list(contents.types),
        "label_key": contents.label_key,
        "temperature": contents.calibration.combination.temperature,
        "discriminant_temperature": encoder.fitted_discriminant.temperature,
        "calibration_method": contents.calibration.method,
        "depth": contents.depth,
        "index_kind": contents.index_kind,
        "history": encoder.history,
        "parameters": encoder.parameters,
        "provenance": contents.provenance,
    }


def _weights(contents: ReferenceContents) -> Arrays:
    encoder = contents.encoder
    weights = {
        "transform.mean": encoder.transform.mean,
        "transform.fraction": encoder.transform.fraction,
        "classifier.kernel": encoder.fitted_classifier.kernel,
        "classifier.bias": encoder.fitted_classifier.bias,
        "classifier.columns": np.asarray(contents.classifier_columns, dtype=np.int64),
        "components": encoder.fitted_components,
    }
    for space in _SPACES:
        gaussians = getattr(contents.densities, space)
        weights |= {f"densities.{space}.means": gaussians.means, f"densities.{space}.whitening": gaussians.whitening}
    for name, array in vars(encoder.fitted_discriminant).items():
        if name != "temperature":
            weights[f"discriminant.{name}"] = array.astype(np.uint8) if array.dtype == bool else array
    for i, layer in enumerate(encoder.layers):
        weights |= {f"layers.{i}.kernel": layer.kernel, f"layers.{i}.bias": layer.bias}
        if layer.mask is not None:
            weights[f"layers.{i}.mask"] = layer.mask.astype(np.uint8)
    return weights


def _load_encoder(model: dict[str, Any], weights: Arrays) -> Encoder:
    prefix = "discriminant."
    discriminant = {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
    seen = discriminant.pop("seen").astype(bool)
    return Encoder(
        transform=Transform(
            genes=np.asarray(model["genes"], dtype=object),
            target_sum=float(model["target_sum"]),
            mean=weights["transform.mean"],
            fraction=weights["transform.fraction"],
        ),
        layers=tuple(_load_layer(model, weights, i) for i in range(len(model["activations"]))),
        classifier=Classifier(
            weights["classifier.kernel"], weights["classifier.bias"], tuple(model["classifier_types"])
        ),
        history=model["history"],
        parameters=model["parameters"],
        components=weights["components"],
        discriminant=GeneDiscriminant(**discriminant, seen=seen, temperature=float(model["discriminant_temperature"])),
    )


def _load_layer(model: dict[str, Any], weights: Arrays, i: int) -> DenseWeights:
    mask, units = weights.get(f"layers.{i}.mask"), model["units"][i]
    return DenseWeights(
        weights[f"layers.{i}.kernel"],
        weights[f"layers.{i}.bias"],
        model["activations"][i],
        None if mask is None else mask.astype(bool),
        None if units is None else tuple(units),
    )


def _load_cells(files: dict[str, Path]) -> ReferenceCells:
    # np.load would take a damaged file for a zip archive and leave it open.
    mapped = {name: open_memmap(files[name], mode="r") for name in ReferenceCells.per_cell()}
    # Wide arrays stay on disk until they are used. One value per cell takes little memory.
    arrays = {name: np.array(a) if ReferenceCells.per_cell()[name].width is None else a for name, a in mapped.items()}
    # Threads of Arrow that still run when a short process ends can crash it.
    return ReferenceCells(**arrays, obs=pd.read_parquet(files["obs"], use_threads=False, pre_buffer=False))


def _calibration_arrays(calibration: Calibration) -> Arrays:
    return {
        "scores": np.asarray(calibration.scores, dtype=np.float64),
        "groups": np.asarray(calibration.groups, dtype=np.int64),
        "true_probabilities": np.asarray(calibration.true_probabilities, dtype=np.float64),
        "locations": np.stack([scale.location for scale in calibration.scales]),
        "spreads": np.stack([scale.spread for scale in calibration.scales]),
    }


def _simulation_arrays(cells: SimulationCells) -> Arrays:
    return {
        "data": cells.counts.data,
        "indices": cells.counts.indices.astype(np.int32),
        "indptr": cells.counts.indptr.astype(np.int64),
    }


def _load_simulation(arrays: Arrays, names: list[str], n_genes: int) -> SimulationCells:
    if any(arrays[name].dtype.kind not in "iu" for name in ("indices", "indptr")):
        msg = "the positions of the simulation cells' counts are not integers"
        raise ValueError(msg)
    counts = sparse.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(len(names), n_genes))
    counts.check_format()
    return SimulationCells(counts, np.asarray(names, dtype=object))


def _save_arrays(arrays: Arrays) -> Callable[[Path], None]:
    from safetensors.numpy import save_file

    return lambda path: save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def _save_array(array: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path, np.asarray(array), allow_pickle=False)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
