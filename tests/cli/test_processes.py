"""Exit codes, streams and signals, in separate processes."""

import json
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

import scquery_ae as scq
from scquery_ae._errors import warn
from scquery_ae._logging import logger
from scquery_ae.cli.console import collect_warnings
from scquery_ae.cli.layout import to_json


def test_only_results_go_to_a_pipe(fresh, query_file, saved_reference, tmp_path):
    done = fresh("query", query_file, saved_reference, "-o", tmp_path / "o.csv", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["n_obs"] == 30


def test_v_shows_log_messages_on_stderr(fresh, query_file, saved_reference, tmp_path):
    for arguments in (("-v", "query"), ("query", "-v")):
        options = ("-o", tmp_path / "o.csv", "--overwrite", "--json")
        done = fresh(*arguments, query_file, saved_reference, *options)
        assert done.returncode == 0
        json.loads(done.stdout)
        assert done.stderr.startswith("queried 30 cells from X")
        assert len(done.stderr.splitlines()) == 1


def test_failures_are_one_line_on_stderr(fresh, query_file, saved_reference):
    for arguments, code in (
        (("check", "nowhere.h5ad", saved_reference), 3),
        (("check", query_file, saved_reference.parent), 3),
    ):
        done = fresh(*arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert len(done.stderr.splitlines()) == 1
    wrong = fresh("check")
    assert (wrong.returncode, wrong.stdout) == (2, "")


def started(code, *arguments):
    """Run a command after some code, and wait until that code prints that it is ready."""
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
def test_an_interruption_leaves_no_draft(query_file, saved_reference, tmp_path, number, code, said):
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
def test_a_closed_pipe_is_not_reported(saved_reference, arguments):
    arguments = [*arguments, str(saved_reference)] if arguments == ["info"] else arguments
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "scquery_ae", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
def test_a_terminal_shows_progress(saved_reference):
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
    assert to_json(value) == expected
    json.dumps(to_json(value), allow_nan=False)


def test_a_warning_is_one_line_and_shown_once(capsys, monkeypatch):
    monkeypatch.setattr(sys, "warnoptions", [])
    with collect_warnings() as kept:
        for _ in range(2):
            warn("something is\n odd")
        warnings.warn("of another library", FutureWarning, stacklevel=1)
    assert kept == ["something is odd"]
    assert capsys.readouterr().err == "Warning: something is odd\n"
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as Python does for the option
        with collect_warnings() as kept:
            warnings.warn("of another library", FutureWarning, stacklevel=1)
    assert kept == ["of another library"]
    assert capsys.readouterr().err == "Warning: of another library\n"


@pytest.mark.slow
def test_training_prints_nothing_into_a_pipe(fresh, cells_file, tmp_path):
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
