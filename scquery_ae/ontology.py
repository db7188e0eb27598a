"""The Cell Ontology: terms, their ancestors, and how far apart types are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from scquery_ae._checks import check_mapping, check_number, check_path, shown
from scquery_ae._errors import ArgumentError, MissingKeyError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class CellOntology:
    """Terms of an ontology and their "is a" relations.

    Attributes
    ----------
    graph
        networkx directed graph from each term to its parents, nodes by id with the attribute ``name``.
    """

    graph: Any

    @classmethod
    def read(cls, path: str | PathLike[str]) -> CellOntology:
        """Read an OBO file, such as ``cl-basic.obo`` of the Cell Ontology; obsolete terms are left out.

        Raises
        ------
        MissingKeyError
            If there is no such file.
        ArgumentError
            If it holds no terms.
        """
        import networkx as nx
        import obonet

        file = check_path("path", path)
        if not file.is_file():
            msg = f"There is no ontology at {file}. Expected an OBO file, such as cl-basic.obo of the Cell Ontology."
            raise MissingKeyError(msg)
        try:
            full = obonet.read_obo(file)
        except (ValueError, KeyError) as error:
            msg = f"{file} is no OBO file: {error!r}. Expected one such as cl-basic.obo of the Cell Ontology."
            raise ArgumentError(msg) from error
        graph = nx.DiGraph()
        graph.add_nodes_from((term, {"name": data.get("name", term)}) for term, data in full.nodes(data=True))
        graph.add_edges_from((child, parent) for child, parent, kind in full.edges(keys=True) if kind == "is_a")
        if not len(graph):
            msg = f"{file} holds no terms. Expected an OBO file, such as cl-basic.obo of the Cell Ontology."
            raise ArgumentError(msg)
        return cls(graph)

    def find(self, term: str) -> str:
        """Return the id of a term given by id (``"CL:0000084"``) or by name (``"T cell"``, in any case)."""
        if isinstance(term, str) and term in self.graph:
            return term
        found = self._ids_by_name.get(str(term).lower())
        if found is None:
            msg = (
                f"The ontology has no term {term!r}. Expected an id such as 'CL:0000084' or an exact name such as "
                "'T cell'; obsolete terms are left out."
            )
            raise MissingKeyError(msg)
        return found

    def name(self, term: str) -> str:
        """Return the name of a term."""
        return str(self.graph.nodes[self.find(term)]["name"])

    def ancestors(self, term: str) -> set[str]:
        """Return the ids of a term and of all that it is."""
        import networkx as nx

        start = self.find(term)
        return {start, *nx.descendants(self.graph, start)}

    def closest_common_ancestor(self, terms: Sequence[str]) -> str | None:
        """Return the id of the most specific term that all of some terms are; None if they share none.

        Most specific is the one with the fewest terms below it; of equals, the first by id.
        """
        import networkx as nx

        if isinstance(terms, str) or not isinstance(terms, Iterable) or getattr(terms, "ndim", 1) == 0:
            msg = f"`terms` must be a sequence of terms. Received {terms!r}."
            raise ArgumentError(msg)
        terms = list(terms)
        if not terms:
            msg = "`terms` is empty. Expected at least one term, by id or exact name."
            raise ArgumentError(msg)
        shared = set.intersection(*(self.ancestors(term) for term in terms))
        sizes = {term: len(nx.ancestors(self.graph, term)) for term in shared}
        return min(sizes, key=lambda term: (sizes[term], term)) if sizes else None

    def similarity(self, one: str, other: str) -> float:
        """Return how close two terms are, 1 for the same and 0 for terms that share no ancestor, by Lin's measure.

        Twice the information of the closest common ancestor over the information of both, where a term informs by how
        few terms are below it.

        References
        ----------
        Lin, International Conference on Machine Learning (1998).
        Seco et al., European Conference on Artificial Intelligence (2004), on information without a corpus.
        """
        first, second = self.find(one), self.find(other)
        if first == second:
            return 1.0
        shared = self.closest_common_ancestor([first, second])
        total = self._information(first) + self._information(second)
        if shared is None or total == 0:
            return 0.0
        return float(2 * self._information(shared) / total)

    def _information(self, term: str) -> float:
        import networkx as nx

        return float(1 - np.log1p(len(nx.ancestors(self.graph, term))) / np.log(len(self.graph)))

    def distance(self, one: str, other: str) -> int:
        """Return the fewest "is a" steps from two terms up to an ancestor that they share, added up.

        Raises
        ------
        ArgumentError
            If they share none.
        """
        import networkx as nx

        up = [nx.single_source_shortest_path_length(self.graph, self.find(term)) for term in (one, other)]
        shared = up[0].keys() & up[1].keys()
        if not shared:
            msg = f"{one!r} and {other!r} share no ancestor in the ontology. Give terms of one branch."
            raise ArgumentError(msg)
        return int(min(up[0][term] + up[1][term] for term in shared))

    def margins(self, terms: Mapping[str, str], *, margin: float = 0.5) -> pd.DataFrame:
        """Return a margin for each pair of types, in proportion to their distance in the ontology.

        Siblings may then lie closer to each other than strangers; for `margin` of :func:`scquery_ae.tl.finetune`.

        Parameters
        ----------
        terms
            For each type, as the labels call it, a term (id or exact name).
        margin
            Of the pair that is farthest apart, at least 0.

        Returns
        -------
        Types by types.

        Raises
        ------
        ArgumentError
            If fewer than two types are given, or all have the same term.
        MissingKeyError
            If a term is not in the ontology.
        """
        import pandas as pd

        check_number("margin", margin, 0, np.inf, closed="left")
        types = list(check_mapping("terms", terms, "types to terms of the ontology"))
        if len(types) < 2:
            msg = f"Margins need at least two types. Received {shown(types) or 'none'}."
            raise ArgumentError(msg)
        distances = np.array([[self.distance(terms[a], terms[b]) for b in types] for a in types], dtype=float)
        if not distances.any():
            msg = "All types have the same term, which leaves no distance between them. Give each its own."
            raise ArgumentError(msg)
        return pd.DataFrame(margin * distances / distances.max(), index=types, columns=types)

    @cached_property
    def _ids_by_name(self) -> dict[str, str]:
        return {str(data["name"]).lower(): term for term, data in self.graph.nodes(data=True)}
