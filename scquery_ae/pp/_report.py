"""The report of ``pp.check``, as text and for notebooks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from scquery_ae._checks import shown
from scquery_ae.reference import ExpectedAccuracy


@dataclass(frozen=True, repr=False)
class CheckReport:
    """The result of :func:`scquery_ae.pp.check`. Print it, or show it in a notebook.

    Attributes
    ----------
    n_obs
        Number of query cells.
    genes
        Gene report: ``n_genes``, ``n_found``, ``key``, ``guessed``, ``missing``, ``ambiguous``.
    important_missing
        Missing genes with the largest weights in the encoder.
    source, input_state, reason
        Slot of the matrix that a query reads, the kind of its values, and the reason for it.
    counts, reference_counts
        Median over cells of the counts in the model genes, of the query and of the reference. They are comparable if
        the query holds counts.
    detected, reference_detected
        Median over cells of the number of detected model genes, of the query and of the reference.
    species, reference_species
        ``"human"``, ``"mouse"`` or ``""`` (undecided), detected from the gene names.
    empty
        Names of cells without counts in the model genes.
    expected_accuracy
        Accuracy on the reference's held-out cells with the genes of the query, and for counts its depth. None if it was
        not requested, or the reference has no such cells.
    problems
        What to look at before a query, in words. Empty if there is nothing.
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
        """Return the report as a dictionary of plain values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    def lines(self) -> list[tuple[str, str]]:
        """Return the report as pairs of a name and a value, both text."""
        found, total = self.genes["n_found"], self.genes["n_genes"]
        key = self.genes["key"] + (" (the best match)" if self.genes["guessed"] else "")
        lines = [
            ("cells", f"{self.n_obs}, read from {self.source}"),
            ("values", f"{self.input_state}: {self.reason}"),
            ("genes", f"{found} of {total} model genes ({found / total:.0%}), matched by {key}"),
        ]
        if self.important_missing:
            lines.append(
                ("missing", f"{total - found} model genes, the most important: {shown(self.important_missing)}")
            )
        lines += [
            ("depth", self._depth()),
            ("detected", f"{self.detected:.4g} model genes per cell (median); reference {self.reference_detected:.4g}"),
        ]
        if self.expected_accuracy is not None:
            result = self.expected_accuracy
            # The depth of logarithms is not known, and not simulated.
            simulated = "genes and depth" if self.input_state == "counts" else "genes"
            lines.append(
                (
                    "expected",
                    f"accuracy {result.accuracy:.2f}, macro-F1 {result.macro_f1:.2f}, on held-out cells of the "
                    f"reference with the {simulated} of the query",
                )
            )
            weak = sorted((value, kind) for kind, value in result.f1.items() if value < 0.8)
            if weak:
                listed = ", ".join(f"{kind} {value:.2f} ({result.n_cells[kind]} cells)" for value, kind in weak[:8])
                lines.append(("weak types", f"F1 of {listed}"))
        return lines

    def _depth(self) -> str:
        if self.input_state != "counts":
            return f"not comparable: values are {self.input_state}"
        return f"{self.counts:.4g} counts in the model genes (median); reference {self.reference_counts:.4g}"

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.lines())
        lines = [f"{name:{width}}  {text}" for name, text in self.lines()]
        lines += [f"{'problem':{width}}  {problem}" for problem in self.problems] or ["no problems found"]
        return "\n".join(lines)

    # Consoles and notebooks without HTML show a value by its repr.
    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [(name, text, "") for name, text in self.lines()]
        rows += [("problem", problem, "background:#fff3cd;color:#000") for problem in self.problems]
        if not self.problems:
            rows.append(("", "no problems found", ""))
        cells = "".join(
            f'<tr style="{style}"><th style="text-align:left;vertical-align:top">{escape(name)}</th>'
            f'<td style="text-align:left">{escape(text)}</td></tr>'
            for name, text, style in rows
        )
        return f"<table>{cells}</table>"
