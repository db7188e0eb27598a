"""Exit codes, streams and signals, in processes of their own; and the words of messages."""

import json
import os
import signal
import subprocess
import sys
import warnings

import click
import numpy as np
import pytest

import scquery_ae as scq
from scquery_ae._errors import warn
from scquery_ae._logging import logger
from scquery_ae.cli import echo
from scquery_ae.cli.failures import spoken
from scquery_ae.cli.query import query


def test_results_go_to_stdout_and_nothing_else_to_a_pipe(fresh, query_file, saved_reference, tmp_path):
    done = fresh("query", query_file, saved_reference, "-o", tmp_path / "o.csv", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["n_obs"] == 30


def test_the_packages_messages_go_to_stderr_with_v(fresh, query_file, saved_reference, tmp_path):
    for arguments in (("-v", "query"), ("query", "-v")):
        options = ("-o", tmp_path / "o.csv", "--overwrite", "--json")
        done = fresh(*arguments, query_file, saved_reference, *options)
        assert done.returncode == 0
        json.loads(done.stdout)
        assert done.stderr.startswith("queried 30 cells from X")
        assert len(done.stderr.splitlines()) == 1


def test_failures_are_one_line_on_stderr(fresh, query_file, saved_reference):
    for arguments, code in (
        (("check", "nowhere.h5ad", saved_reference), 1),
        (("check", query_file, saved_reference.parent), 3),
    ):
        done = fresh(*arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert len(done.stderr.splitlines()) == 1
    wrong = fresh("check")
    assert (wrong.returncode, wrong.stdout) == (2, "")


def started(code, *arguments):
    """Run a command with some code before it, and wait until that says so."""
    script = f"import sys, time\n{code}\nfrom scquery_ae.cli import main\nmain({[str(a) for a in arguments]!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr.readline() == "ready\n"
    return process


WAIT = """
def wait(*a, **k):
    for path in a[1:2]:
        path.write_bytes(b"half")
    print("ready", file=sys.stderr, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, 143, "")])
def test_an_interruption_has_its_code_and_leaves_no_draft(query_file, saved_reference, tmp_path, number, code, said):
    patch = f"{WAIT}\nimport anndata\nanndata.AnnData.write_h5ad = wait"
    process = started(patch, "query", query_file, saved_reference, "-o", tmp_path / "o.h5ad")
    assert [p.name.endswith(".writing.h5ad") for p in tmp_path.iterdir()] == [True]
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert out == ""
    assert err.strip() == said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["info"], ["--help"], ["query", "--help"]])
def test_a_reader_that_went_away_is_no_failure_to_report(saved_reference, arguments):
    arguments = [*arguments, str(saved_reference)] if arguments == ["info"] else arguments
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "scquery_ae", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
def test_a_terminal_is_told_what_is_going_on(saved_reference):
    main, terminal = os.openpty()
    command = [sys.executable, "-m", "scquery_ae", "info", str(saved_reference), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, text=True, check=True, timeout=60)
    os.close(terminal)
    assert f"opening {saved_reference}" in os.read(main, 10_000).decode()
    os.close(main)
    json.loads(done.stdout)


def test_an_unknown_exception_shows_a_traceback(saved_reference):
    patch = "import scquery_ae.cli.info as info\ndef broken(*a): return 1 / 0\ninfo.describe = broken\n"
    script = f"{patch}from scquery_ae.cli import main\nmain(['info', {str(saved_reference)!r}])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("`layer='x'` is not there", "`--layer x` is not there"),
        ("pass `ignore_case=True`", "pass `--ignore-case`"),
        ('pass `input_state="counts"`, "log1p"', 'pass `--input-state counts`, "log1p"'),
        ("name one (`layer=`)", "name one (`--layer`)"),
        ("`min_gene_overlap=0.1` is needed", "`--min-gene-overlap 0.1` is needed"),
        ("call `adata.obs_names_make_unique()`.", "pass `--make-unique`."),
        ("`nothing=1` and `adata.obs`", "`nothing=1` and `obs`"),
        ("see `query.var`", "see `var`"),
    ],
)
def test_messages_speak_of_options(message, expected):
    with click.Context(query):
        assert spoken(message) == expected
    assert spoken("`layer='x'`") == "`layer='x'`"


def test_json_has_no_nan_and_no_numpy(tmp_path):
    value = {
        "a": np.float32("nan"),
        "b": np.arange(2),
        "c": tmp_path,
        "d": (np.int64(1), float("inf"), None, True),
        "e": {1: "x"},
        "f": np.bool_(True),
    }
    expected = {"a": None, "b": [0, 1], "c": str(tmp_path), "d": [1, None, None, True], "e": {"1": "x"}, "f": True}
    assert echo.plain(value) == expected
    json.dumps(echo.plain(value), allow_nan=False)


def test_warnings_are_lines_said_once(capsys, monkeypatch):
    monkeypatch.setattr(sys, "warnoptions", [])
    with echo.heard() as kept:
        for _ in range(2):
            warn("something is\n odd")
        warnings.warn("of another library", FutureWarning, stacklevel=1)
    assert kept == ["something is odd"]
    assert capsys.readouterr().err == "Warning: something is odd\n"
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as Python does for the option
        with echo.heard() as kept:
            warnings.warn("of another library", FutureWarning, stacklevel=1)
    assert kept == []
    assert capsys.readouterr().err == "Warning: of another library\n"


@pytest.mark.slow
def test_training_says_nothing_in_a_pipe(fresh, cells_file, tmp_path):
    small = ("--layer-sizes", "4,3", "--n-top-genes", "20", "--epochs", "1")
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = fresh("fit", cells_file, "--label-key", "cell_type", *small, "-o", tmp_path / "made.scq", env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_logger_is_left_as_it_was(run, saved_reference):
    before = (logger.level, list(logger.handlers))
    assert run("-v", "info", saved_reference, "-v").code == 0
    assert (logger.level, logger.handlers) == before


def test_training_that_diverges_is_one_line(run, cells_file, tmp_path, monkeypatch):
    def diverge(*_, **__):
        msg = "Training diverged: `loss` should be finite."
        raise scq.TrainingError(msg)

    monkeypatch.setattr(scq.tl, "pretrain", diverge)
    asked = ("fit", cells_file, "--label-key", "cell_type", "-o", tmp_path / "made.scq")
    run(*asked).is_one_line(1, "Training diverged")
