"""``report.write``: one query as an HTML page."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined, Template

from scquery_ae._checks import check_adata, check_flag, check_obs_key, check_path, check_slots, check_text
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError
from scquery_ae.io import write_whole
from scquery_ae.pl._results import reference_column
from scquery_ae.pp import CheckReport
from scquery_ae.report import comparison, details, doubts, labels
from scquery_ae.report.inputs import QueriedReference, QueryResults, read_reference, read_results
from scquery_ae.report.parts import ILLEGAL, Section, cells, marked

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scquery_ae.reference import Reference

_ENDINGS = (".html", ".htm")


@shared_parameters
def write(
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
    """Write a report about one query as an HTML page, to read, send, keep or print.

    The page begins with a summary: cell types, confidence, and what to doubt in this query. Sections on cell types,
    confidence, unknown cells, expected accuracy, the limits of the method, a comparison with the reference, a
    glossary and the citation follow; parameters and versions come last. Sections that need an argument are left out
    without it, and the page lists them.

    The page is one file. It loads nothing from a network and runs no script.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`. They are not changed.
    path
        File to write, ``.html`` or ``.htm``, in an existing folder.
    reference
        The :class:`~scquery_ae.Reference` that was queried, or the AnnData of its cells, complete and in their order.
    check
        Report of :func:`scquery_ae.pp.check` on the same cells.
    batch_key
        Column of the reference's ``obs`` with batches, such as studies, donors or samples.
    groupby
        Column of ``adata.obs`` with samples, donors or conditions whose composition is shown.
    truth_key
        Column of ``adata.obs`` with known types, for a comparison.
    label_key
        Column of the reference's ``obs`` with its types. None takes the one of a :class:`~scquery_ae.Reference`.
    basis
        Key in the ``obsm`` of `reference`, an AnnData, in which query and reference are shown; query cells are drawn
        at the mean position of their neighbors. None takes ``"X_umap"`` if it is there, and otherwise the first two
        principal components of both embeddings together. No UMAP is computed.
    title
        Title of the page. None makes one from the name of the reference.
    %(key_added)s
    overwrite
        Replace an existing file.

    Returns
    -------
    Path of the page, which is written completely or not at all.

    Raises
    ------
    MissingKeyError
        If the cells were not queried, or a column is missing.
    ArgumentError
        If `path` exists or cannot be written to, or `reference` or `check` is of another type or of another query.
    StorageError
        If writing fails, for example because the disk is full.

    Examples
    --------
    >>> check = scq.pp.check(query, "islets.scq")  # doctest: +SKIP
    >>> scq.tl.query(query, "islets.scq")  # doctest: +SKIP
    >>> scq.report.write(query, "islets.html", check=check)  # doctest: +SKIP
    """
    target = _check_target(path, overwrite=check_flag("overwrite", overwrite))
    check_adata(adata, "report.write")
    slots = check_slots(key_added)
    if title is not None:
        check_text("title", title)
    if basis is not None:
        check_text("basis", basis)
    if check is not None and not isinstance(check, CheckReport):
        msg = (
            "`check` must be the report of `scq.pp.check(adata, reference)`, or None. "
            f"Received {type(check).__name__}; make one and pass it."
        )
        raise ArgumentError(msg)
    columns = []
    for name, column in (("groupby", groupby), ("truth_key", truth_key)):
        if column is not None:
            check_obs_key(adata, column, name)
            columns.append(column)
    results = read_results(adata, slots, columns)
    source = None if reference is None else read_reference(reference, results, label_key)
    for name, wanted in (("batch_key", batch_key), ("label_key", label_key), ("basis", basis)):
        if wanted is not None and source is None:
            msg = f"`{name}` belongs to the reference. Received {name}={wanted!r} without one; pass it as `reference=`."
            raise ArgumentError(msg)
    if source is not None and batch_key is not None:
        reference_column(source.obs, batch_key, "batch_key")

    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M (UTC%z)")
    name = str(results.part("reference").get("name") or "")
    sections = _sections(results, source, check, batch_key, groupby, truth_key, basis)
    included = {section.key for section in sections} | ({"samples"} if groupby is not None else set())
    sections.append(details.technical(results, source, when, included))
    page = _template().render(
        title=title or (f"Cell types predicted from {name}" if name else "Predicted cell types"),
        about=f"{cells(results.n_obs)} queried against {name or 'a reference'}; report of {when}",
        sections=sections,
        version=version("scquery-ae"),
        when=when,
    )
    text = ILLEGAL.sub("\ufffd", page)
    write_whole(target, lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"))
    return target


def _sections(
    results: QueryResults,
    reference: QueriedReference | None,
    check: CheckReport | None,
    batch_key: str | None,
    groupby: str | None,
    truth_key: str | None,
    basis: str | None,
) -> list[Section]:
    """Return the sections in the order of the page, without the technical details."""
    sections = [
        doubts.summary(results, reference, check, batch_key),
        labels.cell_types(results, reference, groupby),
        labels.confidence_by_type(results),
        doubts.unknown_cells(results),
    ]
    if check is not None:
        sections.append(doubts.checked(results, check))
    sections.append(doubts.limits())
    if truth_key is not None:
        sections.append(labels.known_types(results, truth_key))
    if reference is not None:
        sections.append(comparison.one_embedding(results, reference, basis))
        if batch_key is not None:
            sections.append(comparison.batches(results, reference, batch_key))
    return [*sections, details.glossary(results), details.citation(results, reference)]


def _check_target(path: Any, *, overwrite: bool) -> Path:
    target = check_path("path", path).expanduser()
    if target.suffix.lower() not in _ENDINGS:
        msg = f"`path` must end in one of {', '.join(_ENDINGS)}. Received {target.name!r}."
        raise ArgumentError(msg)
    if target.is_dir() or not target.parent.is_dir():
        msg = f"`path` must name a file in an existing folder. Received {str(target)!r}; make the folder first."
        raise ArgumentError(msg)
    if target.exists() and not overwrite:
        msg = f"`path` exists: {str(target)!r}. Choose another name, or pass `overwrite=True` to replace the file."
        raise ArgumentError(msg)
    return target


@cache
def _template() -> Template:
    page = files("scquery_ae.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["marked"] = marked
    return environment.from_string(page)
