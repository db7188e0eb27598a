"""The tables of ``accuracy.py``: means and 95 % intervals over seeds, and the comparison with the best peer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats
from tasks import WITH_QUERY

OURS = "scquery_ae"
#: Measures of the main table: header and digits.
MEASURES = {
    "accuracy": ("accuracy", 3),
    "macro_f1": ("macro-F1", 3),
    "map": ("MAP@100", 3),
    "ece": ("ECE", 3),
    "aurc": ("risk-coverage area", 3),
    "auroc": ("AUROC, unknown types", 3),
}
#: Level of the comparison with the best peer.
ALPHA = 0.05


def summary(rows: pd.DataFrame) -> str:
    """Return macro-F1 by task and method, the comparison with the best peer, and the means of all measures."""
    whole = rows[rows["failed"].isna() & (rows["variant"] == "whole")]
    compared = comparison(whole)
    return "\n".join(
        [*by_task(whole, "macro_f1"), "", *best_peer(compared), "", *means(whole), "", *verdicts(compared), ""]
    )


def markdown(rows: pd.DataFrame) -> str:
    """Return all other tables."""
    good = rows[rows["failed"].isna()]
    parts = [("All measures", all_measures(good[good["variant"] == "whole"]))]
    for title, text, measure in (
        ("Fraction of the genes, macro-F1", "of the genes", "macro_f1"),
        ("Fraction of the counts, macro-F1", "of the counts", "macro_f1"),
        ("Few labels, macro-F1", "labels per type", "macro_f1"),
        ("Replaced labels, macro-F1", "replaced labels", "macro_f1"),
        ("Type removed from the reference, AUROC of its cells", "without", "auroc"),
    ):
        own = good[good["variant"].str.contains(text, regex=False)]
        if len(own):
            parts.append((title, by_variant(own, measure)))
    added = with_and_without(good, WITH_QUERY)
    if added:
        parts.append(("Query cells in pretraining, without labels", added))
    lines = [line for title, table in parts for line in (f"## {title}", "", *table, "")]
    failed = rows[rows["failed"].notna()]
    if len(failed):
        lines += ["## Failed", ""]
        for (method, message), own in failed.groupby(["method", "failed"], sort=False):
            where = ", ".join(sorted({f"{row.task} ({row.variant})" for row in own.itertuples()}))
            lines.append(f"- {method}: `{message}`: {where}")
        lines.append("")
    return "\n".join(lines)


def by_task(whole: pd.DataFrame, measure: str) -> list[str]:
    """Return methods by tasks, best mean first. The mean comes before the tasks, where a narrow page shows it."""
    table = whole.pivot_table(index="method", columns="task", values=measure, sort=False)
    mean = table.mean(axis=1).where(table.notna().all(axis=1))
    order = mean.sort_values(ascending=False, na_position="last").index
    # With spaces in place of underscores, long names of tasks can be broken over lines.
    headers = [task.replace("_", " ") for task in table.columns]
    lines = ["| method | mean | " + " | ".join(headers) + " |", "|---|---|" + "---|" * table.shape[1]]
    for method in order:
        cells = [
            interval(whole.loc[(whole["method"] == method) & (whole["task"] == task), measure].to_numpy())
            for task in table.columns
        ]
        lines.append(f"| {method} | {_number(mean[method], 3)} | " + " | ".join(cells) + " |")
    return lines


def comparison(whole: pd.DataFrame) -> dict[str, tuple[str, np.ndarray, np.ndarray, float]]:
    """Return, for each task, the best peer, its macro-F1, ours on the same seeds, and the p-value of a paired t test.

    The best peer is the one with the smallest mean difference on the seeds that both ran: methods ran different
    numbers of seeds, and a seed may choose another query. The p-value is NaN where there is no spread over seeds.
    """
    found = {}
    for task, own in whole.groupby("task", sort=False):
        table = own.pivot_table(index="seed", columns="method", values="macro_f1")
        if OURS not in table or table.shape[1] < 2:
            continue
        peer = table.drop(columns=OURS).rsub(table[OURS], axis=0).mean().idxmin()
        both = table[[OURS, peer]].dropna()
        gain = (both[OURS] - both[peer]).to_numpy()
        spread = len(gain) > 1 and gain.std() > 0
        p = float(stats.ttest_1samp(gain, 0).pvalue) if spread else np.nan
        found[str(task)] = (str(peer), both[peer].to_numpy(), both[OURS].to_numpy(), p)
    return found


def best_peer(compared: dict[str, tuple[str, np.ndarray, np.ndarray, float]]) -> list[str]:
    """Return each task's best peer and the difference from it, paired by seed."""
    lines = [f"| task | best peer | its macro-F1 | {OURS} | difference | p, paired t |", "|---|---|---|---|---|---|"]
    for task, (peer, theirs, ours, p) in compared.items():
        p_value = "" if np.isnan(p) else f"{p:.3g}"
        lines.append(
            f"| {task} | {peer} | {interval(theirs)} | {interval(ours)} | {interval(ours - theirs)} | {p_value} |"
        )
    return lines


def verdicts(compared: dict[str, tuple[str, np.ndarray, np.ndarray, float]]) -> list[str]:
    """Return in how many tasks ours is significantly better or worse than the best peer."""
    counts = {"better": 0, "worse": 0, "no significant difference": 0}
    for _, theirs, ours, p in compared.values():
        verdict = "better" if np.mean(ours - theirs) > 0 else "worse"
        counts[verdict if p < ALPHA else "no significant difference"] += 1
    lines = [f"| comparison with the best peer (p < {ALPHA}) | tasks |", "|---|---|"]
    return lines + [f"| {verdict} | {n} |" for verdict, n in counts.items()]


def means(whole: pd.DataFrame) -> list[str]:
    """Return the mean of each measure over the tasks that define it; nothing where a method lacks one of them."""
    headers = [header for header, _ in MEASURES.values()]
    lines = ["| method | " + " | ".join(headers) + " |", "|---|" + "---|" * len(headers)]
    columns = {}
    for measure, (header, _) in MEASURES.items():
        table = whole.pivot_table(index="method", columns="task", values=measure, sort=False)
        columns[header] = table.mean(axis=1).where(table.notna().all(axis=1))
    table = pd.DataFrame(columns).sort_values("macro-F1", ascending=False, na_position="last")
    for method, row in table.iterrows():
        lines.append(f"| {method} | " + " | ".join(_number(value, 3) for value in row) + " |")
    return lines


def all_measures(whole: pd.DataFrame) -> list[str]:
    """Return every measure of every method and task."""
    headers = [header for header, _ in MEASURES.values()]
    lines = ["| task | method | seeds | " + " | ".join(headers) + " |", "|---|---|---|" + "---|" * len(headers)]
    for (task, method), own in whole.groupby(["task", "method"], sort=False):
        cells = [
            interval(own[measure].to_numpy()) if measure in ("accuracy", "macro_f1", "map") else _number(mean, digits)
            for measure, (_, digits) in MEASURES.items()
            for mean in [own[measure].mean()]
        ]
        lines.append(f"| {task} | {method} | {len(own)} | " + " | ".join(cells) + " |")
    return lines


def by_variant(rows: pd.DataFrame, measure: str) -> list[str]:
    """Return tasks and variants by methods; the best value of a row is bold."""
    methods = list(dict.fromkeys(rows["method"]))
    lines = ["| task | variant | " + " | ".join(methods) + " |", "|---|---|" + "---|" * len(methods)]
    for (task, variant), own in rows.groupby(["task", "variant"], sort=False):
        mean = own.groupby("method")[measure].mean()
        cells = [_number(mean.get(method, np.nan), 3) for method in methods]
        best = _number(mean.max(), 3)
        lines.append(
            f"| {task} | {variant} | " + " | ".join(f"**{c}**" if c and c == best else c for c in cells) + " |"
        )
    mean = rows.groupby(["method", "task", "variant"])[measure].mean().unstack("method")
    lines.append(f"| mean | | {' | '.join(_complete(mean, methods))} |")
    variants = mean.groupby("variant", sort=False)
    if measure == "macro_f1" and len(variants) > 1:
        for variant, own in variants:
            cells = _complete(own, methods)
            if sum(map(bool, cells)) > 1 and len(own) > 1:
                lines.append(f"| mean | {variant} | {' | '.join(cells)} |")
    return lines


def _complete(table: pd.DataFrame, methods: list[str]) -> list[str]:
    """Return the means of the columns that lack no value."""
    complete = table.dropna(axis=1)
    return [_number(complete[method].mean(), 3) if method in complete else "" for method in methods]


def with_and_without(rows: pd.DataFrame, variant: str) -> list[str]:
    """Return our macro-F1 in a variant beside the whole task, paired by seed; nothing where it was not run."""
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
    # A no-break space, so that a narrow column breaks the line before the sign.
    return f"{values.mean():.3f} ±\N{NO-BREAK SPACE}{half:.3f}"


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:,.{digits}f}"
