"""The benchmark tasks: reference and query, read from a folder of labelled datasets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np

LABEL_KEY = "cell_type"


@dataclass(frozen=True)
class Task:
    """A reference, a query over the same genes, and which query cells have a type that the reference knows.

    The query's true types are in ``query.obs["cell_type"]``, in the reference's words.
    """

    name: str
    reference: anndata.AnnData
    query: anndata.AnnData
    known: np.ndarray
    logged: bool


def load(folder: Path, name: str) -> Task:
    """Read the task called `name` of ``folder/tasks.json``."""
    spec = json.loads((folder / "tasks.json").read_text())[name]
    if "split" in spec:
        msg = f"{name} is a split of one dataset, which this benchmark does not run."
        raise ValueError(msg)
    reference = _select(anndata.read_h5ad(folder / f"{spec['reference']}.h5ad"), spec.get("reference_where"))
    query = _select(anndata.read_h5ad(folder / f"{spec['query']}.h5ad"), spec.get("query_where"))
    labels = query.obs[LABEL_KEY].astype(str)
    if "query_labels" in spec:
        labels = labels.map(spec["query_labels"]).fillna("unmapped")
    query.obs[LABEL_KEY] = labels.to_numpy()
    # Only shared genes, as the tasks are defined; each method normalises for itself.
    available = set(query.var_names)
    shared = [gene for gene in reference.var_names if gene in available]
    reference, query = reference[:, shared].copy(), query[:, shared].copy()
    types = set(reference.obs[LABEL_KEY].astype(str))
    known = np.array([label in types for label in query.obs[LABEL_KEY]])
    return Task(name, reference, query, known, logged="log-normalised" in spec.get("note", ""))


def _select(adata: anndata.AnnData, where: dict[str, list[str]] | None) -> anndata.AnnData:
    keep = np.ones(adata.n_obs, dtype=bool)
    for column, values in (where or {}).items():
        inside = adata.obs[column.removeprefix("!")].isin(values).to_numpy()
        keep &= ~inside if column.startswith("!") else inside
    return adata[keep].copy()
