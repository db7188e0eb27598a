"""What a report says whatever the data: how to read its numbers, when not to, how to cite, and why a part is absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scquery_ae.pl._colors import MOST_CATEGORIES
from scquery_ae.pl._report_parts import Code, Items, Part, Terms, Text

NO_LABEL = "No cell got a label: in none was anything counted in the genes that the reference reads."
UNCOLOURED = f"No figure: no more than {MOST_CATEGORIES} types can be coloured, and there are more."

#: As in CITATION.cff, which a wheel does not carry.
AUTHORS = "The scquery_ae founders"
ALAVI = (
    "Alavi A, Ruffalo M, Parvangada A, Huang Z, Bar-Joseph Z. A web server for comparative analysis of single-cell "
    "RNA-seq data. Nature Communications 9, 4768 (2018). doi:10.1038/s41467-018-07165-2"
)
VINCENT = (
    "Vincent P, Larochelle H, Lajoie I, Bengio Y, Manzagol P-A. Stacked denoising autoencoders: learning useful "
    "representations in a deep network with a local denoising criterion. Journal of Machine Learning Research 11, "
    "3371-3408 (2010)."
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
  year    = {{2010}}, volume = {{11}}, pages = {{3371--3408}}
}}"""


def how_to_read(parameters: Mapping[str, Any]) -> list[Part]:
    """Return what confidence, p-value, unknown and prediction set promise, and when not to believe them."""
    rate, coverage = parameters.get("alpha"), parameters.get("coverage")
    if parameters.get("corr_method") and rate is not None:
        unknown = (
            "The p-value is too low to be chance, judged over all cells together: of the cells called unknown, about "
            f"{rate:.1%} should be known ones after all."
        )
    else:
        share = "a chosen share" if rate is None else f"{rate:.1%}"
        unknown = (
            f"The p-value is at most the error rate. Even if nothing is wrong, up to {share} of the cells are called "
            "unknown. An unknown cell keeps the label of the type that it resembles most; do not count it as that type."
        )
    sets = "the chosen share" if coverage is None else f"{coverage:.0%}"
    return [
        Text(
            "Each cell was compared with cells whose type is known. All that is said below rests on the reference: a "
            "type that is not in it can never be the answer."
        ),
        Terms(
            [
                ("Label", "The most probable of the reference's types."),
                (
                    "Confidence",
                    "The probability that the label is right, from 0 to 1, set on cells of the reference that training "
                    "did not see: of all cells with confidence 0.9, about nine in ten have the right label.",
                ),
                (
                    "p-value",
                    "How ordinary the cell would be as one of its type: the share of the type's held-out cells that "
                    "are at least as strange. Near 0, it is unlike all of them. It is not the probability that the "
                    "label is right or wrong.",
                ),
                ("Unknown", unknown),
                (
                    "Prediction set",
                    f"The types that cannot be ruled out: the true one is among them in {sets} of the cells.",
                ),
            ]
        ),
        Text(
            "All this is a promise about cells like the reference's own. Do not believe it without a second look when"
        ),
        Items(
            [
                "the cells come from another study, protocol, species, tissue or condition than the reference: "
                "confidence is then too high, and too many cells are called unknown. In the package's tests "
                "confidence was off by 0.01 to 0.02 within a study and by up to 0.17 across studies, where 8 to 68% of "
                "known cells were called unknown at an error rate of 5%;",
                "a high p-value is taken as proof. A low one can be believed, a high one cannot: a new type that is "
                "close to a known one passes as it. To a reference without NK cells, they look like good CD8 T cells;",
                "few of the genes that the reference reads were found, or cells are much shallower than its own. What "
                "the check rehearses is then the best that can be hoped for, not a forecast;",
                "the type has few cells in the reference (fewer than about twenty held out), or comes from one study "
                "alone;",
                "the answer matters. Look at marker genes of the type, in these cells.",
            ],
        ),
    ]


def how_to_cite(method: str, version: str, studies: str) -> list[Part]:
    """Return a sentence for the methods, the citations, and BibTeX."""
    return [
        Text("For the methods section:"),
        Code(method),
        Text("Cite the software, and the two papers that it is made from:"),
        Items([f"{AUTHORS}. scquery_ae, version {version} (software, BSD-3-Clause).", ALAVI, VINCENT]),
        Text(f"Cite also those who made the reference's data{studies}."),
        Code(_BIBTEX.format(authors=AUTHORS, version=version)),
    ]
