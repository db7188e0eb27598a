"""Read and check what a report is about: the results of a query, and the reference that was queried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scquery_ae._checks import check_obs_key, shown
from scquery_ae._errors import ArgumentError
from scquery_ae._slots import Slots
from scquery_ae.pl._results import as_text, check_columns, is_unknown, numbers, reference_column, reference_rows
from scquery_ae.reference import Reference

NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class QueryResults:
    """Results of a query.

    Attributes
    ----------
    cells
        The cells without expression values, for plots: the columns, embeddings and colours that plots need.
    slots
        Names of the slots.
    names
        Names of the cells, ``(n_obs,)``.
    label
        Label as text, missing for cells without one, ``(n_obs,)``.
    confidence, pvalue
        Float64 ``(n_obs,)``.
    novelty
        Float64 ``(n_obs,)``, or None if the column is missing.
    unknown
        Whether the cell is called unknown, bool ``(n_obs,)``.
    prediction_set
        Types joined by ``|``, ``(n_obs,)``; None if the column is missing or a type name contains ``|``.
    neighbors
        Reference rows, ``(n_obs, n_neighbors)``, or None if they are missing.
    recorded
        The record of the query in ``uns``; empty if it is missing.
    n_genes
        Genes in the query.
    """

    cells: AnnData
    slots: Slots
    names: np.ndarray
    label: pd.Series
    confidence: np.ndarray
    pvalue: np.ndarray
    novelty: np.ndarray | None
    unknown: np.ndarray
    prediction_set: pd.Series | None
    neighbors: np.ndarray | None
    recorded: Mapping[str, Any]
    n_genes: int

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return len(self.names)

    @property
    def counts(self) -> pd.Series:
        """Number of cells of each label that occurs, most frequent first."""
        return self.label.value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable")

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters of the query; empty if they are not recorded."""
        return self.part("parameters")

    @property
    def alpha(self) -> float | None:
        """Error rate of calling cells unknown; None if it is not recorded."""
        return self.parameters.get("alpha")

    @property
    def controls_fdr(self) -> bool:
        """Whether `alpha` is a false discovery rate over all cells, not an error rate for each cell."""
        return bool(self.parameters.get("corr_method"))

    @property
    def types(self) -> list[str]:
        """Types of the reference; empty if they are not recorded."""
        return [str(kind) for kind in np.atleast_1d(self.recorded.get("types", []))]

    @property
    def genes(self) -> tuple[int, int] | None:
        """Number of model genes that the query has, and of all model genes; None if they are not recorded."""
        found = self.part("genes")
        return (int(found["n_found"]), int(found["n_genes"])) if {"n_found", "n_genes"} <= set(found) else None

    def of(self, kind: str) -> np.ndarray:
        """Return which cells have this label, bool ``(n_obs,)``."""
        return self.label.eq(kind).to_numpy(dtype=bool)

    def part(self, name: str) -> Mapping[str, Any]:
        """Return a part of the record, empty if it is missing."""
        found = self.recorded.get(name, {})
        return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True)
class QueriedReference:
    """The reference that was queried, as the user passed it.

    Attributes
    ----------
    given
        A Reference, or the AnnData of its cells.
    obs
        Annotation of its cells.
    labels
        Their types as text, or None if no column of types is known.
    label_key
        Name of that column.
    """

    given: Reference | AnnData
    obs: pd.DataFrame
    labels: pd.Series | None
    label_key: str | None

    @property
    def calibration(self) -> str | None:
        """Calibration method of a Reference; None for an AnnData."""
        return self.given.calibration.method if isinstance(self.given, Reference) else None


def read_results(adata: AnnData, slots: Slots, columns: list[str]) -> QueryResults:
    """Return the results of a query; `columns` of ``obs`` are kept for plots."""
    needed = (slots.label, slots.confidence, slots.pvalue, slots.unknown)
    check_columns(adata, needed, "report.write")
    label = as_text(adata.obs[slots.label])
    confidence, pvalue = (numbers(adata, column, "report.write") for column in (slots.confidence, slots.pvalue))
    kept = list(dict.fromkeys([*needed, *columns]))
    wanted = (slots.embedding, slots.neighbors)
    obsm = {slot: np.asarray(adata.obsm[slot]) for slot in wanted if slot in adata.obsm}
    colours = {f"{column}_colors": adata.uns[f"{column}_colors"] for column in kept if f"{column}_colors" in adata.uns}
    recorded = adata.uns.get(slots.uns)
    sets = None
    if slots.prediction_set in adata.obs and not contains_separator(label):
        sets = as_text(check_obs_key(adata, slots.prediction_set, "key_added"))
    return QueryResults(
        cells=without_expression(adata.obs[kept], obsm, colours),
        slots=slots,
        names=adata.obs_names.to_numpy().astype(str),
        label=label,
        confidence=confidence,
        pvalue=pvalue,
        novelty=numbers(adata, slots.novelty, "report.write") if slots.novelty in adata.obs else None,
        unknown=is_unknown(adata, slots),
        prediction_set=sets,
        neighbors=obsm.get(slots.neighbors),
        recorded=recorded if isinstance(recorded, Mapping) else {},
        n_genes=adata.n_vars,
    )


def without_expression(obs: pd.DataFrame, obsm: dict[str, np.ndarray], uns: dict[str, Any] | None = None) -> AnnData:
    """Return cells without expression values: plots read from them and store colours in them."""
    obs = obs.copy()
    obs.index = pd.Index(np.arange(len(obs)).astype(str))
    return AnnData(obs=obs, var=pd.DataFrame(index=["none"]), obsm=obsm, uns=uns or {})


def contains_separator(names: pd.Series) -> bool:
    """Whether a name contains ``|``, which joins the types of a prediction set."""
    return any("|" in name for name in names.dropna().unique())


def counted(counts: pd.Series) -> list[tuple[str, int]]:
    """Return the names of types and their numbers of cells."""
    return [(str(kind), int(count)) for kind, count in counts.items()]


def quantiles(values: np.ndarray) -> tuple[float, float, float]:
    """Return the 5, 50 and 95 per cent quantiles of the finite values, NaN if there are none."""
    finite = values[np.isfinite(values)]
    low, middle, high = np.quantile(finite, [0.05, 0.5, 0.95]) if len(finite) else (np.nan,) * 3
    return float(low), float(middle), float(high)


def read_reference(reference: Any, results: QueryResults, label_key: str | None) -> QueriedReference:
    """Return the reference after checking, as far as possible, that it is the one that was queried."""
    if not isinstance(reference, Reference | AnnData):
        msg = (
            "`reference` must be the `scq.Reference` that was queried, or the AnnData of its cells. "
            f"Received {type(reference).__name__}; open a saved reference with `scq.Reference.load(path)`."
        )
        raise ArgumentError(msg)
    obs: pd.DataFrame = reference.obs
    if results.neighbors is not None:
        reference_rows(results.cells, results.slots.neighbors, len(obs), "report.write")
    if isinstance(reference, Reference):
        differing = set(results.types) ^ set(map(str, reference.types)) if results.types else set()
        if differing:
            msg = (
                "`report.write` needs the reference that was queried. Expected the types that the query recorded. "
                f"Received a reference that differs in {shown(sorted(differing))}; pass the one that was queried, or "
                "query again."
            )
            raise ArgumentError(msg)
        label_key = reference.label_key if label_key is None else label_key
    labels = None if label_key is None else as_text(reference_column(obs, label_key, "label_key"))
    return QueriedReference(reference, obs, labels, label_key)
