"""A labelled reference that can be searched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scquery_ae._checks import (
    check_adata,
    check_flag,
    check_mapping,
    check_number,
    check_obs_key,
    check_path,
)
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError, warn
from scquery_ae._logging import logger
from scquery_ae.annotate import Annotation, EmbeddedCells, Predictors, TypeDensities, annotate, calibrate_held_out
from scquery_ae.embedding import embed_block, embedded_blocks
from scquery_ae.index import ExactIndex, NeighborIndex, build_index, usable_index
from scquery_ae.input_state import is_lazy
from scquery_ae.labels import label_codes, label_types
from scquery_ae.loaders import GeneColumns, open_cells
from scquery_ae.loaders.dask_blocks import map_blocks
from scquery_ae.reference import bundle, editing
from scquery_ae.reference.cells import ReferenceCells
from scquery_ae.reference.contents import ReferenceContents
from scquery_ae.reference.search import SearchFilter, filtered_search
from scquery_ae.reference.simulation_cells import SimulationCells
from scquery_ae.reference.to_storable import to_storable
from scquery_ae.stats import type_sums, unit_rows

if TYPE_CHECKING:
    from anndata import AnnData

NO_FILTER = SearchFilter()


class Reference(ReferenceContents):
    """Encoder, cells, labels and calibration of a labelled dataset.

    :func:`scquery_ae.tl.build_reference` makes one and :func:`scquery_ae.tl.query` searches it. :meth:`add`,
    :meth:`remove`, :meth:`relabel` and :meth:`merge` edit it without training. Cells are identified by their names, the
    index of `obs`; their rows change when cells are removed.

    See :class:`~scquery_ae.reference.ReferenceContents` for its attributes.
    """

    @property
    def obs(self) -> pd.DataFrame:
        """Annotation of the cells, one row per cell."""
        return self.cells.obs

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return len(self.cells.obs)

    @property
    def embedding(self) -> np.ndarray:
        """Unit-length embedding of the cells, float32 ``(n_obs, n_latent)``."""
        return self.cells.embedding

    @cached_property
    def label_codes(self) -> np.ndarray:
        """Position of each cell's type in `types`, int64 ``(n_obs,)``; -1 for a cell without a label."""
        return label_codes(self.obs[self.label_key], self.types)

    @cached_property
    def type_sums(self) -> np.ndarray:
        """Sum of the embeddings of each type, float32 ``(n_types, n_latent)``."""
        return type_sums(self.cells.embedding, self.label_codes, len(self.types))

    @cached_property
    def predictors(self) -> Predictors:
        """The predictors of a cell's type, over `types`."""
        return Predictors(
            self.encoder.fitted_classifier,
            self.encoder.fitted_discriminant,
            self.classifier_columns,
            self.label_codes,
            self.cells.added,
            unit_rows(self.type_sums),
        )

    @property
    def search_index(self) -> NeighborIndex:
        """Search over the embedding, built when it is first used."""
        if self.index is None:
            # Cells may have been removed since the kind was chosen.
            kind = usable_index(self.n_obs, self.index_kind)
            # An exact search reads the embedding where it lies, on disk if it is memory-mapped.
            self.index = ExactIndex(self.embedding) if kind == "exact" else build_index(self.embedding, kind)
        return self.index

    def embed(self, cells: GeneColumns) -> EmbeddedCells:
        """Embed cells in one pass over their counts; Dask embeds a Dask array block by block."""
        if is_lazy(cells.matrix):
            return EmbeddedCells(**map_blocks(embed_block, cells, self.encoder.lean()))
        return EmbeddedCells(**embed_block(self.encoder, cells))

    def embed_blocks(self, cells: GeneColumns, size: int) -> Iterator[EmbeddedCells]:
        """Yield embedded cells in order, `size` at a time.

        Parameters
        ----------
        cells
            Counts of the model genes, not as a Dask array.
        size
            A multiple of ``loaders.CHUNK``, or the number of cells.
        """
        return embedded_blocks(self.encoder, cells, size)

    def annotate(
        self,
        cells: EmbeddedCells,
        *,
        n_neighbors: int = 15,
        coverage: float = 0.98,
        rules: SearchFilter = NO_FILTER,
        gene_fraction: float = 1.0,
    ) -> Annotation:
        """Find the nearest reference cells of some cells, and predict their types.

        Parameters
        ----------
        cells
            From :meth:`embed`.
        n_neighbors
            Neighbors per cell, ``1 <= n_neighbors <= n_obs``.
        coverage
            Expected fraction of prediction sets that hold the true type, in (0, 1).
        rules
            Which reference cells can be neighbors.
        gene_fraction
            Fraction of the model genes that the cells have.
        """
        check_number("coverage", coverage, 0, 1, closed="neither")
        neighbors = filtered_search(self.search_index, self.obs, cells.embedding, n_neighbors, rules)
        return annotate(
            cells,
            neighbors,
            self.predictors,
            self.densities,
            self.calibration,
            coverage=coverage,
            gene_fraction=gene_fraction,
        )

    def calibrate(self) -> None:
        """Fit the calibration to the held-out cells, each predicted from all others."""
        rows = np.flatnonzero(self.cells.held_out & (self.label_codes >= 0))
        self.calibration = calibrate_held_out(
            self.predictors, self.densities, self.cells.take(rows), rows, self.search_index, self.type_sums
        )

    @shared_parameters
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
        """Embed labelled cells and add them, without training; the calibration is fitted again.

        The added cells count as held out, because training has not seen them. Types that the classifier does not know
        are predicted by the neighbors alone.

        Parameters
        ----------
        adata
            Cells to add. Their names must differ from those of the reference. Columns of ``obs`` that the reference has
            are kept, and are missing where the cells lack them; other columns are dropped.
        label_key
            Column of ``adata.obs`` with the cell types; None for the reference's own key. Labels may be missing.
        %(layer)s
        %(gene_key)s
        %(input_state)s
        %(ignore_case)s
        %(orthologs)s
        min_gene_overlap
            Smallest accepted fraction of the model genes that must be present, 0 to 1; higher than for a query, because
            added cells serve all later queries.

        Raises
        ------
        ArgumentError
            If a name repeats, or is that of a reference cell.
        MissingKeyError
            If `label_key`, `layer` or `gene_key` is not there.
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
        cells = ReferenceCells.from_embedded(self.embed(opened.cells), obs, held_out=every, added=every)
        chosen = SimulationCells.choose(opened.cells, adata.obs_names.to_numpy(), own, every)
        self._apply(editing.add_cells(self, cells, chosen, median_depth(*opened.cells.depth())))

    def remove(self, names: Iterable[str] | None = None, *, where: Mapping[str, Any] | None = None) -> None:
        """Remove cells; the calibration is fitted again.

        A type stays even if it loses its last cell, because the classifier still predicts it; a warning names it.

        Parameters
        ----------
        names
            Names of cells.
        where
            Values of their annotation, such as ``{"study": "Baron"}``. With `names`, cells that match both are removed.

        Raises
        ------
        ArgumentError
            If no cell matches, or fewer than two types would be left.
        MissingKeyError
            If the reference does not have a name or a column.
        """
        if where is not None:
            check_mapping("where", where, "columns of `obs` to the values of the cells to remove")
        self._apply(editing.remove_cells(self, names, where))

    def relabel(self, names: Mapping[str, str]) -> None:
        """Rename types; types that get the same name become one. The calibration is fitted again.

        Parameters
        ----------
        names
            Maps types to their new names.

        Raises
        ------
        MissingKeyError
            If the reference does not have one of the types.
        ArgumentError
            If fewer than two types would be left.
        """
        self._apply(editing.rename_types(self, check_mapping("names", names, "types to their new names")))

    def merge(self, other: Reference) -> None:
        """Add all cells of another reference made with the same encoder; the calibration is fitted again.

        Raises
        ------
        ArgumentError
            If the encoders differ, or a cell is in both.
        """
        if not isinstance(other, Reference):
            msg = f"`Reference.merge` needs another reference. Received {type(other).__name__}; load it from its path."
            raise ArgumentError(msg)
        self._apply(editing.merge_references(self, other))

    def _apply(self, edit: editing.Edit) -> None:
        """Apply an edit, fit again what depends on the cells, and record the step."""
        for name, value in edit.changes.items():
            setattr(self, name, value)
        self.index = None
        for derived in ("label_codes", "type_sums", "predictors"):
            self.__dict__.pop(derived, None)
        self.densities = TypeDensities.fit(
            self.cells.embedding, self.cells.projected, self.label_codes, len(self.types)
        )
        before = self.calibration.method
        self.calibrate()
        if before in ("cross_validated", "leave_one_batch_out"):
            warn(
                f"The calibration was {before.replace('_', ' ')}, which needs training. It is now fitted to the "
                "held-out cells; build the reference again from all its cells for the former one."
            )
        if edit.warning:
            warn(edit.warning)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"step": edit.step, "time": now, "scquery_ae": version("scquery-ae"), "n_obs": self.n_obs}
        steps = [*self.provenance.get("steps", []), {**record, **edit.details}]
        self.provenance = {**self.provenance, "steps": steps}
        logger.info(
            "%s; wrote obs, types, embedding, calibration and provenance['steps'] of the reference, now %d cells of %d "
            "types, in memory until it is saved",
            edit.summary,
            self.n_obs,
            len(self.types),
        )

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the reference as a ``.scq`` directory, completely or not at all.

        Parameters
        ----------
        path
            Directory to create; a path ending in ``.zip`` creates a single file, which is easier to send to others.
        overwrite
            Replace an existing reference. Processes that have opened the old one continue to use it.

        Raises
        ------
        BundleError
            If the path exists and may not be replaced, or cannot be written to.
        """
        target = check_path("path", path)
        # The index is part of what is stored.
        _ = self.search_index
        bundle.write(target, self, overwrite=check_flag("overwrite", overwrite))
        logger.info("saved %r; wrote %s", self, target)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Reference:
        """Open a saved reference; its large arrays stay on disk until they are used.

        Parameters
        ----------
        path
            Path that was passed to :meth:`save`. A zip file is unpacked to a temporary directory first.

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


def median_depth(totals: np.ndarray, detected: np.ndarray) -> dict[str, float]:
    """Return the median counts in the model genes and the median number of detected model genes."""
    return {"counts": float(np.median(totals)), "genes": float(np.median(detected))}
