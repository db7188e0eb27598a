"""Order types so that similar ones are next to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae.ontology import CellOntology


def by_confusion(counts: np.ndarray) -> np.ndarray:
    """Return an order of types in which types that are mistaken for each other are adjacent, ``(n,)``.

    The order is the optimal leaf order of an average linkage. The distance of two types is one minus the mean of the
    two fractions mistaken for the other.

    Parameters
    ----------
    counts
        Cells by known type (rows) and predicted type (columns), ``(n, n)``.
    """
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return _leaves(1 - (fractions + fractions.T) / 2)


def by_ontology(types: Sequence[str], ontology: CellOntology, terms: Mapping[str, str] | None) -> np.ndarray:
    """Return an order of types in which relatives in an ontology are adjacent; types without a term come last.

    The order is the optimal leaf order of an average linkage of the steps between terms.

    Parameters
    ----------
    types
        Names of the types.
    ontology
        The ontology.
    terms
        Maps types to terms, by id or exact name. None looks up the types by their names.

    Raises
    ------
    MissingKeyError
        If a term is not in the ontology.
    ArgumentError
        If no type has a term.
    """
    found: dict[int, str] = {}
    for position, kind in enumerate(types):
        if terms is not None and kind in terms:
            found[position] = ontology.find(terms[kind])
        elif terms is None:
            try:
                found[position] = ontology.find(kind)
            except MissingKeyError:
                continue
    if not found:
        example = types[0] if types else "T cell"
        msg = (
            "`ontology` needs terms of the types. None of the types is the name of a term; pass terms as "
            f"`terms={{{example!r}: 'CL:...', ...}}`, by id or exact name."
        )
        raise ArgumentError(msg)
    places = list(found)
    steps = np.array([[_steps(ontology, found[a], found[b]) for b in places] for a in places], dtype=float)
    # Terms without a common ancestor are farther apart than all others.
    finite = steps[np.isfinite(steps)]
    steps[~np.isfinite(steps)] = finite.max() + 1
    ordered = np.array(places)[_leaves(steps)]
    rest = [position for position in range(len(types)) if position not in found]
    return np.concatenate([ordered, np.array(rest, dtype=int)])


def _steps(ontology: CellOntology, one: str, other: str) -> float:
    try:
        return float(ontology.distance(one, other))
    except ArgumentError:
        return float("inf")


def _leaves(distances: np.ndarray) -> np.ndarray:
    n = len(distances)
    if n < 3:
        return np.arange(n)
    distances = (distances + distances.T) / 2
    np.fill_diagonal(distances, 0)
    order = leaves_list(linkage(squareform(distances, checks=False), "average", optimal_ordering=True))
    # Of the two directions, take the one that starts with the earlier type.
    return np.asarray(order if order[0] < order[-1] else order[::-1])
