"""Help: there for every command, true to the Python calls, and light."""

import inspect
import os
import re
import subprocess
import sys

import click
import pytest

import scquery_ae as scq
from scquery_ae.cli import main
from scquery_ae.cli.group import COMMANDS
from scquery_ae.cli.signatures import constant, defaults

CALLS = {
    "pp.normalize.normalize": scq.pp.normalize,
    "pp.check.check": scq.pp.check,
    "tl.pretrain.pretrain": scq.tl.pretrain,
    "tl.finetune.finetune": scq.tl.finetune,
    "tl.build_reference.build_reference": scq.tl.build_reference,
    "tl.query.query": scq.tl.query,
    "tl.embed.embed": scq.tl.embed,
    "io.read.read": scq.read,
    "reference.reference.Reference.add": scq.Reference.add,
}

#: Arguments of a call that its command has no option for, and why.
NOT_OFFERED = {
    "query": set(),
    "check": set(),
    "add": set(),
    # Loaded cells are the command's own; the rest is for those who write Python.
    "export": {"checkpoint"},
    "fit": {
        *("target_sum", "copy", "progress", "key_added", "rows"),
        *("module", "activation", "latent_activation", "loss", "corrupted_weight", "uncorrupted_weight", "free_units"),
        *("patience", "batch_size", "learning_rate", "validation_fraction"),
        *("label_smoothing", "metric_weight", "margin", "dropout"),
    },
}
USES = {
    "query": ["tl.query.query"],
    "check": ["pp.check.check"],
    "add": ["reference.reference.Reference.add"],
    "export": ["tl.embed.embed"],
    "fit": [
        "pp.normalize.normalize",
        "tl.pretrain.pretrain",
        "tl.finetune.finetune",
        "tl.build_reference.build_reference",
        "io.read.read",
    ],
}
RENAMED = {"random_state": "seed"}


def command_of(name):
    return main.get_command(click.Context(main), name)


def options_of(name):
    return {p.name: p for p in command_of(name).params if isinstance(p, click.Option)}


def python_defaults(call):
    parameters = inspect.signature(call).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty and p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("name", CALLS)
def test_defaults_are_those_of_the_calls(name):
    assert defaults(name) == python_defaults(CALLS[name])


@pytest.mark.parametrize("name", USES)
def test_options_have_the_names_and_defaults_of_the_arguments(name):
    options = options_of(name)
    for call in USES[name]:
        for argument, default in python_defaults(CALLS[call]).items():
            if argument in NOT_OFFERED[name]:
                continue
            option = options.get(RENAMED.get(argument, argument))
            if argument == "epochs":  # two calls have one of their own, and one option is for both
                option = options[f"{call.rsplit('.', 1)[-1]}_epochs"]
            if name == "fit" and call.startswith("tl.") and argument in ("corruption_level", "gene_masking"):
                continue  # of two calls, with two defaults; tested below
            if argument in ("where", "orthologs", "checkpoint", "file_key", "lazy", "use_raw", "make_unique"):
                assert option is not None
                continue
            assert option is not None, argument
            value = option.type.convert(option.default, None, None) if option.default is not None else None
            assert value == default, argument


def test_an_argument_of_two_calls_has_the_default_of_the_named_call():
    options = options_of("fit")
    assert options["corruption_level"].default == python_defaults(scq.tl.pretrain)["corruption_level"]
    assert options["gene_masking"].default == python_defaults(scq.tl.finetune)["gene_masking"]


def test_choices_are_those_of_the_package():
    from scquery_ae.index.choose import INDEXES
    from scquery_ae.loaders.open import INPUT_STATES
    from scquery_ae.nn.corruption import CORRUPTIONS
    from scquery_ae.stats import CORR_METHODS
    from scquery_ae.tl.build_reference import CALIBRATIONS
    from scquery_ae.training import LABEL_ISSUES

    assert tuple(options_of("query")["input_state"].type.choices) == INPUT_STATES
    assert tuple(options_of("query")["corr_method"].type.choices) == CORR_METHODS
    assert tuple(options_of("fit")["label_issues"].type.choices) == LABEL_ISSUES
    assert tuple(options_of("fit")["index"].type.choices) == INDEXES
    assert tuple(options_of("fit")["corruption"].type.choices) == CORRUPTIONS
    assert tuple(options_of("fit")["calibration"].type.choices) == CALIBRATIONS


def test_a_constant_that_is_no_literal_is_refused():
    with pytest.raises(LookupError, match=r"stats\.conformal defines no constant NOTHING as a literal"):
        constant("stats.conformal.NOTHING")


def test_the_group_lists_every_command_and_the_exit_codes(run):
    shown = run("--help")
    assert shown.code == 0
    for name, text in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text[:35])}", shown.out, re.MULTILINE)
    for code in ("0", "1", "2", "3", "4", "5", "6", "130"):
        assert re.search(rf"^    {code}  ", shown.out, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples_on_lines_of_their_own(run, name):
    shown = run(name, "--help")
    assert shown.code == 0
    command = command_of(name)
    assert command.help.splitlines()[0] == COMMANDS[name]
    assert len(re.findall(rf"^ +scquery-ae {name}\b", shown.out, re.MULTILINE)) >= 2
    assert "\\b" not in shown.out
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name
    assert max(map(len, shown.out.splitlines())) <= 110


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "completion"])
def test_every_command_that_reports_has_json(name):
    assert "as_json" in options_of(name)


def test_the_version(run):
    assert run("--version").out.split()[-1] == scq.__version__


def test_a_misspelt_command_gets_the_right_one(run):
    run("qurey").is_wrong_use(r"No such command 'qurey'. Did you mean 'query'\?")
    run("xyzzy").is_wrong_use(r"No such command 'xyzzy'. Expected one of demo, fit, check")


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from scquery_ae.cli import main\n"
        f"for command in [[], *[[c] for c in {list(COMMANDS)!r}]]:\n"
        "    main([*command, '--help'], standalone_mode=False)\n"
        "heavy = ('tensorflow', 'keras', 'scanpy', 'matplotlib', 'pandas', 'numpy', 'anndata', 'scipy', 'h5py')\n"
        "print('loaded', *[m for m in heavy if m in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "loaded"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_click(run, shell):
    printed = run("completion", shell)
    assert printed.code == 0
    assert "_SCQUERY_AE_COMPLETE" in printed.out
    assert "scquery-ae" in printed.out


@pytest.mark.parametrize(
    ("words", "expected"), [("scquery-ae qu", "plain,query"), ("scquery-ae fit --n-to", "plain,--n-top-genes")]
)
def test_the_shell_gets_completions(words, expected):
    script = "from scquery_ae.cli import main; main(prog_name='scquery-ae')"
    environment = {
        **os.environ,
        "_SCQUERY_AE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    assert expected in result.stdout.splitlines()
