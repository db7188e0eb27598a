"""``pl.check``: genes, depth and expected accuracy of a query, from the report of ``pp.check``."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError
from scquery_ae.pl._palette import OKABE_ITO
from scquery_ae.pl._panels import panels
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scquery_ae.pp import CheckReport

_GOOD, _WEAK = OKABE_ITO[:2]
#: A lower F1 is highlighted, as ``pp.check`` does.
WEAK_F1 = 0.8
#: Longest bar, relative to the reference.
_LONGEST = 1.5
#: Characters in a line of notes, and missing genes that are named.
_LINE, _NAMED = 78, 8


@shared_parameters
def check(
    report: CheckReport,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | bool | PathLike[str] | None = None,
) -> Figure | None:
    """Plot genes and depth of a query relative to the reference, and the expected F1 of each type.

    The problems of the report are written above the panels. The dashed lines are the reference and the macro-F1. Types
    with an expected F1 below 0.8 are orange.

    Parameters
    ----------
    report
        From :func:`scquery_ae.pp.check`.
    ax
        Axes whose position the panels take. None makes a figure.
    %(show)s
    %(save)s

    Returns
    -------
    The figure, or None if it was shown. It has one panel if the report has no expected accuracy.

    Raises
    ------
    ArgumentError
        If `report` is not from ``pp.check``.
    """
    path = check_save(save, "check")
    check_show(show)
    check_ax(ax)
    if not all(hasattr(report, name) for name in ("genes", "counts", "detected", "expected_accuracy", "problems")):
        msg = (
            "`pl.check` needs the report of `scq.pp.check(adata, reference)`. "
            f"Received {type(report).__name__}; make a report and pass it."
        )
        raise ArgumentError(msg)
    f1 = {} if report.expected_accuracy is None else report.expected_accuracy.f1
    notes = _notes(report)
    scale = font_scale()
    longest = max([24, *map(len, f1)])
    size = 4.8 + 0.075 * min(longest + 8, 70), 1.6 + 0.17 * len(notes) + (0.24 * max(len(f1), 3) + 0.9) * bool(f1)
    with style():
        n_panels = 1 + bool(f1)
        figure, grid = panels(
            ax,
            n_panels,
            1,
            figsize=(size[0] * scale, (size[1] + 0.6) * scale),
            height_ratios=[3, max(len(f1), 3)][:n_panels],
        )
        _draw_ratios(grid[0, 0], report)
        n = len(report.problems)
        verdict = "no problems found" if not n else "1 problem found" if n == 1 else f"{n} problems found"
        verdict = f"{report.n_obs:,} query {'cell' if report.n_obs == 1 else 'cells'}: {verdict}"
        if ax is None:
            figure.suptitle(verdict)
        else:
            notes.insert(0, verdict)
        if notes:
            grid[0, 0].set_title("\n".join(notes), loc="left", fontsize="small")
        if f1:
            _draw_f1(grid[1, 0], report.expected_accuracy)
        done = finish(figure, show=show, save=path, owned=ax is None)
    return None if done else figure


def _notes(report: CheckReport) -> list[str]:
    """Return the problems and the most important missing genes as lines."""
    notes = [f"! {problem}" for problem in report.problems]
    if report.important_missing:
        names = ", ".join(report.important_missing[:_NAMED])
        more = ", ..." if len(report.important_missing) > _NAMED else ""
        notes.append(f"most important missing genes: {names}{more}")
    # Messages mark code with backticks, as in Markdown.
    plain = [note.replace("`", "") for note in notes]
    return [line for note in plain for line in wrap(note, _LINE, subsequent_indent="   ")]


def _draw_ratios(ax: Axes, report: CheckReport) -> None:
    """Draw genes found, counts and detected genes relative to the reference."""
    n_found, n_genes = report.genes["n_found"], report.genes["n_genes"]
    rows = [("model genes found", n_found, n_genes, f"{n_found:,} of {n_genes:,}")]
    for name, here, there in (
        ("counts per cell", report.counts, report.reference_counts),
        ("genes detected per cell", report.detected, report.reference_detected),
    ):
        if name.startswith("counts") and report.input_state != "counts":
            rows.append((name, 0, 0, f"not comparable: values are {report.input_state}"))
        else:
            rows.append((name, here, there, f"{here:,.0f} (reference {there:,.0f})"))
    for row, (_, here, there, text) in enumerate(rows):
        ratio = here / there if there else 0.0
        length = min(ratio, _LONGEST)
        ax.barh(row, length, height=0.65, color=_GOOD)
        if ratio > _LONGEST:
            # The bar is cut off.
            ax.plot(_LONGEST, row, marker=">", color=_GOOD, markersize=9, clip_on=False)
        inside = length > _LONGEST / 2
        # Text beside a bar is to the right of the line of the reference, which would cross it.
        ax.annotate(
            text,
            (length if inside or not ratio else 1, row),
            (-5 if inside else 5, 0),
            textcoords="offset points",
            va="center",
            ha="right" if inside else "left",
            color="white" if inside else "black",
            fontsize="small",
        )
    ax.axvline(1, color="black", linewidth=0.8, linestyle="--", zorder=0)
    ax.set(yticks=range(len(rows)), yticklabels=[row[0] for row in rows], ylim=(len(rows) - 0.5, -0.5))
    ax.set(xlim=(0, _LONGEST), xlabel="relative to the reference (dashed line), medians over cells")
    ax.tick_params(axis="y", length=0)


def _draw_f1(ax: Axes, expected_accuracy: Any) -> None:
    types = sorted(expected_accuracy.f1, key=lambda kind: (-expected_accuracy.f1[kind], kind))
    values = np.array([expected_accuracy.f1[kind] for kind in types])
    rows = np.arange(len(types))
    ax.barh(rows, np.ones(len(types)), height=0.75, color="0.95")
    ax.barh(rows, values, height=0.75, color=np.where(values < WEAK_F1, _WEAK, _GOOD))
    for row, value in zip(rows, values, strict=True):
        ax.annotate(f"{value:.2f}", (1, row), (4, 0), textcoords="offset points", va="center", fontsize="small")
    macro = expected_accuracy.macro_f1
    ax.axvline(macro, color="black", linewidth=0.8, linestyle="--")
    ax.set_title(
        f"expected: macro-F1 {macro:.2f} (dashed line), accuracy {expected_accuracy.accuracy:.2f}",
        loc="left",
        fontsize="medium",
    )
    ax.set(yticks=rows, yticklabels=[f"{kind} ({expected_accuracy.n_cells[kind]:,})" for kind in types])
    ax.set(xlim=(0, 1), ylim=(len(types) - 0.5, -0.5), xlabel="expected F1 (number of held-out cells in brackets)")
    ax.tick_params(axis="y", length=0)
