"""The benchmark's tasks and their variants: a reference to learn from, and queries to be answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np

LABEL_KEY, BATCH_KEY = "cell_type", "batch"
#: Marks the query's own cells where they take part, unlabelled, in pretraining.
ASKED_KEY, WITH_QUERY = "asked", "query in pretraining"
#: Tasks that are described here and not beside the data.
OTHERS = {name: Path(__file__).resolve().parent / f"tasks_{name}.json" for name in ("development", "held_out")}
PANELS, DEPTHS, LABELS = (0.02, 0.05, 0.1, 0.25, 0.5), (0.1, 0.2, 0.5), (5, 10, 25)


@dataclass(frozen=True)
class Task:
    """A reference, a query over the same genes, and which query cells have a type that the reference knows.

    The query's true types are in ``query.obs["cell_type"]``, in the reference's words. Cells of the reference without a
    label, where there are any, have a missing one.
    """

    name: str
    reference: anndata.AnnData
    query: anndata.AnnData
    known: np.ndarray
    logged: bool

    def of_query(self, query: anndata.AnnData) -> Task:
        """Return the same task with another query of the same cells."""
        return replace(self, query=query)


def load(folder: Path, name: str, seed: int = 0) -> Task:
    """Read the task called `name` of ``folder/tasks.json``; where batches take turns, `seed` says which is asked."""
    spec, reference = _described(folder, name), whole_reference(folder, name)
    logged = "log-normalised" in spec.get("note", "")
    if "split" in spec:
        batches = reference.obs[spec["split"]["column"]].astype(str)
        asked = (batches == sorted(set(batches))[seed % batches.nunique()]).to_numpy()
        reference, query = reference[~asked].copy(), reference[asked].copy()
    else:
        query = _side(folder, spec, "query")
    labels = query.obs[LABEL_KEY].astype(str)
    if "query_labels" in spec:
        labels = labels.map(spec["query_labels"]).fillna("unmapped")
    query.obs[LABEL_KEY] = labels.to_numpy()
    # Only shared genes, as the tasks are defined; each method normalises for itself.
    available = set(query.var_names)
    shared = [gene for gene in reference.var_names if gene in available]
    # Of a cell without any of them there is nothing to be said.
    reference, query = (side[side[:, shared].X.getnnz(axis=1) > 0, shared].copy() for side in (reference, query))
    types = set(reference.obs[LABEL_KEY])
    known = np.array([label in types for label in query.obs[LABEL_KEY]])
    return Task(name, reference, query, known, logged=logged)


def whole_reference(folder: Path, name: str) -> anndata.AnnData:
    """Read the reference of a task with all its genes, and with those cells that take turns as the query."""
    spec = _described(folder, name)
    reference, others = _side(folder, spec, "reference"), spec.get("reference_labels", {})
    reference.obs[LABEL_KEY] = [others.get(kind, kind) for kind in reference.obs[LABEL_KEY].astype(str)]
    return reference


def groups(task: Task) -> list[str]:
    """Return the variants that need training of their own: ``"whole"`` first, which answers the most queries."""
    names = ["whole"]
    if _file_of_others(task.name):
        return names
    if task.name in ("pancreas_protocol", "pancreas_species", "pbmc_stimulated"):
        names.append("wrong labels")
    if task.name in ("pancreas_protocol", "pancreas_species"):
        names += [f"{n} labels a type" for n in LABELS]
        counts = task.query.obs[LABEL_KEY][task.known].value_counts()
        names += [f"without {kind}" for kind in sorted(counts.index[counts >= 5])]
    return [*names, WITH_QUERY]


def queries(task: Task, group: str, seed: int) -> Iterator[tuple[str, Task]]:
    """Yield the variants of a group by name; those of one group have the same reference."""
    if group != "whole":
        yield group, _trained(task, group, np.random.default_rng([seed, 11]))
        return
    yield "whole", task
    if task.name in ("pbmc_donor", "celllines_protocol") or _file_of_others(task.name):
        return
    for share in PANELS:
        yield f"{share:.0%} of the genes", task.of_query(cut(task.query, share, seed))
    if not task.logged:
        for share in DEPTHS:
            yield f"{share:.0%} of the depth", task.of_query(thinned(task.query, share, seed))


def cut(query: anndata.AnnData, share: float, seed: int) -> anndata.AnnData:
    """Return the query with a share of its genes, drawn at random."""
    rng = np.random.default_rng([seed, round(share * 1000)])
    return query[:, np.sort(rng.permutation(query.n_vars)[: round(share * query.n_vars)])].copy()


def thinned(query: anndata.AnnData, share: float, seed: int) -> anndata.AnnData:
    """Return the query as if it had been sequenced less: each count is kept with probability `share`."""
    rng = np.random.default_rng([seed, 5, round(share * 1000)])
    fewer = query.copy()
    # Two protocols of the islets have counts that are not whole.
    fewer.X.data = rng.binomial(np.rint(query.X.data).astype(int), share).astype(np.float32)
    fewer.X.eliminate_zeros()
    return fewer


def _trained(task: Task, group: str, rng: np.random.Generator) -> Task:
    """Return the task with a changed reference."""
    labels = task.reference.obs[LABEL_KEY].to_numpy(dtype=object).copy()
    kinds = np.unique(labels)
    if group == WITH_QUERY:
        return replace(task, reference=_with_query(task))
    if group.startswith("without "):
        removed = group.removeprefix("without ")
        known = task.known & (task.query.obs[LABEL_KEY].to_numpy() != removed)
        return replace(task, reference=task.reference[labels != removed].copy(), known=known)
    if group == "wrong labels":
        for i in rng.permutation(len(labels))[: round(0.2 * len(labels))]:
            labels[i] = rng.choice(kinds[kinds != labels[i]])
    else:
        kept = int(group.split()[0])
        for kind in kinds:
            labels[rng.permutation(np.flatnonzero(labels == kind))[kept:]] = np.nan
    reference = task.reference.copy()
    reference.obs[LABEL_KEY] = labels
    return replace(task, reference=reference)


def _with_query(task: Task) -> anndata.AnnData:
    """Return the reference's cells and the query's, as counts and without their labels."""
    query = task.query.copy()
    if task.logged:
        query.X = query.X.expm1()
        query.X.data = np.rint(query.X.data)
    query.obs[LABEL_KEY] = np.nan
    query.obs[BATCH_KEY] = WITH_QUERY
    query.obs_names = [f"{ASKED_KEY} {i}" for i in range(query.n_obs)]
    sides = {False: task.reference, True: query}
    # In this order, so that the labelled cells come first as they do elsewhere.
    both = anndata.concat(sides, join="inner", label=ASKED_KEY)
    both.obs[ASKED_KEY] = both.obs[ASKED_KEY].astype(bool)
    return both


def _described(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((_file_of_others(name) or folder / "tasks.json").read_text())[name]


def other_tasks(which: str) -> list[str]:
    """Return the names of the tasks of one of the files of `OTHERS`."""
    return [name for name in json.loads(OTHERS[which].read_text()) if not name.startswith("_")]


def _file_of_others(name: str) -> Path | None:
    return next((OTHERS[which] for which in OTHERS if name in other_tasks(which)), None)


def _side(folder: Path, spec: dict[str, Any], side: str) -> anndata.AnnData:
    """Read the reference or the query of a task."""
    adata = _select(anndata.read_h5ad(folder / f"{spec[side]}.h5ad"), spec.get(f"{side}_where"))
    if side in spec.get("upper_case", []):
        adata.var_names = adata.var_names.str.upper()
        adata = adata[:, ~adata.var_names.duplicated()].copy()
    if BATCH_KEY not in adata.obs:
        adata.obs[BATCH_KEY] = spec[side]
    return adata


def _select(adata: anndata.AnnData, where: dict[str, list[str]] | None) -> anndata.AnnData:
    keep = np.ones(adata.n_obs, dtype=bool)
    for column, values in (where or {}).items():
        inside = adata.obs[column.removeprefix("!")].isin(values).to_numpy()
        keep &= ~inside if column.startswith("!") else inside
    return adata[keep].copy()
