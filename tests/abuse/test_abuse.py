"""Bad inputs of all kinds: every public call works or raises one of our own errors, and then leaves all as it was.

500 cases by default. The long run takes the number from the environment:

    SCQUERY_AE_ABUSE_CASES=10000 pytest tests/abuse

A failure names its seeds; ``SCQUERY_AE_ABUSE_SEED=1234`` runs that seed alone, and shows the traceback.
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

#: A message shorter than this says nothing of what to do.
SHORTEST_MESSAGE = 20

#: What other packages say about what they were given, which we neither cause nor can prevent.
NOISE = (
    "(?s).*Glyph .* missing from",
    "(?s).*names are not unique",
    # scanpy, of genes that do not vary.
    ".*number of normalized dispersions",
)


@pytest.fixture(scope="session")
def world(trained, tmp_path_factory) -> World:
    from conftest import build_adata

    encoder = copy.deepcopy(trained.encoder)
    # Judging out of fold trains as often as there are folds.
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
    """A directory for cases, and for what is written beside a relative path or to temporary files."""
    work = tmp_path / "one" / "two"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    return work


def broken(seed: int, world: World, work: Path) -> str | None:
    """Run one case and return what is wrong with how it ends, or None."""
    folder = _made(work / str(seed))
    temporary = work / "temporary"
    temporary.mkdir(exist_ok=True)
    drawn = case(seed, world, folder)
    top = work.parent.parent
    before = [state(value) for value in drawn.untouched], files(top)
    previous, tempfile.tempdir = tempfile.tempdir, str(temporary)
    try:
        wrong = _judged(drawn, before, top)
    finally:
        tempfile.tempdir = previous
        _close()
    _clear(top, work.parent)
    _clear(work.parent, work)
    _clear(work)
    return None if wrong is None else f"seed {seed}: {drawn.name}\n    {wrong}"


def _judged(drawn: Case, before: tuple[object, object], top: Path) -> str | None:
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
            return f"a message that says nothing: {error!r}"
    except BaseException as error:  # noqa: BLE001 (anything that is not ours is what this looks for)
        if ONE_SEED:
            traceback.print_exc()
        where = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(line.filename).name}:{line.lineno}" for line in where if "scquery_ae" in line.filename]
        return f"{type(error).__name__}: {str(error)[:200]!r} by {' '.join(ours[-4:])}"
    else:
        return None
    if [state(value) for value in drawn.untouched] != before[0]:
        return "raised, and changed what went in"
    if files(top) != before[1]:
        return f"raised, and changed files: {sorted(set(files(top).items()) ^ set(before[1].items()))}"
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
def test_a_bad_call_works_or_raises_our_own_error_and_leaves_all_as_it_was(seeds, world, workplace, eager):
    found = [wrong for seed in seeds if (wrong := broken(seed, world, workplace))]
    assert not found, f"{len(found)} of {len(seeds)} cases:\n" + "\n".join(found)


def test_the_default_run_draws_every_call_and_a_seed_gives_one_case(world, workplace):
    assert {drawn_call(np.random.default_rng(seed)) for seed in range(500)} == set(CALLS)
    names = []
    for attempt in range(2):
        folder = workplace / str(attempt)
        folder.mkdir()
        names.append([case(seed, world, _made(folder / str(seed))).name for seed in range(7)])
    assert names[0] == names[1]


def test_the_judge_sees_a_foreign_error_a_changed_cell_and_a_file_left_behind(world, workplace):
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
        changing: "what went in",
        writing: "changed files",
        silent: "says nothing",
        warning: "RuntimeWarning",
    }
    for run, words in expected.items():
        drawn = Case("made up", run, (adata,), workplace)
        wrong = _judged(drawn, ([state(adata)], files(workplace)), workplace)
        assert wrong is not None, words
        assert words in wrong
