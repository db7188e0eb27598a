"""Whether the parts of a reference belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._errors import ArgumentError
from scquery_ae.index import INDEXES
from scquery_ae.reference.novelty import N_KINDS

if TYPE_CHECKING:
    from scquery_ae.reference.reference import Reference


def validate(reference: Reference) -> None:
    """Raise unless shapes and names of a reference's parts agree with each other."""
    n, latent = len(reference.obs), reference.encoder.n_latent
    if reference.embedding.shape != (n, latent):
        msg = (
            f"A reference needs one embedding a cell, shape {(n, latent)} for its {n} rows of `obs` and the "
            f"encoder's width. Received an embedding of shape {reference.embedding.shape}."
        )
        raise ArgumentError(msg)
    if reference.label_key not in reference.obs:
        key, columns = reference.label_key, list(reference.obs)
        msg = f"A reference needs its labels in `obs`. Received the key {key!r} and {columns}."
        raise ArgumentError(msg)
    if reference.encoder.components is None:
        msg = "A reference needs an encoder with principal components. `scq.tl.pretrain` makes encoders that have."
        raise ArgumentError(msg)
    n_components, n_types = reference.encoder.components.shape[1], len(reference.types)
    n_decision = 0 if reference.encoder.discriminant is None else len(reference.encoder.fitted_classifier.types)
    shapes = {
        "projected": (reference.projected.shape, (n, n_components)),
        "decision": (reference.decision.shape, (n, n_decision)),
        "added": (reference.added.shape, (n,)),
        "held_out": (reference.held_out.shape, (n,)),
        "classifier_columns": (reference.classifier_columns.shape, (len(reference.encoder.fitted_classifier.types),)),
    }
    for name, gaussians, width in (
        ("latent", reference.novelty.latent, latent),
        ("components", reference.novelty.components, n_components),
    ):
        shapes[f"mean {name}"] = (gaussians.means.shape, (n_types, width))
        shapes[f"whitening of {name}"] = (gaussians.whitening.shape, (width, width))
    shapes["scales"] = ((len(reference.calibration.scales),), (N_KINDS + 1,))
    for i, scale in enumerate(reference.calibration.scales):
        shapes[f"scale {i}"] = (np.stack([scale.location, scale.spread]).shape, (2, n_types))
    for name, (received, expected) in shapes.items():
        if received != expected:
            msg = f"A reference's {name} must have shape {expected}. Received {received}."
            raise ArgumentError(msg)
    if not ((reference.classifier_columns >= -1) & (reference.classifier_columns < len(reference.types))).all():
        msg = f"A reference's classifier_columns must be positions among its {len(reference.types)} types, or -1."
        raise ArgumentError(msg)
    if reference.index_kind not in INDEXES:
        msg = f"A reference's index must be one of {INDEXES}. Received {reference.index_kind!r}."
        raise ArgumentError(msg)
