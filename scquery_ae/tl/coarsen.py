"""``tl.coarsen``: one name for each prediction set, coarser where the cell's type cannot be told."""

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

    A set of CD4 and CD8 T cells becomes "mature alpha-beta T cell": the answer gets coarser, not wrong. Sets of one
    type keep its name.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`.
    ontology
        The ontology, or the path of an OBO file such as ``cl-basic.obo``.
    terms
        For each type of the reference its term, by id or exact name. Types without one have no ancestors: sets with
        one are called ``"unresolved"``.
    key_added
        Slot prefix of the query.

    Returns
    -------
    None. Writes

    ``obs["scquery_label_coarse"]`` : categorical
        Name of the type, or of the common ancestor of the set; ``"unresolved"`` where there is none; missing for cells
        without a label.

    Raises
    ------
    MissingKeyError
        If the cells were not queried, there is no ontology at the path, or it has no such term.
    ArgumentError
        If `terms` is no mapping.
    """
    check_adata(adata, "tl.coarsen")
    check_writable(adata, "tl.coarsen")
    if not isinstance(terms, Mapping):
        msg = f"`terms` must map the reference's types to terms of the ontology. Received {type(terms).__name__}."
        raise ArgumentError(msg)
    loaded = ontology if isinstance(ontology, CellOntology) else CellOntology.read(ontology)
    slots = check_slots(key_added)
    sets = check_obs_key(adata, slots.prediction_set, "key_added").astype(object).map(str, na_action="ignore")
    known = {str(kind): loaded.find(term) for kind, term in terms.items()}
    stored = adata.uns.get(slots.uns)
    types: Any = stored.get("types") if isinstance(stored, Mapping) else None
    if not is_several(types):
        msg = (
            f'`tl.coarsen` needs `adata.uns["{slots.uns}"]` as `scq.tl.query` writes it. Received none; query the cells '
            "again."
        )
        raise MissingKeyError(msg)
    names = {text: _name(text, [str(kind) for kind in types], known, loaded) for text in sets.dropna().unique()}
    coarse = sets.map(names, na_action="ignore").astype("category")
    written = write_results(adata, obs={slots.label_coarse: coarse})
    logger.info("named %d prediction sets; wrote %s", len(names), written)


def _name(text: str, types: list[str], known: Mapping[str, str], ontology: CellOntology) -> str:
    if text in types:
        return text
    members = split_set(text, types)
    if not all(member in known for member in members):
        return "unresolved"
    shared = ontology.closest_common_ancestor([known[member] for member in members])
    return "unresolved" if shared is None else ontology.name(shared)


def split_set(text: str, types: list[str]) -> list[str]:
    """Return the types that a prediction set names, also where their own names hold the separator."""
    found: list[str] = []
    rest = text
    while rest:
        fitting = [kind for kind in types if rest == kind or rest.startswith(f"{kind}|")]
        if not fitting:
            msg = f"The prediction set {text!r} names no types of the reference, such as {shown(types)}. Query again."
            raise ArgumentError(msg)
        longest = max(fitting, key=len)
        found.append(longest)
        rest = rest[len(longest) + 1 :]
    return found
