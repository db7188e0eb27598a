"""Draw the figures of ``docs/benchmarks.md`` from ``results/accuracy.csv`` and ``results/times.csv``.

python benchmarks/figures.py
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from scipy import stats
from tables import OURS

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parent / "docs" / "images"
OUR_COLOR, OTHER = "#b2182b", "#4d4d4d"
#: Okabe and Ito's colours without red, which stands for scquery_ae.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#56b4e9", "#cc79a7", "#999999", "#f0e442", "#000000", "#8c510a")
STYLE = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "font.size": 9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    rows = pd.read_csv(HERE / "results" / "accuracy.csv")
    rows = rows[rows["failed"].isna()]
    with plt.rc_context(STYLE):
        times = pd.read_csv(HERE / "results" / "times.csv")
        for name, figure in (("tasks", by_task(rows)), ("time", by_time(rows, times)), ("curves", curves(rows))):
            figure.savefig(IMAGES / f"benchmark_{name}.png", dpi=150, bbox_inches="tight")


def by_task(rows: pd.DataFrame) -> plt.Figure:
    """Draw the macro-F1 of each method and task, best first, with intervals over seeds."""
    whole = rows[rows["variant"] == "whole"]
    tasks = list(dict.fromkeys(whole["task"]))
    figure, axes = plt.subplots(2, int(np.ceil(len(tasks) / 2)), figsize=(11, 6), layout="constrained")
    for ax, task in zip(axes.flat, tasks, strict=False):
        found = whole[whole["task"] == task].groupby("method")["macro_f1"].agg(["mean", "sem", "size"])
        found = found.sort_values("mean")
        half = found["sem"].fillna(0) * stats.t.ppf(0.975, np.maximum(found["size"] - 1, 1))
        colors = [OUR_COLOR if method == OURS else OTHER for method in found.index]
        ax.barh(found.index, found["mean"], xerr=half, color=colors, height=0.65, error_kw={"lw": 1})
        ax.set(xlim=(0, 1), title=task.replace("_", ", "))
        ax.tick_params(axis="y", length=0)
    for ax in axes.flat[len(tasks) :]:
        ax.axis("off")
    for ax in axes[-1]:
        ax.set_xlabel("macro-F1")
    return figure


def by_time(rows: pd.DataFrame, times: pd.DataFrame) -> plt.Figure:
    """Draw the mean macro-F1 over tasks against the mean time of training and query."""
    whole = rows[rows["variant"] == "whole"]
    seconds = (times["fit_s"] + times["query_s"]).groupby([times["method"], times["task"]]).sum(min_count=1).unstack()
    f1 = whole.groupby(["method", "task"])["macro_f1"].mean().unstack()
    complete = f1.index[f1.notna().all(axis=1)].intersection(seconds.index[seconds.notna().all(axis=1)])
    complete = complete.drop("majority class", errors="ignore")
    figure, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    colors = palette(rows)
    for method in f1.loc[complete].mean(axis=1).sort_values(ascending=False).index:
        at = seconds.loc[method].mean(), f1.loc[method].mean()
        ax.plot(*at, "o", ms=9 if method == OURS else 7, color=colors[method], label=method)
    ax.set(xscale="log", xlabel="training and one query, mean over tasks (s)", ylabel="macro-F1, mean over tasks")
    ax.margins(x=0.2, y=0.15)
    low, high = ax.get_xlim()
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500) if low <= tick <= high]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.grid(alpha=0.25)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center")
    return figure


def palette(rows: pd.DataFrame) -> dict[str, str]:
    """Return a colour for each method, the same in all figures."""
    others = sorted(set(rows["method"]) - {OURS, "majority class"})
    return dict(zip(others, COLORS, strict=False)) | {OURS: OUR_COLOR}


def curves(rows: pd.DataFrame) -> plt.Figure:
    """Draw macro-F1 by the fraction of the genes, the fraction of the counts and the labels per type."""
    kinds = {
        "fraction of the genes": r"(\d+)% of the genes",
        "fraction of the counts": r"(\d+)% of the counts",
        "labels per type": r"(\d+) labels per type",
    }
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained", sharey=True)
    methods = [m for m in dict.fromkeys(rows["method"]) if m != "majority class"]
    colors = palette(rows)
    for ax, (label, pattern) in zip(axes, kinds.items(), strict=True):
        own = rows.assign(x=rows["variant"].str.extract(pattern, expand=False).astype(float))
        own = own[own["x"].notna()]
        whole = rows[(rows["variant"] == "whole") & rows["task"].isin(set(own["task"]))]
        if "fraction" in label:
            own = pd.concat([own, whole.assign(x=100.0)])
        means = own.groupby(["method", "x", "task"])["macro_f1"].mean().unstack()
        # Means over different tasks cannot be compared.
        means = means[means.notna().all(axis=1)].mean(axis=1)
        for method in methods:
            if method in means.index.get_level_values(0):
                line = means.loc[method]
                width, order = (2.2, 3) if method == OURS else (1.2, 2)
                ax.plot(line.index, line, "o-", ms=3.5, lw=width, zorder=order, color=colors[method], label=method)
        ticks = sorted(own["x"].unique())
        ax.set(xscale="log", xlabel=label + (" (%)" if "fraction" in label else ""))
        ax.set_xticks(ticks, [re.sub(r"\.0$", "", str(tick)) for tick in ticks])
        ax.minorticks_off()
    axes[0].set(ylabel="macro-F1, mean over tasks", ylim=(0, 1))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure


if __name__ == "__main__":
    main()
