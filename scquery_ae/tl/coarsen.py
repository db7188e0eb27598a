"""``tl.coarsen``: one Cell Ontology term for each prediction set."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from scquery_ae._checks import check_adata, check_obs_key, check_slots, check_writable, is_several, shown
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae._logging import logger
from scquery_ae.ontology import CellOntology
from scquery_ae.tl._write import write_results

if TYPE_CHECKING:
    from anndata import AnnData


def coarsen(
    adata: AnnData,
    ontology: CellOntology | str | PathLike[str],
    terms: Mapping[str, str],
    *,
    key_added: str = "scquery",
) -> None:
    """Name each prediction set by the closest common ancestor of its types in the Cell Ontology.

    For example, a set of CD4 and CD8 T cells becomes "mature alpha-beta T cell". A set of one type keeps the name of
    the type. The label is less specific than :func:`scquery_ae.tl.query`'s, and correct more often.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`.
    ontology
        The ontology, or the path of an OBO file such as ``cl-basic.obo``.
    terms
        Maps types of the reference to ids or exact names of terms. A set of several types is ``"unresolved"`` if one of
        them has no term.
    key_added
        Prefix of the slots that the query wrote.

    Returns
    -------
    None. Writes

    ``obs["scquery_label_coarse"]`` : categorical
        Name of the type, or of the closest common ancestor of the types; ``"unresolved"`` if they have none. Missing
        for cells without a label.

    Raises
    ------
    MissingKeyError
        If the cells were not queried, if there is no ontology at the path, or if it does not have one of the terms.
    ArgumentError
        If `terms` is not a mapping.
    """
    check_adata(adata, "tl.coarsen")
    check_writable(adata, "tl.coarsen")
    if not isinstance(terms, Mapping):
        msg = f"`terms` must map the reference's types to terms of the ontology. Received {type(terms).__name__}."
        raise ArgumentError(msg)
    loaded = ontology if isinstance(ontology, CellOntology) else CellOntology.read(ontology)
    slots = check_slots(key_added)
    sets = check_obs_key(adata, slots.prediction_set, "key_added").astype(object).map(str, na_action="ignore")
    found = {str(name): loaded.find(term) for name, term in terms.items()}
    stored = adata.uns.get(slots.uns)
    types: Any = stored.get("types") if isinstance(stored, Mapping) else None
    if not is_several(types):
        msg = (
            f'`tl.coarsen` needs the `adata.uns["{slots.uns}"]` that `scq.tl.query` writes. Received none; query the '
            "cells again."
        )
        raise MissingKeyError(msg)
    names = {text: _name(text, [str(name) for name in types], found, loaded) for text in sets.dropna().unique()}
    coarse = sets.map(names, na_action="ignore").astype("category")
    written = write_results(adata, obs={slots.label_coarse: coarse})
    logger.info("named %d prediction sets; wrote %s", len(names), written)


def _name(text: str, types: list[str], terms: Mapping[str, str], ontology: CellOntology) -> str:
    if text in types:
        return text
    in_set = split_set(text, types)
    if not all(name in terms for name in in_set):
        return "unresolved"
    ancestor = ontology.closest_common_ancestor([terms[name] for name in in_set])
    return "unresolved" if ancestor is None else ontology.name(ancestor)


def split_set(text: str, types: list[str]) -> list[str]:
    """Return the types in a prediction set, whose names may contain the separator."""
    found: list[str] = []
    rest = text
    while rest:
        fitting = [name for name in types if rest == name or rest.startswith(f"{name}|")]
        if not fitting:
            msg = (
                f"The prediction set {text!r} holds a type that is not among the reference's, such as {shown(types)}. "
                "Query the cells again."
            )
            raise ArgumentError(msg)
        longest = max(fitting, key=len)
        found.append(longest)
        rest = rest[len(longest) + 1 :]
    return found
