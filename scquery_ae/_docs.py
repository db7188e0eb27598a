"""Descriptions of parameters that several calls have, written once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])

#: What each parameter means, as numpydoc has it below the parameter's name.
PARAMETERS = {
    "layer": 'Layer to read. None reads ``layers["counts"]`` if it is there, and ``X`` otherwise.',
    "gene_key": (
        '``"var_names"`` or the column of ``var`` that holds the gene names. None takes the one that matches best.'
    ),
    "input_state": (
        'What the values are: ``"counts"`` for any linear scale, ``"log1p"`` for its natural logarithm, ``"log2p1"``\n'
        'for its logarithm to base 2, or ``"auto"`` to detect it from the values.'
    ),
    "ignore_case": "Match gene names regardless of case, as needed between human and mouse symbols.",
    "orthologs": "Maps gene names of the cells to gene names of the reference. Other genes keep their names.",
    "min_gene_overlap": "Smallest accepted fraction of the model genes that must be present, 0 to 1.",
    "key_added": "Prefix of the names of all slots that are written or read, instead of ``scquery``.",
    "random_state": "Random seed.",
    "progress": "Show a progress bar on a terminal or in a notebook.",
    "reference": "A :class:`~scquery_ae.Reference`, or the path of a saved one.",
    "ax": "Axes to draw on. None makes a figure.",
    "show": (
        "Show the figure. None shows a new figure if matplotlib can, in a window or a notebook, and\n"
        "``scanpy.settings.autoshow`` is on."
    ),
    "save": (
        "Path to save the figure to; its suffix sets the format. True saves it in ``scanpy.settings.figdir``. A new\n"
        "figure that is saved and not shown is closed."
    ),
}

_PLACEHOLDER = re.compile(r"^( *)%\((\w+)\)s$", re.MULTILINE)


def shared_parameters(function: F) -> F:
    """Replace lines such as ``%(layer)s`` in a docstring by the parameter's name and description.

    Checked first: docrep, whose sections need each docstring parsed at import; scanpy's and scvi-tools' own helpers use
    ``str.format``, which examples with braces do not survive.

    Raises
    ------
    KeyError
        If a placeholder has no description.
    """
    if function.__doc__:  # None under ``python -OO``
        function.__doc__ = _PLACEHOLDER.sub(_described, function.__doc__)
    return function


def _described(match: re.Match[str]) -> str:
    indent, name = match.groups()
    lines = (f"{indent}    {line}" for line in PARAMETERS[name].splitlines())
    return "\n".join((f"{indent}{name}", *lines))
