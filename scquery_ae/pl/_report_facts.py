"""What a report is about: a query's answers, what was recorded of it, and the reference, taken together and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scquery_ae._checks import check_obs_key, shown
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae._slots import Slots
from scquery_ae.pl._answers import check_columns, is_unknown, numbers, texts
from scquery_ae.pl._report_figures import lean
from scquery_ae.pl.neighbors_by_batch import hits_of

RECORDED_NOT = "not recorded"

#: What a report of ``pp.check`` has.
_CHECKED = ("genes", "counts", "detected", "expected_accuracy", "problems", "lines")


@dataclass(frozen=True)
class Answers:
    """What a query wrote.

    Attributes
    ----------
    cells
        The cells without expression, for plots: columns, embeddings and colours that these need.
    slots
        What the results are called.
    names
        Names of the cells, ``(n_obs,)``.
    label
        Label as text, missing where there is none, ``(n_obs,)``.
    confidence, pvalue
        Float64 ``(n_obs,)``.
    novelty
        Float64 ``(n_obs,)``; None if it is not there.
    unknown
        Bool ``(n_obs,)``.
    prediction_set
        Text, missing where there is none, ``(n_obs,)``; None if it is not there, or types cannot be told apart in it.
    neighbors
        ``(n_obs, n_neighbors)``; None if they are not there.
    recorded
        What ``uns`` says of the query; empty if it is not there.
    n_genes
        Genes in the file.
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
        """Cells of each label that occurs, most frequent first."""
        return self.label.value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable")

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters of the query; empty if they are not recorded."""
        found = self.recorded.get("parameters", {})
        return found if isinstance(found, Mapping) else {}

    @property
    def types(self) -> list[str]:
        """Types that the reference could name; empty if they are not recorded."""
        return [str(kind) for kind in np.atleast_1d(self.recorded.get("types", []))]

    @property
    def genes(self) -> tuple[int, int] | None:
        """Genes of the reference that were found, and all; None if they are not recorded."""
        found = self.part("genes")
        return (int(found["n_found"]), int(found["n_genes"])) if {"n_found", "n_genes"} <= set(found) else None

    def of(self, kind: str) -> np.ndarray:
        """Return which cells have a label, bool ``(n_obs,)``."""
        return self.label.eq(kind).to_numpy(dtype=bool)

    def part(self, name: str) -> Mapping[str, Any]:
        """Return a part of what was recorded, empty if it is not there."""
        found = self.recorded.get(name, {})
        return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True)
class Source:
    """The reference, as far as it was given.

    Attributes
    ----------
    given
        The object itself: a Reference, or AnnData.
    obs
        Annotation of its cells.
    labels
        Their types as text; None if no column of types is known.
    label_key
        Name of that column.
    """

    given: Any
    obs: pd.DataFrame
    labels: pd.Series | None
    label_key: str | None

    @property
    def is_cells(self) -> bool:
        """Whether it is an AnnData."""
        return isinstance(self.given, AnnData)

    @property
    def method(self) -> str:
        """How it was calibrated, as a Reference says it."""
        return str(getattr(getattr(self.given, "calibration", None), "method", RECORDED_NOT))


def read_answers(adata: AnnData, slots: Slots, columns: list[str]) -> Answers:
    """Return what a query wrote; `columns` of ``obs`` are kept for plots."""
    needed = (slots.label, slots.confidence, slots.pvalue, slots.unknown)
    check_columns(adata, needed, "pl.report")
    label = texts(adata.obs[slots.label])
    confidence, pvalue = (numbers(adata, column, "pl.report") for column in (slots.confidence, slots.pvalue))
    kept = list(dict.fromkeys([*needed, *columns]))
    wanted = (slots.embedding, slots.neighbors)
    obsm = {slot: np.asarray(adata.obsm[slot]) for slot in wanted if slot in adata.obsm}
    colours = {f"{column}_colors": adata.uns[f"{column}_colors"] for column in kept if f"{column}_colors" in adata.uns}
    recorded = adata.uns.get(slots.uns)
    sets = None
    if slots.prediction_set in adata.obs and not holds_bar(label):
        sets = texts(check_obs_key(adata, slots.prediction_set, "key_added"))
    return Answers(
        cells=lean(adata.obs[kept], obsm, colours),
        slots=slots,
        names=adata.obs_names.to_numpy().astype(str),
        label=label,
        confidence=confidence,
        pvalue=pvalue,
        novelty=numbers(adata, slots.novelty, "pl.report") if slots.novelty in adata.obs else None,
        unknown=is_unknown(adata, slots),
        prediction_set=sets,
        neighbors=obsm.get(slots.neighbors),
        recorded=recorded if isinstance(recorded, Mapping) else {},
        n_genes=adata.n_vars,
    )


def holds_bar(names: pd.Series) -> bool:
    """Whether the sign that stands between the types of a prediction set occurs."""
    return any("|" in name for name in names.dropna().unique())


def counted(counts: pd.Series) -> list[tuple[str, int]]:
    """Return types as text, and numbers of cells."""
    return [(str(kind), int(count)) for kind, count in counts.items()]


def quantiles(values: np.ndarray) -> tuple[float, float, float]:
    """Return the 5, 50 and 95 per cent quantiles, NaN where there is nothing."""
    there = values[np.isfinite(values)]
    low, middle, high = np.quantile(there, [0.05, 0.5, 0.95]) if len(there) else (np.nan,) * 3
    return float(low), float(middle), float(high)


def read_reference(reference: Any, answers: Answers, label_key: str | None) -> Source:
    """Return the reference, made sure to be the one that was queried as far as that can be told."""
    obs = getattr(reference, "obs", None)
    is_reference = all(hasattr(reference, name) for name in ("embedding", "types", "label_key"))
    if not isinstance(obs, pd.DataFrame) or not (is_reference or isinstance(reference, AnnData)):
        msg = (
            "`reference` must be the reference that was queried, or the AnnData of its cells. "
            f"Received {type(reference).__name__}; open a saved one with `scq.Reference.load(path)`."
        )
        raise ArgumentError(msg)
    if answers.neighbors is not None:
        hits_of(answers.cells, answers.slots.neighbors, len(obs), "pl.report")
    if is_reference and answers.types and set(answers.types) != set(map(str, reference.types)):
        other = sorted(set(answers.types) ^ set(map(str, reference.types)))
        msg = (
            "`pl.report` needs the reference that was queried. The types of the one given are not those that the "
            f"query recorded; they differ in {shown(other)}. Give the one that was queried, or query again."
        )
        raise ArgumentError(msg)
    if label_key is None and is_reference:
        label_key = reference.label_key
    labels = None
    if label_key is not None:
        labels = texts(reference_column(obs, label_key, "label_key"))
    return Source(reference, obs, labels, label_key)


def reference_column(obs: pd.DataFrame, key: Any, argument: str) -> pd.Series:
    """Return a column of the reference's annotation."""
    if not isinstance(key, str) or key not in obs.columns:
        msg = f"`{argument}={key!r}` is not in the reference's `obs`. Expected one of {shown(obs.columns, 20)}."
        raise MissingKeyError(msg)
    column: pd.Series = obs[key]
    return column


def check_preflight(check: Any) -> Any:
    """Return `check` if it is a report of ``pp.check``."""
    if not all(hasattr(check, name) for name in _CHECKED):
        msg = (
            "`check` must be the report of `scq.pp.check(adata, reference)`. "
            f"Received {type(check).__name__}; make one and give it."
        )
        raise ArgumentError(msg)
    return check
