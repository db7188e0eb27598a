"""The Cell Ontology: terms, their ancestors, and distances between them."""

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
        Directed networkx graph with an edge from each term to each of its parents. The nodes are term ids and have the
        attribute ``name``.
    """

    graph: Any

    @classmethod
    def read(cls, path: str | PathLike[str]) -> CellOntology:
        """Read an OBO file, such as ``cl-basic.obo`` of the Cell Ontology. Obsolete terms are omitted.

        Raises
        ------
        MissingKeyError
            If the file does not exist.
        ArgumentError
            If it is not an OBO file, or contains no terms.
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
            msg = f"{file} is not an OBO file: {error!r}. Expected one such as cl-basic.obo of the Cell Ontology."
            raise ArgumentError(msg) from error
        graph = nx.DiGraph()
        graph.add_nodes_from((term, {"name": data.get("name", term)}) for term, data in full.nodes(data=True))
        graph.add_edges_from((child, parent) for child, parent, kind in full.edges(keys=True) if kind == "is_a")
        if not len(graph):
            msg = f"{file} contains no terms. Expected an OBO file, such as cl-basic.obo of the Cell Ontology."
            raise ArgumentError(msg)
        return cls(graph)

    def find(self, term: str) -> str:
        """Return the id of a term, given its id (``"CL:0000084"``) or its name (``"T cell"``, case-insensitive)."""
        if isinstance(term, str) and term in self.graph:
            return term
        found = self._ids_by_name.get(str(term).lower())
        if found is None:
            msg = (
                f"The ontology has no term {term!r}. Expected an id such as 'CL:0000084' or an exact name such as "
                "'T cell'. Obsolete terms are omitted."
            )
            raise MissingKeyError(msg)
        return found

    def name(self, term: str) -> str:
        """Return the name of a term."""
        return str(self.graph.nodes[self.find(term)]["name"])

    def ancestors(self, term: str) -> set[str]:
        """Return the ids of a term and of all its ancestors."""
        import networkx as nx

        start = self.find(term)
        return {start, *nx.descendants(self.graph, start)}

    def closest_common_ancestor(self, terms: Sequence[str]) -> str | None:
        """Return the id of the most specific common ancestor of `terms`, or None if they have none.

        The most specific ancestor is the one with the fewest descendants; of equals, the first by id. A term counts as
        an ancestor of itself.
        """
        import networkx as nx

        if isinstance(terms, str) or not isinstance(terms, Iterable) or getattr(terms, "ndim", 1) == 0:
            msg = f"`terms` must be a sequence of term ids or names. Received {terms!r}."
            raise ArgumentError(msg)
        terms = list(terms)
        if not terms:
            msg = "`terms` is empty. Expected at least one term id or name."
            raise ArgumentError(msg)
        common = set.intersection(*(self.ancestors(term) for term in terms))
        # networkx calls the descendants ancestors, because the edges lead to the parents.
        sizes = {term: len(nx.ancestors(self.graph, term)) for term in common}
        return min(sizes, key=lambda term: (sizes[term], term)) if sizes else None

    def similarity(self, one: str, other: str) -> float:
        """Return Lin's similarity of two terms: 1 for equal terms, 0 for terms without a common ancestor.

        The similarity is twice the information content of the closest common ancestor, divided by the sum of the
        information contents of the two terms. The information content of a term grows as the number of its descendants
        falls.

        References
        ----------
        Lin, International Conference on Machine Learning (1998).
        Seco et al., European Conference on Artificial Intelligence (2004): information content without a corpus.
        """
        first, second = self.find(one), self.find(other)
        if first == second:
            return 1.0
        common = self.closest_common_ancestor([first, second])
        total = self._information(first) + self._information(second)
        if common is None or total == 0:
            return 0.0
        return float(2 * self._information(common) / total)

    def _information(self, term: str) -> float:
        import networkx as nx

        return float(1 - np.log1p(len(nx.ancestors(self.graph, term))) / np.log(len(self.graph)))

    def distance(self, one: str, other: str) -> int:
        """Return the smallest number of "is a" steps from two terms to a common ancestor, summed over both.

        Raises
        ------
        ArgumentError
            If the terms have no common ancestor.
        """
        import networkx as nx

        up = [nx.single_source_shortest_path_length(self.graph, self.find(term)) for term in (one, other)]
        common = up[0].keys() & up[1].keys()
        if not common:
            msg = f"{one!r} and {other!r} have no common ancestor in the ontology. Use terms of one branch."
            raise ArgumentError(msg)
        return int(min(up[0][term] + up[1][term] for term in common))

    def margins(self, terms: Mapping[str, str], *, margin: float = 0.5) -> pd.DataFrame:
        """Return a margin for each pair of types, proportional to their distance in the ontology.

        Pass the result as `margin` of :func:`scquery_ae.tl.finetune`: similar types may then lie closer together than
        dissimilar types.

        Parameters
        ----------
        terms
            Term (id or exact name) of each type, by the name of the type among the labels.
        margin
            Margin of the two types with the largest distance, at least 0.

        Returns
        -------
        Data frame, types by types.

        Raises
        ------
        ArgumentError
            If there are fewer than two types, or all have the same term.
        MissingKeyError
            If a term is not in the ontology.
        """
        import pandas as pd

        check_number("margin", margin, 0, np.inf, closed="left")
        types = list(check_mapping("terms", terms, "types to terms of the ontology"))
        if len(types) < 2:
            msg = f"`terms` must have at least two types. Received {shown(types) or 'none'}."
            raise ArgumentError(msg)
        distances = np.array([[self.distance(terms[a], terms[b]) for b in types] for a in types], dtype=float)
        if not distances.any():
            msg = (
                "All types in `terms` have the same term, so the distance between them is 0. Map at least one to "
                "another term."
            )
            raise ArgumentError(msg)
        return pd.DataFrame(margin * distances / distances.max(), index=types, columns=types)

    @cached_property
    def _ids_by_name(self) -> dict[str, str]:
        return {str(data["name"]).lower(): term for term, data in self.graph.nodes(data=True)}
