"""The contents of a reference, and checks that its parts match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scquery_ae._errors import ArgumentError
from scquery_ae.annotate import N_MEASURES, Calibration, TypeDensities
from scquery_ae.encoder import Encoder
from scquery_ae.index import INDEXES, NeighborIndex
from scquery_ae.reference.cells import ReferenceCells
from scquery_ae.reference.simulation_cells import SimulationCells


@dataclass
class ReferenceContents:
    """Everything that a saved reference holds.

    Attributes
    ----------
    encoder
        Fine-tuned encoder.
    cells
        Annotation and per-cell arrays; the large arrays are memory-mapped after loading.
    label_key
        Column of ``cells.obs`` with the cell types.
    types
        Cell types that can be predicted.
    classifier_columns
        Position of each type of the encoder's classifier in `types`, int ``(n_classifier_types,)``; -1 for a type that
        was dropped.
    densities
        Gaussians of the types in the embedding and in principal components.
    calibration
        Calibration on held-out cells.
    simulation_cells
        Counts of some held-out cells, for simulated queries.
    depth
        Median counts in the model genes (``"counts"``) and median number of detected model genes (``"genes"``).
    index_kind
        Kind of search, as for :func:`scquery_ae.index.build_index`.
    index
        Search over the embedding; None to build it when it is first used.
    provenance
        Versions and parameters with which the reference was built, and each later edit under ``"steps"``.
    """

    encoder: Encoder
    cells: ReferenceCells
    label_key: str
    types: tuple[str, ...]
    classifier_columns: np.ndarray
    densities: TypeDensities
    calibration: Calibration
    simulation_cells: SimulationCells
    depth: dict[str, float]
    index_kind: str
    index: NeighborIndex | None
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        _validate(self)


def _validate(contents: ReferenceContents) -> None:
    """Check that the parts of a reference match.

    Raises
    ------
    ArgumentError
        If a shape, a name or a dtype is wrong.
    """
    encoder = contents.encoder
    if encoder.components is None:
        msg = (
            "A reference needs an encoder with principal components, as `scq.tl.pretrain` makes. Received one without."
        )
        raise ArgumentError(msg)
    n_types, n_trained = len(contents.types), len(encoder.fitted_classifier.types)
    n_latent, n_components = encoder.n_latent, encoder.components.shape[1]
    # Raises unless there is a discriminant.
    _ = encoder.fitted_discriminant
    contents.cells.validate({"n_latent": n_latent, "n_components": n_components, "n_classifier_types": n_trained})
    if contents.label_key not in contents.cells.obs:
        there = list(contents.cells.obs)
        msg = f"A reference needs its label column {contents.label_key!r} in `obs`. Received the columns {there}."
        raise ArgumentError(msg)
    shapes: dict[str, tuple[Any, Any]] = {"classifier_columns": (contents.classifier_columns.shape, (n_trained,))}
    for name, gaussians, width in (
        ("embedding", contents.densities.embedding, n_latent),
        ("projected", contents.densities.projected, n_components),
    ):
        shapes[f"densities.{name}.means"] = (gaussians.means.shape, (n_types, width))
        shapes[f"densities.{name}.whitening"] = (gaussians.whitening.shape, (width, width))
    shapes["calibration.scales"] = ((len(contents.calibration.scales),), (N_MEASURES + 1,))
    for i, scale in enumerate(contents.calibration.scales):
        shapes[f"calibration.scales[{i}]"] = (np.stack([scale.location, scale.spread]).shape, (2, n_types))
    for name, (received, expected) in shapes.items():
        if received != expected:
            msg = f"A reference's `{name}` must have shape {expected}. Received {received}."
            raise ArgumentError(msg)
    columns = contents.classifier_columns
    if not ((columns >= -1) & (columns < n_types)).all():
        msg = (
            f"A reference's `classifier_columns` must be positions among its {n_types} types, or -1. "
            f"Received values from {columns.min()} to {columns.max()}."
        )
        raise ArgumentError(msg)
    if contents.index_kind not in INDEXES:
        msg = f"A reference's index must be one of {INDEXES}. Received {contents.index_kind!r}."
        raise ArgumentError(msg)
