"""``pl.neighbors_by_batch``: which studies, donors or samples of the reference the neighbors come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib import pyplot as plt
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from scquery_ae._checks import check_slots, check_text, shown
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae.pl._answers import check_columns, texts
from scquery_ae.pl._colors import as_categories, category_colours
from scquery_ae.pl._legend import legend_beside
from scquery_ae.pl._palette import MISSING, palette
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes

    from scquery_ae.reference import Reference


def neighbors_by_batch(
    adata: AnnData,
    reference: Reference | AnnData | pd.DataFrame,
    *,
    batch_key: str = "study",
    label_key: str | None = None,
    key_added: str = "scquery",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | bool | PathLike[str] | None = None,
) -> Axes | None:
    """Plot for each type which studies of the reference its neighbors come from, and which hold cells of the type.

    The upper bar of a type divides the neighbors of the query cells that got its label, the lower, paler one the cells of
    the type in the reference: where they differ, the query resembles some studies more than others; where a type
    has one study alone, its labels rest on that study. Types stand in order of their query cells.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`.
    reference
        The reference that was queried, or its cells as they went into it: AnnData, or its ``obs``.
    batch_key
        Column of the reference's ``obs``: studies, or donors, protocols, tissues.
    label_key
        Column of the reference's ``obs`` with its types; None for that of a :class:`scquery_ae.Reference`, and no lower
        bars with the others.
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
    The axes, or None if the figure was shown. Where `reference` is an AnnData, colours of studies are read from or
    written to its ``uns["{batch_key}_colors"]``.

    Raises
    ------
    MissingKeyError
        If the cells were not queried, or a column is not in the reference's ``obs``.
    ArgumentError
        If `reference` is none or has fewer cells than the neighbors point to, no cell has a label, or there are too many
        studies.
    """
    path = check_save(save, "neighbors_by_batch")
    check_show(show)
    check_ax(ax)
    slots = check_slots(key_added)
    check_columns(adata, (slots.label,), "pl.neighbors_by_batch")
    obs = _obs(reference)
    neighbors = hits_of(adata, slots.neighbors, len(obs), "pl.neighbors_by_batch")
    if label_key is None and not isinstance(reference, AnnData | pd.DataFrame):
        label_key = reference.label_key
    studies = as_categories(_column(obs, batch_key, "batch_key"), "batch_key", batch_key)
    owner = None if label_key is None else texts(_column(obs, label_key, "label_key"))
    labels = texts(adata.obs[slots.label])
    counts = labels.value_counts(sort=False).sort_values(ascending=False, kind="stable")
    if counts.empty:
        msg = f"`pl.neighbors_by_batch` needs cells with a label. All {adata.n_obs} are missing."
        raise ArgumentError(msg)
    n_studies = len(studies.categories)
    found = np.array(
        [_shares(studies.codes[neighbors[(labels == kind).to_numpy()]], n_studies) for kind in counts.index]
    )
    held = None
    if owner is not None:
        held = np.array([_shares(studies.codes[(owner == kind).to_numpy()], n_studies) for kind in counts.index])
    colours = (
        category_colours(reference, batch_key, n_studies) if isinstance(reference, AnnData) else [*palette(n_studies)]
    )
    names = [f"{kind} ({count:,})" for kind, count in counts.items()]
    scale = font_scale()
    with style():
        owned = ax is None
        if ax is None:
            size = 4.5 + 0.07 * min(max(map(len, names)), 60), 1.2 + 0.34 * max(len(names), 3)
            _, ax = plt.subplots(figsize=(size[0] * scale, size[1] * scale), layout="constrained")
        _draw(ax, found, held, [*colours, MISSING])
        ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
        ax.set_xlabel(
            "share of neighbors" if held is None else "share of neighbors (above), of the type's cells (below, pale)"
        )
        occurs = np.vstack([found] if held is None else [found, held]).sum(axis=0) > 0
        entries = zip([*map(str, studies.categories), "missing"], [*colours, MISSING], occurs, strict=True)
        handles = [Patch(facecolor=colour, label=name) for name, colour, drawn in entries if drawn]
        legend_beside(ax, handles, owned=owned, title=batch_key, loc="upper")
        done = finish(ax.figure.canvas.figure, show=show, save=path, owned=owned)
    return None if done else ax


def hits_of(adata: AnnData, slot: str, n_reference: int, function: str) -> np.ndarray:
    """Return the rows of the reference that a query found, int ``(n_obs, n_neighbors)``."""
    if slot not in adata.obsm:
        msg = (
            f"`{function}` needs the neighbors that `scq.tl.query` writes. Not in `adata.obsm`: {slot!r}. "
            "Call `scq.tl.query(adata, reference)` first, or give the `key_added` that it was called with."
        )
        raise MissingKeyError(msg)
    neighbors = np.asarray(adata.obsm[slot])
    if neighbors.size and (neighbors.min() < 0 or neighbors.max() >= n_reference):
        msg = (
            f"`{function}` needs the reference that was queried. The neighbors point to row {neighbors.max()}, and the one given "
            f"has {n_reference} cells."
        )
        raise ArgumentError(msg)
    return neighbors


def _obs(reference: Any) -> pd.DataFrame:
    obs = reference if isinstance(reference, pd.DataFrame) else getattr(reference, "obs", None)
    if not isinstance(obs, pd.DataFrame):
        msg = (
            "`reference` must be the reference that was queried, or its cells: AnnData or a table. "
            f"Received {type(reference).__name__}; open a saved one with `scq.Reference.load(path)`."
        )
        raise ArgumentError(msg)
    return obs


def _column(obs: pd.DataFrame, key: str, argument: str) -> pd.Series:
    check_text(argument, key)
    if key not in obs.columns:
        msg = f"`{argument}={key!r}` is not in the reference's `obs`. Expected one of {shown(obs.columns, 20)}."
        raise MissingKeyError(msg)
    column: pd.Series = obs[key]
    return column


def _shares(codes: np.ndarray, n: int) -> np.ndarray:
    """Return the share of each of `n` codes, and of -1 in the end; zeros where there are none, ``(n + 1,)``."""
    counts = np.bincount(np.where(codes < 0, n, codes).ravel(), minlength=n + 1)
    return np.asarray(counts / max(counts.sum(), 1))


def _draw(ax: Axes, found: np.ndarray, held: np.ndarray | None, colours: list[str]) -> None:
    rows = np.arange(len(found))
    lanes = [(found, 0.0, 0.7, 1.0)] if held is None else [(found, -0.13, 0.5, 1.0), (held, 0.27, 0.22, 0.45)]
    for shares, offset, height, alpha in lanes:
        starts = np.cumsum(shares, axis=1) - shares
        for share, start, colour in zip(shares.T, starts.T, colours, strict=True):
            if share.any():
                ax.barh(rows + offset, share, left=start, height=height, color=colour, alpha=alpha)
    ax.set(xlim=(0, 1))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
