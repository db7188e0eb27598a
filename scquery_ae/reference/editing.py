"""Adding, removing, renaming and merging reference cells, without training.

Each function checks an edit and returns what changes; :class:`~scquery_ae.Reference` applies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from scquery_ae._caller import argument, call, current, running
from scquery_ae._checks import check_unique, is_several, shown
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae.encoder import Encoder
from scquery_ae.labels import label_types
from scquery_ae.reference.cells import ReferenceCells
from scquery_ae.reference.contents import ReferenceContents
from scquery_ae.reference.search import with_values
from scquery_ae.reference.simulation_cells import SimulationCells


@dataclass(frozen=True)
class Edit:
    """An edit of a reference.

    Attributes
    ----------
    step
        Name of the step in the provenance.
    details
        What the provenance records about it.
    summary
        What was done, in words.
    changes
        New values of the fields of :class:`ReferenceContents`.
    warning
        What the user should know about the edit; empty if nothing.
    """

    step: str
    details: dict[str, Any]
    summary: str
    changes: dict[str, Any]
    warning: str = ""


def add_cells(
    contents: ReferenceContents, cells: ReferenceCells, simulation_cells: SimulationCells, depth: dict[str, float]
) -> Edit:
    """Append embedded cells, whose ``obs`` has the reference's label column."""
    check_unique(cells.obs.index, "Names of the cells to add", f"{current().make_unique('obs')}.")
    known = cells.obs.index.intersection(contents.cells.obs.index)
    if len(known):
        msg = (
            f"{len(known)} cells have names that are in the reference already, such as {shown(known)}. "
            "Remove those first, or rename the new ones."
        )
        raise ArgumentError(msg)
    types = label_types(cells.obs[contents.label_key])
    return _append(contents, cells, types, simulation_cells, depth, step="add", verb="added")


def merge_references(contents: ReferenceContents, other: ReferenceContents) -> Edit:
    """Append all cells of a reference with the same encoder."""
    if not _same_encoder(contents.encoder, other.encoder):
        msg = (
            f"{running('Reference.merge')} needs two references made with one encoder: embeddings of different "
            "encoders cannot be compared. Received another encoder; add the cells of the other reference from their "
            f"counts with {call('Reference.add')}."
        )
        raise ArgumentError(msg)
    known = other.cells.obs.index.intersection(contents.cells.obs.index)
    if len(known):
        msg = f"{len(known)} cells are in both references, such as {shown(known)}. Remove them from one first."
        raise ArgumentError(msg)
    cells = other.cells
    if other.label_key != contents.label_key:
        obs = cells.obs.drop(columns=contents.label_key, errors="ignore")
        cells = replace(cells, obs=obs.rename(columns={other.label_key: contents.label_key}))
    return _append(contents, cells, other.types, other.simulation_cells, other.depth, step="merge", verb="merged in")


def remove_cells(contents: ReferenceContents, names: Iterable[str] | None, where: Mapping[str, Any] | None) -> Edit:
    """Remove cells by name, by the values of their annotation, or by both."""
    if names is None and not where:
        msg = (
            "`Reference.remove` needs the cells to remove. Received neither names nor values; give `names` of cells, "
            'or `where`, such as `{"study": "Baron"}`.'
        )
        raise ArgumentError(msg)
    obs = contents.cells.obs
    removed = np.ones(len(obs), dtype=bool)
    if names is not None:
        removed &= _named(obs.index, names)
    for key, value in (where or {}).items():
        removed &= with_values(obs, key, value)
    if not removed.any():
        asked = " and ".join(
            argument(key, value) for key, value in (("names", names), ("where", where)) if value is not None
        )
        msg = f"No cell of the reference matches {asked}. Nothing was removed."
        raise ArgumentError(msg)
    left = label_types(obs.loc[~removed, contents.label_key])
    if len(left) < 2:
        msg = f"Removing {int(removed.sum())} of {len(obs)} cells would leave fewer than two types. Keep some."
        raise ArgumentError(msg)
    details = {"n_cells": int(removed.sum()), "where": {key: str(value) for key, value in (where or {}).items()}}
    return Edit(
        "remove",
        details,
        f"removed {details['n_cells']} cells",
        {
            "cells": contents.cells.take(~removed),
            # Their counts go too: another cell may be added under the same name.
            "simulation_cells": contents.simulation_cells.without(obs.index[removed].to_numpy()),
        },
        _warning_of_emptied(contents, set(label_types(obs.loc[removed, contents.label_key])) - set(left)),
    )


def _warning_of_emptied(contents: ReferenceContents, emptied: set[str]) -> str:
    """Return a warning about types without cells that the classifier still predicts."""
    predicted = sorted(emptied & {contents.types[column] for column in contents.classifier_columns if column >= 0})
    if not predicted:
        return ""
    return (
        f"No cell of {shown(predicted)} is left, but the classifier still predicts it. Build a new reference without "
        "such cells if queries are known to lack them."
    )


def rename_types(contents: ReferenceContents, names: Mapping[str, str]) -> Edit:
    """Rename types; types that get the same name become one."""
    unknown = sorted(set(names) - set(contents.types))
    if unknown:
        there = shown(contents.types, limit=20)
        msg = f"The reference has no types called {shown(unknown)}. Expected some of {there}."
        raise MissingKeyError(msg)
    for old, new in names.items():
        if not np.isscalar(new) or pd.isna(new) or not str(new).strip():
            msg = f"`names` must give each type a name that is not blank. Received {new!r} for {old!r}."
            raise ArgumentError(msg)
    renamed = [str(names.get(kind, kind)) for kind in contents.types]
    types = tuple(dict.fromkeys(renamed))
    if len(types) < 2:
        msg = f"Renaming would leave the single type {types[0]!r}. Keep at least two."
        raise ArgumentError(msg)
    position = np.array([types.index(kind) for kind in renamed])
    columns = contents.classifier_columns
    # Types are text, also where the column holds numbers.
    labels = contents.cells.obs[contents.label_key].astype(object).map(str, na_action="ignore")
    labels = labels.map(lambda kind: str(names.get(kind, kind)), na_action="ignore")
    obs = contents.cells.obs.copy()
    obs[contents.label_key] = labels.astype("category")
    new_names = {str(old): str(new) for old, new in names.items()}
    return Edit(
        "relabel",
        {"names": new_names},
        f"renamed {len(new_names)} types",
        {
            "cells": replace(contents.cells, obs=obs),
            "types": types,
            "classifier_columns": np.where(columns >= 0, position[columns], -1),
        },
    )


def _append(
    contents: ReferenceContents,
    cells: ReferenceCells,
    types: Iterable[str],
    simulation_cells: SimulationCells,
    depth: dict[str, float],
    *,
    step: str,
    verb: str,
) -> Edit:
    new_types = [kind for kind in types if kind not in contents.types]
    n = len(cells.obs)
    fraction = n / (n + len(contents.cells.obs))
    return Edit(
        step,
        {"n_cells": n, "new_types": new_types},
        f"{verb} {n} cells",
        {
            "cells": contents.cells.concat(cells, contents.label_key),
            "types": (*contents.types, *new_types),
            "simulation_cells": contents.simulation_cells.concat(simulation_cells),
            # The mean of both medians, weighted by cells.
            "depth": {name: (1 - fraction) * own + fraction * depth[name] for name, own in contents.depth.items()},
        },
    )


def _named(index: pd.Index, names: Iterable[str]) -> np.ndarray:
    if not isinstance(names, str) and not is_several(names):
        msg = f"{argument('names')} must be names of cells. Received {names!r}."
        raise ArgumentError(msg)
    wanted = pd.Index([names] if isinstance(names, str) else list(names)).astype(str)
    unknown = wanted.difference(index)
    if len(unknown):
        msg = f"The reference has no cells called {shown(unknown)}. Expected names of its `obs`."
        raise MissingKeyError(msg)
    return np.asarray(index.isin(wanted))


def _same_encoder(mine: Encoder, theirs: Encoder) -> bool:
    """Whether two encoders give every cell the same arrays."""
    discriminants = zip(vars(mine.fitted_discriminant).values(), vars(theirs.fitted_discriminant).values(), strict=True)
    return (
        np.array_equal(mine.genes, theirs.genes)
        and np.array_equal(mine.fitted_components, theirs.fitted_components)
        and all(np.array_equal(own, other) for own, other in discriminants)
        and mine.transform.target_sum == theirs.transform.target_sum
        and np.array_equal(mine.transform.mean, theirs.transform.mean)
        and len(mine.layers) == len(theirs.layers)
        and all(
            np.array_equal(a.kernel, b.kernel) and np.array_equal(a.bias, b.bias) and a.activation == b.activation
            for a, b in zip(mine.layers, theirs.layers, strict=True)
        )
    )
