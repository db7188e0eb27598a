"""``pl.explain``: the genes behind a hit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from matplotlib import pyplot as plt

from scquery_ae._checks import check_integer
from scquery_ae._errors import ArgumentError
from scquery_ae.pl._palette import OKABE_ITO
from scquery_ae.pl._style import check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.figure import Figure


def explain(
    table: pd.DataFrame, *, n_genes: int = 15, show: bool | None = None, save: str | PathLike[str] | None = None
) -> Figure | None:
    """Plot the genes that bring a query cell and its hit together, and those that set them apart.

    Parameters
    ----------
    table
        From :func:`scquery_ae.tl.explain`.
    n_genes
        Genes on each side.
    show
        Show the figure; None where matplotlib can (a window or a notebook).
    save
        Path to save to; the ending gives the format. What was saved and not shown is closed in pyplot.

    Returns
    -------
    The figure, or None if it was shown.

    Raises
    ------
    ArgumentError
        If `table` is not one of `tl.explain`, or an argument is out of its range.
    """
    path = check_save(save)
    check_show(show)
    check_integer("n_genes", n_genes)
    columns = getattr(table, "columns", ())
    if "similarity" not in columns or "distance" not in columns:
        msg = f"`pl.explain` needs the table of `sq.tl.explain`. Received {type(table).__name__}."
        raise ArgumentError(msg)
    for column in ("similarity", "distance"):
        if not pd.api.types.is_numeric_dtype(table[column]) or pd.api.types.is_complex_dtype(table[column]):
            msg = f"`pl.explain` needs numbers in the column {column!r}. Received values of type {table[column].dtype}."
            raise ArgumentError(msg)
    scale = font_scale()
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(7.5 * scale, (1.2 + 0.24 * n_genes) * scale), layout="constrained")
        sides = (("similarity", "bring them together", OKABE_ITO[0]), ("distance", "set them apart", OKABE_ITO[1]))
        for ax, (column, title, colour) in zip(axes, sides, strict=True):
            top = table[column].nlargest(n_genes)[::-1]
            ax.barh(range(len(top)), top.to_numpy(), color=colour)
            ax.set_yticks(range(len(top)), list(top.index))
            ax.set(title=title, xlabel=f"part of the cosine {column}")
            ax.axvline(0, color="black", linewidth=0.8)
        attrs = table.attrs
        if attrs:
            figure.suptitle(
                f"{attrs['cell']} and {attrs['hit']} ({attrs['label']}), similarity {attrs['similarity']:.2f}"
            )
        shown = finish(figure, show=show, save=path)
    return None if shown else figure
