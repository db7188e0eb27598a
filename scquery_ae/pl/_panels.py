"""Panels of a plot, in a new figure or in the position of given axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine

from scquery_ae.pl._style import font_scale


def panels(
    ax: Axes | None,
    n_rows: int,
    n_columns: int,
    *,
    figsize: tuple[float, float],
    sharey: bool = False,
    height_ratios: Sequence[float] | None = None,
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its panels, ``(n_rows, n_columns)``, which take the position of a given `ax` as in scanpy."""
    if ax is None:
        figure, grid = plt.subplots(
            n_rows,
            n_columns,
            figsize=figsize,
            sharey=sharey,
            squeeze=False,
            height_ratios=height_ratios,
            layout=ConstrainedLayoutEngine(h_pad=0.06, wspace=0.05, hspace=0),
        )
        return figure, np.asarray(grid)
    figure = ax.figure.canvas.figure
    ax.set_axis_off()
    look: dict[str, Any] = {"height_ratios": height_ratios}
    if not _lays_out(figure):
        look.update(wspace=0.6, hspace=0.8)
    place = ax.get_subplotspec()
    if place is not None:
        spec: Any = place.subgridspec(n_rows, n_columns, **look)
    else:
        x0, y0, x1, y1 = ax.get_position().extents
        spec = GridSpec(n_rows, n_columns, figure=figure, left=x0, right=x1, bottom=y0, top=y1, **look)
    return figure, np.asarray(spec.subplots(sharey=sharey, squeeze=False))


def heading(figure: Figure, grid: np.ndarray, ax: Axes | None, text: str) -> None:
    """Write a title for all panels above their own titles."""
    if ax is None:
        figure.suptitle(text)
        return
    for panel in grid[0]:
        # An empty line makes room: the layout ignores the title of axes that contain panels.
        panel.set_title(f"\n{panel.get_title()}")
    up = (0, 23 * font_scale())
    title = grid[0, 0].annotate(text, (0, 1), up, xycoords="axes fraction", textcoords="offset points", va="bottom")
    title.set_in_layout(False)


def _lays_out(figure: Figure) -> bool:
    return isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine)
