"""Gene sets, such as pathways and targets of transcription factors, over the model genes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np

from scquery_ae._checks import check_integer, check_mapping, check_path, shown
from scquery_ae._errors import ArgumentError, GeneOverlapError, MissingKeyError


@dataclass(frozen=True)
class GeneSetMask:
    """Gene sets over the model genes.

    Attributes
    ----------
    names
        Names of the sets with enough model genes.
    mask
        Whether a gene belongs to a set, bool ``(n_genes, n_sets)``.
    dropped
        Names of the sets with too few model genes.
    """

    names: tuple[str, ...]
    mask: np.ndarray
    dropped: tuple[str, ...]


def read_gmt(path: str | PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Read gene sets from a GMT file, in which each line has a name, a description and genes, separated by tabs.

    Checked first: gseapy and decoupler, which read GMT files too, but depend on a network client and a statistics
    package.

    Raises
    ------
    MissingKeyError
        If the file does not exist.
    ArgumentError
        If a line has no genes, or two sets have the same name.
    """
    file = check_path("path", path)
    if not file.is_file():
        msg = f"There is no file {file}. Expected a GMT file of gene sets, such as those of MSigDB or Reactome."
        raise MissingKeyError(msg)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        msg = f"{file} is not UTF-8 text ({error}). Expected a GMT file, such as those of MSigDB or Reactome."
        raise ArgumentError(msg) from error
    sets: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, *genes = (field.strip() for field in line.split("\t")) if line.count("\t") >= 2 else (line, "")
        members = tuple(gene for gene in genes if gene)
        if not members:
            msg = (
                f"Line {number} of {file} is not a gene set. Expected a name, a description and genes, separated by "
                f"tabs. Received {line[:60]!r}."
            )
            raise ArgumentError(msg)
        if name in sets:
            msg = f"Line {number} of {file} repeats the name {name!r}. Give each gene set its own name."
            raise ArgumentError(msg)
        sets[name] = members
    if not sets:
        msg = (
            f"{file} has no gene sets. Expected one line per set, with a name, a description and genes, separated by "
            "tabs."
        )
        raise ArgumentError(msg)
    return sets


def gene_set_mask(sets: Mapping[str, Sequence[str]], genes: np.ndarray, *, min_genes: int = 3) -> GeneSetMask:
    """Return the model genes of each gene set, without sets that have fewer than `min_genes` model genes.

    Parameters
    ----------
    sets
        Genes of each set, by name.
    genes
        Names of the model genes, ``(n_genes,)``.
    min_genes
        Smallest number of model genes in a set.

    Raises
    ------
    GeneOverlapError
        If no set has enough model genes.
    """
    check_integer("min_genes", min_genes)
    for name, members in check_mapping("gene_sets", sets, "names of gene sets to their genes").items():
        if isinstance(members, str):
            msg = f"The gene set {name!r} must be a sequence of genes. Received the string {members[:40]!r}."
            raise ArgumentError(msg)
        if not isinstance(members, Collection) or getattr(members, "ndim", 1) == 0:
            msg = f"The gene set {name!r} must be a sequence of genes. Received {type(members).__name__}."
            raise ArgumentError(msg)
    if not isinstance(genes, Collection) or getattr(genes, "ndim", 1) != 1:
        msg = f"`genes` must be a sequence of the model genes' names. Received {type(genes).__name__}."
        raise ArgumentError(msg)
    if not sets:
        msg = "`gene_sets` must hold at least one gene set. Received none; map names of gene sets to their genes."
        raise ArgumentError(msg)
    position = {str(gene): i for i, gene in enumerate(genes)}
    found = {
        str(name): sorted({position[g] for g in map(str, members) if g in position}) for name, members in sets.items()
    }
    kept = {name: rows for name, rows in found.items() if len(rows) >= min_genes}
    if not kept:
        some = [gene for members in sets.values() for gene in members]
        msg = (
            f"None of the {len(found)} gene sets has {min_genes} or more of the {len(position)} model genes. Received "
            f"genes such as {shown(some)}; the model uses names such as {shown(position)}. Use the same kind of names "
            "in the gene sets, or normalise with more genes."
        )
        raise GeneOverlapError(msg)
    mask = np.zeros((len(position), len(kept)), dtype=bool)
    for column, rows in enumerate(kept.values()):
        mask[rows, column] = True
    return GeneSetMask(tuple(kept), mask, tuple(name for name in found if name not in kept))
