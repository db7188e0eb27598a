"""Variants, measures and tables of the benchmarks, and the results that pages quote."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

# The source distribution carries the tests without the benchmarks.
pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the folder benchmarks is missing")


@pytest.fixture(scope="module", autouse=True)
def import_path() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def task():
    from tasks import Task

    rng = np.random.default_rng(0)

    def cells(n: int, kinds: list[str]) -> ad.AnnData:
        labels = np.resize(kinds, n).astype(object)
        counts = sparse.csr_matrix(rng.poisson(4, (n, 40)).astype(np.float32))
        obs = pd.DataFrame({"cell_type": labels, "batch": "one"}, index=[f"c{i}" for i in range(n)])
        return ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(40)]))

    query = cells(30, ["a", "b", "new"])
    known = (query.obs["cell_type"] != "new").to_numpy()
    return Task("pancreas_protocol", cells(60, ["a", "b", "c"]), query, known, logged=False)


def test_variants_have_fewer_genes_or_counts(task):
    from tasks import variants

    found = dict(variants(task, "whole", 0))
    assert next(iter(found)) == "whole"
    assert found["25% of the genes"].query.n_vars == 10
    assert found["50% of the genes"].query.n_vars == 20
    for fraction in (0.1, 0.2, 0.5):
        fewer = found[f"{fraction:.0%} of the counts"].query
        assert fewer.X.sum() / task.query.X.sum() == pytest.approx(fraction, abs=0.02)
        assert (fewer.X > task.query.X).nnz == 0
        assert np.array_equal(fewer.X.data, np.rint(fewer.X.data))
    assert all(variant.reference is task.reference for variant in found.values())


def test_training_sets_change_labels_of_the_reference(task):
    from tasks import variants

    before = task.reference.obs["cell_type"].to_numpy()
    [(_, wrong)] = variants(task, "replaced labels", 0)
    assert (wrong.reference.obs["cell_type"].to_numpy() != before).sum() == 12
    [(_, few)] = variants(task, "5 labels per type", 0)
    assert few.reference.obs["cell_type"].value_counts().to_dict() == {"a": 5, "b": 5, "c": 5}
    assert few.reference.n_obs == 60
    [(_, without)] = variants(task, "without a", 0)
    assert set(without.reference.obs["cell_type"]) == {"b", "c"}
    assert without.known.sum() == 10
    assert (task.reference.obs["cell_type"].to_numpy() == before).all()


@pytest.mark.parametrize("logged", [False, True])
def test_query_cells_in_pretraining_have_no_labels(task, logged):
    from dataclasses import replace

    from tasks import QUERY_KEY, WITH_QUERY, variants

    asked = task.query.copy()
    if logged:
        asked.X = asked.X.log1p()
    [(_, both)] = variants(replace(task, query=asked, logged=logged), WITH_QUERY, 0)
    added = both.reference.obs[QUERY_KEY].to_numpy()
    assert added.dtype == bool
    assert added.tolist() == [False] * 60 + [True] * 30
    assert both.reference.obs["cell_type"].isna().to_numpy().tolist() == added.tolist()
    assert (both.reference[added].X != task.query.X).nnz == 0
    assert (both.reference[~added].X != task.reference.X).nnz == 0
    assert both.reference.obs_names.is_unique
    assert both.query is asked


def test_gain_of_query_cells_is_paired_by_seed():
    from tables import interval, with_and_without
    from tasks import WITH_QUERY

    values = {"whole": [0.8, 0.7, 0.6], WITH_QUERY: [0.9, 0.7]}
    rows = pd.DataFrame(
        [
            {"task": "t", "variant": variant, "method": "scquery_ae", "seed": seed, "macro_f1": value}
            for variant, own in values.items()
            for seed, value in enumerate(own)
        ]
    )
    cells = map(interval, (np.array([0.8, 0.7]), np.array([0.9, 0.7]), np.array([0.1, 0.0])))
    assert with_and_without(rows, WITH_QUERY)[-1] == "| t | " + " | ".join(cells) + " |"
    assert with_and_without(rows[rows["variant"] == "whole"], WITH_QUERY) == []


def test_settings_are_paired_by_part():
    from defaults import DEFAULTS, markdown
    from tables import interval

    values = {DEFAULTS: [0.5, 0.7, 0.9, 0.8], "other": [0.6, 0.7, 1.0, 0.7]}
    rows = pd.DataFrame(
        [
            {"setting": setting, "query": "whole", "macro_f1": value, "reference": "ab"[i // 2], "part": i % 2}
            for setting, own in values.items()
            for i, value in enumerate(own)
        ]
    )
    gain = interval(np.subtract(values["other"], values[DEFAULTS]))
    *_, usual, other = markdown(rows).splitlines()
    assert usual == f"| {DEFAULTS} | 0.725 |  |"
    assert other == f"| other | 0.750 ({gain}) | {gain} |"


def test_changed_constants_of_the_discriminant_exist():
    from defaults import CONSTANTS, SETTINGS

    from scquery_ae.stats import discriminant

    assert set(CONSTANTS) <= set(SETTINGS)
    for changed in CONSTANTS.values():
        for name, value in changed.items():
            assert getattr(discriminant, name) != value


def test_verdicts_count_significant_differences():
    from tables import comparison, verdicts

    rng = np.random.default_rng(0)
    noise = 0.01 * rng.standard_normal(5)
    rows = pd.DataFrame(
        [
            {
                "task": task,
                "method": method,
                "seed": seed,
                "macro_f1": 0.5 + gain * (method == "scquery_ae") + noise[seed] * (method == "scquery_ae"),
            }
            for task, gain in {"up": 0.2, "down": -0.2, "level": 0.0}.items()
            for method in ("scquery_ae", "peer")
            for seed in range(5)
        ]
    )
    assert verdicts(comparison(rows))[2:] == [
        "| better | 1 |",
        "| worse | 1 |",
        "| no significant difference | 1 |",
    ]


def test_risk_coverage_area_by_hand():
    from scores import risk_coverage_area

    # Errors among the 1, 2, 3, 4 most confident: 0, 1/2, 1/3, 1/2.
    right = np.array([True, False, True, False])
    assert risk_coverage_area(np.array([0.9, 0.8, 0.7, 0.1]), right) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    # All tied: half of them wrong in any order.
    assert risk_coverage_area(np.full(4, 0.3), right) == pytest.approx(0.5)


def test_measures_of_a_prediction(task):
    from methods import Prediction
    from scores import score
    from sklearn.metrics import f1_score

    truth = task.query.obs["cell_type"].to_numpy()
    labels = np.where(truth == "new", "a", truth).astype(object)
    labels[:3] = "b"  # an a, a b and a new one
    latent = np.eye(3)[[{"a": 0, "b": 1, "c": 2}[kind] for kind in task.reference.obs["cell_type"]]]
    asked = np.eye(3)[[{"a": 0, "b": 1, "new": 2}[kind] for kind in truth]]
    found = score(task, Prediction(labels, np.where(truth == "new", 0.2, 0.9), latent=(latent, asked)))
    known = truth != "new"
    assert found["accuracy"] == pytest.approx(19 / 20)
    assert found["macro_f1"] == pytest.approx(f1_score(truth[known], labels[known], average="macro"))
    assert found["map"] == 1
    assert found["auroc"] == 1
    assert found["ece"] == pytest.approx(abs(0.9 - 19 / 20))


def test_best_peer_is_paired_by_seed():
    from scipy import stats
    from tables import best_peer, comparison, interval

    ours, theirs, worse = [0.9, 0.8, 0.85], [0.85, 0.79, 0.83], [0.5, 0.5, 0.5]
    rows = pd.DataFrame(
        [
            {"task": "t", "variant": "whole", "method": method, "seed": seed, "macro_f1": value}
            for method, values in {"scquery_ae": ours, "peer": theirs, "other": worse}.items()
            for seed, value in enumerate(values)
        ]
    )
    *_, line = best_peer(comparison(rows))
    gain = np.subtract(ours, theirs)
    assert "| peer |" in line
    assert interval(gain) in line
    assert f"{stats.ttest_rel(ours, theirs).pvalue:.3g}" in line
    half = stats.t.interval(0.95, 2, loc=0, scale=stats.sem(gain))[1]
    assert interval(gain) == f"{gain.mean():.3f} ±\N{NO-BREAK SPACE}{half:.3f}"
    assert interval(np.array([0.5, np.nan])) == ""


def test_failures_are_listed_and_left_out_of_tables():
    from tables import markdown, summary

    good = {"accuracy": 0.5, "map": np.nan}
    good |= {"ece": np.nan, "aurc": np.nan, "auroc": np.nan, "failed": None}
    key = {"task": "t", "variant": "whole", "seed": 0}
    rows = pd.DataFrame(
        [
            {**key, **good, "method": "scquery_ae", "macro_f1": 0.75},
            {**key, "method": "peer", "failed": "ValueError: no"},
        ]
    )
    assert "- peer: `ValueError: no`: t (whole)" in markdown(rows)
    assert "| scquery_ae | 0.750 | 0.750 |" in summary(rows)
    assert "| peer |" not in summary(rows) + markdown(rows)


def test_best_peer_uses_common_seeds():
    from tables import best_peer, comparison

    # The second seed is harder for all methods; a method that ran the first alone is not better for that.
    values = {"scquery_ae": (0.9, 0.5), "often": (0.88, 0.48), "once": (0.85, None)}
    rows = pd.DataFrame(
        [
            {"task": "t", "variant": "whole", "method": method, "seed": seed, "macro_f1": value}
            for method, both in values.items()
            for seed, value in enumerate(both)
            if value is not None
        ]
    )
    *_, line = best_peer(comparison(rows))
    assert line.startswith("| t | often |")


def test_existing_rows_are_not_run_again():
    from accuracy import BUDGET, missing

    def rows(seeds: list[int], seconds: float) -> pd.DataFrame:
        same = {"task": "t", "method": "m", "variant": "whole", "query_s": 0.0}
        return pd.DataFrame([{**same, "seed": seed, "fit_s": seconds + seed} for seed in seeds])

    assert missing(rows([0, 2], 1), "t", "m", "whole", 5) == [1, 3, 4]
    assert missing(rows([0, 2], 1), "t", "m", "replaced labels", 5) == [0, 1, 2, 3, 4]
    assert missing(rows([0, 2], 1), "t", "m", "without beta", 5) == [0, 1]
    assert missing(rows([0], BUDGET + 1), "t", "m", "whole", 5) == []


def test_tasks_of_a_set_are_read_as_described(tmp_path, monkeypatch):
    import json

    import tasks

    made = {"reference": "one", "reference_labels": {"A": "a"}, "upper_case": ["reference"], "query": "two"}
    monkeypatch.setattr(tasks, "TASK_FILES", {"development": tmp_path / "more.json"})
    tasks.TASK_FILES["development"].write_text(
        json.dumps({"_about": "", "turned": {**made, "query_labels": {"x": "a", "y": "b"}}})
    )
    sides = {"one": (["Ins", "Gcg", "Sst"], ["A", "b", "b"]), "two": (["GCG", "SST", "PPY"], ["x", "y", "z"])}
    for name, (genes, kinds) in sides.items():
        obs = pd.DataFrame({"cell_type": kinds}, index=[f"{name} {i}" for i in range(3)])
        counts = sparse.csr_matrix(np.eye(3, dtype=np.float32))
        ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(tmp_path / f"{name}.h5ad")
    assert tasks.task_names("development") == ["turned"]
    task = tasks.load(tmp_path, "turned")
    assert task.reference.var_names.tolist() == task.query.var_names.tolist() == ["GCG", "SST"]
    # Cells with counts only in the gene that the other side lacks are dropped.
    assert task.reference.obs["cell_type"].tolist() == ["b", "b"]
    assert task.query.obs["cell_type"].tolist() == ["a", "b"]
    assert task.known.tolist() == [False, True]
    assert tasks.training_sets(task) == ["whole"]
    assert [name for name, _ in tasks.variants(task, "whole", 0)] == ["whole"]


def test_speed_has_rates_or_seconds():
    from speed import COLUMNS, markdown

    same = {"cells": 20, "genes": 10, "filled": 0.25, "backend": "jax", "precision": "float32", "kernels": "Zen"}
    measured = [
        {"what": "pretraining", "rate": 1234.5, "fraction": 0.5, "limit": "bare product"},
        {"what": "import", "seconds": 0.25, "fraction": 0.01, "limit": "import tensorflow"},
    ]
    text = markdown(pd.DataFrame([{**same, **row} for row in measured], columns=COLUMNS))
    assert "25.0% of the values are not zero" in text
    assert "OpenBLAS kernels: Zen." in text
    assert "| pretraining | jax | 1,234 |  | 50% | bare product |" in text
    assert "| import |  |  | 0.25 | 1% | import tensorflow |" in text


def test_times_are_relative_to_scquery_ae():
    from times import markdown

    rows = pd.DataFrame(
        [
            {"task": task, "method": method, "fit_s": fit, "query_s": 1.0, "peak_mib": peak, "failed": failed}
            for method, fit, peak, failed in (
                ("scquery_ae", 3.0, 90, None),
                ("slow", 19.0, 70, None),
                ("no", 1, 1, "x"),
            )
            for task in ("pancreas_protocol", "pbmc_donor")
        ]
    )
    _, _, ours, slow = markdown(rows).splitlines()
    assert ours == "| scquery_ae | 4.0 | 1.00 | 90 | 4.0 | 4.0 |"
    assert slow == "| slow | 20.0 | 5.00 | 70 | 20.0 | 20.0 |"


ROOT = BENCHMARKS.parent
#: Pages that people write. ``docs/conf.py`` makes the others.
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if not {"results", "generated", "_build"} & set(page.parts)
)


def test_written_pages_are_those_that_people_write():
    from values import pages

    assert sorted(page.relative_to(ROOT).as_posix() for page in pages()) == PAGES


@pytest.fixture(scope="module")
def results():
    from values import read_results

    return read_results()


@pytest.mark.parametrize("page", PAGES)
def test_pages_quote_current_results(page, results):
    from values import rewritten

    text = (ROOT / page).read_text(encoding="utf-8")
    assert rewritten(text, results) == text, f"{page} is out of date: python benchmarks/values.py --write"


@pytest.mark.parametrize("page", PAGES)
def test_markers_are_complete(page):
    from values import QUOTED, QUOTED_TABLE

    text = (ROOT / page).read_text(encoding="utf-8")
    # `--write` would skip a marker that it cannot read, and the number would go out of date.
    assert len(re.findall("<!-- *value|<!-- */ *value", text)) == 2 * len(QUOTED.findall(text))
    assert len(re.findall("<!-- *table|<!-- */ *table", text)) == 2 * len(QUOTED_TABLE.findall(text))
    assert "{{" not in text


@pytest.mark.parametrize("page", PAGES)
def test_pages_quote_no_number_by_hand(page):
    from prose import unquoted

    assert list(unquoted((ROOT / page).read_text(encoding="utf-8"))) == []


def test_the_report_quotes_no_result():
    from prose import unquoted

    #: A confidence as an example, and the quantiles of a box plot.
    explained = {"0.9", "90%", "95%"}
    sentences = [
        node.value
        for file in (ROOT / "scquery_ae" / "report").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) > 3
    ]
    assert len(sentences) > 50
    assert {number for sentence in sentences for _, number in unquoted(sentence)} <= explained


def test_values_are_named_by_file_heading_row_and_column(tmp_path):
    from values import read_results, value

    table = "| task | method | macro-F1 | 5 labels |\n|---|---|---|---|\n| one_two | PCA + kNN | 0.950 ± 0.010 | 12 |"
    (tmp_path / "made.md").write_text(f"{table}\n\n## All items\n\n| | seconds |\n|---|---|\n| **whole** | 3.0 |\n")
    found = read_results(tmp_path)
    assert value(found, "made.one_two.pca_knn.macro_f1") == "0.950 ± 0.010"
    assert value(found, "made.one_two.pca_knn.macro_f1_mean") == "0.950"
    assert value(found, "made.one_two.pca_knn.5_labels") == "12"
    assert value(found, "made.all_items.whole.seconds") == "3.0"
    assert found["table"]["made"]["first"] == table
    with pytest.raises(KeyError, match=r"No result is named 'made.one_three.*Received 'one_three'.*one_two"):
        value(found, "made.one_three.macro_f1")
    with pytest.raises(KeyError, match="names a group of results"):
        value(found, "made.one_two")


def test_two_cells_of_one_name_are_refused(tmp_path):
    from values import read_results

    (tmp_path / "made.md").write_text("| | a |\n|---|---|\n| x | 1 |\n| x | 2 |\n")
    with pytest.raises(ValueError, match=r"named made.x.a: '1' and '2'"):
        read_results(tmp_path)


def test_a_stale_number_between_markers_is_replaced():
    from values import rewritten

    found = {"made": {"mean": "0.9"}, "table": {"made": {"first": "| a |\n|---|\n| 1 |"}}}
    page = "A <!-- value: made.mean -->{}<!-- /value -->.\n<!-- table: made.first -->\n{}\n<!-- /table -->\n"
    stale = page.format("0.8", "| a |\n|---|\n| 2 |")
    assert rewritten(stale, found) == page.format("0.9", "| a |\n|---|\n| 1 |")


@pytest.mark.parametrize(
    ("prose", "numbers"),
    [
        ("The mean is .838.", [".838"]),
        ("It gains -0.05 ± .03.", ["-0.05", ".03"]),
        ("8 to 68 % of the cells", ["68 %"]),
        ("It is 21 times as fast: 19 s, 37,000 cells/s, 500 MiB.", ["21 times", "19 s", "37,000 cells/s", "500 MiB"]),
        ("| a | 0.5 |", ["0.5"]),
        ("The mean is <!-- value: a.b -->0.8<!-- /value -->, not 0.7.", ["0.7"]),
        ("<!-- table: a.b -->\n| 0.5 |\n<!-- /table -->", []),
        ("A setting of `alpha=0.05`, $\\alpha = .05$ or\n$$\n.05\n$$", []),
        ("```python\nx = 0.5\n```\nA 95 % interval on Python 3.11, 3.12 or 3.13 with scvi-tools 1.4.", []),
        (
            "See [Zheng](https://doi.org/10.1038/s41467-018-07165-2) and arXiv:1703.07737; 12,261 cells, 15 neighbors.",
            [],
        ),
        ("doi = {10.1038/s41467-018-07165-2}", []),
        ("```\n0.1\n```\nbetween 0.2\n```\n0.3\n```", ["0.2"]),
    ],
)
def test_numbers_written_by_hand_are_found(prose, numbers):
    from prose import unquoted

    assert [number for _, number in unquoted(prose)] == numbers


def test_a_number_written_by_hand_is_found_on_its_line():
    from prose import unquoted

    assert list(unquoted("# Page\n\n```\n0.1\n```\n\nStale: .49\n")) == [(7, ".49")]


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(file.stem for file in BENCHMARKS.glob("*.py") if file.stem != "scib"))
def test_scripts_can_be_imported(script):
    # They import from the inside of the package; scib.py also needs a package that is not installed here.
    assert importlib.import_module(script).__doc__
