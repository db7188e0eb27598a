"""``scq.settings.verbosity``: what is said, where it is shown, and that each call says it once."""

import importlib.util
import io
import logging
import logging.config
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scquery_ae as scq
from scquery_ae import _logging
from scquery_ae._logging import HANDLER, logger, shown

LEVELS = {0: logging.ERROR, 1: logging.WARNING, 2: logging.INFO, 3: logging.DEBUG}


@pytest.fixture(autouse=True)
def untouched():
    """Leave Python's logging as it was found, which is with nothing of ours."""
    root = logging.getLogger()
    assert (logger.level, logger.handlers) == (logging.NOTSET, [])
    before = list(root.handlers), root.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    logger.handlers[:] = []
    logger.setLevel(logging.NOTSET)
    logger.propagate, logger.disabled = True, False


def ours():
    return [handler for handler in logger.handlers if handler.name == HANDLER]


def test_verbosity_takes_numbers_and_names():
    assert scq.settings.verbosity == 1
    assert ours() == []
    for value, level in LEVELS.items():
        for given in (value, np.int64(value)):
            scq.settings.verbosity = given
            assert (scq.settings.verbosity, logger.level) == (value, level)
            assert type(scq.settings.verbosity) is int
    for name, value in {"error": 0, "warning": 1, "info": 2, "hint": 3, "debug": 3, "INFO": 2}.items():
        scq.settings.verbosity = name
        assert (scq.settings.verbosity, logger.level) == (value, LEVELS[value])
    assert repr(scq.settings) == "Settings(verbosity=2)"


def test_names_mean_the_same_as_in_scanpy(monkeypatch):
    import scanpy as sc

    before = sc.settings.verbosity
    try:
        for name in ("error", "warning", "info", "hint"):
            sc.settings.verbosity = name
            scq.settings.verbosity = sc.settings.verbosity
            assert scq.settings.verbosity == int(sc.settings.verbosity)
            scq.settings.verbosity = name
            assert scq.settings.verbosity == int(sc.settings.verbosity)
    finally:
        sc.settings.verbosity = before


@pytest.mark.parametrize("value", [-1, 4, True, 2.0, None, "loud", "", [2], np.nan])
def test_a_wrong_verbosity_is_refused(value):
    scq.settings.verbosity = 2
    with pytest.raises(
        scq.ArgumentError,
        match=r"`scq\.settings\.verbosity` must be 0, 1, 2 or 3, or one of 'error', 'warning', 'info', 'hint', 'debug'"
        r"\. Received .*; 2 shows what each call wrote, and where\.",
    ):
        scq.settings.verbosity = value
    assert scq.settings.verbosity == 2


def test_a_misspelt_setting_is_refused():
    with pytest.raises(AttributeError, match="verbsoity"):
        scq.settings.verbsoity = 2


@pytest.mark.parametrize(
    ("level", "verbosity"), [("DEBUG", 3), (15, 2), ("INFO", 2), (25, 1), ("WARNING", 1), ("ERROR", 0), ("CRITICAL", 0)]
)
def test_a_level_set_by_hand_is_reported(level, verbosity):
    logger.setLevel(level)
    assert scq.settings.verbosity == verbosity


def test_setting_the_verbosity_imports_nothing():
    code = (
        "import sys, scquery_ae as scq\n"
        "from scquery_ae._logging import logger\n"
        "logger.info('before')\n"
        "scq.settings.verbosity = 2\n"
        "logger.info('after')\n"
        "print(*[m for m in ('numpy', 'pandas', 'anndata', 'scipy', 'keras') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    assert done.stderr == "after\n"


def test_lines_go_to_the_current_stderr(capsys, monkeypatch):
    scq.settings.verbosity = 2
    logger.debug("unheard")
    logger.info("one of %d", 3)
    assert capsys.readouterr() == ("", "one of 3\n")
    other = io.StringIO()
    monkeypatch.setattr(sys, "stderr", other)
    logger.info("two")
    assert other.getvalue() == "two\n"
    scq.settings.verbosity = 3
    logger.debug("three")
    assert other.getvalue() == "two\nthree\n"
    scq.settings.verbosity = 1
    logger.info("four")
    logger.warning("five")
    scq.settings.verbosity = 0
    logger.warning("six")
    assert other.getvalue() == "two\nthree\nfive\n"


@pytest.mark.parametrize("gone", ["none", "closed"])
def test_a_missing_stderr_is_no_error(monkeypatch, gone):
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", None if gone == "none" else stream)
    scq.settings.verbosity = 2
    logger.info("unheard")


def test_there_is_one_handler(capsys):
    for value in (2, 3, "info", 2):
        scq.settings.verbosity = value
    # As %autoreload does in a notebook.
    fresh = importlib.util.module_from_spec(importlib.util.find_spec("scquery_ae._logging"))
    fresh.__spec__.loader.exec_module(fresh)
    assert fresh.Stderr is not _logging.Stderr
    fresh.show(logging.INFO)
    assert len(ours()) == 1
    logger.info("once")
    assert capsys.readouterr().err == "once\n"


class Rich(logging.Handler):
    """A handler that shows lines in its own way."""

    def emit(self, record):
        sys.stderr.write(f"rich {self.format(record)}\n")


@pytest.mark.parametrize("name", ["", "scquery_ae"])
@pytest.mark.parametrize("order", ["handler first", "verbosity first"])
@pytest.mark.parametrize("kind", ["stderr", "stdout", "rich"])
def test_own_handlers_show_each_line_once(capsys, name, order, kind):
    made = Rich() if kind == "rich" else logging.StreamHandler(getattr(sys, kind))
    if order == "handler first":
        logging.getLogger(name).addHandler(made)
    scq.settings.verbosity = 2
    if order == "verbosity first":
        logging.getLogger(name).addHandler(made)
    logger.info("line")
    out, err = capsys.readouterr()
    shown = {"stderr": ("", "line\n"), "stdout": ("line\n", ""), "rich": ("", "rich line\n")}
    assert (out, err) == shown[kind]
    # One that is not given the line, or is not reached, does not show it.
    made.setLevel(logging.WARNING)
    logger.info("again")
    assert capsys.readouterr() == ("", "again\n")
    if name == "":
        made.setLevel(logging.NOTSET)
        logger.propagate = False
        logger.info("alone")
        assert capsys.readouterr() == ("", "alone\n")


def test_basic_config_sees_each_line_once(capsys):
    # pytest's own handlers would keep it from doing anything.
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s", force=True)
    assert scq.settings.verbosity == 1
    logger.info("before it is set")
    scq.settings.verbosity = 2
    logger.info("line")
    logging.getLogger("another").info("of another package")
    assert capsys.readouterr().err == (
        "INFO scquery_ae before it is set\nINFO scquery_ae line\nINFO another of another package\n"
    )


def test_handlers_that_write_to_files_do_not_hide_lines(capsys, tmp_path):
    stream = io.StringIO()
    kept = [logging.FileHandler(tmp_path / "log.txt"), logging.StreamHandler(stream), logging.NullHandler()]
    for handler in kept:
        logging.getLogger().addHandler(handler)
    scq.settings.verbosity = 2
    logger.info("line")
    kept[0].close()
    assert (tmp_path / "log.txt").read_text() == stream.getvalue() == capsys.readouterr().err == "line\n"


def test_lines_reach_the_handlers_of_the_root(caplog):
    scq.settings.verbosity = 2
    logger.info("line")
    logger.debug("unheard")
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [("scquery_ae", "INFO", "line")]


def test_a_disabled_logger_is_enabled(capsys, monkeypatch):
    # `dictConfig` closes all handlers that it knows, and that of absl, which Keras imports, closes stderr with itself.
    monkeypatch.setattr(logging, "_handlerList", [])
    root = logging.getLogger()
    handlers = list(root.handlers)
    logging.config.dictConfig({"version": 1})
    root.handlers[:] = handlers
    assert logger.disabled
    scq.settings.verbosity = 2
    logger.info("line")
    assert capsys.readouterr().err == "line\n"


def test_verbosity_for_the_time_of_a_command(capsys):
    with shown(logging.INFO):
        assert scq.settings.verbosity == 2
        with shown(logging.INFO):
            logger.info("inside")
        assert len(ours()) == 1
    assert (logger.level, logger.handlers) == (logging.NOTSET, [])
    logger.info("after")
    scq.settings.verbosity = 3
    with shown(logging.INFO):
        logger.debug("as much as before")
    assert scq.settings.verbosity == 3
    assert capsys.readouterr().err == "inside\nas much as before\n"


def test_the_command_line_shows_the_same_lines(capsys, make_adata, reference, tmp_path):
    from click.testing import CliRunner

    from scquery_ae.cli import main

    reference.save(tmp_path / "own.scq")
    asked = ["-v", "relabel", "-v", "--name", "type 0=x", "--in-place", str(tmp_path / "own.scq")]
    done = CliRunner().invoke(main, asked, catch_exceptions=False)
    first, second = done.stderr.splitlines()
    assert first.startswith("renamed 1 types; wrote obs, types")
    assert second.endswith(f"; wrote {tmp_path / 'own.scq'}")
    assert (logger.level, logger.handlers) == (logging.NOTSET, [])


#: What a call says that leaves the cells as they are.
NOTHING = "nothing into the AnnData"

TYPES = ("type 0", "type 1", "type 2")
OBO = "[Term]\nid: T:9\nname: cell\n" + "".join(
    f"\n[Term]\nid: T:{i}\nname: {t}\nis_a: T:9\n" for i, t in enumerate(TYPES)
)


def slots_of(adata):
    """Return what is in every slot, under the name that messages give it."""
    found = {"X": adata.X}
    for room in ("layers", "obs", "obsm", "uns", "var"):
        values = getattr(adata, room)
        found |= {f"{room}[{name!r}]": values[name] for name in list(values)}
    return found


def is_same(first, second):
    if isinstance(first, pd.Series) and isinstance(second, pd.Series):
        return first.equals(second)
    return first is second


class Listener:
    """Makes calls, and holds each to one line on stderr that names all that it wrote."""

    def __init__(self, capsys, caplog):
        self.capsys, self.caplog, self.lines = capsys, caplog, {}

    def __call__(self, call, *arguments, did, wrote, **settings):
        owner = call.__qualname__ if "." in call.__qualname__ else f"{call.__module__.split('.')[1]}.{call.__name__}"
        adata = arguments[0] if arguments and isinstance(arguments[0], AnnData) else None
        before = {} if adata is None else slots_of(adata)
        self.capsys.readouterr()
        self.caplog.clear()
        result = call(*arguments, **settings)
        out, err = self.capsys.readouterr()
        (record,) = [r for r in self.caplog.records if r.name == "scquery_ae"]
        line = record.getMessage()
        assert record.levelno == logging.INFO
        assert (out, err) == ("", f"{line}\n")
        assert "\n" not in line
        said, _, where = line.rpartition("; ")
        assert did in said, line
        assert [slot for slot in wrote if slot not in where] == [], line
        if adata is not None:
            after = slots_of(adata)
            changed = {slot for slot in after if not is_same(before.get(slot), after[slot])}
            # Of the figures that scanpy keeps of each gene, the choice alone is named.
            changed = {slot for slot in changed if not slot.startswith("var[") or slot == "var['highly_variable']"}
            assert changed == {slot for slot in wrote if slot in after and NOTHING not in wrote}, line
            assert bool(changed) is (NOTHING not in where and not owner.startswith("Reference.")), line
        self.lines[owner] = line
        return result


@pytest.mark.filterwarnings("ignore::scquery_ae.ScqueryWarning")
def test_each_call_logs_one_line_with_what_it_wrote(make_adata, tmp_path, capsys, caplog, eager):
    listen = Listener(capsys, caplog)
    scq.settings.verbosity = 2
    adata = make_adata(90, 40, seed=1)
    slots = ["X", "layers['counts']", "var['highly_variable']", "uns['scquery_transform']", "uns['log1p']"]
    listen(scq.pp.normalize, adata, n_top_genes=30, batch_key="batch", did="90 cells: 30 model genes", wrote=slots)
    quick = {"epochs": 1, "progress": False}
    slots = ["history['pretrain'] of the encoder", NOTHING]
    encoder = listen(scq.tl.pretrain, adata, layer_sizes=(8, 4), **quick, did="on 90 cells", wrote=slots)
    slots = ["obs['scquery_split']", "the encoder's layers, classifier, discriminant and history['finetune']"]
    listen(scq.tl.finetune, adata, encoder, label_key="cell_type", **quick, did="on 90 of 90 cells", wrote=slots)
    listen(scq.tl.embed, adata, encoder, did='90 cells from layers["counts"]', wrote=["obsm['X_scquery']"])
    n_held_out = int((adata.obs["scquery_split"] == "validation").sum())
    slots = [f"its calibration (held_out, on {n_held_out} cells)", NOTHING]
    did = "built Reference(90 cells, 3 types by 'cell_type'"
    reference = listen(scq.tl.build_reference, adata, encoder, label_key="cell_type", did=did, wrote=slots)
    path = tmp_path / "pbmc.scq"
    listen(reference.save, path, did="saved Reference(90 cells", wrote=[f"wrote {path}"])

    query = make_adata(20, 40, seed=2)
    matched = "20 cells from X (counts, 30 of 30 model genes found (100%), matched by var_names"
    listen(scq.pp.check, query, path, did=f"checked {matched}", wrote=["a report", NOTHING])
    names = ("label", "confidence", "pvalue", "novelty", "unknown", "prediction_set")
    slots = [*(f"obs['scquery_{name}']" for name in names), "uns['scquery']"]
    slots += ["obsm['X_scquery']", "obsm['scquery_neighbors']", "obsm['scquery_distances']"]
    listen(scq.tl.query, query, path, n_neighbors=15, did=f"queried {matched}", wrote=slots)
    assert f": {query.obs['scquery_unknown'].sum()} unknown; " in listen.lines["tl.query"]

    (tmp_path / "cells.obo").write_text(OBO)
    slots = ["obs['scquery_label_coarse']"]
    terms = {kind: kind for kind in TYPES}
    n_sets = query.obs["scquery_prediction_set"].nunique()
    did = f"named {n_sets} prediction sets"
    listen(scq.tl.coarsen, query, tmp_path / "cells.obo", terms, did=did, wrote=slots)
    slots = ["a new AnnData with X and var['present']", NOTHING]
    listen(scq.pp.align_genes, query, reference, did="aligned 20 cells: 30 of 30 model genes", wrote=slots)
    slots = ["a table", NOTHING]
    table = listen(
        scq.tl.explain, query, reference, "cell3", did="explained cell 'cell3' and its neighbor '", wrote=slots
    )
    assert f"'{table.attrs['neighbor']}' ({table.attrs['label']}) by 30 genes" in listen.lines["tl.explain"]
    arguments = {"label_key": "cell_type", "n_folds": 2, "progress": False}
    table = listen(scq.tl.audit, adata, encoder, **arguments, did="audited 90 cells: ", wrote=slots)
    assert f": {table['is_label_issue'].sum()} label issues; " in listen.lines["tl.audit"]

    slots = ["obs, types, embedding, calibration and provenance['steps'] of the reference, now 110 cells of 4 types"]
    query.obs_names = [f"new{i}" for i in range(20)]
    query.obs["cell_type"] = ["type 0"] * 10 + ["new"] * 10
    listen(reference.add, query, did="added 20 cells", wrote=slots)
    other = scq.Reference.load(path)
    other.obs.index = [f"other{i}" for i in range(90)]
    slots = [slots[0].replace("110", "200")]
    listen(reference.merge, other, did="merged in 90 cells", wrote=slots)
    slots = [slots[0].replace("200", "110")]
    listen(reference.remove, other.obs.index, did="removed 90 cells", wrote=slots)
    slots = [slots[0].replace("4 types", "3 types")]
    listen(reference.relabel, {"new": "type 1"}, did="renamed 1 types", wrote=slots)
    every = {f"{room}.{name}" for room in ("pp", "tl") for name in getattr(scq, room).__all__ if name.islower()}
    every |= {f"Reference.{name}" for name in ("add", "merge", "relabel", "remove", "save")}
    assert set(listen.lines) == every


def test_debug_messages_show_intermediate_steps(make_adata, saved_reference, capsys):
    for verbosity, more in ((2, []), (3, ["all 40 genes are model genes: there are no more than n_top_genes"])):
        scq.settings.verbosity = verbosity
        adata = make_adata(30, 40, fmt="dense")
        adata.X[0] = 0
        scq.pp.normalize(adata, n_top_genes=50, drop_empty=True)
        lines = capsys.readouterr().err.splitlines()
        assert lines[:-1] == more
        assert lines[-1].startswith("normalised 29 cells and dropped 1 without counts: 40 model genes; wrote X, ")
    scq.Reference.load(saved_reference)
    assert capsys.readouterr().err.startswith("opened Reference(240 cells, 3 types by 'cell_type'")


def test_log_lines_name_copies_and_files(make_adata, tmp_path, capsys):
    adata = make_adata(30, 40)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    scq.settings.verbosity = 2
    scq.pp.normalize(adata, copy=True)
    assert capsys.readouterr().err.endswith("uns['log1p'] of the copy\n")
    scq.pp.normalize(scq.read(tmp_path / "cells.h5ad", lazy=True))
    assert capsys.readouterr().err == (
        "read 30 cells and left X as it is: 40 model genes; wrote var['highly_variable'], uns['scquery_transform']\n"
    )
