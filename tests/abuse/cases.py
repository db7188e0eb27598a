"""Bad calls, drawn from a seed: a valid call with small valid data, and one to three mutations of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from scipy import sparse

import scquery_ae as scq
from abuse.arguments import mutate_argument, mutate_mapping, mutate_owner
from abuse.bundles import bundle_names, mutate_bundle
from abuse.calls_on_arrays import ARRAYS
from abuse.calls_on_cells import PLOTS, STEPS
from abuse.calls_on_files import FILES, REFERENCES
from abuse.matrices import mutate_array, mutate_matrix, mutate_shape
from abuse.names import mutate_column, mutate_names, mutate_slot
from abuse.paths import mutate_file, mutate_path, text_file_names
from abuse.world import Case, Draft, World

#: Valid calls with their relative frequencies. Calls that train are rare, because each takes as long as ten others.
#: A change of the order changes the case of every seed.
CALLS: dict[Callable[[Draft], None], float] = {**STEPS, **REFERENCES, **PLOTS, **FILES, **ARRAYS}


def _possible(draft: Draft) -> list[Callable[[Draft], str]]:
    """Return the mutations that apply to the call, the most relevant ones several times."""
    possible: list[Callable[[Draft], str]] = [mutate_argument, mutate_argument]
    if draft.named(anndata.AnnData):
        possible += [
            mutate_matrix,
            mutate_matrix,
            mutate_shape,
            mutate_names,
            mutate_column,
            mutate_column,
            mutate_slot,
        ]
    if draft.named(np.ndarray) or draft.named(sparse.csr_matrix):
        possible += [mutate_array] * 3
    if draft.named(dict):
        possible += [mutate_mapping] * 2
    if draft.named(Path):
        possible += [mutate_path]
    if text_file_names(draft):
        possible += [mutate_file] * 4
    if bundle_names(draft):
        possible += [mutate_bundle] * 6
    if draft.named(scq.Encoder):
        possible += [mutate_owner]
    return possible


def drawn_call(rng: np.random.Generator) -> Callable[[Draft], None]:
    """Draw the call of a case, as the first draw from its generator."""
    calls, weights = list(CALLS), np.array(list(CALLS.values()))
    return calls[rng.choice(len(calls), p=weights / weights.sum())]


def case(seed: int, world: World, folder: Path) -> Case:
    """Draw a case.

    Parameters
    ----------
    seed
        The same seed gives the same case.
    world
        Data for valid calls. It is never changed: cases get copies.
    folder
        An empty directory for the files of the case.
    """
    rng = np.random.default_rng(seed)
    draft = Draft(lambda: None, {}, world, folder, rng)
    build = drawn_call(rng)
    with warnings.catch_warnings():
        # Warnings of anndata and pandas while bad data are made are not those of this package.
        warnings.simplefilter("ignore")
        build(draft)
        for _ in range(rng.integers(1, 4)):
            mutate = draft.pick(_possible(draft))
            try:
                draft.done.append(mutate(draft))
            except Exception as error:  # noqa: BLE001 (anndata, pandas and h5py refuse some data)
                draft.done.append(f"({mutate.__name__} was not possible: {type(error).__name__})")
    arguments = dict(draft.arguments)
    kept = [
        value for value in (draft.owner, *arguments.values()) if isinstance(value, anndata.AnnData) or _own_kind(value)
    ]
    return Case(
        name=f"{build.__name__.strip('_')}: {'; '.join(draft.done)}",
        run=lambda: draft.function(**arguments),
        unchanged=tuple(kept),
        folder=folder,
    )


def _own_kind(value: Any) -> bool:
    return isinstance(value, scq.Reference | scq.Encoder)
