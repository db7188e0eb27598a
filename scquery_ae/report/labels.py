"""Sections on the labels: cell types, confidence by type, comparison with known types."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scquery_ae.pl._colors import MOST_CATEGORIES
from scquery_ae.pl._results import as_text, compare_labels
from scquery_ae.pl.composition import composition
from scquery_ae.pl.confusion import confusion
from scquery_ae.pl.query import query as draw_query
from scquery_ae.report.inputs import QueriedReference, QueryResults, contains_separator, counted, quantiles
from scquery_ae.report.parts import (
    Note,
    Part,
    Section,
    Table,
    Text,
    cells,
    count_and_fraction,
    count_true,
    drawing,
    listed,
    per_cent,
    probability,
)

NO_LABEL = "No cell has a label: none has a count in the model genes."
TOO_MANY_TYPES = f"No figure: there are more than {MOST_CATEGORIES} types, which is the most that can be coloured."

#: With more than twice as many types, only so many are listed at each end.
_ENDS = 5
#: A median over fewer cells is marked.
_FEW = 10
#: Confidence below this is counted as low.
_LOW = 0.8
#: Types that a sentence names.
_NAMED = 4


def cell_types(results: QueryResults, reference: QueriedReference | None, groupby: str | None) -> Section:
    """Return the section on the cell types of the query, in all and by sample."""
    section = Section("types", "Cell types")
    counts = results.counts
    if counts.empty:
        section.parts.append(Note(NO_LABEL))
        return section
    largest = listed([f"{kind} {count:,}" for kind, count in counts.head(_NAMED).items()])
    section.parts += [
        drawing(
            draw_query,
            results.cells,
            key_added=results.slots.prefix,
            alt=f"Left: bars with the number of cells of each of {len(counts):,} labels, cells called unknown hatched; "
            f"most frequent: {largest}. Right: the confidence of each label. The table below has the numbers.",
            caption="Left: number of cells of each label; cells called [[unknown]] are hatched. Right: [[confidence]] "
            "of the labels; median (point), quartiles (thick line), 5 to 95% (thin line) and single cells (dots).",
        ),
        _type_table(results, reference),
    ]
    if groupby is not None and len(counts) > MOST_CATEGORIES:
        section.parts.append(Note(TOO_MANY_TYPES))
    elif groupby is not None:
        section.parts.append(
            drawing(
                composition,
                results.cells,
                groupby,
                key_added=results.slots.prefix,
                alt=f"One bar for each of {results.cells.obs[groupby].nunique():,} values of {groupby}, divided by the "
                "fraction of each type; beside it the number of cells, the mean confidence and the fraction unknown.",
                caption=f"Fraction of each type by {groupby}. Cells called [[unknown]] are hatched.",
            )
        )
    return section


def _type_table(results: QueryResults, reference: QueriedReference | None) -> Table:
    held = None if reference is None or reference.labels is None else reference.labels.value_counts()
    columns = ["Type", "Cells", "Fraction", "[[unknown|Unknown]]", "Median [[confidence]]", "5 to 95%"]
    columns += ["Median [[p-value|p-value]]", *["Cells in the reference"] * (held is not None)]
    rows = []
    for kind, count in counted(results.counts):
        mine = results.of(kind)
        low, middle, high = quantiles(results.confidence[mine])
        row = [
            kind,
            f"{count:,}",
            per_cent(count, results.n_obs),
            count_true(results.unknown[mine]),
            probability(middle),
            f"{probability(low)} to {probability(high)}",
            probability(quantiles(results.pvalue[mine])[1], 3),
        ]
        rows.append(row if held is None else [*row, f"{held.get(kind, 0):,}"])
    missing = results.label.isna().to_numpy()
    if missing.any():
        row = ["(no label)", f"{missing.sum():,}", per_cent(int(missing.sum()), results.n_obs)]
        row.append(count_true(results.unknown[missing]))
        rows.append([*row, *["-"] * (len(columns) - len(row))])
    return Table("Cells of each label", columns, rows, range(1, len(columns)))


def confidence_by_type(results: QueryResults) -> Section:
    """Return the section that orders the types by confidence and lists the alternatives to each."""
    section = Section("certainty", "Confidence by type")
    counts = results.counts
    if counts.empty:
        section.parts.append(Note(NO_LABEL))
        return section
    medians = {kind: quantiles(results.confidence[results.of(kind)])[1] for kind in counts.index}
    order = sorted(medians, key=lambda kind: (-np.nan_to_num(medians[kind], nan=-1), str(kind)))
    sets = results.prediction_set
    columns = ["Type", "Cells", "Median [[confidence]]", f"Confidence below {_LOW:g}"]
    columns += ["One type in the [[prediction-set]]", "Alternatives"] * (sets is not None)
    rows = []
    for kind in order:
        mine = results.of(kind)
        few = " (few)" if counts[kind] < _FEW else ""
        row = [str(kind), f"{counts[kind]:,}{few}", probability(medians[kind])]
        row.append(count_true(results.confidence[mine] < _LOW))
        rows.append(row if sets is None else [*row, *_alternatives(sets[mine], kind)])
    numeric = range(1, 5)
    if len(rows) <= 2 * _ENDS:
        section.parts.append(Table("Types from the highest to the lowest confidence", columns, rows, numeric))
    else:
        last = rows[: -_ENDS - 1 : -1]
        section.parts.append(Table(f"The {_ENDS} types with the highest confidence", columns, rows[:_ENDS], numeric))
        section.parts.append(
            Table(f"The {_ENDS} types with the lowest confidence, lowest first", columns, last, numeric)
        )
    note = f"Types with fewer than {_FEW} cells are marked: their median is uncertain."
    if sets is not None and contains_separator(sets):
        note += (
            " The last column lists the types that share a [[prediction-set]] with the label most often, and in how "
            "many cells."
        )
    elif sets is not None:
        note += " Every [[prediction-set]] contains one type."
    section.parts.append(Text(note))
    return section


def _alternatives(sets: pd.Series, kind: str) -> tuple[str, str]:
    """Return how many prediction sets contain one type, and the two most frequent other types in them."""
    members = [str(text).split("|") for text in sets.dropna()]
    others = pd.Series([other for group in members for other in group if other != kind], dtype=object).value_counts()
    named = listed([f"{other} ({n:,})" for other, n in others.head(2).items()]) if len(others) else "-"
    return count_true([len(group) < 2 for group in members]), named


def known_types(results: QueryResults, truth_key: str) -> Section:
    """Return the section that compares the labels with known types."""
    compared = compare_labels(results.cells, truth_key, results.slots, "report.write")
    n, n_correct, kept = len(compared.correct), int(compared.correct.sum()), ~compared.unknown
    n_kept, n_correct_kept = int(kept.sum()), int(compared.correct[kept].sum())
    truth = as_text(results.cells.obs[truth_key])
    rows = []
    for kind, count in counted(truth.value_counts()):
        mine = truth.eq(kind).to_numpy(dtype=bool)
        labels = results.label[mine].dropna()
        others = labels[labels != kind].value_counts()
        correct = count_and_fraction(int(labels.eq(kind).sum()), count)
        other = f"{others.index[0]} ({others.iloc[0]:,})" if len(others) else "-"
        rows.append([kind, f"{count:,}", correct, count_true(results.unknown[mine]), other])
    columns = ["Known type", "Cells", "Correct label", "[[unknown|Called unknown]]", "Most frequent other label"]
    parts: list[Part] = [
        Text(
            f"Of {cells(n)} with a label and a known type in {truth_key}, {n_correct:,} ({per_cent(n_correct, n)}) "
            f"have the correct label. Of the {n_kept:,} that are not called [[unknown]], {n_correct_kept:,} "
            f"({per_cent(n_correct_kept, n_kept)}) do. The mean [[confidence]] is "
            f"{probability(float(compared.confidence.mean()))}."
        ),
        drawing(
            confusion,
            results.cells,
            truth_key,
            key_added=results.slots.prefix,
            alt=f"Matrix of cells by known type in {truth_key} (rows) and label (columns), and the fraction of each "
            "known type called unknown. The table below has the numbers.",
            caption=f"Number of cells by true type in {truth_key} and label; correct labels are framed. Cells called "
            "[[unknown]] count under their label. The column on the right is the fraction called unknown.",
        ),
        Table(f"Labels by known type in {truth_key}", columns, rows, range(1, 4)),
    ]
    return Section("truth", "Comparison with known types", parts)
