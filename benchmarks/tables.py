"""The tables of ``accuracy.py``: means and 95 % intervals over seeds, beside the best peer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats
from tasks import WITH_QUERY

OURS = "scquery_ae"
#: Figures of the main table: name and digits.
FIGURES = {
    "accuracy": ("accuracy", 3),
    "macro_f1": ("macro-F1", 3),
    "map": ("MAP@100", 3),
    "ece": ("ECE", 3),
    "aurc": ("risk-coverage area", 3),
    "auroc": ("unknown, AUROC", 3),
}


def summary(rows: pd.DataFrame) -> str:
    """Return macro-F1 by task and method, and the comparison with the best peer."""
    whole = rows[rows["failed"].isna() & (rows["variant"] == "whole")]
    return "\n".join([*by_task(whole, "macro_f1"), "", *beside_best(whole), ""])


def markdown(rows: pd.DataFrame) -> str:
    """Return all other tables."""
    good = rows[rows["failed"].isna()]
    parts = [("All figures", every_figure(good[good["variant"] == "whole"]))]
    for title, text, figure in (
        ("A share of the genes, macro-F1", "of the genes", "macro_f1"),
        ("A share of the depth, macro-F1", "of the depth", "macro_f1"),
        ("Few labels, macro-F1", "labels a type", "macro_f1"),
        ("A fifth of the labels wrong, macro-F1", "wrong labels", "macro_f1"),
        ("A type taken from the reference, AUROC of its cells", "without", "auroc"),
    ):
        own = good[good["variant"].str.contains(text, regex=False)]
        if len(own):
            parts.append((title, by_variant(own, figure)))
    added = with_and_without(good, WITH_QUERY)
    if added:
        parts.append(("The query's cells, unlabelled, in pretraining: another question", added))
    lines = [line for title, table in parts for line in (f"## {title}", "", *table, "")]
    failed = rows[rows["failed"].notna()]
    if len(failed):
        lines += ["## Failed", ""]
        for (method, message), own in failed.groupby(["method", "failed"], sort=False):
            where = ", ".join(sorted({f"{row.task} ({row.variant})" for row in own.itertuples()}))
            lines.append(f"- {method}: `{message}`: {where}")
        lines.append("")
    return "\n".join(lines)


def by_task(whole: pd.DataFrame, figure: str) -> list[str]:
    """Return methods by tasks, and the mean over tasks; best first."""
    means = whole.pivot_table(index="method", columns="task", values=figure, sort=False)
    mean = means.mean(axis=1).where(means.notna().all(axis=1))
    order = mean.sort_values(ascending=False, na_position="last").index
    lines = ["| method | " + " | ".join(means.columns) + " | mean |", "|---|" + "---|" * (means.shape[1] + 1)]
    for method in order:
        cells = [
            interval(whole.loc[(whole["method"] == method) & (whole["task"] == task), figure].to_numpy())
            for task in means.columns
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {_number(mean[method], 3)} |")
    return lines


def beside_best(whole: pd.DataFrame) -> list[str]:
    """Return, for each task, the best peer and the difference to it, paired by seed.

    The best is that from which ours differs least: not all have run as many seeds, and seeds may be other queries.
    """
    lines = ["| task | best peer | its macro-F1 | ours | difference | p, paired t |", "|---|---|---|---|---|---|"]
    for task, own in whole.groupby("task", sort=False):
        table = own.pivot_table(index="seed", columns="method", values="macro_f1")
        if OURS not in table or table.shape[1] < 2:
            continue
        gains = table.drop(columns=OURS).rsub(table[OURS], axis=0)
        peer = gains.mean().idxmin()
        both = table[[OURS, peer]].dropna()
        gain = gains[peer].dropna().to_numpy()
        spread = len(gain) > 1 and gain.std() > 0
        p = f"{stats.ttest_1samp(gain, 0).pvalue:.3g}" if spread else ""
        its, ours = (interval(both[name].to_numpy()) for name in (peer, OURS))
        lines.append(f"| {task} | {peer} | {its} | {ours} | {interval(gain)} | {p} |")
    return lines


def every_figure(whole: pd.DataFrame) -> list[str]:
    names = [name for name, _ in FIGURES.values()]
    lines = ["| task | method | seeds | " + " | ".join(names) + " |", "|---|---|---|" + "---|" * len(names)]
    for (task, method), own in whole.groupby(["task", "method"], sort=False):
        cells = [
            interval(own[figure].to_numpy()) if figure in ("accuracy", "macro_f1", "map") else _number(mean, digits)
            for figure, (_, digits) in FIGURES.items()
            for mean in [own[figure].mean()]
        ]
        lines.append(f"| {task} | {method} | {len(own)} | " + " | ".join(cells) + " |")
    return lines


def by_variant(rows: pd.DataFrame, figure: str) -> list[str]:
    """Return tasks and variants by methods; the best of a row is bold."""
    methods = list(dict.fromkeys(rows["method"]))
    lines = ["| task | variant | " + " | ".join(methods) + " |", "|---|---|" + "---|" * len(methods)]
    for (task, variant), own in rows.groupby(["task", "variant"], sort=False):
        means = own.groupby("method")[figure].mean()
        cells = [_number(means.get(method, np.nan), 3) for method in methods]
        best = _number(means.max(), 3)
        lines.append(
            f"| {task} | {variant} | " + " | ".join(f"**{c}**" if c and c == best else c for c in cells) + " |"
        )
    means = rows.groupby(["method", "task", "variant"])[figure].mean().unstack("method")
    complete = means.dropna(axis=1)
    cells = [_number(complete[method].mean(), 3) if method in complete else "" for method in methods]
    lines.append("| mean | | " + " | ".join(cells) + " |")
    return lines


def with_and_without(rows: pd.DataFrame, variant: str) -> list[str]:
    """Return a variant of our own beside the whole task, paired by seed; nothing where it was not run."""
    own = rows[rows["method"] == OURS].pivot_table(
        index=["task", "seed"], columns="variant", values="macro_f1", sort=False
    )
    if variant not in own:
        return []
    lines = ["| task | macro-F1 without | with | difference |", "|---|---|---|---|"]
    for task, both in own[["whole", variant]].dropna().groupby("task", sort=False):
        columns = both["whole"], both[variant], both[variant] - both["whole"]
        lines.append(f"| {task} | " + " | ".join(interval(column.to_numpy()) for column in columns) + " |")
    return lines


def interval(values: np.ndarray) -> str:
    """Return the mean and the 95 % t interval over seeds; nothing where a value is missing."""
    values = np.asarray(values, dtype=float)
    if not len(values) or np.isnan(values).any():
        return ""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{values.mean():.3f} ± {half:.3f}"


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:,.{digits}f}"
