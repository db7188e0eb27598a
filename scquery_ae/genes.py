"""Matching a query's gene names with those of a reference; arrays and names only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scquery_ae._checks import shown
from scquery_ae._errors import GeneOverlapError

_ENSEMBL = re.compile(r"^ENS[A-Z]*G\d{11}(\.\d+)?$")


@dataclass(frozen=True)
class GeneMatch:
    """Where each model gene lies in a query.

    Attributes
    ----------
    genes
        Model genes, in the order of the network's inputs, ``(n_genes,)``.
    columns
        Column of the query that holds each, or -1, int ``(n_genes,)``.
    key
        The names that fitted best: ``"var_names"`` or a column of ``var``.
    ambiguous
        Model genes whose name the query has more than once; the first column was taken.
    examples
        Some of the query's names under `key`.
    sample
        More of them, spread over all, for telling the species.
    guessed
        Whether `key` was chosen among several.
    """

    genes: np.ndarray
    columns: np.ndarray
    key: str
    ambiguous: tuple[str, ...]
    examples: tuple[str, ...]
    sample: tuple[str, ...] = ()
    guessed: bool = False

    @property
    def n_found(self) -> int:
        """How many model genes the query has."""
        return int((self.columns >= 0).sum())

    @property
    def fraction(self) -> float:
        """Share of the model genes that the query has."""
        return self.n_found / len(self.genes)

    @property
    def missing(self) -> np.ndarray:
        """Model genes that the query lacks."""
        return self.genes[self.columns < 0]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values that ``write_h5ad`` takes."""
        return {
            "n_genes": len(self.genes),
            "n_found": self.n_found,
            "key": self.key,
            "guessed": self.guessed,
            "missing": [str(gene) for gene in self.missing],
            "ambiguous": list(self.ambiguous),
        }

    def __str__(self) -> str:
        text = f"{self.n_found} of {len(self.genes)} model genes found ({self.fraction:.0%}), matched by {self.key}"
        if len(self.missing):
            text += f"; missing: {shown(self.missing)}"
        if self.ambiguous:
            text += f"; more than once in the query (first taken): {shown(self.ambiguous)}"
        return text


def match_genes(
    genes: Any,
    candidates: Mapping[str, Any],
    *,
    ignore_case: bool = False,
    orthologs: Mapping[str, str] | None = None,
) -> GeneMatch:
    """Find the model genes among a query's names.

    Names match when they are equal, letter case included; the version suffix of an Ensembl id is dropped on
    both sides (``ENSG00000141510.16``).

    Parameters
    ----------
    genes
        Names of the model genes, ``(n_genes,)``.
    candidates
        The query's names under each key that may be used, each ``(n_vars,)``. The key that finds most genes is
        taken, the first of equals.
    ignore_case
        Match names that differ in case alone: ``Gcg`` of the mouse and ``GCG`` of man, which mostly are orthologs.
    orthologs
        For a query gene the name that the reference has for it; others keep their names.
    """
    genes = np.asarray(genes, dtype=object)

    def plain(name: Any) -> str:
        return _bare(name).casefold() if ignore_case else _bare(name)

    renamed = {} if orthologs is None else {plain(own): plain(other) for own, other in orthologs.items()}
    wanted = [plain(gene) for gene in genes]
    best: GeneMatch | None = None
    for key, names in candidates.items():
        first: dict[str, int] = {}
        repeated: set[str] = set()
        for column, name in enumerate(renamed.get(name, name) for name in map(plain, names)):
            if name in first:
                repeated.add(name)
            else:
                first[name] = column
        columns = np.array([first.get(gene, -1) for gene in wanted], dtype=np.int64)
        if best is None or (columns >= 0).sum() > best.n_found:
            ambiguous = tuple(str(gene) for gene, bare in zip(genes, wanted, strict=True) if bare in repeated)
            examples = tuple(str(name) for name in list(names)[:5])
            spread = tuple(str(name) for name in list(names)[:: max(len(names) // 500, 1)])
            best = GeneMatch(genes, columns, key, ambiguous, examples, spread, guessed=len(candidates) > 1)
    if best is None:
        msg = "There are no gene names to match: `candidates` is empty."
        raise GeneOverlapError(msg)
    return best


def require_overlap(match: GeneMatch, minimum: float) -> None:
    """Raise unless at least the share `minimum` of the model genes was found."""
    if match.fraction >= minimum:
        return
    kind = "Ensembl ids" if all(_ENSEMBL.match(str(gene)) for gene in match.genes[:20]) else "gene symbols"
    msg = (
        f"Only {match.n_found} of the reference's {len(match.genes)} genes are in the query ({match.fraction:.1%}; "
        f"`min_gene_overlap={minimum:g}` is needed). Received names such as {shown(match.examples)} "
        f"({match.key}, the best fit); the reference uses {kind} such as {shown(match.genes)}. "
        f"If `query.var` has a column of {kind}, pass `gene_key=`; see `scq.pp.check(query, reference)`."
    )
    raise GeneOverlapError(msg)


def likely_species(names: Any) -> str:
    """Return ``"human"``, ``"mouse"``, or ``""``, told from Ensembl prefixes or from how symbols are written.

    Human symbols are in capitals (``GAPDH``), those of mouse and rat have one (``Gapdh``).
    """
    names = [str(name) for name in names]
    for species, prefix in (("human", "ENSG0"), ("mouse", "ENSMUSG0")):
        if sum(name.startswith(prefix) for name in names) > len(names) / 2:
            return species
    if sum(bool(_ENSEMBL.match(name)) for name in names) > len(names) / 2:
        return ""
    words = [name for name in names if len(name) > 2 and name[:3].isalpha()]
    capitals = sum(name[:3].isupper() for name in words)
    titles = sum(name[0].isupper() and name[1:3].islower() for name in words)
    if not words or max(capitals, titles) < 0.8 * len(words):
        return ""
    return "human" if capitals > titles else "mouse"


def _bare(name: Any) -> str:
    text = str(name)
    return text.split(".", 1)[0] if _ENSEMBL.match(text) else text
