"""``pl.check``: ratios to the reference, expected F1 and problems."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex

import scquery_ae as scq
from scquery_ae import ArgumentError
from scquery_ae.pl._palette import OKABE_ITO
from scquery_ae.reference import ExpectedAccuracy


@pytest.fixture
def report():
    return scq.pp.CheckReport(
        n_obs=1234,
        genes={"n_genes": 2000, "n_found": 500, "key": "var_names", "guessed": False, "missing": [], "ambiguous": []},
        important_missing=tuple(f"GENE{i}" for i in range(20)),
        source="X",
        input_state="counts",
        reason="whole numbers",
        counts=300.0,
        reference_counts=1200.0,
        detected=120.0,
        reference_detected=160.0,
        species="human",
        reference_species="human",
        empty=(),
        expected_accuracy=ExpectedAccuracy(
            {"B": 0.9, "T": 0.95, "NK": 0.6}, {"B": 10, "T": 1200, "NK": 3}, 0.93, 0.8167
        ),
        problems=("1500 model genes are missing", "cells are 4.0 times shallower than the reference's " + "word " * 30),
    )


def bars(ax):
    return [bar.get_width() for box in ax.containers for bar in box]


def test_genes_and_depth_are_relative_to_the_reference(report):
    ratios, _ = scq.pl.check(report, show=False).axes
    np.testing.assert_allclose(bars(ratios), [500 / 2000, 300 / 1200, 120 / 160])
    assert [text.get_text() for text in ratios.texts] == [
        "500 of 2,000",
        "300 (reference 1,200)",
        "120 (reference 160)",
    ]


def test_types_are_ordered_by_f1_and_weak_ones_are_orange(report):
    _, f1 = scq.pl.check(report, show=False).axes
    assert [text.get_text() for text in f1.get_yticklabels()] == ["T (1,200)", "B (10)", "NK (3)"]
    drawn = f1.containers[1]
    np.testing.assert_allclose([bar.get_width() for bar in drawn], [0.95, 0.9, 0.6])
    assert [to_hex(bar.get_facecolor()) for bar in drawn] == [OKABE_ITO[0], OKABE_ITO[0], OKABE_ITO[1]]
    assert [text.get_text() for text in f1.texts] == ["0.95", "0.90", "0.60"]
    assert f1.get_title(loc="left") == "expected: macro-F1 0.82 (dashed line), accuracy 0.93"
    assert f1.lines[0].get_xdata()[0] == pytest.approx(0.8167)
    bottom, top = f1.get_ylim()
    assert bottom > top


def test_problems_and_missing_genes_are_written_in_lines_that_fit(report):
    figure = scq.pl.check(report, show=False)
    assert figure.get_suptitle() == "1,234 query cells: 2 problems found"
    notes = figure.axes[0].get_title(loc="left").split("\n")
    assert notes[0] == "! 1500 model genes are missing"
    assert notes[-1].endswith("...")
    assert " ".join(line.strip() for line in notes).count("GENE") == 8
    assert max(map(len, notes)) <= 78
    figure.canvas.draw()
    assert figure.axes[0]._left_title.get_window_extent().x1 <= figure.bbox.x1


def test_messages_are_plain_text(report):
    problems = ("pass `--genes-of` these cells, or call `adata.var_names_make_unique()`",)
    notes = scq.pl.check(replace(report, problems=problems), show=False).axes[0].get_title(loc="left")
    assert notes.startswith("! pass --genes-of these cells, or call adata.var_names_make_unique()\n")


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.66, 0.7, 0.74, 0.76, 0.99, 1.2])
def test_the_line_of_the_reference_crosses_no_text(report, fraction):
    ratios = scq.pl.check(replace(report, counts=1200 * fraction, detected=160 * fraction), show=False).axes[0]
    ratios.figure.canvas.draw()
    (line,) = (line for line in ratios.lines if line.get_linestyle() == "--")
    bars_ = [bar.get_window_extent() for box in ratios.containers for bar in box]
    x = ratios.transData.transform((line.get_xdata()[0], 0))[0]
    for text, bar in zip(ratios.texts, bars_, strict=True):
        box = text.get_window_extent()
        # Bars are drawn over the line.
        assert box.x1 < x or box.x0 > x or bar.x1 > max(x, box.x1)
        assert box.x1 <= ratios.figure.bbox.x1


def test_a_report_without_problems(report):
    figure = scq.pl.check(replace(report, problems=(), important_missing=(), n_obs=1), show=False)
    assert figure.get_suptitle() == "1 query cell: no problems found"
    assert figure.axes[0].get_title(loc="left") == ""


def test_a_bar_beyond_the_axis_ends_in_an_arrow(report):
    ratios = scq.pl.check(replace(report, counts=12_000.0), show=False).axes[0]
    assert bars(ratios)[1] == ratios.get_xlim()[1] == 1.5
    assert [line.get_marker() for line in ratios.lines if line.get_marker() == ">"] == [">"]
    assert ratios.texts[1].get_text() == "12,000 (reference 1,200)"


def test_the_depth_of_values_other_than_counts_is_not_compared(report):
    ratios = scq.pl.check(replace(report, input_state="log1p"), show=False).axes[0]
    assert bars(ratios)[1] == 0
    assert ratios.texts[1].get_text() == "not comparable: values are log1p"


def test_without_an_expected_accuracy_there_is_one_panel(report):
    assert len(scq.pl.check(replace(report, expected_accuracy=None), show=False).axes) == 1


@pytest.mark.slow
def test_sixty_types_fit(report):
    names = [f"a cell type with a rather long name, subtype {i}" for i in range(60)]
    values = dict(zip(names, np.linspace(0.3, 1, 60), strict=True))
    many = replace(report, expected_accuracy=ExpectedAccuracy(values, dict.fromkeys(names, 7), 0.9, 0.65))
    figure = scq.pl.check(many, show=False)
    figure.canvas.draw()
    ax = figure.axes[1]
    labels = [text.get_window_extent() for text in ax.get_yticklabels()]
    assert min(box.x0 for box in labels) >= 0
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(labels))
    assert ax.get_window_extent().width > 300


def test_the_report_of_pp_check(query_adata, reference):
    report = scq.pp.check(query_adata, reference)
    ratios, f1 = scq.pl.check(report, show=False).axes
    assert bars(ratios)[0] == report.genes["n_found"] / report.genes["n_genes"]
    assert len(f1.get_yticks()) == len(report.expected_accuracy.f1)


@pytest.mark.parametrize("value", [None, {"genes": 1}, "report"])
def test_only_a_report_is_accepted(value):
    with pytest.raises(ArgumentError, match=r"`pl.check` needs the report of `scq.pp.check\(adata, reference\)`"):
        scq.pl.check(value, show=False)
