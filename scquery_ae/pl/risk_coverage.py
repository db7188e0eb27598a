"""``pl.risk_coverage``: how many errors are left when the least certain cells are not labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter

from scquery_ae._checks import check_slots
from scquery_ae.pl._answers import Judged, judge
from scquery_ae.pl._palette import OKABE_ITO
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData
    from matplotlib.axes import Axes

_BLUE, _ORANGE = OKABE_ITO[:2]
#: Points of a curve; more would not be seen.
_MOST_POINTS = 2000


def risk_coverage(
    adata: AnnData,
    truth_key: str,
    *,
    key_added: str = "scquery",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | bool | PathLike[str] | None = None,
) -> Axes | None:
    """Plot the share of wrong labels among the most certain cells against how many these are.

    One curve ranks cells by confidence, the other by p-value. The legend has the area under each, which is the mean
    risk over all coverages. The dashed line is the best that any ranking could do; a ranking that knows nothing stays
    at the right end's height. The diamond is where ``scquery_unknown`` puts the border.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`. Those without a label or a truth are left out.
    truth_key
        Column of ``obs`` with the true types, in the reference's names; other names count as wrong, so cells of types
        that the reference lacks should come last.
    key_added
        Slot prefix given to ``tl.query``.
    ax
        Axes to draw on; None for a new figure.
    show
        Show the figure; None where matplotlib can (a window or a notebook) and `ax` is None.
    save
        Path to save to; the ending gives the format. True for a file in ``scanpy.settings.figdir``.

    Returns
    -------
    The axes, or None if the figure was shown.

    Raises
    ------
    MissingKeyError
        If `truth_key` or a column of ``tl.query`` is not in ``obs``.
    ArgumentError
        If no cell can be judged, or truth and labels share no name.

    Notes
    -----
    Cells of equal rank enter together: their errors are spread evenly over them, as the mean over all orders has it.

    References
    ----------
    El-Yaniv & Wiener, Journal of Machine Learning Research 11, 1605 (2010); Geifman & El-Yaniv, NeurIPS (2017).
    """
    path = check_save(save, "risk_coverage")
    check_show(show)
    check_ax(ax)
    cells = judge(adata, truth_key, check_slots(key_added), "pl.risk_coverage")
    with style():
        owned = ax is None
        if ax is None:
            _, ax = plt.subplots(figsize=(5 * font_scale(), 4.2 * font_scale()), layout="constrained")
        _draw(ax, cells)
        done = finish(ax.figure.canvas.figure, show=show, save=path, owned=owned)
    return None if done else ax


def _draw(ax: Axes, cells: Judged) -> None:
    wrong = ~cells.correct
    n = len(wrong)
    coverage = np.arange(1, n + 1) / n
    drawn = np.unique(np.linspace(0, n - 1, min(n, _MOST_POINTS)).astype(int))
    curves = (
        ("by confidence", cells.confidence, {"color": _BLUE}),
        ("by p-value", cells.pvalue, {"color": _ORANGE}),
        ("best possible", -wrong.astype(float), {"color": "0.5", "linestyle": "--", "linewidth": 1}),
    )
    top = wrong.mean()
    for name, score, look in curves:
        risk = _selective_risk(score, wrong)
        top = max(top, risk[n // 20 :].max())
        ax.plot(coverage[drawn], risk[drawn], label=f"{name} (area {risk.mean():.3f})", **look)
    known = ~cells.unknown
    if known.any():
        ax.plot(
            known.mean(),
            wrong[known].mean(),
            color="black",
            marker="D",
            linestyle="none",
            label=f"known cells ({wrong[known].mean():.1%} wrong)",
            zorder=4,
            clip_on=False,
        )
    # What the first few cells do may leave the axes.
    ax.set(xlim=(0, 1), ylim=(0, min(1.0, 1.1 * top) if top else 0.05))
    ax.set(xlabel="coverage: share of cells labelled", ylabel="risk: share of labels that are wrong")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    ax.grid(color="0.92")
    ax.legend(fontsize="small", loc="upper left")


def _selective_risk(score: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Return the share of errors among the first 1 to n cells, greatest score first, ``(n,)``."""
    _, group, sizes = np.unique(-score, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    errors = np.cumsum(np.bincount(group, weights=wrong))
    ranks = np.arange(1, len(score) + 1)
    return np.asarray(np.interp(ranks, np.r_[0, ends], np.r_[0, errors]) / ranks)
