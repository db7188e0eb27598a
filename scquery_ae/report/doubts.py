"""Sections on what to know first and what to doubt: summary, unknown cells, check, limits."""

from __future__ import annotations

import numpy as np

from scquery_ae.pl._results import reference_column
from scquery_ae.pl.check import WEAK_F1
from scquery_ae.pl.check import check as draw_check
from scquery_ae.pp import CheckReport
from scquery_ae.report.inputs import QueriedReference, QueryResults, counted, quantiles
from scquery_ae.report.parts import (
    Items,
    Note,
    Part,
    Section,
    Table,
    Text,
    cells,
    drawing,
    listed,
    number,
    pairs_table,
    per_cent,
    probability,
)
from scquery_ae.stats.conformal import MIN_GROUP

#: Types that a sentence names.
_NAMED = 4
#: More unknown cells than this many times `alpha` are worth a warning, and a smaller fraction of the model genes.
_MANY, _FEW_GENES = 2, 0.5
#: Novel cells that are listed.
_MOST_NOVEL = 10


def summary(
    results: QueryResults, reference: QueriedReference | None, check: CheckReport | None, batch_key: str | None
) -> Section:
    """Return the section with the main results and the warnings that apply to this query."""
    n, n_unknown, counts = results.n_obs, int(results.unknown.sum()), results.counts
    facts = []
    if len(counts):
        named = listed([f"{kind} ({per_cent(count, n)})" for kind, count in counts.head(_NAMED).items()])
        labels = "1 type" if len(counts) == 1 else f"{len(counts):,} types"
        facts.append(f"{cells(n)} were [[label|labelled]] with {labels}. Most frequent: {named}.")
        labelled = results.confidence[results.label.notna().to_numpy()]
        facts.append(f"The median [[confidence]] of the labels is {probability(float(np.nanmedian(labelled)))}.")
    are = "is" if n_unknown == 1 else "are"
    fact = f"{cells(n_unknown)} ({per_cent(n_unknown, n)}) {are} called [[unknown]]."
    if results.alpha is not None and not results.controls_fdr:
        fact += f" At most {per_cent(results.alpha, 1)} would be expected if all cells were like the reference's."
    facts.append(fact)
    if results.genes is not None:
        found, total = results.genes
        facts.append(f"The query has {found:,} of the {total:,} model genes ({per_cent(found, total)}).")
    parts: list[Part] = [Items(facts)]
    warnings = _warnings(results, reference, check, batch_key)
    if warnings:
        parts += [Text("What to doubt:"), Items(warnings, warns=True)]
    return Section("summary", "Summary", parts)


def _warnings(
    results: QueryResults, reference: QueriedReference | None, check: CheckReport | None, batch_key: str | None
) -> list[str]:
    n_unknown, alpha, genes = int(results.unknown.sum()), results.alpha, results.genes
    found = []
    if alpha is not None and not results.controls_fdr and n_unknown > max(1, _MANY * alpha * results.n_obs):
        found.append(
            "Many more cells are called [[unknown]] than expected for cells like the reference's. These cells, or the "
            "way they were measured, differ from the reference. The labels may still be correct, but their "
            "[[confidence]] is probably too high."
        )
    # The problems of a check include missing genes.
    if check is None and genes is not None and genes[0] < _FEW_GENES * genes[1]:
        found.append(f"Only {per_cent(*genes)} of the model genes are in the query, so labels are less certain.")
    n_missing = int(results.label.isna().sum())
    if n_missing:
        found.append(f"{cells(n_missing)} got no label, because no count falls on a model gene.")
    if reference is not None and reference.calibration == "none":
        found.append("The reference has no held-out cells: [[confidence]] and [[p-value|p-values]] are not calibrated.")
    if check is not None:
        found += [f"{problem[:1].upper()}{problem[1:]}." for problem in check.problems]
        expected = check.expected_accuracy
        if expected is not None and expected.macro_f1 < WEAK_F1:
            found.append(
                f"The [[expected-accuracy]] is low: macro-[[f1|F1]] {expected.macro_f1:.2f} on the reference's own "
                "held-out cells with the genes and the depth of the query."
            )
    alone = [] if reference is None or batch_key is None else _types_of_one_batch(results, reference, batch_key)
    if alone:
        found.append(
            f"All reference cells of {listed(alone)} come from one {batch_key} each, so these labels depend on it."
        )
    return found


def _types_of_one_batch(results: QueryResults, reference: QueriedReference, batch_key: str) -> list[str]:
    """Return the labels whose reference cells all come from one batch, if the reference has several batches."""
    batches = reference_column(reference.obs, batch_key, "batch_key")
    if reference.labels is None or batches.nunique() < 2:
        return []
    held = batches.groupby(reference.labels.to_numpy(), observed=True).nunique()
    return [kind for kind in results.counts.index if held.get(kind, 0) == 1]


def unknown_cells(results: QueryResults) -> Section:
    """Return the section on the cells called unknown: their labels, and the most novel among them."""
    section = Section("unknown-cells", "Unknown cells")
    n_unknown = int(results.unknown.sum())
    if not n_unknown:
        section.parts.append(Text("No cell is called [[unknown]]. This does not prove that all types are known."))
        return section
    labelled = results.label.notna().to_numpy()
    are = "is" if n_unknown == 1 else "are"
    section.parts.append(
        Text(
            f"{n_unknown:,} of {cells(results.n_obs)} ({per_cent(n_unknown, results.n_obs)}) {are} called [[unknown]]. "
            "An unknown cell may be of a type that the reference lacks, but also a doublet, a damaged cell, or an "
            "ordinary cell that was measured differently. Many unknown cells spread over all labels suggest a "
            "difference in measurement. If they share one label, inspect their marker genes."
        )
    )
    n_blank = int((results.unknown & ~labelled).sum())
    if n_blank:
        section.parts.append(Text(f"{cells(n_blank)} of them got no label, because no count falls on a model gene."))
    rows = []
    for kind, count in counted(results.counts):
        mine = results.of(kind) & results.unknown
        n = int(mine.sum())
        if n:
            middle = quantiles(results.confidence[mine])[1]
            rows.append((n, [kind, f"{count:,}", f"{n:,}", per_cent(n, count), probability(middle)]))
    rows.sort(key=lambda row: -row[0])
    columns = ["Label", "Cells", "[[unknown|Unknown]]", "Fraction unknown", "Median [[confidence]] of unknown cells"]
    if rows:
        section.parts.append(Table("Unknown cells by label", columns, [row for _, row in rows], range(1, 5)))
        section.parts.append(_most_novel(results, labelled))
    return section


def _most_novel(results: QueryResults, labelled: np.ndarray) -> Table:
    columns = ["Cell", "Label", "[[confidence|Confidence]]", "[[p-value|p-value]]"]
    picked = np.flatnonzero(results.unknown & labelled)
    # Many p-values tie at their minimum, 1 / (1 + number of held-out cells).
    novelty = np.zeros(results.n_obs) if results.novelty is None else results.novelty
    picked = picked[np.lexsort((-novelty[picked], results.pvalue[picked]))][:_MOST_NOVEL]
    rows = [
        [
            str(results.names[i]),
            str(results.label.iloc[i]),
            probability(results.confidence[i]),
            probability(results.pvalue[i], 4),
        ]
        for i in picked
    ]
    caption = "The most novel cells, by p-value"
    if results.novelty is not None:
        columns.append("[[novelty-score|Novelty score]]")
        rows = [[*row, number(novelty[i], 1)] for row, i in zip(rows, picked, strict=True)]
        caption += " and novelty score"
    return Table(caption, columns, rows, range(2, len(columns)))


def checked(results: QueryResults, check: CheckReport) -> Section:
    """Return the section on the query's genes, its depth and the expected accuracy."""
    n = len(check.problems)
    verdict = "no problems found" if not n else "1 problem found" if n == 1 else f"{n} problems found"
    fraction = per_cent(int(check.genes["n_found"]), int(check.genes["n_genes"]))
    expected = check.expected_accuracy
    simulated = "" if expected is None else f" Below: F1 by type; macro-F1 {expected.macro_f1:.2f}."
    parts: list[Part] = [
        Text(
            "The check compares genes and sequencing depth of the query with the reference's. The "
            "[[expected-accuracy]] is measured on held-out cells of the reference with the genes and the depth of the "
            "query. Expect lower accuracy on the query, which differs from the reference in other ways too."
        ),
        drawing(
            draw_check,
            check,
            alt=f"Bars for the fraction of model genes found ({fraction}), and for counts and detected genes per cell "
            f"relative to the reference; {verdict}.{simulated}",
            caption=f"Genes and depth relative to the reference, and [[expected-accuracy]] by type ([[f1|F1]]): "
            f"{verdict}.",
        ),
        pairs_table("Results of the check", [(name.capitalize(), text) for name, text in check.lines()]),
    ]
    if check.n_obs != results.n_obs:
        parts.append(Note(f"The check is of {cells(check.n_obs)}, the query of {results.n_obs:,}: they may differ."))
    return Section("check", "Genes, depth and expected accuracy", parts)


def limits() -> Section:
    """Return the section on when the results should be doubted, whatever the query."""
    parts: list[Part] = [
        Text(
            "[[confidence|Confidence]], [[p-value|p-values]] and [[prediction-set|prediction sets]] are calibrated for "
            "cells like the reference's own. Verify the results if"
        ),
        Items(
            [
                "the cells differ from the reference's in study, protocol, species, tissue or condition. Confidence is "
                "then usually too high, and too many cells are called [[unknown]];",
                "a label is supported by a high [[p-value|p-value]] alone. A low p-value shows that a cell is unlike "
                "the reference cells of the type near which it lies, but a high one does not show that the label is "
                "correct: a new type that resembles a known one gets its label. A reference without NK cells may label "
                "them as CD8 T cells;",
                "the query lacks many model genes, or its cells are much shallower than the reference's. The "
                "[[expected-accuracy]] is then the best case;",
                f"the reference has fewer than {MIN_GROUP} held-out cells of a type, so that its p-values are computed "
                "from the cells of all types, or all its cells of a type come from one [[batch]];",
                "a conclusion depends on a label. Inspect marker genes of the type in these cells.",
            ]
        ),
    ]
    return Section("limits", "When to doubt these results", parts)
