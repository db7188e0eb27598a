"""Style of all plots; saving and showing a finished figure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.registry import BackendFilter, backend_registry

from scquery_ae._checks import check_flag, check_path
from scquery_ae._errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def style() -> Iterator[None]:
    """Return the context in which all plots are drawn and saved. Font sizes are those of the user."""
    settings: dict[Any, Any] = {
        "axes.axisbelow": True,
        "axes.grid": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "hatch.linewidth": 0.7,
        "legend.frameon": False,
        # Text is stored as text, not as paths.
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
    }
    with plt.rc_context(settings):
        yield
        # In a notebook, the first figure starts the backend, which turns on interactive mode; keep it.
        interactive = mpl.is_interactive()
    mpl.interactive(interactive)


def font_scale() -> float:
    """Return the user's font size relative to matplotlib's default, by which figures are scaled."""
    return float(mpl.rcParams["font.size"]) / 10


def check_save(save: Any, name: str = "figure") -> Path | None:
    """Return `save` as a path after checking it; True stands for a file named after the plot in scanpy's folder."""
    if save is None or save is False:
        return None
    if save is True:
        from scanpy import settings

        return Path(settings.figdir) / f"scquery_{name}{settings.plot_suffix}.{settings.file_format_figs}"
    if not isinstance(save, str | PathLike):
        msg = f"`save` must be a path such as 'figure.pdf', True, or None. Received {save!r}."
        raise ArgumentError(msg)
    path = check_path("save", save).expanduser()
    endings = FigureCanvasBase.get_supported_filetypes()
    if path.suffix and path.suffix[1:].lower() not in endings:
        msg = f"`save` must end in one of {', '.join(endings)}. Received {path.name!r}."
        raise ArgumentError(msg)
    # The target of a link; `path` itself otherwise.
    target = path.resolve()
    if target.is_dir() or not target.parent.is_dir():
        link = f", a link to {str(target)!r}" if path.is_symlink() else ""
        msg = f"`save` must name a file in an existing folder. Received {str(path)!r}{link}; make the folder first."
        raise ArgumentError(msg)
    return path


def check_show(show: Any) -> bool | None:
    """Return `show` if it is a boolean or None."""
    return None if show is None else check_flag("show", show)


def check_ax(ax: Any) -> Axes | None:
    """Return `ax` if it is axes or None."""
    if ax is not None and not isinstance(ax, Axes):
        msg = f"`ax` must be the axes to draw on, or None. Received {type(ax).__name__}."
        raise ArgumentError(msg)
    return ax


def finish(figure: Figure, *, show: bool | None, save: Path | None, owned: bool = True) -> bool:
    """Save and show a figure, and return whether it was shown.

    ``show=None`` shows a figure that we made (`owned`) if the backend can show figures, in a window or a notebook, and
    ``scanpy.settings.autoshow`` is on. A figure that is saved and not shown is closed, so that a script that saves many
    figures does not keep them open.
    """
    if save is not None:
        dpi = 300 if mpl.rcParams["savefig.dpi"] == "figure" else mpl.rcParams["savefig.dpi"]
        # Only scanpy's folder may not exist yet.
        save.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(save, dpi=dpi, bbox_inches="tight")
    if show is None:
        silent = backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE)  # type: ignore[no-untyped-call]
        show = owned and _autoshow() and mpl.get_backend().lower() not in silent
    if show:
        plt.show()
    elif save is not None and owned:
        plt.close(figure)
    return bool(show)


def _autoshow() -> bool:
    """Return scanpy's setting, which is unchanged if scanpy is not imported."""
    scanpy = sys.modules.get("scanpy")
    return scanpy is None or bool(scanpy.settings.autoshow)
