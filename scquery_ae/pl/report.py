"""``pl.report``: a query on one page, for those who will read it and not run it."""

from __future__ import annotations

import secrets
from contextlib import suppress
from datetime import datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined, Template

from scquery_ae._checks import check_adata, check_flag, check_obs_key, check_path, check_slots, check_text
from scquery_ae._errors import ArgumentError, StorageError
from scquery_ae.pl import _report_beside, _report_labels, _report_sections, _report_unknown
from scquery_ae.pl._report_facts import check_preflight, read_answers, read_reference, reference_column
from scquery_ae.pl._report_parts import ILLEGAL, Section, cells, marked
from scquery_ae.pl._report_words import how_to_read

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scquery_ae.pp import CheckReport
    from scquery_ae.reference import Reference

_ENDINGS = (".html", ".htm")


def report(
    adata: AnnData,
    path: str | PathLike[str],
    *,
    reference: Reference | AnnData | None = None,
    check: CheckReport | None = None,
    batch_key: str | None = None,
    groupby: str | None = None,
    truth_key: str | None = None,
    label_key: str | None = None,
    basis: str | None = None,
    title: str | None = None,
    key_added: str = "scquery",
    overwrite: bool = False,
) -> Path:
    """Write a query as one HTML page: for a biologist to read, a lab book to keep, a printer to print.

    What was asked and of which reference, the check, how to read the numbers and when not to believe them, the
    composition with confidence, most and least certain types, unknown cells, reference and query together, the nearest
    studies, how to cite, parameters and versions. The page is one file, asks for nothing from any network and runs no
    script. What needs an argument that was not given is left out, with a sentence saying how to get it.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`. They are not changed.
    path
        File to write, ``.html``, in a folder that is there.
    reference
        The reference that was queried, or the AnnData of its cells, all and in their order.
    check
        Report of :func:`scquery_ae.pp.check` on the same cells.
    batch_key
        Column of the reference's ``obs``: studies, or donors, protocols, tissues.
    groupby
        Column of ``adata.obs`` with samples, donors or conditions whose composition is drawn.
    truth_key
        Column of ``adata.obs`` with types that are known, for a comparison.
    label_key
        Column of the reference's ``obs`` with its types; None for that of a :class:`scquery_ae.Reference`.
    basis
        Key of the ``obsm`` of `reference`, an AnnData, to show both in; query cells stand at the mean place of their
        neighbors. None for ``"X_umap"`` if it is there, otherwise the first two principal components of both embeddings
        together. No UMAP is computed.
    title
        Title of the page; None for a name made from the reference's.
    key_added
        Slot prefix given to ``tl.query``.
    overwrite
        Replace a file that is there.

    Returns
    -------
    Path of the page, which is written whole or not at all.

    Raises
    ------
    MissingKeyError
        If the cells were not queried, or a column is not there.
    ArgumentError
        If `path` cannot be written to or is there already, or `reference` or `check` is none or not of this query.
    StorageError
        If writing fails, say for want of space.
    """
    target = _check_target(path, overwrite=check_flag("overwrite", overwrite))
    check_adata(adata, "pl.report")
    slots = check_slots(key_added)
    if title is not None:
        check_text("title", title)
    if basis is not None:
        check_text("basis", basis)
    columns = []
    for name, column in (("groupby", groupby), ("truth_key", truth_key)):
        if column is not None:
            check_obs_key(adata, column, name)
            columns.append(column)
    found = None if check is None else check_preflight(check)
    answers = read_answers(adata, slots, columns)
    source = None if reference is None else read_reference(reference, answers, label_key)
    for name, wanted in (("batch_key", batch_key), ("label_key", label_key), ("basis", basis)):
        if wanted is not None and source is None:
            msg = f"`{name}` is about the reference. Received {wanted!r} without one; give it as `reference=`."
            raise ArgumentError(msg)
    if source is not None and batch_key is not None:
        reference_column(source.obs, batch_key, "batch_key")

    # Seconds are enough, and the offset says where.
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M (UTC%z)")
    name = str(answers.part("reference").get("name") or "")
    shown: list[Section] = [
        _report_sections.summary(answers, source, found, batch_key),
        _report_sections.asked(answers, source),
        _report_sections.check(answers, found),
        Section("read", "How to read these numbers, and when not to believe them", how_to_read(answers.parameters)),
        _report_labels.makeup(answers, source, groupby),
        _report_labels.certainty(answers),
        _report_unknown.unknowns(answers),
        _report_beside.together(answers, source, basis),
        _report_beside.studies(answers, source, batch_key),
        _report_labels.against_truth(answers, truth_key),
        _report_sections.citing(answers, source, batch_key),
        _report_sections.record(answers, when),
    ]
    page = _template().render(
        title=title or (f"Which types are these cells? Asked of {name}" if name else "Which types are these cells?"),
        about=f"{cells(answers.n_obs)}, asked of {name or 'a reference'}; {when}",
        sections=shown,
        version=version("scquery-ae"),
        when=when,
    )
    _write(target, ILLEGAL.sub("\ufffd", page))
    return target


def _check_target(path: Any, *, overwrite: bool) -> Path:
    target = check_path("path", path).expanduser()
    if target.suffix.lower() not in _ENDINGS:
        msg = f"`path` must end in one of {', '.join(_ENDINGS)}. Received {target.name!r}."
        raise ArgumentError(msg)
    if target.is_dir() or not target.parent.is_dir():
        msg = f"`path` must name a file in a folder that is there. Received {str(target)!r}; make the folder first."
        raise ArgumentError(msg)
    if target.exists() and not overwrite:
        msg = f"`path` is there already: {str(target)!r}. Choose another name, or give `overwrite=True` to replace it."
        raise ArgumentError(msg)
    return target


@cache
def _template() -> Template:
    page = files("scquery_ae.pl").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["marked"] = marked
    return environment.from_string(page)


def _write(path: Path, page: str) -> None:
    """Write a page whole or not at all: beside its place first, and then into it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.writing")
    try:
        draft.write_text(page, encoding="utf-8", newline="\n")
        draft.replace(path)
    except OSError as error:
        msg = (
            f"The page could not be written to {str(path)!r}: {error.strerror or error}. Nothing was left behind; free "
            "some space, or choose another place."
        )
        raise StorageError(msg) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
