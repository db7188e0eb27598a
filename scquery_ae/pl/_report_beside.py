"""Sections of a report that set the query beside the reference: in one plane, and by study."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scquery_ae._errors import ArgumentError
from scquery_ae.pl._answers import texts
from scquery_ae.pl._cells import coordinates
from scquery_ae.pl._colors import MOST_CATEGORIES
from scquery_ae.pl._report_facts import Answers, Source, reference_column
from scquery_ae.pl._report_figures import drawing, lean, shared_plane
from scquery_ae.pl._report_parts import Hint, Part, Section, Table, Text, cells, listed, number, per_cent
from scquery_ae.pl._report_words import NO_LABEL, UNCOLOURED
from scquery_ae.pl.neighbors_by_batch import neighbors_by_batch
from scquery_ae.pl.on_reference import on_reference

#: Values of a column that may be studies.
_MOST_STUDIES = 50
_NO_REFERENCE = "Left out: give the reference that was queried as `reference=`, opened with `scq.Reference.load(path)`."


def together(answers: Answers, source: Source | None, basis: str | None) -> Section:
    """Return reference and query in one plane."""
    section = Section("together", "Reference and query together")
    if source is None:
        section.parts.append(Hint(_NO_REFERENCE))
    elif answers.counts.empty:
        section.parts.append(Hint(NO_LABEL))
    elif len(answers.counts) > MOST_CATEGORIES:
        section.parts.append(Hint(UNCOLOURED))
    elif basis is not None or (source.is_cells and "X_umap" in source.given.obsm):
        section.parts += _in_a_basis(answers, source, basis or "X_umap")
    else:
        section.parts += _in_components(answers, source)
    return section


def _alt(answers: Answers, source: Source) -> str:
    return (
        f"Points: {cells(len(source.obs))} of the reference in light grey, and over them {cells(answers.n_obs)} of the "
        "query, coloured by label, those called unknown dark grey."
    )


def _in_a_basis(answers: Answers, source: Source, basis: str) -> list[Part]:
    if not source.is_cells:
        msg = (
            f"`basis={basis!r}` needs the AnnData of the reference's cells, with this key in `obsm`, as `reference`. "
            f"Received {type(source.given).__name__}, which keeps no such coordinates."
        )
        raise ArgumentError(msg)
    axis, points = coordinates(source.given, basis, "reference")
    if answers.neighbors is None:
        return [Hint(f"Left out: `adata.obsm` has no {answers.slots.neighbors!r}, which `scq.tl.query` writes.")]
    ground = lean(pd.DataFrame(index=range(len(points))), {f"X_{basis.removeprefix('X_')}": points})
    return [
        drawing(
            on_reference,
            answers.cells,
            ground,
            basis=f"X_{basis.removeprefix('X_')}",
            key_added=answers.slots.prefix,
            alt=_alt(answers, source),
            caption=f"{axis} of the reference's cells (light grey), and query cells at the mean place of their neighbors.",
        ),
        Text(
            "Nothing was embedded anew: a query cell stands among those that it resembles most, even if it resembles "
            "none much. Whether it does is for its p-value to say."
        ),
    ]


def _in_components(answers: Answers, source: Source) -> list[Part]:
    slot = answers.slots.embedding
    latent = source.given.obsm.get(slot) if source.is_cells else source.given.embedding
    mine = answers.cells.obsm.get(slot)
    if latent is None or mine is None:
        return [
            Hint(
                f"Left out: `{'adata' if mine is None else 'reference'}.obsm` has no {slot!r}. Give a `scq.Reference`, "
                "or the AnnData of its cells with a UMAP or this embedding, and cells after `scq.tl.query`."
            )
        ]
    if mine.shape[1] != latent.shape[1]:
        msg = (
            "`pl.report` needs the reference that was queried. The embedding of the query has "
            f"{mine.shape[1]} dimensions, that of the reference {latent.shape[1]}; give the one that was queried."
        )
        raise ArgumentError(msg)
    if mine.shape[1] < 2:
        return [Hint("No figure: the embedding has one dimension.")]
    here, there, share = shared_plane(np.asarray(mine), latent)
    return [
        drawing(
            on_reference,
            lean(answers.cells.obs, {"X_pca": here}, dict(answers.cells.uns)),
            lean(pd.DataFrame(index=range(len(there))), {"X_pca": there}),
            basis="X_pca",
            place="basis",
            key_added=answers.slots.prefix,
            alt=_alt(answers, source),
            caption="Query cells over the reference's (light grey), in the first two principal components of both "
            f"embeddings together, which hold {per_cent(share, 1)} of their variance.",
        ),
        Text("Types that lie on each other here may still be apart in the other dimensions, which the answers use."),
        Hint(
            "There is no UMAP of the reference, and none is computed unasked. For one, give the AnnData of its cells "
            'with `obsm["X_umap"]` as `reference=`; query cells then stand at the mean place of their neighbors.'
        ),
    ]


def studies(answers: Answers, source: Source | None, batch_key: str | None) -> Section:
    """Return which studies of the reference the nearest cells come from."""
    section = Section("studies", "Nearest studies")
    if source is None:
        section.parts.append(Hint(f"{_NO_REFERENCE} Name its column of studies with `batch_key=`."))
        return section
    if batch_key is None:
        ours = (source.label_key, answers.slots.split)
        several = [str(name) for name in source.obs if name not in ours and _may_be_studies(source.obs[name])]
        told = f" Columns that it could be: {listed(several)}." if several else ""
        section.parts.append(Hint(f'Left out: name the reference\'s column of studies, `batch_key="study"`.{told}'))
        return section
    if answers.neighbors is None or answers.counts.empty:
        section.parts.append(Hint("Left out: the query's neighbors, or its labels, are not there."))
        return section
    rows = _studies_found(
        answers.neighbors, texts(reference_column(source.obs, batch_key, "batch_key")).fillna("missing")
    )
    columns = ["Nearest", "Cells whose nearest hit it has", "Share of all neighbors", "Share of the reference"]
    table = Table(f"Hits by {batch_key}", [*columns, "Hits for its size"], rows, range(1, 5))
    if len(rows) == 1:
        alone = f"The reference has one value of {batch_key} alone, {rows[0][0]}: all neighbors are of it."
        section.parts += [Text(alone), table]
        return section
    owned = source.label_key is not None
    section.parts += [
        Text(
            f"Nearest by {batch_key} is {rows[0][0]}, with {rows[0][2]} of all neighbors. In the last column, 1 is what it "
            "would get if neighbors were drawn from the reference at random."
        ),
        drawing(
            neighbors_by_batch,
            answers.cells,
            source.obs,
            batch_key=batch_key,
            label_key=source.label_key,
            key_added=answers.slots.prefix,
            alt=f"For each label a bar of its neighbors, divided by {batch_key}"
            + (", and a paler one of the type's cells in the reference" if owned else "")
            + f". Nearest overall: {rows[0][0]}.",
            caption=f"Hits of each label by {batch_key}"
            + (
                " (above), and the type's cells in the reference (below, pale). Where the two differ, the query "
                "resembles some more than others."
                if owned
                else "."
            ),
        ),
        table,
    ]
    return section


def _studies_found(neighbors: np.ndarray, column: pd.Series) -> list[list[str]]:
    """Return one row a study, that with the largest share of neighbors first."""
    names = column.to_numpy()[neighbors]
    found, nearest = pd.Series(names.ravel()).value_counts(), pd.Series(names[:, 0]).value_counts()
    sizes = column.value_counts()
    rows = []
    for name in sorted(sizes.index, key=lambda name: (-found.get(name, 0), str(name))):
        share = found.get(name, 0) / names.size
        rows.append(
            [
                str(name),
                f"{nearest.get(name, 0):,}",
                per_cent(found.get(name, 0), names.size),
                per_cent(sizes[name], len(column)),
                number(share * len(column) / sizes[name]),
            ]
        )
    return rows


def _may_be_studies(column: pd.Series) -> bool:
    if pd.api.types.is_float_dtype(column):
        return False
    try:
        return 2 <= column.nunique() <= _MOST_STUDIES
    except TypeError:  # values that cannot be told apart
        return False
