"""A labelled reference that can be searched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scquery_ae._checks import check_adata, check_flag, check_mapping, check_number, check_obs_key, check_path
from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger
from scquery_ae.encoder import Encoder
from scquery_ae.index import ExactIndex, NeighborIndex, build_index, usable_index
from scquery_ae.input_state import is_lazy
from scquery_ae.labels import label_codes, label_types
from scquery_ae.loaders import GeneColumns, open_cells
from scquery_ae.loaders.dask_blocks import map_blocks
from scquery_ae.reference import bundle, editing
from scquery_ae.reference.annotation import Annotation, EmbeddedCells
from scquery_ae.reference.calibration import Calibration, latent_types
from scquery_ae.reference.embedding import embed_block, embedded_blocks
from scquery_ae.reference.members import leave_one_out_members, member_probabilities
from scquery_ae.reference.novelty import N_KINDS, Novelty
from scquery_ae.reference.search import SearchFilter, filtered_search
from scquery_ae.reference.simulate import SimulationCells, median_depth
from scquery_ae.reference.to_storable import to_storable
from scquery_ae.reference.validate import validate
from scquery_ae.stats import centroid_probabilities, type_sums, unit_rows

if TYPE_CHECKING:
    from anndata import AnnData

NO_FILTER = SearchFilter()


@dataclass
class Reference:
    """Encoder, embedding, labels and calibration of a labelled dataset.

    Made by :func:`scquery_ae.tl.build_reference`, searched by :func:`scquery_ae.tl.query`. It grows and shrinks without
    training: :meth:`add`, :meth:`remove`, :meth:`relabel`, :meth:`merge`. Cells are known by their names, the index of
    `obs`, which stay; rows move when cells are removed.

    Attributes
    ----------
    encoder
        Fine-tuned encoder.
    embedding
        Unit-length embeddings of the cells, float32 ``(n_obs, n_latent)``; memory-mapped after :meth:`load`.
    obs
        Their annotation, one row a cell.
    label_key
        Column of `obs` with the cell types.
    types
        The cell types it can name.
    classifier_columns
        For each type of the encoder's classifier its position in `types`, int ``(n_classifier_types,)``.
    held_out
        Cells that training did not see, bool ``(n_obs,)``.
    novelty
        Where the types lie in the embedding and in the encoder's principal components.
    projected
        The cells in the components, float32 ``(n_obs, n_components)``; memory-mapped after :meth:`load`.
    decision
        What the genes of each cell say for each of the classifier's types, float32 ``(n_obs, n_classifier_types)``; memory-mapped
        after :meth:`load`. None, and ``(n_obs, 0)`` then, where the encoder has no discriminant.
    added
        Cells that came after training, bool ``(n_obs,)``; None for none.
    calibration
        Fitted on held-out cells.
    simulation_cells
        Counts of some held-out cells, for :func:`scquery_ae.pp.check`.
    depth
        Counts in the model genes and number of model genes detected, median over the cells.
    index_kind
        Kind of search, as for :func:`scquery_ae.index.build_index`.
    index
        The search over `embedding`; None to build it.
    provenance
        Versions and parameters of its making; under ``"steps"`` what was done since.
    """

    encoder: Encoder
    embedding: np.ndarray
    obs: pd.DataFrame
    label_key: str
    types: tuple[str, ...]
    classifier_columns: np.ndarray
    held_out: np.ndarray
    novelty: Novelty
    projected: np.ndarray
    calibration: Calibration
    simulation_cells: SimulationCells
    depth: dict[str, float]
    index_kind: str = "auto"
    index: NeighborIndex | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    decision: np.ndarray = None  # type: ignore[assignment]
    added: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.decision is None:
            self.decision = np.zeros((len(self.obs), 0), dtype=np.float32)
        if self.added is None:
            self.added = np.zeros(len(self.obs), dtype=bool)
        validate(self)
        self.refresh()

    def refresh(self) -> None:
        """Forget what followed from the cells and labels as they were."""
        #: Type of each cell as a position in `types`, -1 for cells without a label.
        self.label_codes = label_codes(self.obs[self.label_key], self.types)
        self.__dict__.pop("type_sums", None)
        self.__dict__.pop("centroids", None)

    @cached_property
    def type_sums(self) -> np.ndarray:
        """Sum of the embeddings of each type, float32 ``(n_types, n_latent)``."""
        return type_sums(self.embedding, self.label_codes, len(self.types))

    @cached_property
    def centroids(self) -> np.ndarray:
        """Unit-length mean embedding of each type, float32 ``(n_types, n_latent)``."""
        return unit_rows(self.type_sums)

    @property
    def n_obs(self) -> int:
        """Number of reference cells."""
        return len(self.obs)

    @property
    def search_index(self) -> NeighborIndex:
        """The search over the embedding, built when it is first asked for."""
        if self.index is None:
            # Cells may have been removed since the kind was chosen.
            kind = usable_index(self.n_obs, self.index_kind)
            # What is memory-mapped stays so.
            self.index = ExactIndex(self.embedding) if kind == "exact" else build_index(self.embedding, kind)
        return self.index

    def embed(self, cells: GeneColumns) -> EmbeddedCells:
        """Return cells as the reference sees them, in one pass over their counts; a Dask array block by block."""
        if is_lazy(cells.matrix):
            lean = replace(self.encoder, classifier=None, history={}, parameters={}, pretrained=None)
            return EmbeddedCells(**map_blocks(embed_block, cells, lean))
        return EmbeddedCells(**embed_block(self.encoder, cells))

    def embed_blocks(self, cells: GeneColumns, size: int) -> Iterator[EmbeddedCells]:
        """Yield cells as :meth:`embed` returns them, `size` at a time, in order.

        Parameters
        ----------
        cells
            Not a Dask array.
        size
            A multiple of ``loaders.CHUNK``, or all of the cells.
        """
        return embedded_blocks(self.encoder, cells, size)

    def annotate(
        self,
        cells: EmbeddedCells,
        *,
        n_neighbors: int = 15,
        coverage: float = 0.98,
        rules: SearchFilter = NO_FILTER,
        share: float = 1.0,
    ) -> Annotation:
        """Search for the neighbors of some cells and say what types they are.

        Parameters
        ----------
        cells
            From :meth:`embed`.
        n_neighbors
            Hits per cell, ``1 <= n_neighbors <= n_obs``.
        coverage
            Share of prediction sets that are to hold the true type, in (0, 1).
        rules
            What the search is cut to.
        share
            Share of the model genes that the cells have.
        """
        check_number("coverage", coverage, 0, 1, closed="neither")
        neighbors = filtered_search(self.search_index, self.obs, cells.latent, n_neighbors, rules)
        near = centroid_probabilities(cells.latent, self.centroids)
        members = member_probabilities(self, cells, neighbors, near)
        probabilities = self.calibration.probabilities(members, share)
        labels = probabilities.argmax(axis=1)
        places = latent_types(members)
        measures = self.nonconformity(cells, places)
        return Annotation(
            types=self.types,
            labels=labels,
            probabilities=probabilities,
            pvalues=self.calibration.pvalues(self.calibration.nonconformity(measures, places), places),
            novelty=self.calibration.novelty(measures, places),
            prediction_sets=self.calibration.prediction_sets(probabilities, coverage),
            neighbors=neighbors,
        )

    def nonconformity(self, cells: EmbeddedCells, labels: np.ndarray) -> np.ndarray:
        """Return how strange cells are for the types that they are given; see :meth:`Novelty.nonconformity`."""
        return self.novelty.nonconformity(self.encoder.fitted_classifier, cells.latent, cells.projected, labels)

    def calibrate(self) -> None:
        """Fit the calibration to the held-out cells, each searched among all others."""
        labels = self.label_codes
        rows = np.flatnonzero(self.held_out & (labels >= 0))
        if not len(rows) or np.count_nonzero(labels >= 0) < 2:
            self.calibration = Calibration.empty(len(self.types), N_KINDS)
            return
        cells = EmbeddedCells(self.embedding[rows], self.projected[rows], self.decision[rows], np.ones(len(rows)))
        members = leave_one_out_members(self, cells, rows)
        given = latent_types(members)
        measures = self.nonconformity(cells, given)
        # Without the cell the mean of its type would lie n / (n - 1) times as far away.
        n = np.bincount(labels[labels >= 0], minlength=len(self.types))[given]
        measures[:, 1:] *= np.where(given == labels[rows], n / np.maximum(n - 1, 1), 1)[:, None]
        self.calibration = Calibration.fit(members, measures, labels[rows], "held_out")

    def add(
        self,
        adata: AnnData,
        *,
        label_key: str | None = None,
        layer: str | None = None,
        gene_key: str | None = None,
        input_state: str = "auto",
        ignore_case: bool = False,
        orthologs: Mapping[str, str] | None = None,
        min_gene_overlap: float = 0.5,
    ) -> None:
        """Embed labelled cells and add them; nothing is trained, and calibration is done anew.

        The cells count as held out, since training has not seen them. Types that the classifier does not know are named by
        the neighborhood alone.

        Parameters
        ----------
        adata
            Cells to add, their names unlike those that are there.
        label_key
            Column of its ``obs`` with the cell types; None for that of the reference. Missing labels are fine.
        layer, gene_key, input_state, ignore_case, orthologs
            As for :func:`scquery_ae.tl.query`.
        min_gene_overlap
            Least share of the model genes that must be there, 0 to 1; more than a query needs, for these cells
            answer others.

        Raises
        ------
        ArgumentError
            If a cell's name is there already.
        MissingKeyError
            If `label_key` is not a column of ``obs``.
        GeneOverlapError, InputStateError
            If the cells cannot be read.
        """
        check_adata(adata, "Reference.add")
        labels = check_obs_key(adata, self.label_key if label_key is None else label_key, "label_key")
        opened = open_cells(
            adata,
            self.encoder.genes,
            function="Reference.add",
            layer=layer,
            gene_key=gene_key,
            input_state=input_state,
            ignore_case=ignore_case,
            orthologs=orthologs,
            min_gene_overlap=min_gene_overlap,
        )
        obs = to_storable(adata.obs)
        obs[self.label_key] = to_storable(labels.to_frame(self.label_key))[self.label_key]
        every = np.ones(len(obs), dtype=bool)
        own = label_codes(obs[self.label_key], label_types(obs[self.label_key]))
        editing.add_cells(
            self,
            self.embed(opened.cells),
            obs,
            SimulationCells.choose(opened.cells, adata.obs_names.to_numpy(), own, every),
            median_depth(*opened.cells.depth()),
        )

    def remove(self, names: Iterable[str] | None = None, *, where: Mapping[str, Any] | None = None) -> None:
        """Take cells out; calibration is done anew. Types stay, also those that lose their last cell.

        Parameters
        ----------
        names
            Names of cells.
        where
            Values of their annotation, such as ``{"study": "Baron"}``; with `names`, cells that both mean.

        Raises
        ------
        ArgumentError
            If no cell is meant, or fewer than two types would be left.
        MissingKeyError
            If a name or a column is not there.
        """
        if where is not None:
            check_mapping("where", where, "columns of `obs` to the values of the cells to remove")
        editing.remove_cells(self, names, where)

    def relabel(self, names: Mapping[str, str]) -> None:
        """Give types other names; types that get the same name become one. Calibration is done anew.

        Parameters
        ----------
        names
            New names by old ones.

        Raises
        ------
        MissingKeyError
            If there is no such type.
        ArgumentError
            If fewer than two types would be left.
        """
        editing.rename_types(self, check_mapping("names", names, "types to their new names"))

    def merge(self, other: Reference) -> None:
        """Add all cells of another reference that the same encoder made; calibration is done anew.

        Raises
        ------
        ArgumentError
            If the encoders differ, or a cell is in both.
        """
        if not isinstance(other, Reference):
            msg = f"`Reference.merge` needs another reference. Received {type(other).__name__}; load it from its path."
            raise ArgumentError(msg)
        editing.merge_references(self, other)

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the reference as a ``.scq`` directory, whole or not at all.

        Parameters
        ----------
        path
            Directory to make; with the ending ``.zip``, one file to share.
        overwrite
            Replace a reference that is there. Whoever has the old one open keeps it.

        Raises
        ------
        BundleError
            If something is there already that may not be replaced.
        """
        target = check_path("path", path)
        bundle.write(target, self, overwrite=check_flag("overwrite", overwrite))
        logger.info("saved %r; wrote %s", self, target)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Reference:
        """Open a saved reference; its embedding stays on disk until it is searched.

        Parameters
        ----------
        path
            What :meth:`save` wrote. A zip file is unpacked to a temporary directory first.

        Raises
        ------
        BundleError
            If it is damaged, incomplete, of a newer format, or not a reference.
        """
        source = check_path("path", path)
        loaded = bundle.read(source, cls)
        logger.debug("opened %r from %s", loaded, source)
        return loaded

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
