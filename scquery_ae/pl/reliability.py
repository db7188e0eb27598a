"""``pl.reliability``: fraction of correct labels against their confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt
from scipy.stats import binomtest

from scquery_ae._checks import check_integer, check_slots
from scquery_ae._docs import shared_parameters
from scquery_ae.pl._palette import OKABE_ITO
from scquery_ae.pl._results import Comparison, compare_labels
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style
from scquery_ae.stats import expected_calibration_error

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData
    from matplotlib.axes import Axes

_BLUE = OKABE_ITO[0]
#: With more bins, the counts above the bars would touch.
_MOST_WRITTEN = 10
#: Bins of fewer cells are drawn as open points and not joined: their fractions are too uncertain to show a trend.
_FEWEST_JOINED = 10


@shared_parameters
def reliability(
    adata: AnnData,
    truth_key: str,
    *,
    n_bins: int = 10,
    key_added: str = "scquery",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | bool | PathLike[str] | None = None,
) -> Axes | None:
    """Plot the fraction of correct labels against their confidence.

    Points below the diagonal are overconfident. Error bars are 95 % Wilson intervals, and the histogram counts the
    cells of each bin. Bins of fewer than 10 cells have open points, which no line joins to the others. The title has
    the expected calibration error over the same bins.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`. Cells without a label or a known type are left out; cells called
        unknown are included.
    truth_key
        Column of ``obs`` with the known types, in the reference's names. Other names count as wrong.
    n_bins
        Number of bins of equal width from 0 to 1.
    %(key_added)s
    ax
        Axes to draw on, with the histogram above them. None makes a figure.
    %(show)s
    %(save)s

    Returns
    -------
    The axes, or None if the figure was shown.

    Raises
    ------
    MissingKeyError
        If `truth_key` or a column of ``tl.query`` is not in ``obs``.
    ArgumentError
        If no cell has a label and a known type, their names do not overlap, or an argument is out of its range.

    References
    ----------
    DeGroot & Fienberg, The Statistician 32, 12 (1983); Guo et al., ICML (2017); Wilson, Journal of the American
    Statistical Association 22, 209 (1927).
    """
    path = check_save(save, "reliability")
    check_show(show)
    check_ax(ax)
    check_integer("n_bins", n_bins)
    cells = compare_labels(adata, truth_key, check_slots(key_added), "pl.reliability")
    with style():
        owned = ax is None
        if ax is None:
            _, ax = plt.subplots(figsize=(4.4 * font_scale(), 5.2 * font_scale()), layout="constrained")
        _draw(ax, cells, n_bins)
        done = finish(ax.figure.canvas.figure, show=show, save=path, owned=owned)
    return None if done else ax


def _draw(ax: Axes, cells: Comparison, n_bins: int) -> None:
    # The same bins as in `expected_calibration_error`.
    bins = np.minimum((cells.confidence * n_bins).astype(int), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    filled = counts > 0
    correct = np.bincount(bins, weights=cells.correct, minlength=n_bins)[filled].astype(int)
    confidence = np.bincount(bins, weights=cells.confidence, minlength=n_bins)[filled] / counts[filled]
    accuracy = correct / counts[filled]
    intervals = [
        binomtest(int(k), int(n)).proportion_ci(0.95, "wilson") for k, n in zip(correct, counts[filled], strict=True)
    ]
    reach = np.abs(np.array([[ci.low, ci.high] for ci in intervals]).T - accuracy)

    ax.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, zorder=1, label="calibrated")
    ax.errorbar(
        confidence,
        accuracy,
        yerr=reach,
        color=_BLUE,
        marker="o",
        markersize=5,
        markerfacecolor="white",
        capsize=2,
        linestyle="none",
        elinewidth=1.2,
        zorder=3,
        clip_on=False,
    )
    many = counts[filled] >= _FEWEST_JOINED
    joined = np.where(many, accuracy, np.nan)
    ax.plot(confidence, joined, color=_BLUE, marker="o", markersize=5, linewidth=1.2, zorder=4, clip_on=False)
    xlabel = "confidence of the label"
    if not many.all():
        xlabel += f"\n(open points: fewer than {_FEWEST_JOINED} cells)"
    ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel=xlabel, ylabel="fraction of correct labels")
    ax.grid(color="0.92")
    above = _draw_histogram(ax, counts)
    error = expected_calibration_error(cells.confidence, cells.correct, n_bins)
    n = len(bins)
    # In the title, because any place inside the axes can hold a point.
    above.set_title(
        f"{n:,} {'cell' if n == 1 else 'cells'}, calibration error {error:.3f}\n"
        f"accuracy {cells.correct.mean():.3f}, mean confidence {cells.confidence.mean():.3f}",
        loc="left",
        fontsize="small",
    )


def _draw_histogram(ax: Axes, counts: np.ndarray) -> Axes:
    """Draw the number of cells of each bin above the axes."""
    n_bins = len(counts)
    above = ax.inset_axes((0, 1.03, 1, 0.2), sharex=ax)
    edges = np.linspace(0, 1, n_bins + 1)
    above.bar(edges[:-1], counts, width=1 / n_bins, align="edge", color=_BLUE, alpha=0.4, edgecolor="white")
    above.set(yticks=[0, counts.max()], yticklabels=["0", f"{counts.max():,}"], ylabel="cells")
    above.set(ylim=(0, counts.max() * 1.3))
    if n_bins <= _MOST_WRITTEN:
        above.set_yticks([])
        above.spines["left"].set_visible(False)
        for bin_ in np.flatnonzero(counts):
            above.annotate(
                f"{counts[bin_]:,}",
                (edges[bin_] + 0.5 / n_bins, counts[bin_]),
                (0, 1),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize="x-small",
            )
    above.tick_params(axis="x", labelbottom=False, length=0)
    return above
