"""Gene sets: GMT files read line by line, and which model genes a set holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scquery_ae import ArgumentError, GeneOverlapError, MissingKeyError
from scquery_ae.gene_sets import gene_set_mask, read_gmt

GENES = np.array(["A", "B", "C", "D", "E"], dtype=object)


@pytest.fixture
def gmt(tmp_path):
    """``gmt(text)``: path of a file with this text."""

    def write(text):
        path = tmp_path / "sets.gmt"
        path.write_bytes(text.encode())
        return path

    return write


# Files.


def test_name_description_and_genes(gmt):
    path = gmt("glycolysis\thttps://example.org/1\tHK1\tPFKM\tPKM\napoptosis\t\tCASP3\n")
    expected = {"glycolysis": ("HK1", "PFKM", "PKM"), "apoptosis": ("CASP3",)}
    assert read_gmt(path) == read_gmt(str(path)) == expected
    # The order of the file is that of the units.
    assert list(read_gmt(path)) == ["glycolysis", "apoptosis"]


@pytest.mark.parametrize(
    "text",
    [
        "a\tx\tA\tB\n\n   \n\t\t\nb\ty\tC\n",
        "\n\na\tx\tA\tB\nb\ty\tC",
        "a\tx\tA\tB\t\t\t\nb\ty\tC\t\n",
        "a\tx\tA\t\tB\nb\ty\t\tC\n",
        "a\tx\tA\tB\r\nb\ty\tC\r\n",
        " a \tx\t A\tB \nb\ty\tC\n",
    ],
    ids=["blank lines", "blank lines first", "trailing tabs", "empty fields", "Windows", "spaces"],
)
def test_blank_lines_and_spaces_are_ignored(gmt, text):
    assert read_gmt(gmt(text)) == {"a": ("A", "B"), "b": ("C",)}


def test_names_with_spaces_and_other_letters(gmt):
    assert read_gmt(gmt("T cell, naïve\tno. 1\tCD3E\tHLA-A\n")) == {"T cell, naïve": ("CD3E", "HLA-A")}


@pytest.mark.parametrize(
    "line", ["b", "b\tdescription", "b\tdescription\t", "b\tdescription\t\t  \t", "b description C D"]
)
def test_a_line_without_genes_is_refused(gmt, line):
    path = gmt(f"a\tx\tA\n\n{line}\nc\tz\tC\n")
    with pytest.raises(
        ArgumentError,
        match=r"Line 3 of .*sets\.gmt is not a gene set\. Expected a name, a description and genes, separated by tabs"
        r"\. Received 'b",
    ):
        read_gmt(path)


def test_a_long_line_is_not_repeated_whole(gmt):
    with pytest.raises(ArgumentError, match="is not a gene set") as caught:
        read_gmt(gmt("x" * 10_000))
    assert len(str(caught.value)) < 400


def test_a_name_given_twice_is_refused(gmt):
    with pytest.raises(
        ArgumentError, match=r"Line 3 of .*sets\.gmt repeats the name 'a'\. Give each gene set its own name"
    ):
        read_gmt(gmt("a\tx\tA\nb\ty\tB\na\tz\tC\n"))


@pytest.mark.parametrize("text", ["", "\n\n", " \t\n"])
def test_an_empty_file_is_refused(gmt, text):
    with pytest.raises(
        ArgumentError, match=r"sets\.gmt has no gene sets\. Expected one line per set, with a name, a description"
    ):
        read_gmt(gmt(text))


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "nowhere.gmt", tmp_path):
        with pytest.raises(MissingKeyError, match=r"There is no file .*Expected a GMT file of gene sets"):
            read_gmt(path)


# Masks.


def test_mask_by_hand():
    sets = {"first": ("E", "A", "C"), "second": ["B", "C", "D", "elsewhere"]}
    found = gene_set_mask(sets, GENES)
    assert found.names == ("first", "second")
    assert found.dropped == ()
    assert found.mask.dtype == bool
    np.testing.assert_array_equal(found.mask.astype(int), [[1, 0], [0, 1], [1, 1], [0, 1], [1, 0]])


def test_small_sets_are_dropped():
    sets = {"two": ("A", "B"), "three": ("A", "B", "C"), "elsewhere": ("X", "Y", "Z"), "four": ("B", "C", "D", "E")}
    found = gene_set_mask(sets, GENES)
    assert (found.names, found.dropped) == (("three", "four"), ("two", "elsewhere"))
    np.testing.assert_array_equal(found.mask.astype(int), [[1, 0], [1, 1], [1, 1], [0, 1], [0, 1]])
    fewer, more = gene_set_mask(sets, GENES, min_genes=2), gene_set_mask(sets, GENES, min_genes=4)
    assert (fewer.names, fewer.dropped) == (("two", "three", "four"), ("elsewhere",))
    assert (more.names, more.dropped) == (("four",), ("two", "three", "elsewhere"))


def test_a_gene_named_twice_counts_once():
    sets = {"twice": ("A", "A", "B"), "whole": ("A", "B", "B", "C")}
    found = gene_set_mask(sets, GENES)
    assert (found.names, found.dropped) == (("whole",), ("twice",))
    assert found.mask.sum() == 3


@given(seed=st.integers(0, 999), min_genes=st.integers(1, 4))
def test_mask_is_membership(seed, min_genes):
    rng = np.random.default_rng(seed)
    names = [f"g{i}" for i in range(30)]
    genes = np.array(rng.permutation(names)[:20], dtype=object)
    sets = {f"s{i}": list(rng.choice(names, rng.integers(1, 9))) for i in range(6)} | {"all": names}
    found = gene_set_mask(sets, genes, min_genes=min_genes)
    expected = {name: [gene in members for gene in genes] for name, members in sets.items()}
    kept = [name for name, column in expected.items() if sum(column) >= min_genes]
    assert found.names == tuple(kept)
    assert found.dropped == tuple(name for name in sets if name not in kept)
    np.testing.assert_array_equal(found.mask, np.column_stack([expected[name] for name in kept]))


def test_no_overlap_is_an_error():
    sets = {"mouse": ("Actb", "Gapdh", "Cd3e"), "few": ("A", "B")}
    with pytest.raises(
        GeneOverlapError,
        match=r"None of the 2 gene sets has 3 or more of the 5 model genes\. Received genes such as 'Actb', 'Gapdh', "
        r"'Cd3e', 'A', 'B'; the model uses names such as 'A', 'B', 'C', 'D', 'E'\. Use the same kind of names",
    ):
        gene_set_mask(sets, GENES)


@pytest.mark.parametrize("min_genes", [0, 1.5, True])
def test_min_genes_is_a_count(min_genes):
    with pytest.raises(ArgumentError, match=f"`min_genes` must be an integer of at least 1. Received {min_genes}"):
        gene_set_mask({"a": ("A", "B", "C")}, GENES, min_genes=min_genes)
