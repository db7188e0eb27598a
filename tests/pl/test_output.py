"""Showing, saving and closing a finished figure."""

import subprocess
import sys

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from scquery_ae import ArgumentError
from scquery_ae.pl import _style


@pytest.fixture
def shows(monkeypatch):
    """Calls of ``plt.show``."""
    calls = []
    monkeypatch.setattr(plt, "show", lambda: calls.append("show"))
    return calls


@pytest.mark.parametrize(("backend", "expected"), [("agg", False), ("pdf", False), ("QtAgg", True), ("inline", True)])
def test_by_default_a_figure_is_shown_if_the_backend_can_show_it(monkeypatch, shows, backend, expected):
    monkeypatch.setattr(mpl, "get_backend", lambda: backend)
    assert _style.finish(plt.figure(), show=None, save=None) is expected
    assert len(shows) == expected


def test_given_axes_are_shown_only_on_request(monkeypatch, shows):
    monkeypatch.setattr(mpl, "get_backend", lambda: "QtAgg")
    assert _style.finish(plt.figure(), show=None, save=None, owned=False) is False
    assert shows == []
    assert _style.finish(plt.figure(), show=True, save=None, owned=False) is True
    assert shows == ["show"]


def test_scanpys_autoshow_is_respected(monkeypatch, scanpy_settings, shows):
    monkeypatch.setattr(mpl, "get_backend", lambda: "QtAgg")
    scanpy_settings(autoshow=False)
    assert _style.finish(plt.figure(), show=None, save=None) is False
    assert _style.finish(plt.figure(), show=True, save=None) is True
    scanpy_settings(autoshow=True)
    assert _style.finish(plt.figure(), show=None, save=None) is True
    assert shows == ["show"] * 2


def test_only_saved_figures_that_are_not_shown_are_closed(tmp_path, shows):
    kept, saved, shown, foreign = (plt.figure() for _ in range(4))
    _style.finish(kept, show=False, save=None)
    _style.finish(saved, show=False, save=tmp_path / "a.png")
    _style.finish(shown, show=True, save=tmp_path / "b.png")
    _style.finish(foreign, show=False, save=tmp_path / "c.png", owned=False)
    assert plt.get_fignums() == [kept.number, shown.number, foreign.number]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png"]


def test_the_resolution_is_300_dpi_unless_it_is_set(tmp_path):
    figure = plt.figure(figsize=(2, 1))
    figure.text(0, 0, "x")
    figure.text(1, 1, "x")
    for dpi, name in (("figure", "a.png"), (50, "b.png")):
        with mpl.rc_context({"savefig.dpi": dpi}):
            _style.finish(figure, show=False, save=tmp_path / name, owned=False)
    sizes = [plt.imread(tmp_path / name).shape[1] for name in ("a.png", "b.png")]
    assert sizes[0] > 600
    assert sizes[0] / sizes[1] == pytest.approx(6, rel=0.03)


@pytest.mark.parametrize("save", [3, 1.0, ["a.png"]])
def test_save_must_be_a_path(save):
    with pytest.raises(ArgumentError, match=r"`save` must be a path such as 'figure.pdf', True, or None\. Received"):
        _style.check_save(save)


def test_save_must_be_in_an_existing_folder(tmp_path):
    with pytest.raises(
        ArgumentError, match=r"`save` must name a file in an existing folder\..*; make the folder first"
    ):
        _style.check_save(tmp_path / "none" / "a.pdf")
    with pytest.raises(ArgumentError, match=r"`save` must name a file in an existing folder"):
        _style.check_save(tmp_path)


def test_a_link_must_lead_to_a_file_in_an_existing_folder(tmp_path):
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "none" / "a.png")
    with pytest.raises(
        ArgumentError, match=r"in an existing folder\. Received '.*link\.png', a link to '.*none/a\.png'"
    ):
        _style.check_save(link)
    (tmp_path / "none").mkdir()
    _style.finish(plt.figure(), show=False, save=_style.check_save(link))
    assert (tmp_path / "none" / "a.png").is_file()


def test_the_home_folder_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _style.check_save("~/a.pdf") == tmp_path / "a.pdf"
    assert _style.check_save(None) is None


def test_settings_are_restored():
    before = dict(mpl.rcParams)
    with _style.style():
        assert mpl.rcParams["pdf.fonttype"] == 42
    assert dict(mpl.rcParams) == before


@pytest.mark.slow
def test_plots_load_neither_keras_nor_scanpy():
    code = (
        "import sys, scquery_ae.pl; print([m for m in ('keras', 'tensorflow', 'scanpy', 'faiss') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
