"""``pl.neighbors_by_batch``: batches of the reference that the neighbors come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib import pyplot as plt
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from scquery_ae._checks import check_slots
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError
from scquery_ae.pl._colors import as_categories, category_colours
from scquery_ae.pl._legend import legend_beside
from scquery_ae.pl._palette import MISSING, palette
from scquery_ae.pl._results import as_text, check_columns, reference_column, reference_rows
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes

    from scquery_ae.reference import Reference


@shared_parameters
def neighbors_by_batch(
    adata: AnnData,
    reference: Reference | AnnData | pd.DataFrame,
    *,
    batch_key: str = "batch",
    label_key: str | None = None,
    key_added: str = "scquery",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | bool | PathLike[str] | None = None,
) -> Axes | None:
    """Plot which batches of the reference the neighbors of each label come from, and which have cells of the type.

    The upper bar of a type divides the neighbors of the query cells with its label by batch. The lower, paler bar
    divides the reference cells of the type. Where the two differ, the query resembles some batches more than others.
    The labels of a type with a single batch depend on that batch. Types are ordered by their number of query cells.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`.
    reference
        The :class:`~scquery_ae.Reference` that was queried, or the AnnData or ``obs`` of its cells, complete and in
        their order.
    batch_key
        Column of the reference's ``obs`` with batches, such as studies, donors or samples.
    label_key
        Column of the reference's ``obs`` with its types. None takes the one of a :class:`~scquery_ae.Reference`, and
        draws no lower bars otherwise.
    %(key_added)s
    %(ax)s
    %(show)s
    %(save)s

    Returns
    -------
    The axes, or None if the figure was shown. If `reference` is an AnnData, the colours of its batches are read from or
    written to its ``uns[f"{batch_key}_colors"]``.

    Raises
    ------
    MissingKeyError
        If the cells were not queried, or a column is not in the reference's ``obs``.
    ArgumentError
        If `reference` is of another type or was not queried, no cell has a label, or there are too many batches.
    """
    path = check_save(save, "neighbors_by_batch")
    check_show(show)
    check_ax(ax)
    slots = check_slots(key_added)
    check_columns(adata, (slots.label,), "pl.neighbors_by_batch")
    obs = _obs(reference)
    neighbors = reference_rows(adata, slots.neighbors, len(obs), "pl.neighbors_by_batch")
    if label_key is None and not isinstance(reference, AnnData | pd.DataFrame):
        label_key = reference.label_key
    batches = as_categories(reference_column(obs, batch_key, "batch_key"), "batch_key", batch_key)
    types = None if label_key is None else as_text(reference_column(obs, label_key, "label_key"))
    labels = as_text(adata.obs[slots.label])
    counts = labels.value_counts(sort=False).sort_values(ascending=False, kind="stable")
    if counts.empty:
        msg = f"`pl.neighbors_by_batch` needs cells with a label. None of {adata.n_obs} has one; query the cells again."
        raise ArgumentError(msg)
    n = len(batches.categories)
    found = np.array([_fractions(batches.codes[neighbors[(labels == kind).to_numpy()]], n) for kind in counts.index])
    held = None
    if types is not None:
        held = np.array([_fractions(batches.codes[(types == kind).to_numpy()], n) for kind in counts.index])
    colours = category_colours(reference, batch_key, n) if isinstance(reference, AnnData) else [*palette(n)]
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
            "fraction of neighbors"
            if held is None
            else "fraction of neighbors (upper bar)\nfraction of the type's reference cells (lower, pale bar)"
        )
        occurs = np.vstack([found] if held is None else [found, held]).sum(axis=0) > 0
        entries = zip([*map(str, batches.categories), "missing"], [*colours, MISSING], occurs, strict=True)
        handles = [Patch(facecolor=colour, label=name) for name, colour, drawn in entries if drawn]
        legend_beside(ax, handles, owned=owned, title=batch_key, loc="upper")
        done = finish(ax.figure.canvas.figure, show=show, save=path, owned=owned)
    return None if done else ax


def _obs(reference: Any) -> pd.DataFrame:
    obs = reference if isinstance(reference, pd.DataFrame) else getattr(reference, "obs", None)
    if not isinstance(obs, pd.DataFrame):
        msg = (
            "`reference` must be the reference that was queried, or the AnnData or `obs` of its cells. "
            f"Received {type(reference).__name__}; open a saved reference with `scq.Reference.load(path)`."
        )
        raise ArgumentError(msg)
    return obs


def _fractions(codes: np.ndarray, n: int) -> np.ndarray:
    """Return the fraction of each of `n` codes, and of -1 last, ``(n + 1,)``; zeros if there are no codes."""
    counts = np.bincount(np.where(codes < 0, n, codes).ravel(), minlength=n + 1)
    return np.asarray(counts / max(counts.sum(), 1))


def _draw(ax: Axes, found: np.ndarray, held: np.ndarray | None, colours: list[str]) -> None:
    rows = np.arange(len(found))
    lanes = [(found, 0.0, 0.7, 1.0)] if held is None else [(found, -0.13, 0.5, 1.0), (held, 0.27, 0.22, 0.45)]
    for fractions, offset, height, alpha in lanes:
        starts = np.cumsum(fractions, axis=1) - fractions
        for fraction, start, colour in zip(fractions.T, starts.T, colours, strict=True):
            if fraction.any():
                ax.barh(rows + offset, fraction, left=start, height=height, color=colour, alpha=alpha)
    ax.set(xlim=(0, 1))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
