"""Colours of categories that are distinct with normal and with colour-blind vision.

Checked: glasbey 0.4, which optimises for one kind of colour blindness. Of its 40 colours, the closest two are less
distinct with deuteranopia than those of :func:`palette`, with `cvd_severity` at 50 and at 100.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from matplotlib.colors import to_hex, to_rgb

#: Cells without a value.
MISSING = "#d9d9d9"

#: Okabe and Ito, "Color Universal Design" (2008), https://jfly.uni-koeln.de/color/; black last.
OKABE_ITO = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442", "#000000")

# Linear sRGB to cone responses, and their cube roots to OKLab (Ottosson 2020, https://bottosson.github.io/posts/oklab/).
_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
# Linear sRGB as seen with protanopia and deuteranopia (Machado, Oliveira and Fernandes, IEEE TVCG 15, 1291, 2009).
_PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
_DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


@cache
def palette(n: int) -> tuple[str, ...]:
    """Return `n` distinct colours. A longer palette starts with the colours of a shorter one.

    The first eight are those of Okabe and Ito. Each further colour is the one of a grid over sRGB that is farthest from
    all colours before it and from the grey of missing labels (Glasbey et al., Color Research and Application 32, 304,
    2007). The distance is measured in OKLab, which includes lightness, and is the smallest of those seen with normal
    and with colour-blind vision.
    """
    axis = np.linspace(0, 1, 16)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness, *opponents = seen(grid)[0].T
    # Without colours that are nearly black, nearly white or grey.
    grid = grid[(lightness > 0.35) & (lightness < 0.88) & (np.hypot(*opponents) > 0.06)]
    candidates = seen(grid)

    def distance(colour: np.ndarray) -> np.ndarray:
        full, *blind = np.linalg.norm(candidates - colour[:, None], axis=2)
        # Doubled, because two dimensions have room for fewer colours than three.
        return np.asarray(np.minimum(full, 2 * np.minimum(*blind)))

    taken = seen(np.array([to_rgb(colour) for colour in (*OKABE_ITO, MISSING)]))
    nearest = np.min([distance(taken[:, i]) for i in range(taken.shape[1])], axis=0)
    colours = list(OKABE_ITO)
    while len(colours) < n:
        best = int(nearest.argmax())
        colours.append(to_hex(grid[best]))
        nearest = np.minimum(nearest, distance(candidates[:, best]))
    return tuple(colours[:n])


def seen(rgb: np.ndarray) -> np.ndarray:
    """Return OKLab coordinates of sRGB colours ``(n, 3)`` as seen with normal vision, protanopia and deuteranopia.

    Returns
    -------
    Float64 ``(3, n, 3)``.
    """
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    sights = np.stack([linear, linear @ _PROTANOPIA.T, linear @ _DEUTERANOPIA.T])
    return np.asarray(np.cbrt(np.clip(sights, 0, 1) @ _CONES.T) @ _OKLAB.T)
