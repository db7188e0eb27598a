"""A labelled reference that can be searched."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scquery_ae._checks import check_number
from scquery_ae._errors import ArgumentError
from scquery_ae.encoder import Encoder
from scquery_ae.index import ExactIndex, Neighbors
from scquery_ae.labels import label_codes
from scquery_ae.reference import bundle
from scquery_ae.reference.calibration import Calibration
from scquery_ae.stats import centroid_probabilities, vote_probabilities


@dataclass(frozen=True)
class Annotation:
    """What a reference says about some cells.

    Attributes
    ----------
    types
        The reference's cell types, in the order of the columns below.
    labels
        Most probable type of each cell, int ``(n,)``, a position in `types`.
    probabilities
        Calibrated probability of each type, float64 ``(n, n_types)``.
    pvalues
        Conformal p-value of belonging to the given type, float64 ``(n,)``.
    label_sets
        Types that cannot be ruled out, bool ``(n, n_types)``.
    neighbors
        The nearest reference cells.
    """

    types: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    pvalues: np.ndarray
    label_sets: np.ndarray
    neighbors: Neighbors


@dataclass
class Reference:
    """Encoder, embedding, labels and calibration of a labelled dataset.

    Made by :func:`scquery_ae.tl.build_reference`, searched by :func:`scquery_ae.tl.query`.

    Attributes
    ----------
    encoder
        Fine-tuned encoder.
    embedding
        Unit-length codes of the cells, float32 ``(n_obs, n_latent)``; memory-mapped after :meth:`load`.
    obs
        Their annotation, one row a cell.
    label_key
        Column of `obs` with the cell types.
    centroids
        Unit-length mean code of each type, float32 ``(n_types, n_latent)``.
    calibration
        Fitted on held-out cells.
    depth
        Counts in the model genes and number of model genes detected, median over the cells.
    provenance
        Versions and parameters of its making.
    """

    encoder: Encoder
    embedding: np.ndarray
    obs: pd.DataFrame
    label_key: str
    centroids: np.ndarray
    calibration: Calibration
    depth: dict[str, float]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = (len(self.obs), self.encoder.n_latent)
        if self.embedding.shape != expected:
            msg = (
                f"A reference needs one code a cell, shape {expected} for its {len(self.obs)} rows of `obs` and the "
                f"encoder's width. Received an embedding of shape {self.embedding.shape}."
            )
            raise ArgumentError(msg)
        if self.label_key not in self.obs:
            msg = f"A reference needs its labels in `obs`. Received the key {self.label_key!r} and {list(self.obs)}."
            raise ArgumentError(msg)
        if self.centroids.shape != (len(self.types), self.encoder.n_latent):
            msg = (
                f"A reference needs one mean code a type. Received {self.centroids.shape} for {len(self.types)} types."
            )
            raise ArgumentError(msg)
        self.index = ExactIndex(self.embedding)
        #: Type of each cell as a position in `types`, -1 for cells without a label.
        self.label_codes = label_codes(self.obs[self.label_key], self.types)

    @property
    def n_obs(self) -> int:
        """Number of reference cells."""
        return len(self.obs)

    @property
    def types(self) -> tuple[str, ...]:
        """The cell types it can name."""
        return self.encoder.fitted_head.types

    def annotate(self, codes: np.ndarray, *, n_neighbors: int = 15, coverage: float = 0.98) -> Annotation:
        """Search for the neighbours of some codes and say what types they are.

        Parameters
        ----------
        codes
            Unit-length codes from this reference's encoder, ``(n, n_latent)``.
        n_neighbors
            Hits per cell, ``1 <= n_neighbors <= n_obs``.
        coverage
            Share of label sets that are to hold the true type, in (0, 1).
        """
        check_number("coverage", coverage, 0, 1, closed="neither")
        neighbors = self.index.search(codes, n_neighbors)
        opinions = self.opinions(codes, neighbors.distances, self.label_codes[neighbors.indices], self.centroids)
        probabilities = self.calibration.combination(opinions)
        return Annotation(
            types=self.types,
            labels=probabilities.argmax(axis=1),
            probabilities=probabilities,
            pvalues=self.calibration.pvalues(probabilities, neighbors),
            label_sets=self.calibration.label_sets(probabilities, coverage),
            neighbors=neighbors,
        )

    def opinions(
        self, codes: np.ndarray, distances: np.ndarray, hit_types: np.ndarray, centroids: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what the head, the neighbours and the types' mean codes say, each ``(n, n_types)``.

        Parameters
        ----------
        codes
            Unit-length codes, ``(n, n_latent)``.
        distances, hit_types
            Distance and type of each hit, ``(n, n_neighbors)``; -1 for a hit without a label.
        centroids
            Mean code of each type.
        """
        n_types = len(self.types)
        return (
            self.encoder.classify(codes),
            vote_probabilities(distances, hit_types, n_types),
            centroid_probabilities(codes, centroids),
        )

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the reference as a ``.scq`` directory, whole or not at all.

        Parameters
        ----------
        path
            Directory to make.
        overwrite
            Replace a reference that is there. Whoever has the old one open keeps it.

        Raises
        ------
        BundleError
            If something is there already that may not be replaced.
        """
        bundle.write(path, self, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Reference:
        """Open a saved reference; its embedding stays on disk until it is searched.

        Parameters
        ----------
        path
            Directory that :meth:`save` wrote.

        Raises
        ------
        BundleError
            If it is damaged, incomplete, of a newer format, or not a reference.
        """
        return bundle.read(path, cls)

    def __repr__(self) -> str:
        return f"Reference({self.n_obs} cells, {len(self.types)} types by {self.label_key!r}, {self.encoder!r})"


def open_reference(reference: Reference | str | PathLike[str], function: str) -> tuple[Reference, dict[str, str]]:
    """Return a reference, loaded if a path was given, and what identifies it: its directory's name and its hash."""
    if isinstance(reference, Reference):
        return reference, {"name": "", "sha256": ""}
    if not isinstance(reference, str | PathLike):
        msg = f"`{function}` needs a reference or the path of a saved one. Received {type(reference).__name__}."
        raise ArgumentError(msg)
    loaded = Reference.load(reference)
    # The name alone: the path says more of the user's machine than belongs in a file to share.
    return loaded, {"name": Path(reference).name, "sha256": bundle.digest(reference)}
