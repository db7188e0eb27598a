"""Cells and references that a command reads."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scquery_ae.cli.console import show_progress
from scquery_ae.cli.exit_codes import UNREADABLE, CommandError

if TYPE_CHECKING:
    from anndata import AnnData

    from scquery_ae.reference import Reference


def is_reference(path: Path) -> bool:
    """Return whether a path looks like a saved reference."""
    from scquery_ae.reference.serialize import MANIFEST

    if path.is_dir():
        return (path / MANIFEST).is_file()
    return path.suffix == ".zip" and path.is_file() and zipfile.is_zipfile(path)


def load_reference(path: Path, *, after_cells: bool = False) -> Reference:
    """Open a saved reference; `after_cells` says that the command takes cells before it."""
    from scquery_ae.reference import Reference

    require_path(path, "reference")
    if path.is_file() and path.suffix != ".zip":
        order = "; give the cells first, then the reference" if after_cells else ""
        msg = f"{path} is a file. Expected a reference, which is a .scq folder or a .zip file of one{order}."
        raise CommandError(msg, UNREADABLE)
    show_progress(f"opening {path}")
    return Reference.load(path)


def require_path(path: Path, meaning: str) -> Path:
    """Return a path at which there is something; `meaning` says what it should be."""
    if not path.exists():
        near = sorted(p.name for p in path.parent.glob(f"*{path.suffix}")) if path.suffix else []
        there = f" {path.parent} holds {', '.join(near[:5])}." if near else ""
        msg = f"There is no {meaning} at {path}; check the path.{there}"
        raise CommandError(msg, UNREADABLE)
    return path


def require_cells(paths: Sequence[Path]) -> None:
    """Raise unless each path is a file or folder of cells, before anything is read."""
    from scquery_ae.io.kind import FORMATS, find_kind

    for path in paths:
        if is_reference(path):
            msg = f"{path} is a reference. Expected cells here: {FORMATS}; give the cells first, then the reference."
            raise CommandError(msg, UNREADABLE)
        find_kind(path)


def read_cells(paths: Path | Sequence[Path], **options: Any) -> AnnData:
    """Read files of cells with the options of :func:`scquery_ae.read`."""
    from scquery_ae.io import read

    listed = [paths] if isinstance(paths, Path) else list(paths)
    require_cells(listed)
    show_progress(f"reading {', '.join(map(str, listed))}")
    return read(listed, **options)
