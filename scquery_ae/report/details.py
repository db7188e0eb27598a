"""Closing sections: glossary, citation, technical details."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Any

import numpy as np

from scquery_ae.reference import Reference
from scquery_ae.report.inputs import NOT_RECORDED, QueriedReference, QueryResults
from scquery_ae.report.parts import (
    Code,
    Items,
    Note,
    Part,
    Section,
    Table,
    Terms,
    Text,
    cells,
    listed,
    pairs_table,
    per_cent,
)
from scquery_ae.stats.conformal import MIN_GROUP

#: As in CITATION.cff, which a wheel does not contain.
AUTHORS = "The scquery_ae founders"
ALAVI = (
    "Alavi A, Ruffalo M, Parvangada A, Huang Z, Bar-Joseph Z. A web server for comparative analysis of single-cell "
    "RNA-seq data. Nature Communications 9, 4768 (2018). <https://doi.org/10.1038/s41467-018-07165-2>"
)
VINCENT = (
    "Vincent P, Larochelle H, Lajoie I, Bengio Y, Manzagol P-A. Stacked denoising autoencoders: learning useful "
    "representations in a deep network with a local denoising criterion. Journal of Machine Learning Research 11, "
    "3371-3408 (2010). <https://www.jmlr.org/papers/v11/vincent10a.html>"
)
_BIBTEX = """\
@software{{scquery_ae,
  title   = {{scquery_ae}},
  author  = {{{{{authors}}}}},
  version = {{{version}}},
  license = {{BSD-3-Clause}}
}}
@article{{alavi2018,
  title   = {{A web server for comparative analysis of single-cell RNA-seq data}},
  author  = {{Alavi, Amir and Ruffalo, Matthew and Parvangada, Aiyappa and Huang, Zhilin and Bar-Joseph, Ziv}},
  journal = {{Nature Communications}},
  year    = {{2018}}, volume = {{9}}, pages = {{4768}}, doi = {{10.1038/s41467-018-07165-2}}
}}
@article{{vincent2010,
  title   = {{Stacked denoising autoencoders: learning useful representations in a deep network with a local
             denoising criterion}},
  author  = {{Vincent, Pascal and Larochelle, Hugo and Lajoie, Isabelle and Bengio, Yoshua and
             Manzagol, Pierre-Antoine}},
  journal = {{Journal of Machine Learning Research}},
  year    = {{2010}}, volume = {{11}}, pages = {{3371--3408}},
  url     = {{https://www.jmlr.org/papers/v11/vincent10a.html}}
}}"""

_CALIBRATIONS = {
    "held_out": "on cells held out of training",
    "cross_validated": "by cross-validation",
    "leave_one_batch_out": "on whole batches held out of training",
    "none": "not calibrated, because the reference has no held-out cells",
}
_PACKAGES = ("scquery-ae", "anndata", "numpy", "pandas", "matplotlib")

#: Sections that need an argument: anchor, heading, argument in Python, option of the command line.
_OPTIONAL = (
    ("check", "Genes, depth and expected accuracy", "check=scq.pp.check(adata, reference)", "always included"),
    ("embedding", "Query and reference in one embedding", "reference=reference", "always included"),
    ("batches", "Batches of the nearest reference cells", 'reference=reference, batch_key="..."', "--batch-key"),
    ("samples", "Cell types by sample", 'groupby="..."', "-"),
    ("truth", "Comparison with known types", 'truth_key="..."', "-"),
)


def glossary(results: QueryResults) -> Section:
    """Return the definitions of the terms that the report uses, with the parameters of this query."""
    alpha, coverage = results.alpha, results.parameters.get("coverage")
    level = "`alpha`" if alpha is None else f"`alpha` = {alpha:g}"
    if results.controls_fdr:
        unknown = (
            f"The adjusted [[p-value|p-value]] of the cell is at most {level}: of all cells called unknown, the "
            "expected fraction of known ones is at most `alpha` (false discovery rate)."
        )
    else:
        unknown = (
            f"The [[p-value|p-value]] of the cell is at most {level}. Of cells like the reference's, a fraction of at "
            "most `alpha` is called unknown by chance."
        )
    entries = [
        (
            "label",
            "Label",
            "The most probable of the reference's types. A type that the reference lacks cannot be a label.",
        ),
        (
            "confidence",
            "Confidence",
            "The estimated probability that the label is correct, from 0 to 1, calibrated on reference cells that were "
            "held out of training. Of the cells with confidence 0.9, about 90% have the correct label if they are like "
            "the reference's.",
        ),
        (
            "p-value",
            "p-value",
            "How well a cell fits the type near which it lies in the embedding, according to classifier and "
            "[[neighbors]]. This type can differ from the label. The p-value is the fraction of held-out reference "
            "cells of the type that are at least as unlike the type as the cell is; near 0, the cell is unlike all of "
            "them. It is not the probability that the label is correct. For a type with fewer than "
            f"{MIN_GROUP} held-out cells, those of all types are used.",
        ),
        (
            "unknown",
            "Unknown",
            f"{unknown} An unknown cell keeps the label of the type that it resembles most; do not count it as that "
            "type.",
        ),
        (
            "novelty-score",
            "Novelty score",
            "How much a cell differs from the reference cells of the type near which it lies in the embedding; larger "
            "is more novel. It ranks cells whose p-values are equal.",
        ),
        (
            "prediction-set",
            "Prediction set",
            "The types that cannot be ruled out for a cell, at the [[coverage]] of the query. If a set has "
            "several types, any of them may be the correct one.",
        ),
        (
            "coverage",
            "Coverage",
            "The fraction of [[prediction-set|prediction sets]] that contain the true type, for cells like the "
            f"reference's{'' if coverage is None else f': at least {per_cent(coverage, 1)} in this query'}.",
        ),
        (
            "expected-accuracy",
            "Expected accuracy",
            "The accuracy on held-out cells of the reference in a simulated query with the genes and the sequencing "
            "depth of the query. It simulates missing genes and depth only, not other differences.",
        ),
        (
            "f1",
            "F1",
            "The harmonic mean of precision and recall for a type, from 0 to 1. It is 1 if all cells of the type and "
            "no others get its label. Macro-F1 is the mean over types.",
        ),
        ("neighbors", "Neighbors", "The reference cells nearest to a query cell, by cosine distance in the embedding."),
        ("batch", "Batch", "Reference cells that were measured together, for example of one study, donor or sample."),
    ]
    return Section("glossary", "Glossary", [Terms(entries)])


def citation(results: QueryResults, reference: QueriedReference | None) -> Section:
    """Return the section with a sentence for the methods, the publications to cite, and BibTeX."""
    identity, parameters = results.part("reference"), results.parameters
    which = f" {identity['name']}" if identity.get("name") else ""
    size = "" if reference is None else f" of {cells(len(reference.obs))}"
    digest = f" (SHA-256 {identity['sha256']})" if identity.get("sha256") else ""
    forms = (("n_neighbors", "{:g} neighbors"), ("alpha", "alpha = {:g}"), ("coverage", "coverage {:g}"))
    settings = [form.format(parameters[name]) for name, form in forms if name in parameters]
    used = str(results.recorded.get("version") or _version("scquery-ae"))
    n_unknown = int(results.unknown.sum())
    method = (
        f"Cell types of {cells(results.n_obs)} were predicted with scquery_ae {used} from the reference{which}{size}"
        f"{digest}{f', with {listed(settings)}' if settings else ''}. {cells(n_unknown)} "
        f"{'was' if n_unknown == 1 else 'were'} called unknown."
    )
    parts: list[Part] = [
        Text("For the methods section:"),
        Code(method),
        Text("Cite the software and the two publications that its method follows:"),
        Items([f"{AUTHORS}. scquery_ae, version {used} (software, BSD-3-Clause).", ALAVI, VINCENT]),
        Text("Cite also the publications of the reference's data."),
        Code(_BIBTEX.format(authors=AUTHORS, version=used)),
    ]
    return Section("cite", "How to cite", parts)


def technical(
    results: QueryResults, reference: QueriedReference | None, when: str, included: Collection[str]
) -> Section:
    """Return the section with inputs, parameters and versions, and the sections that were left out."""
    parts: list[Part] = [
        pairs_table("The query", _query_facts(results)),
        pairs_table("The reference", _reference_facts(results, reference)),
    ]
    if not results.recorded:
        parts.append(
            Note(
                f"`uns[{results.slots.uns!r}]`, the record of the query, is missing. Make the report from the AnnData "
                "that was queried."
            )
        )
    elif not results.part("reference").get("sha256"):
        parts.append(Note("Name and hash of a reference are recorded only if it is queried by its path."))
    if results.parameters:
        values = [(str(name), _value(value)) for name, value in results.parameters.items()]
        parts.append(pairs_table("Parameters of scq.tl.query", values))
    versions = [("Report written", when), ("Queried with scquery_ae", results.recorded.get("version", NOT_RECORDED))]
    versions += [(f"Report written with {name}", _version(name)) for name in _PACKAGES]
    versions.append(("Report written with Python", python_version()))
    parts.append(pairs_table("Date and versions", versions))
    left_out = [[heading, python, option] for key, heading, python, option in _OPTIONAL if key not in included]
    if left_out:
        columns = ["Section", "Argument of scq.report.write", "Option of scquery-ae query"]
        parts.append(Table("Sections left out, and how to include them", columns, left_out))
    return Section("details", "Technical details", parts)


def _query_facts(results: QueryResults) -> list[tuple[str, object]]:
    parameters, genes = results.parameters, results.genes
    facts: list[tuple[str, object]] = [
        ("Cells", f"{results.n_obs:,}"),
        ("Genes in the file", f"{results.n_genes:,}"),
        ("Values read from", parameters.get("source", NOT_RECORDED)),
        ("Kind of values", parameters.get("input_state", NOT_RECORDED)),
    ]
    if genes is not None:
        key = results.part("genes").get("key", NOT_RECORDED)
        facts.append(("Model genes found", f"{genes[0]:,} of {genes[1]:,} ({per_cent(*genes)}), matched by {key}"))
    ambiguous = [str(name) for name in np.atleast_1d(results.part("genes").get("ambiguous", []))]
    if ambiguous:
        facts.append(("Genes ignored because their name occurs more than once", listed(ambiguous)))
    return facts


def _reference_facts(results: QueryResults, reference: QueriedReference | None) -> list[tuple[str, object]]:
    identity = results.part("reference")
    facts: list[tuple[str, object]] = [
        ("Name", identity.get("name") or NOT_RECORDED),
        ("SHA-256", identity.get("sha256") or NOT_RECORDED),
    ]
    if reference is not None:
        facts.append(("Cells", f"{len(reference.obs):,}"))
        if reference.label_key is not None:
            facts.append(("Column of types", reference.label_key))
    if results.types:
        facts.append(("Types", f"{len(results.types):,}: {', '.join(results.types)}"))
    if reference is not None and isinstance(reference.given, Reference):
        provenance: Mapping[str, Any] = reference.given.provenance or {}
        steps = [_step(step) for step in provenance.get("steps") or []]
        facts += [
            ("Encoder", repr(reference.given.encoder)),
            ("Confidence and p-values calibrated", _CALIBRATIONS[reference.given.calibration.method]),
            ("Built with scquery_ae", provenance.get("scquery_ae", NOT_RECORDED)),
            ("Edits since it was built", f"{len(steps):,}: {listed(steps)}" if steps else "none"),
        ]
    return facts


def _step(step: Any) -> str:
    """Return an edit of the reference as text, such as ``add (n_obs 5)``."""
    if not isinstance(step, Mapping):
        return str(step)
    verb, *rest = (str(value) if i == 0 else f"{name} {value}" for i, (name, value) in enumerate(step.items()))
    return f"{verb} ({', '.join(rest)})" if rest else verb


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # used from a folder without being installed
        return NOT_RECORDED


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {entry}" for name, entry in value.items()) or "-"
    return str(value) or "-"
