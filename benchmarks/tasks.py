"""Tasks of the benchmark and their variants: a reference to train on, and a query to label."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np

LABEL_KEY, BATCH_KEY = "cell_type", "batch"
#: The column that marks the query's cells where they take part in pretraining, without labels; and that training set.
QUERY_KEY, WITH_QUERY = "is_query", "query in pretraining"
#: Sets of tasks that are described here and not beside the data.
TASK_FILES = {name: Path(__file__).resolve().parent / f"tasks_{name}.json" for name in ("development", "held_out")}
PANELS, DEPTHS, LABELS = (0.02, 0.05, 0.1, 0.25, 0.5), (0.1, 0.2, 0.5), (5, 10, 25)


@dataclass(frozen=True)
class Task:
    """A reference, and a query over the same genes.

    Attributes
    ----------
    name
        Name of the task.
    reference
        Cells with labels in ``obs["cell_type"]``; missing where a variant removes them.
    query
        Cells with their true types in ``obs["cell_type"]``, named as in the reference.
    known
        Query cells whose type the reference has, bool ``(n_query,)``.
    logged
        Whether the query's ``X`` is log-normalised. It holds counts otherwise.
    """

    name: str
    reference: anndata.AnnData
    query: anndata.AnnData
    known: np.ndarray
    logged: bool

    def with_query(self, query: anndata.AnnData) -> Task:
        """Return the task with changed values or genes of the same query cells."""
        return replace(self, query=query)


def load(folder: Path, name: str, seed: int = 0) -> Task:
    """Read a task. In a task that leaves out one batch, `seed` chooses the batch."""
    spec, reference = _described(folder, name), whole_reference(folder, name)
    logged = "log-normalised" in spec.get("note", "")
    if "split" in spec:
        batches = reference.obs[spec["split"]["column"]].astype(str)
        left_out = (batches == sorted(set(batches))[seed % batches.nunique()]).to_numpy()
        reference, query = reference[~left_out].copy(), reference[left_out].copy()
    else:
        query = _side(folder, spec, "query")
    labels = query.obs[LABEL_KEY].astype(str)
    if "query_labels" in spec:
        labels = labels.map(spec["query_labels"]).fillna("unmapped")
    query.obs[LABEL_KEY] = labels.to_numpy()
    # The tasks are defined on shared genes; each method normalises for itself.
    available = set(query.var_names)
    shared = [gene for gene in reference.var_names if gene in available]
    # A cell without a count in them cannot be labelled.
    reference, query = (side[side[:, shared].X.getnnz(axis=1) > 0, shared].copy() for side in (reference, query))
    types = set(reference.obs[LABEL_KEY])
    known = np.array([label in types for label in query.obs[LABEL_KEY]])
    return Task(name, reference, query, known, logged=logged)


def whole_reference(folder: Path, name: str) -> anndata.AnnData:
    """Read the reference of a task with all its genes, including batches that are left out in turn."""
    spec = _described(folder, name)
    reference, renamed = _side(folder, spec, "reference"), spec.get("reference_labels", {})
    reference.obs[LABEL_KEY] = [renamed.get(kind, kind) for kind in reference.obs[LABEL_KEY].astype(str)]
    return reference


def training_sets(task: Task) -> list[str]:
    """Return the names of the references that a task is run with, ``"whole"`` first."""
    names = ["whole"]
    if _task_file(task.name):
        return names
    if task.name in ("pancreas_protocol", "pancreas_species", "pbmc_stimulated"):
        names.append("replaced labels")
    if task.name in ("pancreas_protocol", "pancreas_species"):
        names += [f"{n} labels per type" for n in LABELS]
        counts = task.query.obs[LABEL_KEY][task.known].value_counts()
        names += [f"without {kind}" for kind in sorted(counts.index[counts >= 5])]
    return [*names, WITH_QUERY]


def variants(task: Task, training_set: str, seed: int) -> Iterator[tuple[str, Task]]:
    """Yield the variants of a task that share a training set, with their names."""
    if training_set != "whole":
        yield training_set, _with_changed_reference(task, training_set, np.random.default_rng([seed, 11]))
        return
    yield "whole", task
    if task.name in ("pbmc_donor", "celllines_protocol") or _task_file(task.name):
        return
    for fraction in PANELS:
        yield f"{fraction:.0%} of the genes", task.with_query(subset_genes(task.query, fraction, seed))
    if not task.logged:
        for fraction in DEPTHS:
            yield f"{fraction:.0%} of the counts", task.with_query(downsample_counts(task.query, fraction, seed))


def subset_genes(query: anndata.AnnData, fraction: float, seed: int) -> anndata.AnnData:
    """Return the query with a random fraction of its genes."""
    rng = np.random.default_rng([seed, round(fraction * 1000)])
    return query[:, np.sort(rng.permutation(query.n_vars)[: round(fraction * query.n_vars)])].copy()


def downsample_counts(query: anndata.AnnData, fraction: float, seed: int) -> anndata.AnnData:
    """Return the query sequenced less deeply: each count is kept with probability `fraction`."""
    rng = np.random.default_rng([seed, 5, round(fraction * 1000)])
    fewer = query.copy()
    # Two protocols of the islets have counts that are not integers.
    fewer.X.data = rng.binomial(np.rint(query.X.data).astype(int), fraction).astype(np.float32)
    fewer.X.eliminate_zeros()
    return fewer


def task_names(task_set: str) -> list[str]:
    """Return the names of the tasks of a set."""
    return [name for name in json.loads(TASK_FILES[task_set].read_text()) if not name.startswith("_")]


def _with_changed_reference(task: Task, training_set: str, rng: np.random.Generator) -> Task:
    labels = task.reference.obs[LABEL_KEY].to_numpy(dtype=object).copy()
    kinds = np.unique(labels)
    if training_set == WITH_QUERY:
        return replace(task, reference=_with_query(task))
    if training_set.startswith("without "):
        removed = training_set.removeprefix("without ")
        known = task.known & (task.query.obs[LABEL_KEY].to_numpy() != removed)
        return replace(task, reference=task.reference[labels != removed].copy(), known=known)
    if training_set == "replaced labels":
        for i in rng.permutation(len(labels))[: round(0.2 * len(labels))]:
            labels[i] = rng.choice(kinds[kinds != labels[i]])
    else:
        kept = int(training_set.split()[0])
        for kind in kinds:
            labels[rng.permutation(np.flatnonzero(labels == kind))[kept:]] = np.nan
    reference = task.reference.copy()
    reference.obs[LABEL_KEY] = labels
    return replace(task, reference=reference)


def _with_query(task: Task) -> anndata.AnnData:
    """Return the reference's cells and, as counts and without labels, the query's."""
    query = task.query.copy()
    if task.logged:
        query.X = query.X.expm1()
        query.X.data = np.rint(query.X.data)
    query.obs[LABEL_KEY] = np.nan
    query.obs[BATCH_KEY] = WITH_QUERY
    query.obs_names = [f"{QUERY_KEY} {i}" for i in range(query.n_obs)]
    sides = {False: task.reference, True: query}
    # The labelled cells come first, as in the other training sets.
    both = anndata.concat(sides, join="inner", label=QUERY_KEY)
    both.obs[QUERY_KEY] = both.obs[QUERY_KEY].astype(bool)
    return both


def _described(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((_task_file(name) or folder / "tasks.json").read_text())[name]


def _task_file(name: str) -> Path | None:
    return next((TASK_FILES[task_set] for task_set in TASK_FILES if name in task_names(task_set)), None)


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
