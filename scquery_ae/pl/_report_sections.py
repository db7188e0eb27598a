"""Sections of a report about the query as a whole: what was asked, the check, how to cite, versions."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Any

import numpy as np

from scquery_ae.pl._answers import texts
from scquery_ae.pl._report_facts import RECORDED_NOT, Answers, Source, reference_column
from scquery_ae.pl._report_figures import drawing
from scquery_ae.pl._report_parts import (
    Hint,
    Items,
    Part,
    Section,
    Text,
    cells,
    listed,
    pairs_table,
    per_cent,
    probability,
)
from scquery_ae.pl._report_words import how_to_cite
from scquery_ae.pl.check import check as draw_preflight

#: Types that a sentence names.
_NAMED = 4
#: How many times the error rate is remarkable, a low share of genes, and a low F1.
_MANY, _GENES, _WEAK_F1 = 2, 0.5, 0.8
_METHODS = {
    "held_out": "on cells that training held out",
    "cross_validated": "by cross-validation",
    "leave_one_batch_out": "on whole batches that training had not seen",
    "none": "not at all: there are no held-out cells, so that both mean little",
}
_PACKAGES = ("scquery-ae", "anndata", "numpy", "pandas", "matplotlib")


def summary(answers: Answers, source: Source | None, found: Any, batch_key: str | None) -> Section:
    """Return what to know first, and what to be careful with."""
    n, n_unknown, counts = answers.n_obs, int(answers.unknown.sum()), answers.counts
    said = []
    if len(counts):
        named = listed([f"{kind} ({per_cent(count, n)})" for kind, count in counts.head(_NAMED).items()])
        labels = "1 label" if len(counts) == 1 else f"{len(counts):,} labels"
        said.append(f"{cells(n)} got {labels}; most frequent: {named}, unknown cells among them.")
        confident = answers.confidence[answers.label.notna().to_numpy()]
        said.append(f"The median confidence is {probability(float(np.nanmedian(confident)))}.")
    rate = answers.parameters.get("alpha")
    allowed = ""
    if rate is not None and not answers.parameters.get("corr_method"):
        allowed = f"; up to {per_cent(rate, 1)} were to be expected if all were like the reference's"
    are = "is" if n_unknown == 1 else "are"
    said.append(f"{cells(n_unknown)} ({per_cent(n_unknown, n)}) {are} unknown to the reference{allowed}.")
    genes = answers.genes
    if genes is not None:
        said.append(f"{genes[0]:,} of the {genes[1]:,} genes that it reads ({per_cent(*genes)}) were there.")
    parts: list[Part] = [Items(said)]
    careful = _cautions(answers, source, found, batch_key)
    if careful:
        parts += [Text("Look at this before you believe it:"), Items(careful, warns=True)]
    return Section("summary", "In short", parts)


def _cautions(answers: Answers, source: Source | None, found: Any, batch_key: str | None) -> list[str]:
    n_unknown, rate = int(answers.unknown.sum()), answers.parameters.get("alpha")
    careful = []
    each = not answers.parameters.get("corr_method")
    if rate is not None and each and n_unknown > max(1, _MANY * rate * answers.n_obs):
        careful.append(
            "Many more cells are unknown than the error rate allows for cells like the reference's: these cells, or "
            "how they were measured, differ from it. Labels may hold all the same, but the confidence is likely to be "
            "too high."
        )
    if answers.genes is not None and answers.genes[0] < _GENES * answers.genes[1]:
        careful.append(
            f"Only {per_cent(*answers.genes)} of the genes that the reference reads were there, which makes labels "
            "less certain than the reference's own."
        )
    missing = int(answers.label.isna().sum())
    if missing:
        careful.append(f"{cells(missing)} got no label: nothing was counted in the genes that the reference reads.")
    if source is not None and source.method == "none":
        careful.append("The reference has no held-out cells: confidence and p-values mean little.")
    if found is not None:
        careful += [f"The check says: {problem}." for problem in found.problems]
        if found.expected_accuracy is not None and found.expected_accuracy.macro_f1 < _WEAK_F1:
            careful.append(
                "In the expected_accuracy the reference named its own cells, seen through these genes and this depth, with a "
                f"macro-F1 of {found.expected_accuracy.macro_f1:.2f} only."
            )
    alone = [] if source is None or batch_key is None else _of_one_study(answers, source, batch_key)
    if alone:
        careful.append(
            f"In the reference, all cells of {listed(alone)} are of one {batch_key} each: these labels rest on it."
        )
    return careful


def _of_one_study(answers: Answers, source: Source, batch_key: str) -> list[str]:
    """Return labels whose cells are all of one study, where the reference has several."""
    studies = reference_column(source.obs, batch_key, "batch_key")
    if source.labels is None or studies.nunique() < 2:
        return []
    held = studies.groupby(source.labels.to_numpy(), observed=True).nunique()
    return [kind for kind in answers.counts.index if held.get(kind, 0) == 1]


def asked(answers: Answers, source: Source | None) -> Section:
    """Return what was asked, and of which reference."""
    recorded, genes = answers.parameters, answers.genes
    query: list[tuple[str, object]] = [
        ("Cells", f"{answers.n_obs:,}"),
        ("Genes in the file", f"{answers.n_genes:,}"),
        ("Values read from", recorded.get("source", RECORDED_NOT)),
        ("Values taken for", recorded.get("input_state", RECORDED_NOT)),
    ]
    if genes is not None:
        matched = answers.part("genes").get("key", RECORDED_NOT)
        found = f"{genes[0]:,} of {genes[1]:,} ({per_cent(*genes)}), matched by {matched}"
        query.append(("Genes of the reference found", found))
    twice = [str(name) for name in np.atleast_1d(answers.part("genes").get("ambiguous", []))]
    if twice:
        query.append(("Genes left out, since named twice", listed(twice)))
    parts: list[Part] = [pairs_table("The query", query), pairs_table("The reference", _reference(answers, source))]
    if not answers.recorded:
        parts.append(
            Hint(
                f"`uns[{answers.slots.uns!r}]`, where a query records what it was asked, is not there: it gets lost "
                "when files are put together. Make this page from the AnnData that was queried."
            )
        )
    elif not answers.part("reference").get("sha256"):
        parts.append(
            Hint(
                "The reference's name and hash are recorded only if it is queried by its path: save it, and call "
                '`scq.tl.query(adata, "islets.scq")`.'
            )
        )
    if source is None:
        parts.append(Hint("More about the reference stands here if it is given as `reference=`."))
    return Section("asked", "What was asked, and of which reference", parts)


def _reference(answers: Answers, source: Source | None) -> list[tuple[str, object]]:
    identity = answers.part("reference")
    rows: list[tuple[str, object]] = [
        ("Name", identity.get("name") or RECORDED_NOT),
        ("SHA-256", identity.get("sha256") or RECORDED_NOT),
    ]
    if source is not None:
        rows.append(("Cells", f"{len(source.obs):,}"))
        if source.label_key is not None:
            rows.append(("Types from column", source.label_key))
    if answers.types:
        rows.append(("Types that it can name", f"{len(answers.types):,}: {', '.join(answers.types)}"))
    if source is not None and not source.is_cells:
        made = getattr(source.given, "provenance", None) or {}
        rows.append(("Encoder", repr(getattr(source.given, "encoder", RECORDED_NOT))))
        rows.append(("Confidence and p-values set", _METHODS.get(source.method, source.method)))
        rows.append(("Made with scquery_ae", made.get("scquery_ae", RECORDED_NOT)))
        steps = [_step(step) for step in made.get("steps") or []]
        rows.append(("Changed since", f"{len(steps):,}: {listed(steps)}" if steps else "no"))
    return rows


def _step(step: Any) -> str:
    """Return a step of the reference's history as text, such as ``add (n_obs 5)``."""
    if not isinstance(step, Mapping):
        return str(step)
    verb, *rest = (str(value) if i == 0 else f"{name} {value}" for i, (name, value) in enumerate(step.items()))
    return f"{verb} ({', '.join(rest)})" if rest else verb


def check(answers: Answers, found: Any) -> Section:
    """Return what the check found."""
    section = Section("check", "Preflight: what the query was going to meet")
    if found is None:
        section.parts.append(
            Hint("Left out: make one with `found = scq.pp.check(adata, reference)` and give it as `check=found`.")
        )
        return section
    n = len(found.problems)
    verdict = f"{n} {'thing' if n == 1 else 'things'} to look at" if n else "nothing stands in the way"
    share = per_cent(int(found.genes["n_found"]), int(found.genes["n_genes"]))
    simulated = (
        ""
        if found.expected_accuracy is None
        else f" Below, F1 by type; macro-F1 {found.expected_accuracy.macro_f1:.2f}."
    )
    section.parts += [
        Text(
            "Before a query, the check compares its genes and depth with the reference's, and rehearses: cells of "
            "the reference itself, held out of training, are named with these genes and at this depth. The F1 of a "
            "type is 1 where all its cells and no others are found. Expect no more than that."
        ),
        drawing(
            draw_preflight,
            found,
            alt=f"Bars for the share of model genes found ({share}), counts and genes detected a cell in units of the "
            f"reference; {verdict}.{simulated}",
            caption=f"Preflight: {verdict}.",
        ),
        pairs_table("The check in words", [(word.capitalize(), said) for word, said in found.lines()]),
    ]
    if found.n_obs != answers.n_obs:
        section.parts.append(
            Hint(f"The check is of {cells(found.n_obs)}, this page of {answers.n_obs:,}: it may be of others.")
        )
    return section


def citing(answers: Answers, source: Source | None, batch_key: str | None) -> Section:
    """Return how to cite."""
    identity, parameters = answers.part("reference"), answers.parameters
    which = f" {identity['name']}" if identity.get("name") else ""
    made = "" if source is None else f" of {cells(len(source.obs))}"
    digest = f" (SHA-256 {identity['sha256']})" if identity.get("sha256") else ""
    words = (("n_neighbors", "{:g} neighbors"), ("alpha", "error rate {:g}"), ("coverage", "prediction sets at {:g}"))
    rules = [word.format(parameters[name]) for name, word in words if name in parameters]
    used = str(answers.recorded.get("version") or _version("scquery-ae"))
    n_unknown = int(answers.unknown.sum())
    method = (
        f"Cell types of {cells(answers.n_obs)} were assigned with scquery_ae {used} by searching the reference{which}"
        f"{made}{digest}{f', with {listed(rules)}' if rules else ''}. {cells(n_unknown)} "
        f"{'was' if n_unknown == 1 else 'were'} called unknown."
    )
    studies = ""
    if source is not None and batch_key is not None:
        studies = f". Its cells are of {listed(list(texts(source.obs[batch_key]).dropna().value_counts().index), 30)}"
    return Section("cite", "How to cite", how_to_cite(method, used, studies))


def record(answers: Answers, when: str) -> Section:
    """Return parameters and versions, for the lab book."""
    parameters = [(str(name), _value(value)) for name, value in answers.parameters.items()]
    versions = [
        ("This page was made", when),
        ("Queried with scquery_ae", answers.recorded.get("version", RECORDED_NOT)),
    ]
    versions += [(f"Page made with {name}", _version(name)) for name in _PACKAGES]
    versions.append(("Page made with Python", python_version()))
    told: Part = Hint("The parameters of the query are not recorded.")
    if parameters:
        told = pairs_table("Parameters of scq.tl.query", parameters)
    return Section("record", "Parameters and versions", [told, pairs_table("Date and versions", versions)])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # used from a folder, without being installed
        return RECORDED_NOT


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {said}" for name, said in value.items()) or "-"
    return str(value) or "-"
