"""Section of a report about the cells called unknown."""

from __future__ import annotations

import numpy as np

from scquery_ae.pl._report_facts import Answers, counted, quantiles
from scquery_ae.pl._report_parts import Section, Table, Text, cells, number, per_cent, probability

#: Strange cells that are named.
_STRANGEST = 10


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
    for kind, count in counted(answers.counts):
        strange = answers.of(kind) & answers.unknown
        n = int(strange.sum())
        middle = quantiles(answers.confidence[strange])[1]
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
    # P-values tie at the least that the held-out cells of a type allow.
    strange = np.zeros(answers.n_obs) if answers.novelty is None else answers.novelty
    picked = picked[np.lexsort((-strange[picked], answers.pvalue[picked]))][:_STRANGEST]
    rows = [
        [
            str(answers.names[i]),
            str(answers.label.iloc[i]),
            probability(answers.confidence[i]),
            probability(answers.pvalue[i], 4),
        ]
        for i in picked
    ]
    caption = "The most novel cells, lowest p-value first"
    if answers.novelty is not None:
        columns.append("Novelty")
        rows = [[*row, number(strange[i], 1)] for row, i in zip(rows, picked, strict=True)]
        caption += ", then by novelty"
    return Table(caption, columns, rows, range(2, len(columns)))
