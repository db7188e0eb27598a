"""Neighbor search restricted by columns of the reference's ``obs``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from scquery_ae._caller import argument
from scquery_ae._checks import check_neighbors, is_several, shown
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae.index import NeighborIndex, Neighbors


@dataclass(frozen=True)
class SearchFilter:
    """Restrictions of a neighbor search.

    Attributes
    ----------
    where
        Maps columns of the reference's ``obs`` to a value or several values. Only cells with one of the values are
        searched.
    excluded
        Maps columns of the reference's ``obs`` to one value per query, ``(n_queries,)``, such as its donor. Cells with
        the query's value are not searched. A missing value excludes no cells.
    diversify_key
        Column of the reference's ``obs``, over whose values the neighbors are spread evenly. A value has more neighbors
        than the others only if too few of their cells remain.
    """

    where: Mapping[str, Any] = field(default_factory=dict)
    excluded: Mapping[str, np.ndarray] = field(default_factory=dict)
    diversify_key: str | None = None


def filtered_search(
    index: NeighborIndex, obs: pd.DataFrame, embedding: np.ndarray, n_neighbors: int, rules: SearchFilter
) -> Neighbors:
    """Return the nearest of the reference cells that the restrictions leave.

    Parameters
    ----------
    index
        Search over all cells of the reference.
    obs
        Annotation of the reference's cells.
    embedding
        Embedding of the queries, ``(n_queries, n_latent)``.
    n_neighbors
        Neighbors per query.
    rules
        The restrictions.

    Raises
    ------
    ArgumentError
        If fewer than `n_neighbors` cells remain for a query.
    MissingKeyError
        If a column is not in `obs`.
    """
    allowed = np.ones(len(obs), dtype=bool)
    for key, wanted in rules.where.items():
        allowed &= _matching(obs, key, wanted)
    _check_columns(obs, rules.excluded, rules.diversify_key)
    if not rules.excluded:
        return _diversified(index, obs, embedding, n_neighbors, allowed, rules.diversify_key)

    # Queries with the same values are searched together. Values are compared as text.
    keys = pd.DataFrame(
        {key: pd.Series(values, dtype=object).map(str, na_action="ignore") for key, values in rules.excluded.items()}
    )
    groups = keys.groupby(list(keys.columns), dropna=False, sort=False).indices
    indices = np.empty((len(embedding), n_neighbors), dtype=np.int64)
    distances = np.empty((len(embedding), n_neighbors), dtype=np.float32)
    for group, rows in groups.items():
        remaining = allowed.copy()
        for key, value in zip(keys.columns, group if isinstance(group, tuple) else (group,), strict=True):
            if not pd.isna(value):
                remaining &= (obs[key].astype(str) != value).to_numpy()
        neighbors = _diversified(index, obs, embedding[rows], n_neighbors, remaining, rules.diversify_key)
        indices[rows], distances[rows] = neighbors.indices, neighbors.distances
    return Neighbors(indices, distances)


def check_filter(
    obs: pd.DataFrame, where: Mapping[str, Any], exclude_keys: Iterable[str], diversify_key: str | None
) -> None:
    """Raise unless the reference's `obs` has each column of a filter, and each value of `where` in some cell."""
    for key, wanted in where.items():
        _matching(obs, key, wanted)
    _check_columns(obs, exclude_keys, diversify_key)


def _matching(obs: pd.DataFrame, key: str, wanted: Any) -> np.ndarray:
    """Return which cells have the wanted value, or one of several; raise if none has."""
    matching = with_values(obs, key, wanted)
    if not matching.any():
        available = shown(obs[key].astype(str).unique(), limit=20)
        msg = f"No reference cell matches {argument('where', {key: wanted})}. Expected some of {available}."
        raise ArgumentError(msg)
    return matching


def _check_columns(obs: pd.DataFrame, exclude_keys: Iterable[str], diversify_key: str | None) -> None:
    for key in exclude_keys:
        _check_column(obs, key, argument("exclude_key", key))
    if diversify_key is not None:
        _check_column(obs, diversify_key, argument("diversify_key", diversify_key))


def with_values(obs: pd.DataFrame, key: str, wanted: Any) -> np.ndarray:
    """Return which cells have the wanted value, or one of several, in a column, bool ``(n_obs,)``; compared as text."""
    _check_column(obs, key, argument("where", {key: wanted}))
    return obs[key].astype(str).isin(_values(wanted)).to_numpy()


def _values(wanted: Any) -> list[str]:
    return [str(value) for value in (wanted if is_several(wanted) else [wanted])]


def _check_column(obs: pd.DataFrame, key: Any, named: str) -> None:
    """Raise unless the reference's ``obs`` has a column; `named` is the argument that names it."""
    if not isinstance(key, str) or key not in obs.columns:
        msg = f"{named} needs the column {key!r} in the reference's `obs`. Expected one of {shown(obs.columns, 20)}."
        raise MissingKeyError(msg)


def _diversified(
    index: NeighborIndex,
    obs: pd.DataFrame,
    embedding: np.ndarray,
    n_neighbors: int,
    allowed: np.ndarray,
    key: str | None,
) -> Neighbors:
    """Return the nearest allowed cells, spread evenly over the values of a column if there is a `key`."""
    among = None if allowed.all() else np.flatnonzero(allowed)
    if among is not None and len(among) < n_neighbors:
        msg = (
            f"{argument('n_neighbors', n_neighbors)} is more than the {len(among)} reference cells that the filter "
            "leaves. Ask for fewer, or filter less."
        )
        raise ArgumentError(msg)
    if key is None:
        return index.search(embedding, n_neighbors, among=among)
    check_neighbors(n_neighbors, int(allowed.sum()))
    column = obs[key].astype(str).to_numpy()
    values = np.unique(column[allowed])
    quota = -(-n_neighbors // len(values))
    found = []
    for value in values:
        rows = np.flatnonzero(allowed & (column == value))
        neighbors = index.search(embedding, min(n_neighbors, len(rows)), among=rows)
        # Neighbors beyond the quota are taken last, however near they are.
        beyond = np.arange(neighbors.indices.shape[1]) >= quota
        found.append((neighbors.indices, neighbors.distances, np.broadcast_to(beyond, neighbors.indices.shape)))
    indices, distances, beyond = (np.concatenate(arrays, axis=1) for arrays in zip(*found, strict=True))
    chosen = np.lexsort((distances, beyond))[:, :n_neighbors]
    nearest = np.take_along_axis(distances, chosen, axis=1)
    order = np.argsort(nearest, axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, axis=1)
    return Neighbors(np.take_along_axis(indices, chosen, axis=1), np.take_along_axis(distances, chosen, axis=1))
