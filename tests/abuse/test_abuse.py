"""Fuzzing of the public calls: with bad input, a call works, or raises an error of this package and changes nothing.

500 cases are run by default. The environment sets another number:

    SCQUERY_AE_ABUSE_CASES=10000 pytest tests/abuse

A failure names its seeds. ``SCQUERY_AE_ABUSE_SEED=1234`` runs that seed alone and shows the traceback.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest

import scquery_ae as scq
from abuse.cases import CALLS, case, drawn_call
from abuse.state import files, state
from abuse.world import Case, World

N_CASES = int(os.environ.get("SCQUERY_AE_ABUSE_CASES", "500"))
ONE_SEED = os.environ.get("SCQUERY_AE_ABUSE_SEED")
BLOCK = 50
SEEDS = [int(ONE_SEED)] if ONE_SEED else list(range(N_CASES))
BLOCKS = [SEEDS[start : start + BLOCK] for start in range(0, len(SEEDS), BLOCK)]

#: A message shorter than this cannot explain what to do.
SHORTEST_MESSAGE = 20

#: Warnings of other packages about their input, which this package cannot prevent.
NOISE = (
    "(?s).*Glyph .* missing from",
    "(?s).*names are not unique",
    # scanpy, for genes without variance.
    ".*number of normalized dispersions",
)


@pytest.fixture(scope="session")
def world(trained, tmp_path_factory) -> World:
    from conftest import build_adata

    encoder = copy.deepcopy(trained.encoder)
    # Out-of-fold predictions train once per fold.
    encoder.parameters["finetune"].update(epochs=1, batch_size=32)
    cells = trained.adata[:48].copy()
    query = build_adata(30, 120, seed=2)
    queried = query.copy()
    scq.tl.query(queried, trained.reference, n_neighbors=5)
    folder = tmp_path_factory.mktemp("abuse")
    for name in ("small.scq", "small.zip"):
        trained.reference.save(folder / name)
    return World(query, cells, queried, encoder, trained.reference, folder / "small.scq", folder / "small.zip")


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """Working directory for the files of the cases, for relative paths and for temporary files."""
    work = tmp_path / "one" / "two"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    return work


def run_case(seed: int, world: World, work: Path) -> str | None:
    """Run one case, and return a description of its fault or None."""
    folder = _made(work / str(seed))
    temporary = work / "temporary"
    temporary.mkdir(exist_ok=True)
    drawn = case(seed, world, folder)
    top = work.parent.parent
    before = [state(value) for value in drawn.unchanged], files(top)
    previous, tempfile.tempdir = tempfile.tempdir, str(temporary)
    try:
        fault = _fault(drawn, before, top)
    finally:
        tempfile.tempdir = previous
        _close()
    _clear(top, work.parent)
    _clear(work.parent, work)
    _clear(work)
    return None if fault is None else f"seed {seed}: {drawn.name}\n    {fault}"


def _fault(drawn: Case, before: tuple[object, object], top: Path) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning, scq.ScqueryWarning):
                warnings.simplefilter("ignore", category)
            for message in NOISE:
                warnings.filterwarnings("ignore", message=message)
            drawn.run()
    except scq.ScqueryError as error:
        if len(str(error)) <= SHORTEST_MESSAGE:
            return f"the message is too short: {error!r}"
    except BaseException as error:  # noqa: BLE001 (any other error is a fault)
        if ONE_SEED:
            traceback.print_exc()
        where = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(line.filename).name}:{line.lineno}" for line in where if "scquery_ae" in line.filename]
        return f"{type(error).__name__}: {str(error)[:200]!r} by {' '.join(ours[-4:])}"
    else:
        return None
    if [state(value) for value in drawn.unchanged] != before[0]:
        return "raised an error, and changed an argument"
    if files(top) != before[1]:
        return f"raised an error, and changed files: {sorted(set(files(top).items()) ^ set(before[1].items()))}"
    return None


def _clear(folder: Path, kept: Path | None = None) -> None:
    for entry in list(folder.iterdir()):
        if entry == kept:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _close() -> None:
    from matplotlib import pyplot as plt

    plt.close("all")


@pytest.mark.parametrize("seeds", BLOCKS, ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_a_bad_call_works_or_raises_an_error_of_the_package_and_changes_nothing(seeds, world, workplace, eager):
    found = [fault for seed in seeds if (fault := run_case(seed, world, workplace))]
    assert not found, f"{len(found)} of {len(seeds)} cases:\n" + "\n".join(found)


def test_the_default_run_draws_every_call_and_cases_are_reproducible(world, workplace):
    assert {drawn_call(np.random.default_rng(seed)) for seed in range(500)} == set(CALLS)
    names = []
    for attempt in range(2):
        folder = workplace / str(attempt)
        folder.mkdir()
        names.append([case(seed, world, _made(folder / str(seed))).name for seed in range(7)])
    assert names[0] == names[1]


def test_faults_are_detected(world, workplace):
    adata = world.query.copy()
    good, bad = "a message that is long enough", "no"

    def foreign() -> None:
        raise KeyError(good)

    def changing() -> None:
        adata.obs["new"] = 1
        raise scq.ArgumentError(good)

    def writing() -> None:
        (workplace / "left").write_text("behind")
        raise scq.ArgumentError(good)

    def silent() -> None:
        raise scq.ArgumentError(bad)

    def warning() -> None:
        np.log(np.zeros(1))

    expected = {
        foreign: "KeyError",
        changing: "changed an argument",
        writing: "changed files",
        silent: "too short",
        warning: "RuntimeWarning",
    }
    for run, words in expected.items():
        drawn = Case("made up", run, (adata,), workplace)
        fault = _fault(drawn, ([state(adata)], files(workplace)), workplace)
        assert fault is not None, words
        assert words in fault
