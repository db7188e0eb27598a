"""Sections that compare query and reference: one embedding for both, and the batches of the neighbors."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.decomposition import PCA

from scquery_ae._errors import ArgumentError
from scquery_ae.pl._cells import coordinates
from scquery_ae.pl._colors import MOST_CATEGORIES
from scquery_ae.pl._results import as_text, reference_column
from scquery_ae.pl.neighbors_by_batch import neighbors_by_batch
from scquery_ae.pl.on_reference import on_reference
from scquery_ae.reference import Reference
from scquery_ae.report.inputs import QueriedReference, QueryResults, without_expression
from scquery_ae.report.labels import NO_LABEL, TOO_MANY_TYPES
from scquery_ae.report.parts import Note, Part, Section, Table, Text, cells, drawing, number, per_cent

#: Cells of each side to which the principal components are fitted.
_FITTED = 50_000


def one_embedding(results: QueryResults, reference: QueriedReference, basis: str | None) -> Section:
    """Return the section with query and reference in one embedding."""
    section = Section("embedding", "Query and reference in one embedding")
    given = reference.given
    if results.counts.empty:
        section.parts.append(Note(NO_LABEL))
    elif len(results.counts) > MOST_CATEGORIES:
        section.parts.append(Note(TOO_MANY_TYPES))
    elif basis is not None or (isinstance(given, AnnData) and "X_umap" in given.obsm):
        section.parts += _in_basis(results, reference, basis or "X_umap")
    else:
        section.parts += _in_components(results, reference)
    return section


def _alt(results: QueryResults, reference: QueriedReference) -> str:
    return (
        f"Points: {cells(len(reference.obs))} of the reference in light grey, and over them {cells(results.n_obs)} of "
        "the query, coloured by label, with cells called unknown in dark grey."
    )


def _in_basis(results: QueryResults, reference: QueriedReference, basis: str) -> list[Part]:
    given = reference.given
    if not isinstance(given, AnnData):
        msg = (
            f"`basis={basis!r}` needs the AnnData of the reference's cells as `reference`, with this key in `obsm`. "
            f"Received {type(given).__name__}, which stores no such coordinates; pass the AnnData, or no `basis`."
        )
        raise ArgumentError(msg)
    axis, points = coordinates(given, basis, "reference")
    if results.neighbors is None:
        return [Note(f"No figure: `adata.obsm` lacks {results.slots.neighbors!r}, which `scq.tl.query` writes.")]
    key = f"X_{basis.removeprefix('X_')}"
    return [
        drawing(
            on_reference,
            results.cells,
            without_expression(pd.DataFrame(index=range(len(points))), {key: points}),
            basis=key,
            key_added=results.slots.prefix,
            alt=_alt(results, reference),
            caption=f"{axis} of the reference's cells (light grey). Each query cell is drawn at the mean position of "
            "its [[neighbors]].",
        ),
        Text(
            "The query was not embedded anew: a query cell is drawn among the reference cells that it resembles most, "
            "even if it resembles none closely. Its [[p-value|p-value]] tells whether it does."
        ),
    ]


def _in_components(results: QueryResults, reference: QueriedReference) -> list[Part]:
    slot, given = results.slots.embedding, reference.given
    latent = given.embedding if isinstance(given, Reference) else given.obsm.get(slot)
    mine = results.cells.obsm.get(slot)
    if latent is None or mine is None:
        return [Note(f"No figure: `{'adata' if mine is None else 'reference'}.obsm` lacks {slot!r}.")]
    if mine.shape[1] != latent.shape[1]:
        msg = (
            f"`report.write` needs the reference that was queried. Expected an embedding of {mine.shape[1]} "
            f"dimensions, as the query has. Received a reference with {latent.shape[1]}; pass the one that was queried."
        )
        raise ArgumentError(msg)
    if mine.shape[1] < 2:
        return [Note("No figure: the embedding has one dimension.")]
    here, there, explained = joint_components(np.asarray(mine), latent)
    return [
        drawing(
            on_reference,
            without_expression(results.cells.obs, {"X_pca": here}, dict(results.cells.uns)),
            without_expression(pd.DataFrame(index=range(len(there))), {"X_pca": there}),
            basis="X_pca",
            place="basis",
            key_added=results.slots.prefix,
            alt=_alt(results, reference),
            caption="Query cells over the reference's cells (light grey), in the first two principal components of "
            f"both embeddings together ({per_cent(explained, 1)} of the variance).",
        ),
        Text("Types that overlap here may be separate in the other dimensions, which the labels use."),
    ]


def joint_components(query: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return query and reference in the first two principal components of both, and the explained variance ratio.

    Parameters
    ----------
    query, reference
        Embeddings, ``(n, n_latent)`` each, ``n_latent >= 2``. The components are fitted to at most 50,000 cells of
        each, evenly spaced.
    """
    fitted = [latent[np.unique(np.linspace(0, len(latent) - 1, _FITTED).astype(int))] for latent in (query, reference)]
    both = np.concatenate([np.asarray(latent, dtype=np.float64) for latent in fitted])
    pca = PCA(2, svd_solver="full")
    with np.errstate(invalid="ignore"):  # the variance can be 0
        pca.fit(both[np.isfinite(both).all(axis=1)])
    explained = float(np.nan_to_num(pca.explained_variance_ratio_).sum())
    mean, axes = pca.mean_.astype(np.float32), pca.components_.T.astype(np.float32)
    return (query - mean) @ axes, (reference - mean) @ axes, explained


def batches(results: QueryResults, reference: QueriedReference, batch_key: str) -> Section:
    """Return the section on the batches of the reference that the neighbors come from."""
    section = Section("batches", "Batches of the nearest reference cells")
    if results.neighbors is None or results.counts.empty:
        section.parts.append(Note("No figure: the query has no neighbors or no labels."))
        return section
    column = as_text(reference_column(reference.obs, batch_key, "batch_key")).fillna("missing")
    rows = _batch_rows(results.neighbors, column)
    columns = ["[[batch|Batch]]", "Cells with their nearest neighbor here", "Fraction of all [[neighbors]]"]
    columns += ["Fraction of the reference", "Ratio of the fractions"]
    table = Table(f"Neighbors by {batch_key}", columns, rows, range(1, 5))
    if len(rows) == 1:
        only = f"The reference has one {batch_key}, {rows[0][0]}, so all [[neighbors]] come from it."
        section.parts += [Text(only), table]
        return section
    with_types = reference.label_key is not None
    section.parts += [
        Text(
            f"The largest fraction of the [[neighbors]] ({rows[0][2]}) comes from {batch_key} {rows[0][0]}. In the "
            "last column of the table, 1 means as many neighbors as in a random draw from the reference."
        ),
        drawing(
            neighbors_by_batch,
            results.cells,
            reference.obs,
            batch_key=batch_key,
            label_key=reference.label_key,
            key_added=results.slots.prefix,
            alt=f"A bar for each label, divided by the {batch_key} of its neighbors"
            + (", and a paler bar for the reference cells of the type" if with_types else "")
            + f". Largest fraction of the neighbors: {rows[0][0]}.",
            caption=f"[[neighbors|Neighbors]] of the cells of each label by {batch_key}"
            + (
                " (upper bar), and reference cells of the type (lower, pale bar). Where the two differ, the query "
                "resembles some batches more than others."
                if with_types
                else "."
            ),
        ),
        table,
    ]
    return section


def _batch_rows(neighbors: np.ndarray, column: pd.Series) -> list[list[str]]:
    """Return one row for each batch, the largest fraction of the neighbors first."""
    names = column.to_numpy()[neighbors]
    found, nearest = pd.Series(names.ravel()).value_counts(), pd.Series(names[:, 0]).value_counts()
    sizes = column.value_counts()
    rows = []
    for name in sorted(sizes.index, key=lambda name: (-found.get(name, 0), str(name))):
        fraction = found.get(name, 0) / names.size
        rows.append(
            [
                str(name),
                f"{nearest.get(name, 0):,}",
                per_cent(found.get(name, 0), names.size),
                per_cent(sizes[name], len(column)),
                number(fraction * len(column) / sizes[name]),
            ]
        )
    return rows
