"""Which reference cells a search may find, and how neighbors are spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from scquery_ae._checks import check_neighbors, is_several, shown
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae.index import NeighborIndex, Neighbors


@dataclass(frozen=True)
class SearchFilter:
    """What a search is cut to.

    Attributes
    ----------
    where
        For columns of the reference's ``obs``, the value or values that its cells must have.
    excluded
        For columns of the reference's ``obs``, one value a query: cells that have it are not found, such as those of
        the query's own donor; a missing value excludes none.
    diversify_key
        Column of the reference's ``obs`` over whose values neighbors are spread: no value gives more neighbors than its share,
        as long as the others have any.
    """

    where: Mapping[str, Any] = field(default_factory=dict)
    excluded: Mapping[str, np.ndarray] = field(default_factory=dict)
    diversify_key: str | None = None


def filtered_search(
    index: NeighborIndex, obs: pd.DataFrame, latent: np.ndarray, n_neighbors: int, rules: SearchFilter
) -> Neighbors:
    """Return the nearest cells that the rules let through.

    Queries with the same values to exclude are searched together.

    Raises
    ------
    ArgumentError
        If fewer than `n_neighbors` cells are left for a query.
    MissingKeyError
        If a column is not there.
    """
    allowed = np.ones(len(obs), dtype=bool)
    for key, wanted in rules.where.items():
        having = with_values(obs, key, wanted)
        if not having.any():
            there = shown(column_of(obs, key).unique(), limit=20)
            msg = f"No reference cell has {key!r} in {shown(_values(wanted))}. Expected some of {there}."
            raise ArgumentError(msg)
        allowed &= having
    if not rules.excluded:
        return _spread(index, obs, latent, n_neighbors, allowed, rules.diversify_key)

    # Columns are compared as text.
    keys = pd.DataFrame(
        {key: pd.Series(values, dtype=object).map(str, na_action="ignore") for key, values in rules.excluded.items()}
    )
    groups = keys.groupby(list(keys.columns), dropna=False, sort=False).indices
    indices = np.empty((len(latent), n_neighbors), dtype=np.int64)
    distances = np.empty((len(latent), n_neighbors), dtype=np.float32)
    for group, rows in groups.items():
        mine = allowed.copy()
        for key, value in zip(keys.columns, group if isinstance(group, tuple) else (group,), strict=True):
            # Cells of which no one knows the donor share it with none.
            if not pd.isna(value):
                mine &= (column_of(obs, key) != value).to_numpy()
        neighbors = _spread(index, obs, latent[rows], n_neighbors, mine, rules.diversify_key)
        indices[rows], distances[rows] = neighbors.indices, neighbors.distances
    return Neighbors(indices, distances)


def with_values(obs: pd.DataFrame, key: str, wanted: Any) -> np.ndarray:
    """Return which cells have the value, or one of the values, in a column, bool ``(n_obs,)``; compared as text."""
    return column_of(obs, key).isin(_values(wanted)).to_numpy()


def _values(wanted: Any) -> list[str]:
    return [str(value) for value in (wanted if is_several(wanted) else [wanted])]


def column_of(obs: pd.DataFrame, key: str) -> pd.Series:
    """Return a column of the reference's ``obs`` as text."""
    if not isinstance(key, str) or key not in obs.columns:
        msg = f"The reference's `obs` has no column {key!r}. Expected one of {shown(obs.columns, limit=20)}."
        raise MissingKeyError(msg)
    return obs[key].astype(str)


def _spread(
    index: NeighborIndex, obs: pd.DataFrame, latent: np.ndarray, n_neighbors: int, allowed: np.ndarray, key: str | None
) -> Neighbors:
    among = None if allowed.all() else np.flatnonzero(allowed)
    if among is not None and len(among) < n_neighbors:
        msg = (
            f"`n_neighbors={n_neighbors}` is more than the {len(among)} reference cells that the filter leaves. "
            "Ask for fewer, or filter less."
        )
        raise ArgumentError(msg)
    if key is None:
        return index.search(latent, n_neighbors, among=among)
    check_neighbors(n_neighbors, int(allowed.sum()))
    column = column_of(obs, key).to_numpy()
    values = np.unique(column[allowed])
    share = -(-n_neighbors // len(values))
    found = []
    for value in values:
        rows = np.flatnonzero(allowed & (column == value))
        neighbors = index.search(latent, min(n_neighbors, len(rows)), among=rows)
        # Those within the share come before all others, wherever the others lie.
        late = np.arange(neighbors.indices.shape[1]) >= share
        found.append((neighbors.indices, neighbors.distances, np.broadcast_to(late, neighbors.indices.shape)))
    indices, distances, late = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    chosen = np.lexsort((distances, late))[:, :n_neighbors]
    nearest = np.take_along_axis(distances, chosen, axis=1)
    order = np.argsort(nearest, axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, axis=1)
    return Neighbors(np.take_along_axis(indices, chosen, axis=1), np.take_along_axis(distances, chosen, axis=1))
