"""Single-cell queries with tied-weight autoencoders.

``pp`` normalises, ``tl`` trains, embeds and queries, ``pl`` plots, ``nn`` holds the Keras layers. Each is imported
when it is first used: ``import scquery_ae`` loads neither TensorFlow nor matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scquery_ae import datasets, nn, ontology, pl, pp, stats, tl
    from scquery_ae._errors import (
        ArgumentError,
        BundleError,
        DatasetError,
        GeneOverlapError,
        InputStateError,
        MissingKeyError,
        NotFittedError,
        ScqueryError,
        ScqueryWarning,
        SearchServiceError,
        StorageError,
        TrainingError,
    )
    from scquery_ae._settings import settings
    from scquery_ae.encoder import Encoder
    from scquery_ae.loaders.files import read_lazy
    from scquery_ae.reference import Reference

    __version__: str

_MODULES = ("datasets", "nn", "ontology", "pl", "pp", "stats", "tl")
_HOMES = {
    "ArgumentError": "_errors",
    "BundleError": "_errors",
    "DatasetError": "_errors",
    "Encoder": "encoder",
    "GeneOverlapError": "_errors",
    "InputStateError": "_errors",
    "MissingKeyError": "_errors",
    "NotFittedError": "_errors",
    "Reference": "reference",
    "ScqueryError": "_errors",
    "ScqueryWarning": "_errors",
    "SearchServiceError": "_errors",
    "StorageError": "_errors",
    "TrainingError": "_errors",
    "read_lazy": "loaders.files",
    "settings": "_settings",
}

__all__ = [
    "ArgumentError",
    "BundleError",
    "DatasetError",
    "Encoder",
    "GeneOverlapError",
    "InputStateError",
    "MissingKeyError",
    "NotFittedError",
    "Reference",
    "ScqueryError",
    "ScqueryWarning",
    "SearchServiceError",
    "StorageError",
    "TrainingError",
    "__version__",
    "datasets",
    "nn",
    "ontology",
    "pl",
    "pp",
    "read_lazy",
    "settings",
    "stats",
    "tl",
]

# Hidden from editors and type checkers, which would take any name for one that is here.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f"scquery_ae.{name}")
        if name in _HOMES:
            return getattr(importlib.import_module(f"scquery_ae.{_HOMES[name]}"), name)
        if name == "__version__":
            from importlib.metadata import version

            return version("scquery-ae")
        msg = f"module 'scquery_ae' has no attribute {name!r}; it offers {', '.join(__all__)}"
        raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
