"""``scquery-ae merge``: one reference from several."""

from __future__ import annotations

from pathlib import Path

import click

from scquery_ae._errors import ScqueryError
from scquery_ae.cli import changes
from scquery_ae.cli.console import show_progress
from scquery_ae.cli.exit_codes import CommandError
from scquery_ae.cli.options import PATH, command, reporting


@command("merge")
@click.argument("reference", type=PATH)
@click.argument("others", type=PATH, nargs=-1, required=True, metavar="OTHER...")
@changes.target
@click.option("--dry-run", is_flag=True, help="Report what would be merged, and write nothing.")
@reporting
def merge(
    reference: Path,
    others: tuple[Path, ...],
    output: Path | None,
    *,
    in_place: bool,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    r"""Merge references that share an encoder, without training.

    The cells of each OTHER are added to REFERENCE, whose columns of obs are kept. Confidence is calibrated again.

    \b
    Examples:
      scquery-ae merge islets.scq more.scq -o all.scq
      scquery-ae merge islets.scq donor1.scq donor2.scq --dry-run
      scquery-ae merge islets.scq donor1.scq donor2.scq --in-place
    """
    from scquery_ae.cli.cells import load_reference
    from scquery_ae.cli.outputs import save_reference

    named = [reference, *others]
    for i, path in enumerate(named):
        if path.resolve() in [other.resolve() for other in named[:i]]:
            msg = f"{path} is given twice, so its cells would be in the result twice. Give each reference once."
            raise click.UsageError(msg)
    target = changes.find_target(reference, output, [*others], in_place=in_place, overwrite=overwrite, dry_run=dry_run)
    loaded = load_reference(reference)
    before, n_before = changes.type_counts(loaded), loaded.n_obs
    for path in others:
        other = load_reference(path)
        show_progress(f"merging in {other.n_obs} cells")
        try:
            loaded.merge(other)
        except ScqueryError as error:
            msg = f"{path} cannot be merged: {error}"
            raise CommandError(msg) from error
    if target is not None:
        save_reference(loaded, target, overwrite=in_place or overwrite)
    n_cells = loaded.n_obs - n_before
    changes.report("merge", loaded, before, target, n_cells=n_cells, as_json=as_json, others=others)
