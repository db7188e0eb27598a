"""Legends beside the axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

LEGEND_ROWS, LEGEND_COLUMNS = 22, 5


def dots(entries: Sequence[tuple[str, str]]) -> list[Line2D]:
    """Return a dot for each name and colour."""
    return [
        Line2D([], [], color=colour, marker="o", markersize=6, linestyle="none", label=name) for name, colour in entries
    ]


def legend_beside(
    ax: Axes,
    handles: Sequence[Artist],
    *,
    owned: bool,
    title: str | None = None,
    offset: float = 0,
    loc: str = "center",
) -> Legend:
    """Draw a legend to the right of the axes, `offset` points away, and widen a figure that we made (`owned`)."""
    figure = ax.figure.canvas.figure
    away = ScaledTranslation(offset / 72, 0, figure.dpi_scale_trans)
    place: Any = f"{loc} left"
    legend: Legend = ax.legend(
        handles=handles,
        ncols=-(-len(handles) // LEGEND_ROWS),
        loc=place,
        bbox_to_anchor=(1.01, 1 if loc == "upper" else 0.5),
        bbox_transform=ax.transAxes + away,
        fontsize="small",
        title=title,
        title_fontsize="small",
        alignment="left",
        handletextpad=0.4,
        columnspacing=1,
        borderaxespad=0.2,
    )
    if owned:
        # Measured before it takes part in the layout, which has no room for it yet.
        legend.set_in_layout(False)
        figure.draw_without_rendering()
        width, height = figure.get_size_inches()
        box = legend.get_window_extent()
        figure.set_size_inches(width + box.width / figure.dpi, max(height, box.height / figure.dpi + 0.4))
        legend.set_in_layout(True)
    return legend
