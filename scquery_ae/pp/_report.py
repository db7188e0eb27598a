"""The report of ``pp.check``, as text and for notebooks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from scquery_ae._checks import shown
from scquery_ae.reference import ExpectedAccuracy


@dataclass(frozen=True, repr=False)
class CheckReport:
    """What :func:`scquery_ae.pp.check` found; print it to read it, or show it in a notebook.

    Attributes
    ----------
    n_obs
        Query cells.
    genes
        Gene report: ``n_genes``, ``n_found``, ``key``, ``guessed``, ``missing``, ``ambiguous``.
    important_missing
        Missing genes with the largest weights in the encoder.
    source, input_state, reason
        Which matrix would be read, what it holds, and why.
    counts, reference_counts
        Median over cells of the counts in the model genes, here and in the reference. For a query that is not counts
        the figure is not comparable.
    detected, reference_detected
        Median over cells of the model genes detected.
    species, reference_species
        ``"human"``, ``"mouse"`` or ``""``, told from how genes are written.
    empty
        Names of cells without any value in the model genes.
    expected_accuracy
        How well the reference names its own held-out cells through the query's genes and depth; None if it was not
        asked for, or there are no such cells.
    problems
        What to look at before querying, in words; empty if all is well.
    """

    n_obs: int
    genes: dict[str, Any]
    important_missing: tuple[str, ...]
    source: str
    input_state: str
    reason: str
    counts: float
    reference_counts: float
    detected: float
    reference_detected: float
    species: str
    reference_species: str
    empty: tuple[str, ...]
    expected_accuracy: ExpectedAccuracy | None
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    def lines(self) -> list[tuple[str, str]]:
        """Return the report as pairs of a word and what it says."""
        found, total = self.genes["n_found"], self.genes["n_genes"]
        key = self.genes["key"] + (" (the best fit)" if self.genes["guessed"] else "")
        lines = [
            ("cells", f"{self.n_obs}, read from {self.source}"),
            ("values", f"{self.input_state}: {self.reason}"),
            ("genes", f"{found} of {total} model genes ({found / total:.0%}), matched by {key}"),
        ]
        if self.important_missing:
            lines.append(("missing", f"{total - found}; those that matter most: {shown(self.important_missing)}"))
        lines += [
            ("depth", f"{self.counts:.4g} in the model genes of a median cell; reference {self.reference_counts:.4g}"),
            ("detected", f"{self.detected:.4g} model genes in a median cell; reference {self.reference_detected:.4g}"),
        ]
        if self.expected_accuracy is not None:
            result = self.expected_accuracy
            lines.append(
                (
                    "expected_accuracy",
                    f"macro-F1 {result.macro_f1:.2f}, accuracy {result.accuracy:.2f} on the reference's own held-out "
                    "cells seen through these genes and this depth",
                )
            )
            weak = sorted((value, kind) for kind, value in result.f1.items() if value < 0.8)
            if weak:
                listed = ", ".join(f"{kind} {value:.2f} ({result.n_cells[kind]} cells)" for value, kind in weak[:8])
                lines.append(("weak types", f"F1 of {listed}"))
        return lines

    def __str__(self) -> str:
        width = max(len(word) for word, _ in self.lines())
        lines = [f"{word:{width}}  {text}" for word, text in self.lines()]
        lines += [f"{'look at':{width}}  {problem}" for problem in self.problems] or [
            "nothing stands in the way of a query"
        ]
        return "\n".join(lines)

    # A notebook without HTML shows the last value of a cell by its repr.
    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [(word, text, "") for word, text in self.lines()]
        rows += [("look at", problem, "background:#fff3cd;color:#000") for problem in self.problems]
        if not self.problems:
            rows.append(("", "nothing stands in the way of a query", ""))
        cells = "".join(
            f'<tr style="{style}"><th style="text-align:left;vertical-align:top">{escape(word)}</th>'
            f'<td style="text-align:left">{escape(text)}</td></tr>'
            for word, text, style in rows
        )
        return f"<table>{cells}</table>"
