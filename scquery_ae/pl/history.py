"""``pl.history``: losses of each epoch of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError, NotFittedError
from scquery_ae.pl._palette import OKABE_ITO
from scquery_ae.pl._panels import panels
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scquery_ae.encoder import Encoder

_BLUE, _ORANGE = OKABE_ITO[:2]
_PANELS_A_ROW = 4


@shared_parameters
def history(
    encoder: Encoder,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | bool | PathLike[str] | None = None,
) -> Figure | None:
    """Plot the losses of an encoder's training: one panel for each pretrained layer, and one for fine-tuning.

    The marked epoch has the lowest loss on held-out cells; its weights were kept.

    Parameters
    ----------
    encoder
        From :func:`scquery_ae.tl.pretrain`, fine-tuned or not. The encoder of a reference is ``reference.encoder``.
    ax
        Axes whose position the panels take. None makes a figure.
    %(show)s
    %(save)s

    Returns
    -------
    The figure, or None if it was shown.

    Raises
    ------
    NotFittedError
        If the encoder has no history.
    ArgumentError
        If `encoder` is not an encoder, or `save` is not a path.

    Notes
    -----
    The training loss is measured on corrupted cells while the weights change. The loss on held-out cells is measured
    at the end of each epoch, in fine-tuning without corruption, and can therefore be lower.
    """
    path = check_save(save, "history")
    check_show(show)
    check_ax(ax)
    records = _records(encoder)
    n_columns = min(len(records), _PANELS_A_ROW)
    n_rows = -(-len(records) // n_columns)
    scale = font_scale()
    with style():
        figure, grid = panels(ax, n_rows, n_columns, figsize=(3.4 * scale * n_columns, 3.0 * scale * n_rows))
        for panel, (title, ylabel, losses) in zip(grid.flat, records, strict=False):
            _draw(panel, losses)
            panel.set(title=title, xlabel="epoch", ylabel=ylabel)
        for panel in grid.flat[len(records) :]:
            panel.remove()
        shown = finish(figure, show=show, save=path, owned=ax is None)
    return None if shown else figure


def _records(encoder: Encoder) -> list[tuple[str, str, Mapping[str, Sequence[float]]]]:
    """Return title, y label and losses of each panel."""
    record: Any = getattr(encoder, "history", None)
    if not isinstance(record, Mapping):
        msg = (
            f"`pl.history` needs the encoder that `scq.tl.pretrain` returns. Received {type(encoder).__name__}; "
            "pass the encoder, which for a reference is `reference.encoder`."
        )
        raise ArgumentError(msg)
    layers, finetuned = record.get("pretrain") or (), record.get("finetune") or {}
    if (
        not isinstance(layers, list | tuple)
        or not all(isinstance(losses, Mapping) for losses in (*layers, finetuned))
        or not all(_are_losses(losses.get(name)) for losses in (*layers, finetuned) for name in ("loss", "val_loss"))
    ):
        msg = (
            "`encoder.history` must hold lists of losses: a dictionary for each layer under 'pretrain', and one under "
            f"'finetune'. Received {dict(record)!r:.200}; leave the history as training wrote it."
        )
        raise ArgumentError(msg)
    records: list[tuple[str, str, Mapping[str, Sequence[float]]]] = []
    for depth, (losses, layer) in enumerate(zip(layers, encoder.layers, strict=False), start=1):
        if not losses.get("loss"):  # the layer was not trained
            continue
        n_in, n_out = layer.kernel.shape
        records.append((f"Pretraining, layer {depth}\n{n_in} to {n_out}", "denoising loss", losses))
    if finetuned:
        types = "" if encoder.classifier is None else f"\n{len(encoder.classifier.types)} cell types"
        records.append((f"Fine-tuning{types}", "classification loss", finetuned))
    if not any(losses.get("loss") for _, _, losses in records):
        msg = (
            f"The encoder has no training history. Expected losses in `encoder.history`, received {dict(record)!r}. "
            "Train one: `encoder = scq.tl.pretrain(adata)`."
        )
        raise NotFittedError(msg)
    return records


def _are_losses(values: Any) -> bool:
    return values is None or (isinstance(values, list | tuple) and all(isinstance(value, Real) for value in values))


def _draw(ax: Axes, losses: Mapping[str, Sequence[float]]) -> None:
    """Draw one panel; epochs count from 1."""
    for name, label, colour in (("loss", "training", _BLUE), ("val_loss", "held out", _ORANGE)):
        values = losses.get(name)
        if values:
            ax.plot(range(1, len(values) + 1), values, color=colour, label=label, marker="o", markersize=3)
    held_out = losses.get("val_loss")
    # If the loss is NaN in every epoch, none is best.
    if held_out and np.isfinite(held_out).any():
        best = int(np.nanargmin(held_out))
        ax.plot(
            best + 1,
            held_out[best],
            color=_ORANGE,
            linestyle="none",
            marker="o",
            markersize=9,
            markerfacecolor="white",
            markeredgewidth=2,
            label=f"best (epoch {best + 1})",
        )
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    # The layout would make a narrow panel narrower to fit its legend.
    ax.legend().set_in_layout(False)
