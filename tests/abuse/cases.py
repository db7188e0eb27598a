"""Bad calls, drawn from a seed: a valid call of small valid data, spoilt by one to three mutations."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from scipy import sparse

import scquery_ae as scq
from abuse.arguments import spoil_argument, spoil_mapping, spoil_owner
from abuse.bundles import bundle_names, spoil_bundle
from abuse.calls_on_arrays import ARRAYS
from abuse.calls_on_cells import PLOTS, STEPS
from abuse.calls_on_files import FILES, REFERENCES
from abuse.matrices import spoil_array, spoil_matrix, spoil_shape
from abuse.names import spoil_column, spoil_names, spoil_slot
from abuse.paths import spoil_file, spoil_path, text_file_names
from abuse.world import Case, Draft, World

#: Valid calls, and how often each is drawn. What trains is rare: one such case costs as much as ten others.
#: Another order gives every seed another case.
CALLS: dict[Callable[[Draft], None], float] = {**STEPS, **REFERENCES, **PLOTS, **FILES, **ARRAYS}


def _possible(draft: Draft) -> list[Callable[[Draft], str]]:
    """Return the mutations that the call has a place for, those that fit it best more than once."""
    possible: list[Callable[[Draft], str]] = [spoil_argument, spoil_argument]
    if draft.named(anndata.AnnData):
        possible += [spoil_matrix, spoil_matrix, spoil_shape, spoil_names, spoil_column, spoil_column, spoil_slot]
    if draft.named(np.ndarray) or draft.named(sparse.csr_matrix):
        possible += [spoil_array] * 3
    if draft.named(dict):
        possible += [spoil_mapping] * 2
    if draft.named(Path):
        possible += [spoil_path]
    if text_file_names(draft):
        possible += [spoil_file] * 4
    if bundle_names(draft):
        possible += [spoil_bundle] * 6
    if draft.named(scq.Encoder):
        possible += [spoil_owner]
    return possible


def drawn_call(rng: np.random.Generator) -> Callable[[Draft], None]:
    """Draw the call of a case, which is the first thing that its generator is asked for."""
    calls, weights = list(CALLS), np.array(list(CALLS.values()))
    return calls[rng.choice(len(calls), p=weights / weights.sum())]


def case(seed: int, world: World, folder: Path) -> Case:
    """Draw a case.

    Parameters
    ----------
    seed
        The same seed gives the same case.
    world
        What valid calls are made of. It is never changed: cases get copies.
    folder
        An empty directory of the case's own, for its files.
    """
    rng = np.random.default_rng(seed)
    draft = Draft(lambda: None, {}, world, folder, rng)
    build = drawn_call(rng)
    with warnings.catch_warnings():
        # What anndata and pandas think of bad data while they are made up is not the package's doing.
        warnings.simplefilter("ignore")
        build(draft)
        for _ in range(rng.integers(1, 4)):
            mutate = draft.pick(_possible(draft))
            try:
                draft.done.append(mutate(draft))
            except Exception as error:  # noqa: BLE001 (anndata, pandas or h5py refuse to hold some of these)
                draft.done.append(f"({mutate.__name__} was not possible: {type(error).__name__})")
    arguments = dict(draft.arguments)
    kept = [
        value for value in (draft.owner, *arguments.values()) if isinstance(value, anndata.AnnData) or _own_kind(value)
    ]
    return Case(
        name=f"{build.__name__.strip('_')}: {'; '.join(draft.done)}",
        run=lambda: draft.function(**arguments),
        untouched=tuple(kept),
        folder=folder,
    )


def _own_kind(value: Any) -> bool:
    return isinstance(value, scq.Reference | scq.Encoder)
