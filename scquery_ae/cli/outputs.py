"""Places of outputs, checked before the work begins."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scquery_ae._errors import BundleError
from scquery_ae.cli.cells import is_reference
from scquery_ae.cli.console import show_progress
from scquery_ae.cli.exit_codes import CommandError

if TYPE_CHECKING:
    from scquery_ae.reference import Reference


def check_outputs(
    paths: Sequence[Path], inputs: Sequence[Path], *, overwrite: bool, suffixes: Sequence[str] = ()
) -> None:
    """Raise unless files can be written.

    Parameters
    ----------
    paths
        Files to write.
    inputs
        Files that are read, which are never overwritten.
    overwrite
        Whether existing files may be replaced.
    suffixes
        Suffixes that the files may have; empty for any.

    Raises
    ------
    CommandError
        If a file cannot be written.
    click.UsageError
        If a suffix is unknown, or two paths are the same.
    """
    for i, path in enumerate(paths):
        if suffixes and not path.name.endswith(tuple(suffixes)):
            msg = f"The suffix of {path} sets the format. Expected one of {', '.join(suffixes)}."
            raise click.UsageError(msg)
        if path.resolve() in [other.resolve() for other in paths[:i]]:
            msg = f"{path} is given twice as an output. Give each output once."
            raise click.UsageError(msg)
        for source in inputs:
            _keep_apart(path, source)
        if path.is_dir():
            msg = f"{path} is a folder. Expected the path of a file; choose another name."
            raise CommandError(msg)
        if path.exists() and not overwrite:
            msg = f"{path} already exists. Pass --overwrite to replace it, or choose another name."
            raise CommandError(msg)
        _check_folder(path)


def check_reference_output(path: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Raise unless a reference can be saved under a path."""
    for source in inputs:
        _keep_apart(path, source)
    if path.exists() or path.is_symlink():
        if not is_reference(path):
            msg = f"{path} already exists and is not a reference. Choose another name, such as pbmc.scq."
            raise CommandError(msg)
        if not overwrite:
            msg = f"There is already a reference at {path}. Pass --overwrite to replace it, or choose another name."
            raise CommandError(msg)
    _check_folder(path)


def save_reference(reference: Reference, path: Path, *, overwrite: bool) -> None:
    """Save a reference, whole or not at all."""
    show_progress(f"writing {path}")
    try:
        reference.save(path, overwrite=overwrite)
    except BundleError as error:  # about the place of the output, not about a damaged input
        raise CommandError(str(error)) from error


def _keep_apart(path: Path, source: Path) -> None:
    """Raise if an output would change an input."""
    same = path.exists() and source.exists() and path.samefile(source)
    # Results may lie in a folder beside a 10x matrix, but not inside a .zarr or .scq folder.
    within = source.resolve() in path.resolve().parents and any(
        (source / name).exists() for name in (".zgroup", "zarr.json", "manifest.json")
    )
    if same or within:
        place = "is an input" if same else f"is inside {source}, which is an input"
        msg = f"{path} {place}. Choose another place for the output."
        raise CommandError(msg)


def _check_folder(path: Path) -> None:
    """Raise unless a file can be made in the folder of a path."""
    folder = path.absolute().parent
    if not folder.exists():
        msg = f"{path} cannot be written: there is no folder {folder}. Make it first, or choose another place."
        raise CommandError(msg)
    try:
        # Permissions do not tell for network drives and full quotas.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error} ({folder}). Choose another place."
        raise CommandError(msg) from error
