"""Sections of a report about its cells: composition, certainty, the unknown, the reference beside them, the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scquery_ae._errors import ArgumentError
from scquery_ae.pl._answers import judge, texts
from scquery_ae.pl._cells import coordinates
from scquery_ae.pl._colors import MOST_CATEGORIES
from scquery_ae.pl._report_facts import Answers, Source, holds_bar, reference_column
from scquery_ae.pl._report_figures import drawing, lean, shared_plane
from scquery_ae.pl._report_parts import (
    Hint,
    Part,
    Section,
    Table,
    Text,
    cells,
    listed,
    number,
    per_cent,
    probability,
)
from scquery_ae.pl.composition import composition
from scquery_ae.pl.confusion import confusion
from scquery_ae.pl.hits_by_study import hits_by_study
from scquery_ae.pl.on_reference import on_reference
from scquery_ae.pl.query import query as draw_query

#: Types named at each end, all if there are no more than twice as many; cells below which a type is called small.
_ENDS, _FEW = 5, 10
#: Strange cells that are named, types that a sentence names, and a low confidence.
_STRANGEST, _NAMED, _LOW = 10, 4, 0.8
#: Values of a column that may be studies.
_MOST_STUDIES = 50
_NO_REFERENCE = "Left out: give the reference that was queried as `reference=`, opened with `sq.Reference.load(path)`."
_NO_LABEL = "No cell got a label: in none was anything counted in the genes that the reference reads."
_UNCOLOURED = f"No figure: no more than {MOST_CATEGORIES} types can be coloured, and there are more."


def makeup(answers: Answers, source: Source | None, groupby: str | None) -> Section:
    """Return which types the query is made of, with confidence."""
    section = Section("composition", "Composition, with confidence")
    counts = answers.counts
    if counts.empty:
        section.parts.append(Hint(_NO_LABEL))
        return section
    largest = listed([f"{kind} {count:,}" for kind, count in counts.head(_NAMED).items()])
    section.parts += [
        drawing(
            draw_query,
            answers.cells,
            key_added=answers.slots.prefix,
            alt=f"Left, bars of the number of cells of each of {len(counts):,} labels, unknown ones hatched; most "
            f"frequent: {largest}. Right, the confidence in each label. The table below has the numbers.",
            caption="Left: cells of each label, those called unknown hatched. Right: confidence in the label; point, "
            "thick and thin line are median, quartiles, and 5 to 95%; small dots are cells.",
        ),
        _composition_table(answers, source),
    ]
    if groupby is None:
        section.parts.append(Hint('For the composition of each sample, name its column of `obs`: `groupby="donor"`.'))
    elif len(counts) > MOST_CATEGORIES:
        section.parts.append(Hint(_UNCOLOURED))
    else:
        section.parts.append(
            drawing(
                composition,
                answers.cells,
                groupby,
                key_added=answers.slots.prefix,
                alt=f"One bar for each of {answers.cells.obs[groupby].nunique():,} values of {groupby}, divided by "
                "the share of each type; beside it cells, mean confidence and the share unknown.",
                caption=f"Share of each type by {groupby}, cells called unknown apart.",
            )
        )
    return section


def _composition_table(answers: Answers, source: Source | None) -> Table:
    held = None if source is None or source.labels is None else source.labels.value_counts()
    columns = ["Type", "Cells", "Share", "Unknown", "Median confidence", "5 to 95%", "Median p-value"]
    columns += ["Cells in the reference"] * (held is not None)
    rows = []
    for kind, count in _counted(answers.counts):
        mine = answers.of(kind)
        low, middle, high = _quantiles(answers.confidence[mine])
        row = [
            str(kind),
            f"{count:,}",
            per_cent(count, answers.n_obs),
            _with_share(answers.unknown[mine]),
            probability(middle),
            f"{probability(low)} to {probability(high)}",
            probability(_quantiles(answers.pvalue[mine])[1], 3),
        ]
        rows.append(row if held is None else [*row, f"{held.get(kind, 0):,}"])
    missing = answers.label.isna().to_numpy()
    if missing.any():
        row = ["(no label)", f"{missing.sum():,}", per_cent(int(missing.sum()), answers.n_obs)]
        row.append(_with_share(answers.unknown[missing]))
        rows.append([*row, *["-"] * (len(columns) - len(row))])
    return Table("Cells of each label", columns, rows, range(1, len(columns)))


def certainty(answers: Answers) -> Section:
    """Return the types that the query is most and least certain of."""
    section = Section("certainty", "Most and least certain types")
    counts = answers.counts
    if counts.empty:
        section.parts.append(Hint(_NO_LABEL))
        return section
    medians = {kind: _quantiles(answers.confidence[answers.of(kind)])[1] for kind in counts.index}
    order = sorted(medians, key=lambda kind: (-np.nan_to_num(medians[kind], nan=-1), str(kind)))
    sets = answers.label_set
    columns = ["Type", "Cells", "Median confidence", f"Confidence below {_LOW:g}"]
    columns += ["One type in the label set", "Cannot be told from"] * (sets is not None)
    rows = []
    for kind in order:
        mine = answers.of(kind)
        few = " (few)" if counts[kind] < _FEW else ""
        row = [str(kind), f"{counts[kind]:,}{few}", probability(medians[kind])]
        row.append(_with_share(answers.confidence[mine] < _LOW))
        rows.append(row if sets is None else [*row, *_rivals(sets[mine], kind)])
    numeric = range(1, 5)
    if len(order) > 6:
        least = listed(order[:-4:-1])
        section.parts.append(
            Text(f"Most certain, by their median confidence: {listed(order[:3])}. Least certain: {least}.")
        )
    if len(rows) <= 2 * _ENDS:
        section.parts.append(Table("Types from the most to the least certain", columns, rows, numeric))
    else:
        last = rows[: -_ENDS - 1 : -1]
        section.parts.append(Table(f"The {_ENDS} most certain types", columns, rows[:_ENDS], numeric))
        section.parts.append(Table(f"The {_ENDS} least certain types, the least on top", columns, last, numeric))
    told = f"A type of fewer than {_FEW} cells is marked: its median says little."
    if sets is not None and holds_bar(sets):
        told += " The last column names the types that most often stand beside it in label sets, and in how many cells."
    elif sets is not None:
        told += " All label sets hold one type: the reference is right more often than the coverage asks of the sets."
    section.parts.append(Text(told))
    return section


def _rivals(sets: pd.Series, kind: str) -> tuple[str, str]:
    """Return how many label sets hold one type, and which others stand beside it most often."""
    members = [str(text).split("|") for text in sets.dropna()]
    others = pd.Series([other for group in members for other in group if other != kind], dtype=object).value_counts()
    named = listed([f"{other} ({n:,})" for other, n in others.head(2).items()]) if len(others) else "-"
    return _with_share([len(group) < 2 for group in members]), named


def unknowns(answers: Answers) -> Section:
    """Return the cells called unknown: what they resemble, and which are strangest."""
    section = Section("unknown", "Unknown cells")
    n_unknown = int(answers.unknown.sum())
    if not n_unknown:
        section.parts.append(Text("No cell was called unknown. That does not prove that all are of known types."))
        return section
    labelled = answers.label.notna().to_numpy()
    are = "is unlike" if n_unknown == 1 else "are unlike"
    section.parts.append(
        Text(
            f"{n_unknown:,} of {cells(answers.n_obs)} ({per_cent(n_unknown, answers.n_obs)}) {are} the held-out cells "
            "of the type resembled most. Unknown cells may be of a type that the reference lacks, but also doublets, "
            "damaged cells, or ordinary cells measured in another way. If they are many and spread over all types, "
            "the last is likeliest; if they lie together under one label, look at their marker genes."
        )
    )
    blank = int((answers.unknown & ~labelled).sum())
    if blank:
        section.parts.append(Text(f"{cells(blank)} of them got no label, for want of counts."))
    rows = []
    for kind, count in _counted(answers.counts):
        strange = answers.of(kind) & answers.unknown
        n = int(strange.sum())
        middle = _quantiles(answers.confidence[strange])[1]
        rows.append((n, [str(kind), f"{count:,}", f"{n:,}", per_cent(n, count), probability(middle)]))
    rows = sorted((row for row in rows if row[0]), key=lambda row: -row[0])
    columns = ["Resembles most", "Cells", "Unknown", "Share unknown", "Median confidence of the unknown"]
    if rows:
        section.parts.append(Table("Unknown cells by label", columns, [row for _, row in rows], range(1, 5)))
        section.parts.append(_strangest(answers, labelled))
    return section


def _strangest(answers: Answers, labelled: np.ndarray) -> Table:
    columns = ["Cell", "Label", "Confidence", "p-value"]
    picked = np.flatnonzero(answers.unknown & labelled)
    far = np.zeros(answers.n_obs) if answers.distances is None else answers.distances[:, 0]
    picked = picked[np.lexsort((-far[picked], answers.pvalue[picked]))][:_STRANGEST]
    rows = [
        [
            str(answers.names[i]),
            str(answers.label.iloc[i]),
            probability(answers.confidence[i]),
            probability(answers.pvalue[i], 4),
        ]
        for i in picked
    ]
    caption = "The strangest cells, lowest p-value first"
    if answers.distances is not None:
        columns.append("Distance to the nearest")
        rows = [[*row, number(far[i], 3)] for row, i in zip(rows, picked, strict=True)]
        caption += ", then farthest from the nearest cell of the reference"
    return Table(caption, columns, rows, range(2, len(columns)))


def together(answers: Answers, source: Source | None, basis: str | None) -> Section:
    """Return reference and query in one plane."""
    section = Section("together", "Reference and query together")
    if source is None:
        section.parts.append(Hint(_NO_REFERENCE))
    elif answers.counts.empty:
        section.parts.append(Hint(_NO_LABEL))
    elif len(answers.counts) > MOST_CATEGORIES:
        section.parts.append(Hint(_UNCOLOURED))
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
    if answers.hits is None:
        return [Hint(f"Left out: `adata.obsm` has no {answers.slots.neighbors!r}, which `sq.tl.query` writes.")]
    ground = lean(pd.DataFrame(index=range(len(points))), {f"X_{basis.removeprefix('X_')}": points})
    return [
        drawing(
            on_reference,
            answers.cells,
            ground,
            basis=f"X_{basis.removeprefix('X_')}",
            key_added=answers.slots.prefix,
            alt=_alt(answers, source),
            caption=f"{axis} of the reference's cells (light grey), and query cells at the mean place of their hits.",
        ),
        Text(
            "Nothing was embedded anew: a query cell stands among those that it resembles most, even if it resembles "
            "none much. Whether it does is for its p-value to say."
        ),
    ]


def _in_components(answers: Answers, source: Source) -> list[Part]:
    slot = answers.slots.embedding
    codes = source.given.obsm.get(slot) if source.is_cells else source.given.embedding
    mine = answers.cells.obsm.get(slot)
    if codes is None or mine is None:
        return [
            Hint(
                f"Left out: `{'adata' if mine is None else 'reference'}.obsm` has no {slot!r}. Give a `sq.Reference`, "
                "or the AnnData of its cells with a UMAP or this embedding, and cells after `sq.tl.query`."
            )
        ]
    if mine.shape[1] != codes.shape[1]:
        msg = (
            "`pl.report` needs the reference that was queried. The embedding of the query has "
            f"{mine.shape[1]} dimensions, that of the reference {codes.shape[1]}; give the one that was queried."
        )
        raise ArgumentError(msg)
    if mine.shape[1] < 2:
        return [Hint("No figure: the embedding has one dimension.")]
    here, there, share = shared_plane(np.asarray(mine), codes)
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
            'with `obsm["X_umap"]` as `reference=`; query cells then stand at the mean place of their hits.'
        ),
    ]


def studies(answers: Answers, source: Source | None, study_key: str | None) -> Section:
    """Return which studies of the reference the nearest cells come from."""
    section = Section("studies", "Nearest studies")
    if source is None:
        section.parts.append(Hint(f"{_NO_REFERENCE} Name its column of studies with `study_key=`."))
        return section
    if study_key is None:
        ours = (source.label_key, answers.slots.split)
        several = [str(name) for name in source.obs if name not in ours and _may_be_studies(source.obs[name])]
        told = f" Columns that it could be: {listed(several)}." if several else ""
        section.parts.append(Hint(f'Left out: name the reference\'s column of studies, `study_key="study"`.{told}'))
        return section
    if answers.hits is None or answers.counts.empty:
        section.parts.append(Hint("Left out: the query's hits, or its labels, are not there."))
        return section
    rows = _studies_found(answers.hits, texts(reference_column(source.obs, study_key, "study_key")).fillna("missing"))
    columns = ["Nearest", "Cells whose nearest hit it has", "Share of all hits", "Share of the reference"]
    table = Table(f"Hits by {study_key}", [*columns, "Hits for its size"], rows, range(1, 5))
    if len(rows) == 1:
        alone = f"The reference has one value of {study_key} alone, {rows[0][0]}: all hits are of it."
        section.parts += [Text(alone), table]
        return section
    owned = source.label_key is not None
    section.parts += [
        Text(
            f"Nearest by {study_key} is {rows[0][0]}, with {rows[0][2]} of all hits. In the last column, 1 is what it "
            "would get if hits were drawn from the reference at random."
        ),
        drawing(
            hits_by_study,
            answers.cells,
            source.obs,
            study_key=study_key,
            label_key=source.label_key,
            key_added=answers.slots.prefix,
            alt=f"For each label a bar of its hits, divided by {study_key}"
            + (", and a paler one of the type's cells in the reference" if owned else "")
            + f". Nearest overall: {rows[0][0]}.",
            caption=f"Hits of each label by {study_key}"
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


def _studies_found(hits: np.ndarray, column: pd.Series) -> list[list[str]]:
    """Return one row a study, that with the largest share of hits first."""
    names = column.to_numpy()[hits]
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


def against_truth(answers: Answers, truth_key: str | None) -> Section:
    """Return how labels compare with types that are known."""
    section = Section("truth", "Compared with known types")
    if truth_key is None:
        section.parts.append(
            Hint('Left out: if types are known for some cells, name their column of `obs`: `truth_key="cell_type"`.')
        )
        return section
    judged = judge(answers.cells, truth_key, answers.slots, "pl.report")
    n, right, kept = len(judged.correct), int(judged.correct.sum()), ~judged.unknown
    n_kept, right_kept = int(kept.sum()), int(judged.correct[kept].sum())
    truth = texts(answers.cells.obs[truth_key])
    rows = []
    for kind, count in _counted(truth.value_counts()):
        mine = truth.eq(kind).to_numpy(dtype=bool)
        called = answers.label[mine].dropna()
        others = called[called != kind].value_counts()
        right_label = _share_text(int(called.eq(kind).sum()), count)
        named = f"{others.index[0]} ({others.iloc[0]:,})" if len(others) else "-"
        rows.append([str(kind), f"{count:,}", right_label, _with_share(answers.unknown[mine]), named])
    columns = ["Type", "Cells", "Right label", "Called unknown", "Most often called instead"]
    section.parts += [
        Text(
            f"Of {cells(n)} with a type in {truth_key} and a label, {right:,} ({per_cent(right, n)}) have the right "
            f"one; of the {n_kept:,} not called unknown, {right_kept:,} ({per_cent(right_kept, n_kept)}). The mean "
            f"confidence is {probability(float(judged.confidence.mean()))}."
        ),
        drawing(
            confusion,
            answers.cells,
            truth_key,
            key_added=answers.slots.prefix,
            alt=f"Matrix of cells by type in {truth_key} (rows) and label (columns), with a column for the unknown. "
            "The table below has the numbers.",
            caption=f"What cells of each type in {truth_key} were called. A frame marks the right answer.",
        ),
        Table(f"By type in {truth_key}", columns, rows, range(1, 4)),
    ]
    return section


def _counted(counts: pd.Series) -> list[tuple[str, int]]:
    return [(str(kind), int(count)) for kind, count in counts.items()]


def _quantiles(values: np.ndarray) -> tuple[float, float, float]:
    """Return the 5, 50 and 95 per cent quantiles, NaN where there is nothing."""
    there = values[np.isfinite(values)]
    low, middle, high = np.quantile(there, [0.05, 0.5, 0.95]) if len(there) else (np.nan,) * 3
    return float(low), float(middle), float(high)


def _with_share(which: np.ndarray | Sequence[bool]) -> str:
    return _share_text(int(np.sum(which)), len(which))


def _share_text(part: int, whole: int) -> str:
    return f"{part:,} ({per_cent(part, whole)})"
