"""Exit codes of commands. The help and the documentation list all of them."""

from pathlib import Path

import pytest

from scquery_ae.cli.exit_codes import EXIT_CODES


@pytest.mark.parametrize(
    ("code", "options"),
    [
        (0, ["check", "mine.h5ad", "REFERENCE"]),
        (1, ["check", "mine.h5ad", "REFERENCE", "--layer", "nope"]),
        (2, ["check", "mine.h5ad"]),
        (2, ["check", "mine.h5ad", "REFERENCE", "--nonsense"]),
        (3, ["check", "absent.h5ad", "REFERENCE"]),
        (3, ["check", "text.h5ad", "REFERENCE"]),
        (3, ["check", "mine.h5ad", "absent.scq"]),
        (3, ["check", "REFERENCE", "REFERENCE"]),
        (3, ["check", "mine.h5ad", "mine.h5ad"]),
        (4, ["check", "few.h5ad", "REFERENCE"]),
        (4, ["query", "few.h5ad", "REFERENCE", "-o", "o.csv"]),
        (5, ["check", "repeats.h5ad", "REFERENCE", "--strict"]),
        (6, ["query", "noise.h5ad", "REFERENCE", "-o", "o.csv", "--max-unknown", "0.01"]),
    ],
)
def test_exit_codes(run, make_adata, query_file, saved_reference, tmp_path, code, options):
    adata = make_adata(30, 120, seed=2)
    adata[:, :5].copy().write_h5ad(tmp_path / "few.h5ad")
    repeats, noise = adata.copy(), adata.copy()
    repeats.obs_names = ["a", "a", *repeats.obs_names[2:]]
    repeats.write_h5ad(tmp_path / "repeats.h5ad")
    noise.X = noise.X.toarray()[:, ::-1] * 3
    noise.write_h5ad(tmp_path / "noise.h5ad")
    (tmp_path / "text.h5ad").write_text("cells")
    (tmp_path / "mine.h5ad").write_bytes(query_file.read_bytes())
    named = [
        saved_reference if text == "REFERENCE" else tmp_path / text if "." in text and text != "0.01" else text
        for text in options
    ]
    assert run(*named).code == code


def test_the_help_lists_every_code(run):
    text = run("--help").out
    for code, meaning in EXIT_CODES.items():
        assert f"    {code:<4} {meaning[:60]}" in text


def test_the_documentation_lists_every_code():
    page = Path(__file__).parents[2] / "docs" / "command_line.md"
    if not page.is_file():
        pytest.skip("the source distribution has no pages")
    rows = [line.strip("| ").split(" | ", 1) for line in page.read_text(encoding="utf-8").splitlines()]
    assert [int(row[0]) for row in rows if row[0].isdigit()] == list(EXIT_CODES)


def test_a_reference_in_the_place_of_cells(run, saved_reference, query_file):
    swapped = r"small.scq is a reference\. Expected cells here: .* give the cells first, then the reference"
    run("check", saved_reference, saved_reference).is_one_line(3, swapped)
    is_file = r"mine.h5ad is a file\. Expected a reference, .* give the cells first"
    run("check", query_file, query_file).is_one_line(3, is_file)
    run("check", query_file, "nowhere.scq").is_one_line(3, r"no reference at nowhere.scq; check the path")
