"""Exit codes of commands. The help and the documentation list all of them."""

from pathlib import Path

import anndata
import click
import numpy as np
import pytest

import scquery_ae as scq
from scquery_ae.cli import main
from scquery_ae.cli.exit_codes import EXIT_CODES
from scquery_ae.cli.group import COMMANDS
from scquery_ae.cli.options import RANGES
from scquery_ae.loaders import open_cells
from scquery_ae.training import FinetuneSettings

CELLS = anndata.AnnData(np.ones((3, 2), dtype=np.float32))


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


@pytest.mark.parametrize("name", COMMANDS)
def test_click_refuses_numbers_out_of_range(name):
    """Each option that is a number has a range, so that no work is done and the exit code is that of wrong usage."""
    command = main.get_command(click.Context(main), name)
    for option in command.params:
        assert option.type not in (click.INT, click.FLOAT), option.name
        if isinstance(option.type, click.FloatRange):
            for value in ("nan", "inf", "-1"):
                with pytest.raises(click.BadParameter, match=r"is not (a finite number|in the range)"):
                    option.type.convert(value, option, None)


@pytest.mark.parametrize(
    ("command", "options", "match"),
    [
        ("check", ["--min-gene-overlap", "5"], r"5.0 is not in the range 0<=x<=1"),
        ("check", ["--seed", "-1"], r"-1 is not in the range x>=0"),
        ("query", ["--alpha", "2"], r"2.0 is not in the range 0<x<1"),
        ("query", ["--alpha", "nan"], r"nan is not a finite number"),
        ("query", ["--coverage", "0"], r"0.0 is not in the range 0<x<1"),
        ("query", ["--max-unknown", "2"], r"2.0 is not in the range 0<=x<=1"),
        ("query", ["--n-neighbors", "0"], r"0 is not in the range x>=1"),
        ("query", ["--key-added", "a/b"], r"expected a prefix without / and control characters; received 'a/b'"),
        ("query", ["-o", "a.txt"], r"The suffix of a.txt sets the format"),
        ("fit", ["--epochs", "0"], r"0 is not in the range x>=1"),
        ("fit", ["--pretrain-epochs", "0"], r"0 is not in the range x>=1"),
        ("fit", ["--layer-sizes", "0"], r"expected widths of layers"),
        ("fit", ["--gene-masking", "1"], r"1.0 is not in the range 0<=x<1"),
        ("fit", ["--index", "flat"], r"'flat' is not one of"),
        ("fit", ["--corruption", "salt"], r"'salt' is not one of"),
    ],
)
def test_values_that_an_option_never_accepts_are_wrong_usage(run, query_file, command, options, match):
    files = [query_file] if command == "fit" else [query_file, "absent.scq"]
    output = [] if command == "check" or "-o" in options else ["-o", "made.scq" if command == "fit" else "made.csv"]
    run(command, *files, *output, *options).is_wrong_use(match)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("alpha", lambda value: scq.tl.query(CELLS, "absent.scq", alpha=value)),
        ("coverage", lambda value: scq.tl.query(CELLS, "absent.scq", coverage=value)),
        (
            "min_gene_overlap",
            lambda value: open_cells(CELLS, ["A"], function="f", min_gene_overlap=value, gene_key="none"),
        ),
        ("random_state", lambda value: scq.pp.check(CELLS, "absent.scq", random_state=value)),
        ("n_top_genes", lambda value: scq.pp.normalize(CELLS, n_top_genes=value, layer="none")),
        ("epochs", lambda value: FinetuneSettings(epochs=value)),
        ("gene_masking", lambda value: FinetuneSettings(gene_masking=value)),
        ("class_weight_power", lambda value: FinetuneSettings(class_weight_power=value)),
    ],
)
def test_ranges_are_those_of_the_calls(argument, call):
    for value in (-1, 0, 0.5, 1, 2):
        if isinstance(RANGES[argument], click.IntRange) and value == 0.5:
            continue
        try:
            call(value)
        except scq.ArgumentError as error:
            accepted = f"`{argument}` must be" not in str(error)
        except scq.ScqueryError:
            accepted = True
        else:
            accepted = True
        try:
            RANGES[argument].convert(value, None, None)
        except click.BadParameter:
            assert not accepted, value
        else:
            assert accepted, value


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
    run("info", query_file).is_one_line(3, r"is a file\. Expected a reference, which is .* \.zip file of one\.$")
    is_file = r"mine.h5ad is a file\. Expected a reference, .* give the cells first"
    run("check", query_file, query_file).is_one_line(3, is_file)
    run("check", query_file, "nowhere.scq").is_one_line(3, r"no reference at nowhere.scq; check the path")
