"""Adding, removing, renaming and merging cells of a reference, without training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scquery_ae._checks import check_unique, is_several, shown
from scquery_ae._errors import ArgumentError, MissingKeyError, warn
from scquery_ae._logging import logger
from scquery_ae.labels import label_types
from scquery_ae.reference.novelty import Novelty
from scquery_ae.reference.search import with_values
from scquery_ae.reference.simulate import SimulationCells
from scquery_ae.reference.to_storable import to_storable

if TYPE_CHECKING:
    from scquery_ae.encoder import Encoder
    from scquery_ae.reference.annotation import EmbeddedCells
    from scquery_ae.reference.reference import Reference
    from scquery_ae.stats import GeneDiscriminant


def add_cells(
    reference: Reference,
    cells: EmbeddedCells,
    obs: pd.DataFrame,
    simulation_cells: SimulationCells,
    depth: dict[str, float],
) -> None:
    """Append embedded cells with their annotation, under the reference's label column."""
    check_unique(obs.index, "Names of the cells to add", "give each cell a name of its own.")
    known = obs.index.intersection(reference.obs.index)
    if len(known):
        msg = (
            f"{len(known)} cells have names that are in the reference already, such as {shown(known)}. "
            "Remove those first, or rename the new ones."
        )
        raise ArgumentError(msg)
    new_types = [kind for kind in label_types(obs[reference.label_key]) if kind not in reference.types]
    _put(
        reference,
        embedding=np.concatenate([reference.embedding, cells.latent]),
        projected=np.concatenate([reference.projected, cells.projected]),
        decision=np.concatenate([reference.decision, cells.decision]),
        added=np.concatenate([reference.added, np.ones(len(obs), dtype=bool)]),
        # No training has seen them: they are as good as held out.
        held_out=np.concatenate([reference.held_out, np.ones(len(obs), dtype=bool)]),
        obs=_joined(reference.obs, obs, reference.label_key),
        types=(*reference.types, *new_types),
        simulation_cells=reference.simulation_cells.join(simulation_cells),
        depth=_mean_depth(reference, depth, len(obs)),
    )
    _record(reference, "add", {"n_cells": len(obs), "new_types": new_types}, f"added {len(obs)} cells")


def remove_cells(reference: Reference, names: Iterable[str] | None, where: Mapping[str, Any] | None) -> None:
    """Take cells out, by name, by the values of their annotation, or by both."""
    if names is None and not where:
        msg = 'Nothing says which cells to remove. Give `names` of cells, or `where`, such as `{"study": "Baron"}`.'
        raise ArgumentError(msg)
    gone = np.ones(reference.n_obs, dtype=bool)
    if names is not None:
        if not isinstance(names, str) and not is_several(names):
            msg = f"`names` must be names of cells. Received {names!r}."
            raise ArgumentError(msg)
        wanted = pd.Index([names] if isinstance(names, str) else list(names)).astype(str)
        strangers = wanted.difference(reference.obs.index)
        if len(strangers):
            msg = f"The reference has no cells called {shown(strangers)}. Expected names of `reference.obs`."
            raise MissingKeyError(msg)
        gone &= reference.obs.index.isin(wanted)
    for key, value in (where or {}).items():
        gone &= with_values(reference.obs, key, value)
    if not gone.any():
        msg = f"No cell of the reference is meant by names={names!r} and where={where!r}. Nothing was removed."
        raise ArgumentError(msg)
    kept = ~gone
    if len(label_types(reference.obs.loc[kept, reference.label_key])) < 2:
        msg = f"Removing {int(gone.sum())} of {reference.n_obs} cells would leave fewer than two types. Keep some."
        raise ArgumentError(msg)
    # Their counts go with them: another cell may come under the same name.
    stored = reference.simulation_cells
    still = ~np.isin(stored.names.astype(str), reference.obs.index[gone].to_numpy().astype(str))
    _put(
        reference,
        embedding=np.ascontiguousarray(reference.embedding[kept]),
        projected=np.ascontiguousarray(reference.projected[kept]),
        decision=np.ascontiguousarray(reference.decision[kept]),
        added=reference.added[kept],
        held_out=reference.held_out[kept],
        obs=reference.obs.loc[kept],
        types=reference.types,
        simulation_cells=SimulationCells(stored.counts[still], stored.names[still]),
    )
    what = {"n_cells": int(gone.sum()), "where": {k: str(v) for k, v in (where or {}).items()}}
    _record(reference, "remove", what, f"removed {what['n_cells']} cells")


def rename_types(reference: Reference, names: Mapping[str, str]) -> None:
    """Give types other names; types that get one name become one."""
    strangers = sorted(set(names) - set(reference.types))
    if strangers:
        there = shown(reference.types, limit=20)
        msg = f"The reference has no types called {shown(strangers)}. Expected some of {there}."
        raise MissingKeyError(msg)
    renamed = [str(names.get(kind, kind)) for kind in reference.types]
    types = tuple(dict.fromkeys(renamed))
    if len(types) < 2:
        msg = f"Renaming would leave the single type {types[0]!r}. Keep at least two."
        raise ArgumentError(msg)
    position = np.array([types.index(kind) for kind in renamed])
    reference.classifier_columns = np.where(
        reference.classifier_columns >= 0, position[reference.classifier_columns], -1
    )
    # Types are text, also where the column holds numbers.
    labels = reference.obs[reference.label_key].astype(object).map(str, na_action="ignore")
    obs = reference.obs.copy()
    labels = labels.map(lambda kind: str(names.get(kind, kind)), na_action="ignore")
    obs[reference.label_key] = labels.astype("category")
    _put(
        reference,
        embedding=reference.embedding,
        projected=reference.projected,
        decision=reference.decision,
        added=reference.added,
        held_out=reference.held_out,
        obs=obs,
        types=types,
    )
    new_names = {str(k): str(v) for k, v in names.items()}
    _record(reference, "relabel", {"names": new_names}, f"gave {len(new_names)} types other names")


def merge_references(reference: Reference, other: Reference) -> None:
    """Append all cells of a reference with the same encoder."""
    if not _same_view(reference.encoder, other.encoder):
        msg = (
            "References can be merged if one encoder made both: embeddings of different encoders cannot be compared. "
            "Received another encoder; add the other's cells from their counts with `reference.add(adata)`."
        )
        raise ArgumentError(msg)
    known = other.obs.index.intersection(reference.obs.index)
    if len(known):
        msg = f"{len(known)} cells are in both references, such as {shown(known)}. Remove them from one first."
        raise ArgumentError(msg)
    obs = other.obs
    if other.label_key != reference.label_key:
        obs = obs.drop(columns=reference.label_key, errors="ignore")
        obs = obs.rename(columns={other.label_key: reference.label_key})
    new_types = [kind for kind in other.types if kind not in reference.types]
    _put(
        reference,
        embedding=np.concatenate([reference.embedding, other.embedding]),
        projected=np.concatenate([reference.projected, other.projected]),
        decision=np.concatenate([reference.decision, other.decision]),
        added=np.concatenate([reference.added, other.added]),
        held_out=np.concatenate([reference.held_out, other.held_out]),
        obs=_joined(reference.obs, obs, reference.label_key),
        types=(*reference.types, *new_types),
        simulation_cells=reference.simulation_cells.join(other.simulation_cells),
        depth=_mean_depth(reference, other.depth, other.n_obs),
    )
    _record(reference, "merge", {"n_cells": other.n_obs, "new_types": new_types}, f"merged in {other.n_obs} cells")


def _put(
    reference: Reference,
    *,
    embedding: np.ndarray,
    projected: np.ndarray,
    decision: np.ndarray,
    added: np.ndarray,
    held_out: np.ndarray,
    obs: pd.DataFrame,
    types: tuple[str, ...],
    simulation_cells: SimulationCells | None = None,
    depth: dict[str, float] | None = None,
) -> None:
    """Change the cells in one go, and work out anew what follows from them."""
    reference.simulation_cells = simulation_cells or reference.simulation_cells
    reference.depth = depth or reference.depth
    reference.embedding, reference.projected, reference.held_out = embedding, projected, held_out
    reference.decision, reference.added = decision, added
    reference.obs, reference.types, reference.index = obs, types, None
    reference.refresh()
    reference.novelty = Novelty.fit(embedding, projected, reference.label_codes, len(types))
    before = reference.calibration.method
    reference.calibrate()
    if before in ("cross_validated", "leave_one_batch_out"):
        warn(
            f"The reference was calibrated {before.replace('_', ' ')}, which takes training. It is now calibrated on "
            "its held-out cells; build it anew from all its cells to have the other back."
        )


def _mean_depth(reference: Reference, depth: dict[str, float], n: int) -> dict[str, float]:
    """Return the depth of the reference with `n` more cells: the mean of the medians, by numbers of cells."""
    share = n / (n + reference.n_obs)
    return {name: (1 - share) * value + share * depth[name] for name, value in reference.depth.items()}


def _same_view(mine: Encoder, theirs: Encoder) -> bool:
    """Whether two encoders see every cell alike."""
    return (
        np.array_equal(mine.genes, theirs.genes)
        and mine.components is not None
        and theirs.components is not None
        and np.array_equal(mine.components, theirs.components)
        and _same_discriminant(mine.discriminant, theirs.discriminant)
        and mine.transform.target_sum == theirs.transform.target_sum
        and np.array_equal(mine.transform.mean, theirs.transform.mean)
        and len(mine.layers) == len(theirs.layers)
        and all(
            np.array_equal(a.kernel, b.kernel) and np.array_equal(a.bias, b.bias) and a.activation == b.activation
            for a, b in zip(mine.layers, theirs.layers, strict=True)
        )
    )


def _same_discriminant(mine: GeneDiscriminant | None, theirs: GeneDiscriminant | None) -> bool:
    if mine is None or theirs is None:
        return mine is theirs
    return all(np.array_equal(value, getattr(theirs, name)) for name, value in vars(mine).items())


def _joined(first: pd.DataFrame, second: pd.DataFrame, label_key: str) -> pd.DataFrame:
    """Return both tables, with the columns of the first, and their kinds where that can be; labels as text."""
    index = first.index.append(second.index)
    columns = {}
    for name in first.columns:
        mine = first[name]
        if name not in second.columns:
            columns[name] = mine.reindex(index)
            continue
        theirs = second[name]
        joined = pd.concat([mine.astype(object), theirs.astype(object)])
        if name == label_key:
            # A missing number would turn whole numbers into fractions, and type "1" into "1.0".
            columns[name] = joined.map(str, na_action="ignore")
        elif mine.dtype == theirs.dtype:
            columns[name] = pd.concat([mine, theirs])
        elif pd.api.types.is_datetime64_any_dtype(mine):
            columns[name] = pd.to_datetime(joined, errors="coerce").astype(mine.dtype)
        elif pd.api.types.is_numeric_dtype(mine):
            columns[name] = pd.to_numeric(joined, errors="coerce")
        else:
            columns[name] = joined
    return to_storable(pd.DataFrame(columns, index=index))


def _record(reference: Reference, step: str, what: dict[str, Any], done: str) -> None:
    """Put a finished step on record, and say what was done and which attributes it changed."""
    steps = list(reference.provenance.get("steps", []))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    steps.append({"step": step, "time": now, "scquery_ae": version("scquery-ae"), "n_obs": reference.n_obs, **what})
    reference.provenance = {**reference.provenance, "steps": steps}
    logger.info(
        "%s; wrote obs, types, embedding, calibration and provenance['steps'] of the reference, now %d cells of %d "
        "types, in memory until it is saved",
        done,
        reference.n_obs,
        len(reference.types),
    )
