"""Files that a command writes: looked at before the work, and put in place whole after it."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scquery_ae._errors import BundleError
from scquery_ae.cli.echo import note
from scquery_ae.cli.failures import Problem, spoken

if TYPE_CHECKING:
    from scquery_ae.reference import Reference

#: What a full disk and the like make of the libraries that write.
_WRITING = (OSError, RuntimeError)


def check_outputs(
    paths: Sequence[Path], inputs: Sequence[Path], *, overwrite: bool, endings: Sequence[str] = ()
) -> None:
    """Make sure that files can be written when the work is done.

    Parameters
    ----------
    paths
        Files to write.
    inputs
        Files that are read, which are never written to.
    overwrite
        Whether files that are there may be replaced.
    endings
        Endings that they may have; none for any.

    Raises
    ------
    Problem
        If one could not be written.
    click.UsageError
        If an ending is not known, or two are the same.
    """
    for i, path in enumerate(paths):
        if endings and not path.name.endswith(tuple(endings)):
            msg = f"{path} ends in none of {', '.join(endings)}, which say what to write."
            raise click.UsageError(msg)
        if path.resolve() in [other.resolve() for other in paths[:i]]:
            msg = f"{path} is named twice as a file to write."
            raise click.UsageError(msg)
        for source in inputs:
            _keep_apart(path, source)
        if path.is_dir():
            msg = f"{path} is a folder, and would have to be a file. Choose another name."
            raise Problem(msg)
        if path.exists() and not overwrite:
            msg = f"{path} is there already. Pass --overwrite to replace it, or choose another name."
            raise Problem(msg)
        _check_folder(path)


def check_reference_output(path: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Make sure that a reference can be saved under a path when the work is done."""
    from scquery_ae.cli.cells import is_reference

    for source in inputs:
        _keep_apart(path, source)
    if path.exists() or path.is_symlink():
        if not is_reference(path):
            msg = f"{path} is there already and is no reference. Choose another name, such as pbmc.scq."
            raise Problem(msg)
        if not overwrite:
            msg = f"There is a reference at {path} already. Pass --overwrite to replace it, or choose another name."
            raise Problem(msg)
    _check_folder(path)


def _keep_apart(path: Path, source: Path) -> None:
    same = path.exists() and source.exists() and path.samefile(source)
    # A matrix in a folder of loose files may have results beside it; a .zarr or .scq folder is one thing.
    within = source.resolve() in path.resolve().parents and any(
        (source / name).exists() for name in (".zgroup", "zarr.json", "manifest.json")
    )
    if same or within:
        msg = f"{path} is {'what is read' if same else f'inside {source}, which is read'}. Choose another place."
        raise Problem(msg)


def _check_folder(path: Path) -> None:
    """Try to write where a file is to be: permissions do not tell for network drives and full quotas."""
    folder = next((p for p in path.absolute().parents if p.exists()), path.absolute().parent)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error} ({folder}). Choose another place with --output."
        raise Problem(msg) from error


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Write one file, whole or not at all.

    Parameters
    ----------
    path
        Where it is to be; its folder is made if it is not there.
    save
        Called with the path of a draft beside it, of the same ending.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.writing{path.suffix}")
    note(f"writing {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(draft)
        draft.replace(path)
    except _WRITING as error:
        msg = f"{path} could not be written: {' '.join(str(error).split())}. Nothing was left behind; free some space, "
        raise Problem(msg + "or choose another place with --output.") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def save_reference(reference: Reference, path: Path, *, overwrite: bool) -> None:
    """Save a reference, whole or not at all."""
    note(f"writing {path}")
    try:
        reference.save(path, overwrite=overwrite)
    except BundleError as error:  # which here is about the place, not about a damaged reference
        raise Problem(spoken(str(error))) from error
