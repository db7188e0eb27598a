"""Data for valid calls, the draft of a bad call, and the finished case."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata
import numpy as np

import scquery_ae as scq


@dataclass(frozen=True)
class World:
    """Data for valid calls.

    Attributes
    ----------
    query
        Counts of new cells.
    cells
        A few normalised and fine-tuned cells of the reference.
    queried
        The query after ``tl.query``.
    encoder
        Fine-tuned encoder, with settings under which fine-tuning again takes one epoch.
    reference
        Reference made with the encoder.
    bundle, archive
        The reference on disk, as a directory and zipped.
    """

    query: anndata.AnnData
    cells: anndata.AnnData
    queried: anndata.AnnData
    encoder: scq.Encoder
    reference: scq.Reference
    bundle: Path
    archive: Path


@dataclass(frozen=True)
class Case:
    """One call, and what it must not change if it fails.

    Attributes
    ----------
    name
        The call, and the mutations of it.
    run
        Makes the call.
    unchanged
        Arguments that must not change: AnnData, references and encoders.
    folder
        Directory whose files must not change.
    """

    name: str
    run: Callable[[], object]
    unchanged: tuple[Any, ...]
    folder: Path


@dataclass
class Draft:
    """A call that is being mutated."""

    function: Callable[..., object]
    arguments: dict[str, Any]
    world: World
    folder: Path
    rng: np.random.Generator
    owner: Any = None
    #: Arguments that are not mutated, because other values take hours instead of failing.
    fixed: tuple[str, ...] = ()
    done: list[str] = field(default_factory=list)

    def named(self, kind: type) -> list[str]:
        return [name for name, value in self.arguments.items() if isinstance(value, kind)]

    def pick(self, options: Any) -> Any:
        options = list(options)
        return options[self.rng.integers(len(options))]


def training(draft: Draft) -> dict[str, Any]:
    return {"epochs": 1, "batch_size": 32, "progress": False}


def reference(draft: Draft) -> Any:
    return bundle(draft) if draft.rng.random() < 0.3 else draft.world.reference


def bundle(draft: Draft) -> Path:
    if draft.rng.random() < 0.4:
        return Path(shutil.copy(draft.world.archive, draft.folder / "small.zip"))
    return Path(shutil.copytree(draft.world.bundle, draft.folder / "small.scq"))


OBO = """format-version: 1.2

[Term]
id: CL:0000000
name: cell

[Term]
id: CL:0000001
name: type 0
is_a: CL:0000000 ! cell

[Term]
id: CL:0000002
name: type 1
is_a: CL:0000000 ! cell

[Term]
id: CL:0000003
name: type 2
is_a: CL:0000002 ! type 1
"""


def obo(draft: Draft) -> Path:
    path = draft.folder / "cells.obo"
    path.write_text(OBO)
    return path


def gmt(draft: Draft) -> str:
    names = draft.world.encoder.genes
    return "".join(f"set {i}\tmade up\t{chr(9).join(names[i * 5 : i * 5 + 6])}\n" for i in range(3))
