"""Messages name arguments and calls as whoever made the call writes them."""

import click
import pytest

import scquery_ae as scq
from scquery_ae._caller import Caller, argument, call, calling, current, running, slot
from scquery_ae.cli import main
from scquery_ae.cli.caller import COMMAND_OF_CALL, CommandCaller
from scquery_ae.cli.group import COMMANDS
from scquery_ae.genes import match_genes, require_overlap


@pytest.fixture
def query_caller():
    return CommandCaller(main.get_command(click.Context(main), "query"))


@pytest.mark.parametrize(
    ("name", "python", "command"),
    [
        (lambda: argument("gene_key"), "`gene_key`", "`--gene-key`"),
        (lambda: argument("gene_key", "symbol"), "`gene_key='symbol'`", "`--gene-key symbol`"),
        (lambda: argument("min_gene_overlap", 0.1), "`min_gene_overlap=0.1`", "`--min-gene-overlap 0.1`"),
        (lambda: argument("ignore_case", True), "`ignore_case=True`", "`--ignore-case`"),
        (lambda: argument("lazy", False), "`lazy=False`", "`--no-lazy`"),
        (lambda: argument("progress"), "`progress`", "`progress`"),
        (lambda: running("tl.query"), "`tl.query`", "`scquery-ae query`"),
        (lambda: call("pp.check"), "`scq.pp.check`", "`scquery-ae check`"),
        (lambda: call("tl.audit"), "`scq.tl.audit`", "`scq.tl.audit`"),
        (lambda: slot("obs"), "`adata.obs`", "`obs`"),
        (lambda: current().make_unique("obs"), "call `adata.obs_names_make_unique()`", "pass `--make-unique`"),
        (lambda: current().no_layer(), "None for X", "no `--layer`"),
        (lambda: current().raw(), "`adata.raw.to_adata()`", "`raw` (`--use-raw`)"),
    ],
)
def test_both_ways_to_write_a_name(query_caller, name, python, command):
    assert name() == python
    with calling(query_caller):
        assert name() == command
    assert name() == python


def test_the_words_are_restored_after_an_error(query_caller):
    with pytest.raises(ZeroDivisionError), calling(query_caller):
        _ = 1 / 0
    assert type(current()) is Caller


def test_a_seed_and_sizes_have_their_options():
    fit = CommandCaller(main.get_command(click.Context(main), "fit"))
    assert fit.argument("random_state", 3) == "`--seed 3`"
    assert fit.argument("layer_sizes", (8, 4)) == "`--layer-sizes 8,4`"


def test_options_that_are_repeated():
    remove = CommandCaller(main.get_command(click.Context(main), "remove"))
    assert remove.argument("names", ["a", "b"]) == "`--name a --name b`"
    assert remove.argument("names", "foo") == "`--name foo`"
    assert remove.argument("where", {"x": ["1", "2"], "y": "3"}) == "`--where x=1 --where x=2 --where y=3`"


def test_a_command_without_the_option_names_the_python_call():
    info = CommandCaller(main.get_command(click.Context(main), "info"))
    assert info.make_unique("var") == "call `adata.var_names_make_unique()`"
    assert info.raw() == "`raw`"


def test_every_call_with_a_command_exists():
    assert set(COMMAND_OF_CALL.values()) <= set(COMMANDS)
    for name in COMMAND_OF_CALL:
        found = scq
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found)


def test_one_refusal_in_both_words(query_caller):
    match = match_genes(["A", "B"], {"var_names": ["x"]})
    with pytest.raises(scq.GeneOverlapError, match=r"`min_gene_overlap=0\.5` is.*`adata\.var`.*`gene_key`; `scq\."):
        require_overlap(match, 0.5)
    with (
        calling(query_caller),
        pytest.raises(
            scq.GeneOverlapError,
            match=r"`--min-gene-overlap 0\.5` is needed.*column of `var`.*`--gene-key`; `scquery-ae check` shows",
        ),
    ):
        require_overlap(match, 0.5)


def test_a_check_reports_problems_in_options(run, make_adata, saved_reference, tmp_path):
    adata = make_adata(10, 120)
    adata.obs_names = ["a", "a", *adata.obs_names[2:]]
    adata.write_h5ad(tmp_path / "repeats.h5ad")
    with pytest.warns(UserWarning, match="Observation names are not unique"):
        assert scq.pp.check(adata.copy(), saved_reference).problems == (
            "cell names repeat; call `adata.obs_names_make_unique()`",
        )
    found = run("check", tmp_path / "repeats.h5ad", saved_reference, "--json").json
    assert found["problems"] == ["cell names repeat; pass `--make-unique`"]
