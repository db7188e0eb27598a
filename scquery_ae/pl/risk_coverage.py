"""``pl.risk_coverage``: fraction of wrong labels against the fraction of cells that keep their label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter

from scquery_ae._checks import check_slots
from scquery_ae._docs import shared_parameters
from scquery_ae.pl._palette import OKABE_ITO
from scquery_ae.pl._results import Comparison, compare_labels
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData
    from matplotlib.axes import Axes

_BLUE, _ORANGE = OKABE_ITO[:2]
#: Points of a curve; more would not be visible.
_MOST_POINTS = 2000


@shared_parameters
def risk_coverage(
    adata: AnnData,
    truth_key: str,
    *,
    key_added: str = "scquery",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | bool | PathLike[str] | None = None,
) -> Axes | None:
    """Plot the fraction of wrong labels (risk) against the fraction of cells that keep their label (coverage).

    One curve ranks cells by confidence, the other by p-value. The legend has the area under each curve, which is the
    mean risk over all coverages. The dashed line is the best possible ranking; a random ranking has the risk of full
    coverage everywhere. The diamond marks the cells that are not called unknown.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`. Cells without a label or a known type are left out.
    truth_key
        Column of ``obs`` with the known types, in the reference's names. Other names count as wrong, so a good
        ranking puts cells of types that the reference lacks last.
    %(key_added)s
    %(ax)s
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
        If no cell has a label and a known type, or their names do not overlap.

    Notes
    -----
    The errors of cells with equal rank are spread evenly over them, which is the mean over all their orders.

    References
    ----------
    El-Yaniv & Wiener, Journal of Machine Learning Research 11, 1605 (2010); Geifman & El-Yaniv, NeurIPS (2017).
    """
    path = check_save(save, "risk_coverage")
    check_show(show)
    check_ax(ax)
    cells = compare_labels(adata, truth_key, check_slots(key_added), "pl.risk_coverage")
    with style():
        owned = ax is None
        if ax is None:
            _, ax = plt.subplots(figsize=(5 * font_scale(), 4.2 * font_scale()), layout="constrained")
        _draw(ax, cells)
        done = finish(ax.figure.canvas.figure, show=show, save=path, owned=owned)
    return None if done else ax


def _draw(ax: Axes, cells: Comparison) -> None:
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
            label=f"not called unknown ({wrong[known].mean():.1%} wrong)",
            zorder=4,
            clip_on=False,
        )
    # The risk of the first few cells is noisy and may exceed the axes.
    ax.set(xlim=(0, 1), ylim=(0, min(1.0, 1.1 * top) if top else 0.05))
    ax.set(xlabel="coverage: fraction of cells that keep their label", ylabel="risk: fraction of wrong labels")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    ax.grid(color="0.92")
    ax.legend(fontsize="small", loc="upper left")


def _selective_risk(score: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Return the fraction of errors among the first 1 to n cells, highest score first, ``(n,)``."""
    _, group, sizes = np.unique(-score, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    errors = np.cumsum(np.bincount(group, weights=wrong))
    ranks = np.arange(1, len(score) + 1)
    return np.asarray(np.interp(ranks, np.r_[0, ends], np.r_[0, errors]) / ranks)
