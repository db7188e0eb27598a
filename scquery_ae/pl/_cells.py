"""Draw cells as points in two dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import Colormap, to_rgba_array

from scquery_ae._array_checks import check_array
from scquery_ae._checks import check_choice, check_number, check_text, shown
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae.pl._colors import as_categories
from scquery_ae.pl._names import name_categories
from scquery_ae.pl._palette import MISSING

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_AXIS_NAMES = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PC", "diffmap": "DC"}
_LEGENDS = ("auto", "on data", "right margin", "none")


@dataclass(frozen=True)
class Look:
    """Style of the points: area in square points, place of the names, and colour map of numbers."""

    size: float
    legend_loc: str
    cmap: str | Colormap
    vmin: float | None
    vmax: float | None


@dataclass(frozen=True)
class Values:
    """Values that set the colours of cells: numbers, or codes of categories.

    Attributes
    ----------
    name
        Name of the values.
    numbers
        Numbers, or codes with -1 for a missing value, ``(n_obs,)``.
    groups
        The categories, or None for numbers.
    """

    name: str
    numbers: np.ndarray
    groups: pd.Categorical | None

    @property
    def known(self) -> np.ndarray:
        """Whether each cell has a value."""
        return np.isfinite(self.numbers) if self.groups is None else self.numbers >= 0


def check_look(
    n_obs: int, *, legend_loc: str, size: float | None, cmap: str, vmin: float | None, vmax: float | None
) -> Look:
    """Return the style after checking the arguments."""
    check_choice("legend_loc", legend_loc, _LEGENDS)
    area = float(np.clip(30_000 / n_obs, 1, 25)) if size is None else size
    check_number("size", area, 0, np.inf, closed="neither")
    for name, end in (("vmin", vmin), ("vmax", vmax)):
        if end is not None:
            check_number(name, end, -np.inf, np.inf)
    if not isinstance(cmap, Colormap):
        check_choice("cmap", cmap, tuple(mpl.colormaps))
    return Look(area, legend_loc, cmap, vmin, vmax)


def numbers_or_categories(values: pd.Series, color: str) -> Values:
    """Return a column of ``obs`` as values that set colours."""
    other = pd.api.types.is_bool_dtype(values) or pd.api.types.is_complex_dtype(values)
    if pd.api.types.is_numeric_dtype(values) and not other:
        return Values(color, values.to_numpy(dtype=float, na_value=np.nan), None)
    groups = as_categories(values, "color", color)
    return Values(color, groups.codes, groups)


def coordinates(adata: AnnData, basis: str, name: str = "adata") -> tuple[str, np.ndarray]:
    """Return the axis name of an embedding and its first two columns, float64 ``(n_obs, 2)``."""
    check_text("basis", basis)
    key = next((key for key in (basis, f"X_{basis}") if key in adata.obsm), None)
    if key is None:
        msg = (
            f"`basis={basis!r}` is not in `{name}.obsm`. Expected one of {shown(adata.obsm, 20) or '(none there)'}; "
            f"compute the embedding first, for example with `sc.tl.umap({name})`."
        )
        raise MissingKeyError(msg)
    values: Any = adata.obsm[key]
    if np.ndim(values) != 2 or values.shape[1] < 2:
        msg = (
            f"`{name}.obsm[{key!r}]` must have at least two columns to be plotted. Received shape {values.shape}; pass "
            "another `basis`."
        )
        raise ArgumentError(msg)
    values = values.iloc[:, :2] if isinstance(values, pd.DataFrame) else values[:, :2]
    dense = values.toarray() if hasattr(values, "toarray") else values
    axis = key.removeprefix("X_")
    return _AXIS_NAMES.get(axis, axis), check_array(f"{name}.obsm[{key!r}]", dense).astype(float)


def draw_cells(
    ax: Axes,
    points: np.ndarray,
    values: Values,
    colours: list[str] | None,
    look: Look,
    *,
    owned: bool,
    missing: str = "missing",
    missing_size: float | None = None,
    unplaced: str | None = None,
) -> None:
    """Draw points in a fixed random order, those without a value in grey below the others, and name categories."""
    order = np.random.default_rng(0).permutation(len(points))
    order = order[np.isfinite(points[order]).all(axis=1)]
    known = values.known[order]
    drawn, grey = order[known], order[~known]
    shared: dict[str, Any] = {"linewidths": 0, "rasterized": True}
    if len(grey):
        ax.scatter(points[grey, 0], points[grey, 1], s=missing_size or look.size, color=MISSING, zorder=1, **shared)
    ax.set(xticks=[], yticks=[])
    if values.groups is not None and colours is not None:
        rgba = to_rgba_array(colours)[values.numbers[drawn]]
        ax.scatter(points[drawn, 0], points[drawn, 1], s=look.size, color=rgba, zorder=2, **shared)
        name_categories(
            ax,
            points,
            values.groups,
            colours,
            drawn,
            n_missing=len(grey),
            size=look.size,
            legend_loc=look.legend_loc,
            owned=owned,
            missing=missing,
            unplaced=unplaced,
        )
    elif len(drawn):
        mapped = ax.scatter(
            points[drawn, 0],
            points[drawn, 1],
            s=look.size,
            c=values.numbers[drawn],
            cmap=look.cmap,
            vmin=look.vmin,
            vmax=look.vmax,
            zorder=2,
            **shared,
        )
        ax.figure.colorbar(mapped, ax=ax, label=values.name, shrink=0.6, aspect=15)
