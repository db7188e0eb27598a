"""Matching of gene names with the model genes. It knows names and arrays only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scquery_ae._caller import argument, call, slot
from scquery_ae._checks import shown
from scquery_ae._errors import GeneOverlapError

_ENSEMBL = re.compile(r"^ENS[A-Z]*G\d{11}(\.\d+)?$")


@dataclass(frozen=True)
class GeneMatch:
    """The column of each model gene in a matrix of cells.

    Attributes
    ----------
    genes
        Model genes, in the order of the network's inputs, ``(n_genes,)``.
    columns
        Column of the matrix that holds each gene, or -1, int ``(n_genes,)``.
    key
        The names that matched best: ``"var_names"`` or a column of ``var``.
    ambiguous
        Model genes whose name occurs more than once; the first column is used.
    examples
        Some of the names under `key`.
    sample
        More of these names, spread over all of them, to tell the species from.
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
        """Number of model genes that were found."""
        return int((self.columns >= 0).sum())

    @property
    def fraction(self) -> float:
        """Fraction of the model genes that were found."""
        return self.n_found / len(self.genes)

    @property
    def missing(self) -> np.ndarray:
        """Model genes that were not found."""
        return self.genes[self.columns < 0]

    def to_dict(self) -> dict[str, Any]:
        """Return the report in types that ``write_h5ad`` takes."""
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
            text += f"; more than once among the cells (first column used): {shown(self.ambiguous)}"
        return text


def match_genes(
    genes: Any,
    candidates: Mapping[str, Any],
    *,
    ignore_case: bool = False,
    orthologs: Mapping[str, str] | None = None,
) -> GeneMatch:
    """Find the model genes among the gene names of cells.

    Names match if they are equal, including case. The version suffix of an Ensembl id (``ENSG00000141510.16``) is
    ignored on both sides.

    Parameters
    ----------
    genes
        Names of the model genes, ``(n_genes,)``.
    candidates
        The gene names of the cells under each key that may be used, each ``(n_vars,)``. The key that finds most genes
        is used, the first of equals.
    ignore_case
        Match names that differ only in case, such as mouse ``Gcg`` and human ``GCG``, which are mostly orthologs.
    orthologs
        Maps gene names of the cells to model genes. Other genes keep their names.
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
    """Raise unless at least the fraction `minimum` of the model genes was found."""
    if match.fraction >= minimum:
        return
    kind = "Ensembl ids" if all(_ENSEMBL.match(str(gene)) for gene in match.genes[:20]) else "gene symbols"
    msg = (
        f"Only {match.n_found} of the {len(match.genes)} model genes are among the genes of the cells "
        f"({match.fraction:.1%}; {argument('min_gene_overlap', minimum)} is needed). Received names such as "
        f"{shown(match.examples)} ({match.key}, the best match); expected {kind} such as {shown(match.genes)}. "
        f"If a column of {slot('var')} has {kind}, name it with {argument('gene_key')}; {call('pp.check')} shows what "
        "matches."
    )
    raise GeneOverlapError(msg)


def likely_species(names: Any) -> str:
    """Return ``"human"``, ``"mouse"`` or ``""``, from Ensembl prefixes or the case of symbols.

    Human symbols are in capitals (``GAPDH``); mouse and rat symbols have one capital (``Gapdh``).
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
