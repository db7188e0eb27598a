"""Names, ancestors and distances: hand-worked cases on a dozen terms, and the Cell Ontology."""

import numpy as np
import pandas as pd
import pytest

from scquery_ae import ArgumentError, MissingKeyError
from scquery_ae.ontology import CellOntology

#:                 cell                tissue
#:              /    |    \               |
#:     lymphocyte myeloid secretory    epithelium
#:      /       \    |    /
#:  T cell    B cell |   /
#:     |             dendritic (of two kinds)
#:  CD4 T cell
#: Monocytes are myeloid cells, and progenitors are cells. T cells develop from progenitors; this is no "is a" relation.
OBO = """format-version: 1.2
ontology: small

[Term]
id: T:0
name: cell

[Term]
id: T:1
name: lymphocyte
is_a: T:0 ! cell

[Term]
id: T:2
name: myeloid cell
is_a: T:0 ! cell

[Term]
id: T:3
name: T cell
synonym: "T lymphocyte" EXACT []
is_a: T:1 {is_inferred="true"} ! lymphocyte
relationship: develops_from T:9 ! progenitor

[Term]
id: T:4
name: B cell
is_a: T:1 ! lymphocyte

[Term]
id: T:5
name: CD4 T cell
is_a: T:3 ! T cell

[Term]
id: T:6
name: monocyte
is_a: T:2 ! myeloid cell

[Term]
id: T:7
name: dendritic cell
is_a: T:2 ! myeloid cell
is_a: T:10 ! secretory cell

[Term]
id: T:8
name: old T cell
is_a: T:3 ! T cell
is_obsolete: true

[Term]
id: T:9
name: progenitor
is_a: T:0 ! cell

[Term]
id: T:10
name: secretory cell
is_a: T:0 ! cell

[Term]
id: X:0
name: tissue

[Term]
id: X:1
name: epithelium
is_a: X:0 ! tissue

[Typedef]
id: develops_from
name: develops from
"""


@pytest.fixture(scope="module")
def ontology(tmp_path_factory):
    path = tmp_path_factory.mktemp("ontology") / "small.obo"
    path.write_text(OBO)
    return CellOntology.read(path)


# Reading


def test_terms_and_relations(ontology):
    assert set(ontology.graph) == {f"T:{i}" for i in (*range(8), 9, 10)} | {"X:0", "X:1"}
    assert ontology.graph.nodes["T:3"]["name"] == "T cell"
    # Edges lead from a term to its parents. "develops from" makes no edge.
    assert set(ontology.graph.edges("T:3")) == {("T:3", "T:1")}
    assert set(ontology.graph.edges("T:7")) == {("T:7", "T:2"), ("T:7", "T:10")}
    assert ontology.graph.number_of_edges() == 11


@pytest.mark.parametrize("term", ["T:3", "T cell", "t cell", "T CELL"])
def test_a_term_is_found_by_id_and_by_name(ontology, term):
    assert ontology.find(term) == "T:3"
    assert ontology.name(term) == "T cell"


@pytest.mark.parametrize("term", ["T:99", "T cel", "old T cell", "T:8", "T lymphocyte", "", None, 3])
def test_unknown_terms_are_refused(ontology, term):
    expected = rf"The ontology has no term {term!r}\. Expected an id such as 'CL:0000084' or an exact name"
    for ask in (ontology.find, ontology.name, ontology.ancestors, lambda t: ontology.distance("T cell", t)):
        with pytest.raises(MissingKeyError, match=expected):
            ask(term)


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "nowhere.obo", tmp_path):
        with pytest.raises(MissingKeyError, match=r"There is no ontology at .*Expected an OBO file, such as cl-basic"):
            CellOntology.read(path)


@pytest.mark.parametrize("text", ["", "format-version: 1.2\n", "format-version: 1.2\n\n[Typedef]\nid: x\nname: y\n"])
def test_a_file_without_terms_is_refused(tmp_path, text):
    path = tmp_path / "empty.obo"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=r"empty\.obo contains no terms\. Expected an OBO file"):
        CellOntology.read(str(path))


@pytest.mark.parametrize("content", [b"a table\tof genes\n", b"\x89PNG\r\n\x1a\n\xff\xfe"])
def test_another_kind_of_file_is_refused(tmp_path, content):
    path = tmp_path / "other.obo"
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match=r"(?s)other\.obo is not an OBO file: .*Expected one such as cl-basic\.obo"):
        CellOntology.read(path)


# Ancestors, distances and similarities


def test_ancestors_include_the_term_itself(ontology):
    assert ontology.ancestors("CD4 T cell") == {"T:5", "T:3", "T:1", "T:0"}
    assert ontology.ancestors("T:7") == {"T:7", "T:2", "T:10", "T:0"}
    assert ontology.ancestors("cell") == {"T:0"}


@pytest.mark.parametrize(
    ("one", "other", "steps"),
    [
        ("T cell", "T cell", 0),
        ("CD4 T cell", "T cell", 1),
        ("T cell", "B cell", 2),
        ("CD4 T cell", "B cell", 3),
        ("CD4 T cell", "cell", 3),
        ("T cell", "monocyte", 4),
        ("CD4 T cell", "monocyte", 5),
        # Two parents: the myeloid cell leads to the monocyte, the secretory cell is the term itself.
        ("dendritic cell", "monocyte", 2),
        ("dendritic cell", "secretory cell", 1),
        # "develops from" would make it one step.
        ("T cell", "progenitor", 3),
    ],
)
def test_distance_by_hand(ontology, one, other, steps):
    assert ontology.distance(one, other) == ontology.distance(other, one) == steps
    assert type(ontology.distance(one, other)) is int


def test_the_distance_is_minimal_over_all_common_ancestors(tmp_path):
    # From a to b: 1 + 3 by the first ancestor, 2 + 1 by the second.
    path = tmp_path / "two.obo"
    path.write_text(
        "format-version: 1.2\n\n"
        + "\n".join(
            f"[Term]\nid: {term}\nname: {term}\n" + "".join(f"is_a: {parent}\n" for parent in parents)
            for term, parents in {
                "p": (),
                "q": (),
                "a": ("p", "a1"),
                "a1": ("q",),
                "b": ("q", "b1"),
                "b1": ("b2",),
                "b2": ("p",),
            }.items()
        )
    )
    assert CellOntology.read(path).distance("a", "b") == 3


def test_terms_without_a_common_ancestor_are_refused(ontology):
    with pytest.raises(
        ArgumentError, match=r"'T cell' and 'epithelium' have no common ancestor in the ontology\. Use terms of one"
    ):
        ontology.distance("T cell", "epithelium")


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (["T cell"], "T:3"),
        (["T cell", "CD4 T cell"], "T:3"),
        (["T cell", "B cell"], "T:1"),
        (["CD4 T cell", "B cell", "monocyte"], "T:0"),
        (["dendritic cell", "monocyte"], "T:2"),
        (["dendritic cell", "secretory cell"], "T:10"),
        (["T:7", "T:6", "T:2"], "T:2"),
        (["T cell", "epithelium"], None),
    ],
)
def test_closest_common_ancestor_by_hand(ontology, terms, expected):
    assert ontology.closest_common_ancestor(terms) == expected
    assert ontology.closest_common_ancestor(terms[::-1]) == expected


def test_the_closest_common_ancestor_has_the_fewest_descendants(tmp_path):
    # Both p and q are parents of a and b. At first p has one more child; then they are equal, and p is first by id.
    path = tmp_path / "two.obo"
    parents = {"p": (), "q": (), "a": ("p", "q"), "b": ("p", "q"), "c": ("p",)}
    text = "\n".join(
        f"[Term]\nid: {term}\nname: {term}\n" + "".join(f"is_a: {parent}\n" for parent in up)
        for term, up in parents.items()
    )
    path.write_text("format-version: 1.2\n\n" + text)
    assert CellOntology.read(path).closest_common_ancestor(["a", "b"]) == "q"
    path.write_text("format-version: 1.2\n\n" + text.replace("[Term]\nid: c\nname: c\nis_a: p\n", ""))
    assert CellOntology.read(path).closest_common_ancestor(["a", "b"]) == "p"


def test_similarity_by_hand(ontology):
    # Twelve terms: T:0 to T:7, T:9, T:10, X:0, X:1. A term with n descendants has the information content
    # 1 - log(n + 1) / log(12).
    def information(n_below):
        return 1 - np.log(n_below + 1) / np.log(12)

    below = {"T:0": 9, "T:1": 3, "T:2": 2, "T:3": 1, "T:10": 1}
    leaf = information(0)
    assert leaf == 1
    expected = {
        ("T cell", "B cell"): 2 * information(below["T:1"]) / (information(below["T:3"]) + leaf),
        ("CD4 T cell", "T cell"): 2 * information(below["T:3"]) / (information(below["T:3"]) + leaf),
        ("dendritic cell", "monocyte"): 2 * information(below["T:2"]) / (leaf + leaf),
        ("dendritic cell", "secretory cell"): 2 * information(below["T:10"]) / (information(below["T:10"]) + leaf),
        ("CD4 T cell", "monocyte"): 2 * information(below["T:0"]) / (leaf + leaf),
        ("T cell", "T cell"): 1,
        ("cell", "cell"): 1,
        ("T cell", "epithelium"): 0,
    }
    for (one, other), value in expected.items():
        assert ontology.similarity(one, other) == pytest.approx(value, rel=1e-12), (one, other)
        assert ontology.similarity(other, one) == ontology.similarity(one, other)
        assert type(ontology.similarity(one, other)) is float
    with pytest.raises(MissingKeyError, match="The ontology has no term 'T-cell'"):
        ontology.similarity("T cell", "T-cell")


# Margins

TERMS = {"CD4": "CD4 T cell", "B": "T:4", "Mono": "monocyte", "DC": "Dendritic Cell"}
#: Steps between the four, in their order.
STEPS = np.array([[0, 3, 5, 5], [3, 0, 4, 4], [5, 4, 0, 2], [5, 4, 2, 0]])


def test_margins_by_hand(ontology):
    margins = ontology.margins(TERMS, margin=0.8)
    assert isinstance(margins, pd.DataFrame)
    assert list(margins.index) == list(margins.columns) == list(TERMS)
    np.testing.assert_allclose(margins.to_numpy(), 0.8 * STEPS / 5, rtol=1e-12)
    np.testing.assert_array_equal(margins, margins.T)
    np.testing.assert_array_equal(np.diag(margins), 0)
    assert margins.to_numpy().max() == 0.8
    assert margins.loc["Mono", "DC"] < margins.loc["Mono", "B"]
    np.testing.assert_allclose(ontology.margins(TERMS), 0.5 * STEPS / 5, rtol=1e-12)


def test_two_types_can_have_the_same_term(ontology):
    margins = ontology.margins({"B1": "B cell", "B2": "B cell", "T": "T cell"}, margin=1)
    np.testing.assert_array_equal(margins, [[0, 0, 1], [0, 0, 1], [1, 1, 0]])


def test_a_margin_of_zero(ontology):
    assert (ontology.margins(TERMS, margin=0).to_numpy() == 0).all()


@pytest.mark.parametrize(
    ("terms", "margin", "error", "match"),
    [
        ({}, 0.5, ArgumentError, r"`terms` must have at least two types\. Received none"),
        ({"B": "B cell"}, 0.5, ArgumentError, r"`terms` must have at least two types\. Received 'B'\."),
        (
            {"B": "B cell", "b": "T:4"},
            0.5,
            ArgumentError,
            "All types in `terms` have the same term.*Map at least one to another",
        ),
        ({"B": "B cell", "T": "T-cell"}, 0.5, MissingKeyError, "The ontology has no term 'T-cell'"),
        ({"B": "B cell", "E": "epithelium"}, 0.5, ArgumentError, "'B cell' and 'epithelium' have no common ancestor"),
        (TERMS, -0.1, ArgumentError, r"`margin` must be a number in \[0, inf\)\. Received -0\.1"),
        (TERMS, np.inf, ArgumentError, r"`margin` must be a number in \[0, inf\)\. Received inf"),
        (TERMS, "wide", ArgumentError, r"`margin` must be a number in \[0, inf\)\. Received 'wide'"),
    ],
)
def test_wrong_margins_are_refused(ontology, terms, margin, error, match):
    with pytest.raises(error, match=match):
        ontology.margins(terms, margin=margin)


# The Cell Ontology


@pytest.mark.realdata
def test_the_cell_ontology(shared_data):
    cells = CellOntology.read(shared_data / "cl-basic.obo")
    assert cells.find("T cell") == "CL:0000084"
    assert "CL:0000542" in cells.ancestors("CL:0000084")
    assert cells.name("CL:0000542") == "lymphocyte"
    assert "CL:0000084" not in cells.ancestors("lymphocyte")
    helper, killer = "CD4-positive, alpha-beta T cell", "CD8-positive, alpha-beta T cell"
    apart = cells.distance(helper, killer)
    assert 0 < apart < min(cells.distance(helper, "monocyte"), cells.distance(killer, "monocyte"))
    assert "T cell" in cells.name(cells.closest_common_ancestor([helper, killer]))
    alike = [cells.similarity(helper, other) for other in (helper, killer, "B cell", "monocyte", "neuron")]
    assert alike == sorted(alike, reverse=True)
    assert alike[0] == 1
    assert 0 < alike[-1] < 0.5 < alike[1] < 1
    margins = cells.margins({"CD4": helper, "CD8": killer, "Mono": "monocyte"}, margin=0.6)
    assert margins.loc["CD4", "CD8"] < margins.loc["CD4", "Mono"] <= 0.6
