"""Sections of a report about the labels: which types, how certain, and how right where types are known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scquery_ae.pl._answers import judge, texts
from scquery_ae.pl._colors import MOST_CATEGORIES
from scquery_ae.pl._report_facts import Answers, Source, counted, holds_bar, quantiles
from scquery_ae.pl._report_figures import drawing
from scquery_ae.pl._report_parts import (
    Hint,
    Section,
    Table,
    Text,
    cells,
    count_and_share,
    listed,
    per_cent,
    probability,
    with_share,
)
from scquery_ae.pl._report_words import NO_LABEL, UNCOLOURED
from scquery_ae.pl.composition import composition
from scquery_ae.pl.confusion import confusion
from scquery_ae.pl.query import query as draw_query

#: Types named at each end, all if there are no more than twice as many; cells below which a type is called small.
_ENDS, _FEW = 5, 10
#: Types that a sentence names, and a low confidence.
_NAMED, _LOW = 4, 0.8


def makeup(answers: Answers, source: Source | None, groupby: str | None) -> Section:
    """Return which types the query is made of, with confidence."""
    section = Section("composition", "Composition, with confidence")
    counts = answers.counts
    if counts.empty:
        section.parts.append(Hint(NO_LABEL))
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
        section.parts.append(Hint(UNCOLOURED))
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
    for kind, count in counted(answers.counts):
        mine = answers.of(kind)
        low, middle, high = quantiles(answers.confidence[mine])
        row = [
            str(kind),
            f"{count:,}",
            per_cent(count, answers.n_obs),
            with_share(answers.unknown[mine]),
            probability(middle),
            f"{probability(low)} to {probability(high)}",
            probability(quantiles(answers.pvalue[mine])[1], 3),
        ]
        rows.append(row if held is None else [*row, f"{held.get(kind, 0):,}"])
    missing = answers.label.isna().to_numpy()
    if missing.any():
        row = ["(no label)", f"{missing.sum():,}", per_cent(int(missing.sum()), answers.n_obs)]
        row.append(with_share(answers.unknown[missing]))
        rows.append([*row, *["-"] * (len(columns) - len(row))])
    return Table("Cells of each label", columns, rows, range(1, len(columns)))


def certainty(answers: Answers) -> Section:
    """Return the types that the query is most and least certain of."""
    section = Section("certainty", "Most and least certain types")
    counts = answers.counts
    if counts.empty:
        section.parts.append(Hint(NO_LABEL))
        return section
    medians = {kind: quantiles(answers.confidence[answers.of(kind)])[1] for kind in counts.index}
    order = sorted(medians, key=lambda kind: (-np.nan_to_num(medians[kind], nan=-1), str(kind)))
    sets = answers.prediction_set
    columns = ["Type", "Cells", "Median confidence", f"Confidence below {_LOW:g}"]
    columns += ["One type in the prediction set", "Cannot be told from"] * (sets is not None)
    rows = []
    for kind in order:
        mine = answers.of(kind)
        few = " (few)" if counts[kind] < _FEW else ""
        row = [str(kind), f"{counts[kind]:,}{few}", probability(medians[kind])]
        row.append(with_share(answers.confidence[mine] < _LOW))
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
        told += " The last column names the types that most often stand beside it in prediction sets, and in how many cells."
    elif sets is not None:
        told += (
            " All prediction sets hold one type: the reference is right more often than the coverage asks of the sets."
        )
    section.parts.append(Text(told))
    return section


def _rivals(sets: pd.Series, kind: str) -> tuple[str, str]:
    """Return how many prediction sets hold one type, and which others stand beside it most often."""
    members = [str(text).split("|") for text in sets.dropna()]
    others = pd.Series([other for group in members for other in group if other != kind], dtype=object).value_counts()
    named = listed([f"{other} ({n:,})" for other, n in others.head(2).items()]) if len(others) else "-"
    return with_share([len(group) < 2 for group in members]), named


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
    for kind, count in counted(truth.value_counts()):
        mine = truth.eq(kind).to_numpy(dtype=bool)
        called = answers.label[mine].dropna()
        others = called[called != kind].value_counts()
        right_label = count_and_share(int(called.eq(kind).sum()), count)
        named = f"{others.index[0]} ({others.iloc[0]:,})" if len(others) else "-"
        rows.append([str(kind), f"{count:,}", right_label, with_share(answers.unknown[mine]), named])
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
