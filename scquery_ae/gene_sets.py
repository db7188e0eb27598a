"""Gene sets (pathways, targets of transcription factors) and which model genes they hold."""

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
        Sets that hold enough model genes.
    mask
        Whether a gene belongs to a set, bool ``(n_genes, n_sets)``.
    dropped
        Sets that hold too few.
    """

    names: tuple[str, ...]
    mask: np.ndarray
    dropped: tuple[str, ...]


def read_gmt(path: str | PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Read gene sets from a GMT file: a line a set, with its name, a description and its genes, split by tabs.

    Checked first: gseapy and decoupler read GMT too, but bring a network client and a statistics package along.

    Raises
    ------
    MissingKeyError
        If there is no such file.
    ArgumentError
        If a line has no gene, or two sets bear one name.
    """
    file = check_path("path", path)
    if not file.is_file():
        msg = f"There is no file of gene sets at {file}. Expected a GMT file, such as those of MSigDB or Reactome."
        raise MissingKeyError(msg)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        msg = f"{file} is no text in UTF-8 ({error}). Expected a GMT file, such as those of MSigDB or Reactome."
        raise ArgumentError(msg) from error
    sets: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, *genes = (field.strip() for field in line.split("\t")) if line.count("\t") >= 2 else (line, "")
        members = tuple(gene for gene in genes if gene)
        if not members:
            msg = (
                f"Line {number} of {file} is no gene set. Expected name, description and genes, split by tabs. "
                f"Received {line[:60]!r}."
            )
            raise ArgumentError(msg)
        if name in sets:
            msg = f"Line {number} of {file} repeats the set {name!r}. Give each set a name of its own."
            raise ArgumentError(msg)
        sets[name] = members
    if not sets:
        msg = f"{file} holds no gene set. Expected a line a set: name, description and genes, split by tabs."
        raise ArgumentError(msg)
    return sets


def gene_set_mask(sets: Mapping[str, Sequence[str]], genes: np.ndarray, *, min_genes: int = 3) -> GeneSetMask:
    """Return which model genes belong to which set, leaving out sets with fewer than `min_genes` of them.

    Raises
    ------
    GeneOverlapError
        If no set is left.
    """
    check_integer("min_genes", min_genes)
    for name, members in check_mapping("gene_sets", sets, "names of gene sets to their genes").items():
        if isinstance(members, str):
            msg = f"The gene set {name!r} must be a sequence of genes. Received the text {members[:40]!r}."
            raise ArgumentError(msg)
        if not isinstance(members, Collection) or getattr(members, "ndim", 1) == 0:
            msg = f"The gene set {name!r} must be a sequence of genes. Received {type(members).__name__}."
            raise ArgumentError(msg)
    if not isinstance(genes, Collection) or getattr(genes, "ndim", 1) != 1:
        msg = f"`genes` must be the names of the model genes, (n_genes,). Received {type(genes).__name__}."
        raise ArgumentError(msg)
    if not sets:
        msg = "There are no gene sets. Expected at least one, by name, with its genes."
        raise ArgumentError(msg)
    position = {str(gene): i for i, gene in enumerate(genes)}
    found = {
        str(name): sorted({position[g] for g in map(str, members) if g in position}) for name, members in sets.items()
    }
    kept = {name: rows for name, rows in found.items() if len(rows) >= min_genes}
    if not kept:
        some = [gene for members in sets.values() for gene in members]
        msg = (
            f"None of the {len(found)} gene sets holds {min_genes} of the {len(position)} model genes. Received sets "
            f"of genes such as {shown(some)}; the model uses names such as {shown(position)}. Give sets in the same "
            "kind of names, or normalise with more genes."
        )
        raise GeneOverlapError(msg)
    mask = np.zeros((len(position), len(kept)), dtype=bool)
    for column, rows in enumerate(kept.values()):
        mask[rows, column] = True
    return GeneSetMask(tuple(kept), mask, tuple(name for name in found if name not in kept))
