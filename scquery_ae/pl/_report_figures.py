"""Figures of a report, drawn into the page itself."""

from __future__ import annotations

import base64
import io
import re
import struct
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from scquery_ae.pl._report_parts import ILLEGAL, Drawing
from scquery_ae.pl._style import style

#: An SVG of more bytes than this gives way to a PNG if that is smaller.
_LARGE = 250_000
#: Dots an inch of what is drawn in dots.
_DPI = 160
#: Cells of each side that the plane is laid through.
_FITTED = 50_000


def drawing(plot: Callable[..., Any], *args: Any, alt: str, caption: str, **kwargs: Any) -> Drawing:
    """Return a plot of this package as part of a page.

    Drawn in matplotlib's own look, so that the page does not depend on the settings of who makes it. Text in an SVG
    stays text, and `$` a letter: names are data.
    """
    look = plt.style.context("default", after_reset=True)
    with look, mpl.rc_context({"text.parse_math": False}), plt.ioff(), warnings.catch_warnings():
        # The reader's browser has more letters than matplotlib's font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawn = plot(*args, show=False, **kwargs)
        figure = drawn if isinstance(drawn, Figure) else drawn.figure.canvas.figure
        try:
            source, width = _encoded(figure)
        finally:
            plt.close(figure)
    return Drawing(source, width, alt, caption)


def _encoded(figure: Figure) -> tuple[str, int]:
    """Return a figure as a data URI, SVG or PNG by size, and its width in CSS pixels."""
    svg = _saved(figure, "svg", metadata={"Date": None, "Creator": None})
    found = re.search(rb'<svg[^>]*\swidth="([\d.]+)pt"', svg)
    legal = found is not None and not ILLEGAL.search(svg.decode())
    if legal and len(svg) <= _LARGE:
        return _uri("svg+xml", svg), _width(found)
    png = _saved(figure, "png")
    if legal and len(svg) <= len(png):
        return _uri("svg+xml", svg), _width(found)
    return _uri("png", png), round(struct.unpack(">I", png[16:20])[0] / _DPI * 96)


def _saved(figure: Figure, kind: str, **kwargs: Any) -> bytes:
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=kind, dpi=_DPI, bbox_inches="tight", pad_inches=0.08, **kwargs)
    return buffer.getvalue()


def _width(found: re.Match[bytes] | None) -> int:
    return round(float(found[1]) * 96 / 72) if found is not None else 0


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def lean(obs: pd.DataFrame, obsm: dict[str, np.ndarray], uns: dict[str, Any] | None = None) -> AnnData:
    """Return cells without expression, for plots to draw from and to keep their colours in."""
    obs = obs.copy()
    obs.index = pd.Index(np.arange(len(obs)).astype(str))
    return AnnData(obs=obs, var=pd.DataFrame(index=["none"]), obsm=obsm, uns=uns or {})


def shared_plane(query: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return two sets of embeddings in the two principal components of both together, and their share of the variance.

    Parameters
    ----------
    query, reference
        Codes, ``(n, n_latent)`` each, ``n_latent >= 2``. The plane is laid through at most 50,000 of each, evenly
        spaced.
    """
    fitted = [latent[np.unique(np.linspace(0, len(latent) - 1, _FITTED).astype(int))] for latent in (query, reference)]
    both = np.concatenate([np.asarray(latent, dtype=np.float64) for latent in fitted])
    both = both[np.isfinite(both).all(axis=1)]
    mean = both.mean(axis=0)
    _, lengths, axes = np.linalg.svd(both - mean, full_matrices=False)
    plane = axes[:2]
    # The sign of a component is arbitrary: its largest entry is made positive.
    plane = plane * np.sign(plane[np.arange(len(plane)), np.abs(plane).argmax(axis=1)])[:, None]
    total = float(np.square(lengths).sum())
    share = float(np.square(lengths[:2]).sum()) / total if total else 0.0
    mine, theirs = ((latent - mean.astype(np.float32)) @ plane.T.astype(np.float32) for latent in (query, reference))
    return mine, theirs, share
