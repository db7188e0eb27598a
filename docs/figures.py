"""Make the figures and the table of the README, the landing page and the quickstart: ``python docs/figures.py``.

The blocks of the README are run as they stand, and what they leave is drawn and written.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import matplotlib as mpl

mpl.use("agg")

import scquery_ae as scq

HERE = Path(__file__).resolve().parent
COLUMNS = ["label", "confidence", "pvalue", "unknown", "prediction_set"]


def run_readme() -> dict[str, Any]:
    """Run the Python blocks of the README in a temporary folder and return their names."""
    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            exec(compile(block, "README.md", "exec"), names)  # noqa: S102
    return names


def main() -> None:
    """Write the figures and the table."""
    names = run_readme()
    query, adata = names["query"], names["adata"]
    mpl.rcParams["savefig.dpi"] = 130
    # The same calls as in the README and the quickstart.
    scq.pl.on_reference(query, adata, legend_loc="right margin", save=HERE / "images" / "embedding.png")
    scq.pl.query(query, save=HERE / "images" / "quickstart.png")

    table = query.obs[[f"scquery_{name}" for name in COLUMNS]].rename(columns=lambda name: name[len("scquery_") :])
    # One cell each: a certain one, one between two types, one between more, and the one closest to unknown.
    size = table["prediction_set"].astype(str).str.count(r"\|") + 1
    rows = [
        table.loc[size == 1, "confidence"].idxmax(),
        table.loc[size == 2, "confidence"].idxmin(),
        table.loc[size > 3, "confidence"].idxmin(),
        table.loc[size < 4, "pvalue"].idxmin(),
    ]
    chosen = table.loc[rows].round(2)
    chosen["unknown"] = chosen["unknown"].map({True: "yes", False: "no"})
    chosen["prediction_set"] = chosen["prediction_set"].astype(str).str.replace("|", ", ")
    chosen.columns = ["label", "confidence", "p-value", "unknown", "prediction set"]
    chosen.to_csv(HERE / "images" / "example.csv", index=False, float_format="%.2f")


if __name__ == "__main__":
    main()
