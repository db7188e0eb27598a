"""Arguments and behaviour that all plots share: axes, showing, saving, closing."""

import inspect

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import scquery_ae as scq
from scquery_ae import ArgumentError

PLOTS = sorted(scq.pl.__all__)
#: Plots of several panels return the figure.
FIGURES = {"explain", "history", "check", "query"}


@pytest.fixture
def draw(queried, make_adata, make_encoder, reference, query_adata):
    """``draw(name, **kwargs)``: call a plot with the data that it needs."""
    report = scq.pp.check(query_adata, reference, simulate=False)
    table = pd.DataFrame({"value": 0.0, "similarity": [0.3, 0.1], "distance": [0.1, 0.2]}, index=["G1", "G2"])
    table.attrs = {"cell": "mine", "neighbor": "theirs", "label": "beta", "similarity": 0.876}
    encoder = make_encoder(make_adata())
    encoder.history.update(pretrain=[{"loss": [2.0, 1.0], "val_loss": [2.0, 1.5]}] * 2)
    calls = {
        "composition": (queried, "donor"),
        "confusion": (queried, "truth"),
        "embedding": (queried,),
        "explain": (table,),
        "history": (encoder,),
        "neighbors_by_batch": (queried, queried),
        "on_reference": (queried, queried),
        "check": (report,),
        "query": (queried,),
        "reliability": (queried, "truth"),
        "risk_coverage": (queried, "truth"),
    }
    extra = {"embedding": {"color": "truth"}, "neighbors_by_batch": {"batch_key": "donor"}}
    return lambda name, **kwargs: getattr(scq.pl, name)(*calls[name], **extra.get(name, {}), **kwargs)


@pytest.mark.parametrize("name", PLOTS)
def test_all_take_axes_show_and_save(name):
    parameters = inspect.signature(getattr(scq.pl, name)).parameters
    assert list(parameters)[-3:] == ["ax", "show", "save"]
    assert all(parameters[word].default is None for word in ("ax", "show", "save"))


@pytest.mark.parametrize("layout", ["constrained", "none"])
@pytest.mark.parametrize("name", PLOTS)
def test_given_axes(draw, name, layout):
    figure, (other, ax) = plt.subplots(1, 2, figsize=(12, 5), layout=layout)
    size = figure.get_size_inches().copy()
    received = draw(name, ax=ax)
    assert received is (figure if name in FIGURES else ax)
    assert plt.get_fignums() == [figure.number]
    np.testing.assert_array_equal(figure.get_size_inches(), size)
    assert not other.has_data()
    figure.canvas.draw()
    left = other.get_window_extent().x1
    drawn = [panel for panel in figure.axes if panel not in (other, ax)] if name in FIGURES else [ax]
    assert drawn
    assert all(panel.has_data() and panel.get_window_extent().x0 > left for panel in drawn)


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_given_axes_outside_a_grid(draw, name):
    figure = plt.figure(figsize=(10, 6))
    ax = figure.add_axes((0.2, 0.3, 0.6, 0.5))
    draw(name, ax=ax, show=False)
    for panel in figure.axes[1:]:
        box = panel.get_position()
        assert 0.2 - 1e-6 <= box.x0 < box.x1 <= 0.8 + 1e-6
        assert 0.3 - 1e-6 <= box.y0 < box.y1 <= 0.8 + 1e-6


@pytest.mark.parametrize("name", ["explain", "query"])
def test_the_heading_in_given_axes_overlaps_no_title(draw, name):
    figure, ax = plt.subplots(figsize=(9, 5), layout="constrained")
    draw(name, ax=ax, show=False)
    figure.canvas.draw()
    first = figure.axes[1]
    heading = first.texts[-1].get_window_extent()
    assert heading.y1 <= figure.bbox.y1
    legend = first.get_legend()
    below = first.title if legend is None else legend
    lines = below.get_window_extent()
    # The title's own first line is empty.
    top = lines.y1 if legend is not None else (lines.y0 + lines.y1) / 2
    assert heading.y0 >= top - 1


@pytest.mark.parametrize("name", PLOTS)
def test_a_figure_is_shown_or_saved_and_closed_and_settings_are_restored(draw, name, monkeypatch, tmp_path):
    settings = dict(mpl.rcParams)
    assert isinstance(draw(name, show=False, save=tmp_path / "first.svg"), Figure if name in FIGURES else mpl.axes.Axes)
    assert plt.get_fignums() == []
    draw(name, show=False, save=str(tmp_path / "second.svg"))
    first, second = ((tmp_path / f"{which}.svg").read_bytes() for which in ("first", "second"))
    assert len(first) == len(second) > 5000
    calls = []
    monkeypatch.setattr(plt, "show", lambda: calls.append("show"))
    assert draw(name, show=True) is None
    assert calls == ["show"]
    assert dict(mpl.rcParams) == settings


@pytest.mark.parametrize("name", PLOTS)
def test_wrong_ax_show_and_save_are_refused_before_drawing(draw, name):
    with pytest.raises(ArgumentError, match=r"`ax` must be the axes to draw on, or None. Received Figure"):
        draw(name, ax=Figure())
    with pytest.raises(ArgumentError, match=r"`show` must be True or False. Received 'yes'"):
        draw(name, show="yes")
    with pytest.raises(ArgumentError, match=r"`save` must be a path such as 'figure.pdf', True, or None. Received 3"):
        draw(name, save=3)
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", ["confusion", "query"])
def test_save_true_saves_in_scanpys_folder(draw, name, scanpy_settings, tmp_path):
    scanpy_settings(figdir=tmp_path / "figures", file_format_figs="png")
    draw(name, show=False, save=True)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == [f"scquery_{name}.png"]
    draw(name, show=False, save=False)
    assert len(list((tmp_path / "figures").iterdir())) == 1


def test_interactive_mode_stays_on_after_the_first_figure():
    import matplotlib as mpl

    from scquery_ae.pl._style import style

    before = mpl.is_interactive()
    try:
        mpl.interactive(False)
        with style():
            mpl.interactive(True)
        assert mpl.is_interactive()
        assert mpl.rcParams["axes.spines.top"]
    finally:
        mpl.interactive(before)
