"""``report.write``: the page, and its numbers against counts of the cells."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import anndata
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from sklearn.decomposition import PCA

import scquery_ae as scq
from scquery_ae import ArgumentError, MissingKeyError, StorageError
from scquery_ae.reference import ExpectedAccuracy
from scquery_ae.report import comparison, labels
from scquery_ae.report.comparison import joint_components
from scquery_ae.report.details import ALAVI, AUTHORS, VINCENT
from scquery_ae.report.parts import listed, marked, per_cent, probability

VOID = {"meta", "img", "link", "br", "hr", "input"}
SECTIONS = ["summary", "types", "certainty", "unknown-cells", "check", "limits", "truth", "embedding", "batches"]
SECTIONS += ["glossary", "cite", "details"]


class Page(HTMLParser):
    """Tags, text and tables of a page. A tag that is closed in the wrong place is an error."""

    def __init__(self, text):
        super().__init__()
        self.source, self.tags, self.texts, self.tables, self._open = text, [], [], {}, []
        self.section, self._caption = {}, None
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data):
        if "style" in self._open:
            return
        self.texts.append(data)
        if "caption" in self._open:
            self._caption = data
        elif "td" in self._open or "th" in self._open:
            self._rows[-1][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def pictures(self):
        """The figures, in bytes."""
        return [base64.b64decode(img["src"].split(",", 1)[1]) for img in self.all("img")]

    def table(self, caption):
        header, *rows = self.tables[caption]
        return pd.DataFrame([row[1:] for row in rows], index=[row[0] for row in rows], columns=header[1:])


@pytest.fixture(scope="module")
def run(make_adata, saved_reference):
    """A query of a saved reference: cells, reference and check. Do not change them."""
    adata = make_adata(60, 120, seed=2)
    adata.obs["donor"] = pd.Categorical(np.where(np.arange(60) % 4, "donor a", "donor b"))
    found = scq.pp.check(adata, saved_reference)
    scq.tl.query(adata, saved_reference, alpha=0.2)
    return SimpleNamespace(
        adata=adata, reference=scq.Reference.load(saved_reference), found=found, path=saved_reference
    )


@pytest.fixture
def write(run, tmp_path):
    """``write(adata=None, **kwargs)``: write the page and read it."""

    def call(adata=None, **kwargs):
        path = tmp_path / "page.html"
        returned = scq.report.write(run.adata if adata is None else adata, path, overwrite=True, **kwargs)
        assert returned == path
        return Page(path.read_text(encoding="utf-8"))

    return call


@pytest.fixture(scope="module")
def everything(run):
    return {
        "reference": run.reference,
        "check": run.found,
        "batch_key": "batch",
        "groupby": "donor",
        "truth_key": "cell_type",
    }


@pytest.fixture(scope="module")
def full(run, everything, tmp_path_factory):
    """The page with all sections."""
    path = scq.report.write(
        run.adata, tmp_path_factory.mktemp("full") / "page.html", title="Islets of spring", **everything
    )
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_loads_nothing(full):
    page = full
    assert page.source.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "http://" not in page.source
    assert page.all("a")
    assert all("https://" not in str(value) for name, attrs in page.tags if name != "a" for value in attrs.values())
    assert {"script", "link", "iframe", "object", "base", "form"}.isdisjoint(tag for tag, _ in page.tags)
    assert all(img["src"].startswith("data:image/") for img in page.all("img"))
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "url(" not in page.source
    assert "@import" not in page.source
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    for picture in page.pictures:
        assert picture.startswith((b"\x89PNG", b"<?xml"))
        # Other URLs are names of XML, from which nothing is loaded.
        assert b'href="http' not in picture


def test_headings_links_figures_and_tables_are_accessible(full):
    page = full
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    links = [a["href"] for a in page.all("a")]
    assert links[: len(SECTIONS)] == [f"#{name}" for name in SECTIONS]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    alts = [img["alt"] for img in page.all("img")]
    assert len(alts) == 6
    assert all(len(alt) > 40 for alt in alts)
    assert len(page.all("figcaption")) == len(page.all("figure")) == 6
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(th.get("scope") in ("row", "col") for th in page.all("th"))


def test_results_come_first_and_technical_details_last(full, run):
    assert [attrs["id"] for tag, attrs in full.tags if tag == "h2"] == ["contents", *SECTIONS]
    text = full.text
    assert text.index("60 cells were labelled") < text.index("The median confidence") < text.index("are called unknown")
    digest = run.adata.uns["scquery"]["reference"]["sha256"]
    # The hash is in the citation and in the technical details only.
    assert text.index(digest) > text.index("For the methods section:")


def test_every_term_links_to_its_definition(full):
    ids = {attrs["id"] for tag, attrs in full.tags if tag == "dt"}
    linked = {a["href"][1:] for a in full.all("a") if a["href"].startswith("#")}
    assert linked - set(SECTIONS) == ids
    assert not re.search(r"\[\[|\]\]|\bp value\b", full.source)


def test_the_page_has_no_number_of_another_data_set(write):
    # Without results, parameters and versions, the text about limits and terms has only numbers of this query.
    text = write().text
    limits = text.split("When to doubt these results")[-1].split("How to cite")[0]
    numbers = set(re.findall(r"(?<![\w.-])\d+(?:\.\d+)?%?", limits))
    assert numbers <= {"0", "1", "0.9", "90%", "0.2", "20", "98.0%"}, numbers


def test_the_query_and_its_reference(full, run):
    page = full
    provenance = run.adata.uns["scquery"]
    assert page.text.startswith("Islets of spring Islets of spring 60 cells queried against small.scq;")
    reference = dict(page.tables["The reference"])
    assert reference["Name"] == "small.scq"
    assert reference["SHA-256"] == provenance["reference"]["sha256"]
    assert len(reference["SHA-256"]) == 64
    assert reference["Cells"] == "240"
    assert reference["Types"] == "3: type 0, type 1, type 2"
    assert reference["Confidence and p-values calibrated"] == "on cells held out of training"
    assert reference["Edits since it was built"] == "none"
    parameters = dict(page.tables["Parameters of scq.tl.query"])
    assert set(parameters) == set(provenance["parameters"])
    assert (parameters["n_neighbors"], parameters["alpha"], parameters["where"]) == ("15", "0.2", "-")
    versions = dict(page.tables["Date and versions"])
    assert versions["Queried with scquery_ae"] == versions["Report written with scquery-ae"] == scq.__version__
    assert versions["Report written with numpy"] == np.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d \(UTC[+-]\d{4}\)", versions["Report written"])
    said = [text for _, text in page.tables["Results of the check"]]
    assert said == [text for _, text in run.found.lines()]
    method = page.text.split("For the methods section:")[1]
    assert f"small.scq of 240 cells (SHA-256 {reference['SHA-256']}), with 15 neighbors, alpha = 0.2" in method


def test_edits_of_the_reference_are_listed(write, run, make_adata):
    changed = scq.Reference.load(run.path)
    changed.remove(list(changed.obs.index[-2:]))
    adata = run.adata.copy()
    scq.tl.query(adata, changed)
    page = write(adata, reference=changed)
    assert dict(page.tables["The reference"])["Edits since it was built"].startswith("1: remove (")
    assert "Name and hash of a reference are recorded only if it is queried by its path" in page.text


def test_the_composition_is_that_of_the_cells(full, run):
    obs = run.adata.obs
    table = full.table("Cells of each label")
    counts = obs["scquery_label"].value_counts()
    assert table["Cells"].astype(int).tolist() == sorted(counts[counts > 0], reverse=True)
    for kind, row in table.iterrows():
        mine = obs[obs["scquery_label"] == kind]
        n = int(mine["scquery_unknown"].sum())
        assert row["Cells"] == str(len(mine))
        assert float(row["Fraction"].rstrip("%")) == pytest.approx(100 * len(mine) / 60, abs=0.05)
        assert row["Unknown"].startswith(f"{n} (")
        assert float(row["Median confidence"].lstrip(">")) == pytest.approx(
            mine["scquery_confidence"].median(), abs=0.011
        )
        assert float(row["Median p-value"].strip("<>")) == pytest.approx(mine["scquery_pvalue"].median(), abs=1e-3)
        assert row["Cells in the reference"] == str((run.reference.obs["cell_type"] == kind).sum())


def test_confidence_unknown_cells_and_known_types_are_those_of_the_cells(full, run):
    obs = run.adata.obs
    page = full
    table = page.table("Types from the highest to the lowest confidence")
    medians = obs.groupby("scquery_label", observed=True)["scquery_confidence"].median()
    assert table.index.tolist() == medians.sort_values(ascending=False).index.tolist()
    sets = obs["scquery_prediction_set"].astype(str).str.split("|")
    for kind, row in table.iterrows():
        mine = (obs["scquery_label"] == kind).to_numpy()
        assert row["Confidence below 0.8"].startswith(f"{(obs['scquery_confidence'][mine] < 0.8).sum()} (")
        assert row["One type in the prediction set"].startswith(f"{(sets[mine].map(len) == 1).sum()} (")
        others = sets[mine].explode().value_counts().drop(kind, errors="ignore")
        assert row["Alternatives"].startswith(f"{others.index[0]} ({others.iloc[0]})" if len(others) else "-")

    unknown = obs["scquery_unknown"].to_numpy()
    assert 0 < unknown.sum() < 60
    by_label = page.table("Unknown cells by label")
    assert by_label["Unknown"].astype(int).sum() == unknown.sum()
    most_novel = next(rows for caption, rows in page.tables.items() if caption.startswith("The most novel cells"))
    # Cells with equal p-values are ordered by novelty score.
    ranked = obs[unknown].sort_values("scquery_novelty", ascending=False).sort_values("scquery_pvalue", kind="stable")
    assert ranked["scquery_pvalue"].duplicated().any()
    assert [row[0] for row in most_novel[1:]] == list(ranked.index[:10])
    assert [row[4] for row in most_novel[1:]] == [f"{value:.1f}" for value in ranked["scquery_novelty"][:10]]

    right = (obs["scquery_label"].astype(str) == obs["cell_type"].astype(str)).to_numpy()
    assert f"Of 60 cells with a label and a known type in cell_type, {right.sum()} (" in page.text
    assert f"Of the {(~unknown).sum()} that are not called unknown , {right[~unknown].sum()} (" in page.text
    truth = page.table("Labels by known type in cell_type")
    for kind, row in truth.iterrows():
        mine = (obs["cell_type"] == kind).to_numpy()
        assert row["Correct label"].startswith(f"{right[mine].sum()} (")
        assert row["Called unknown"].startswith(f"{unknown[mine].sum()} (")


def test_the_batches_are_those_of_the_neighbors(full, run):
    table = full.table("Neighbors by batch")
    batches = run.reference.obs["batch"].astype(str).to_numpy()
    neighbors = batches[run.adata.obsm["scquery_neighbors"]]
    assert sorted(table.index) == ["batch 0", "batch 1"]
    for name, row in table.iterrows():
        fraction, size = (neighbors == name).mean(), (batches == name).mean()
        assert row["Cells with their nearest neighbor here"] == str((neighbors[:, 0] == name).sum())
        assert float(row["Fraction of all neighbors"].rstrip("%")) == pytest.approx(100 * fraction, abs=0.051)
        assert float(row["Fraction of the reference"].rstrip("%")) == pytest.approx(100 * size, abs=0.051)
        assert float(row["Ratio of the fractions"]) == pytest.approx(fraction / size, abs=0.006)


def test_the_batch_with_the_most_neighbors_is_named(full, run):
    batches = run.reference.obs["batch"].astype(str).to_numpy()
    fractions = pd.Series(batches[run.adata.obsm["scquery_neighbors"]].ravel()).value_counts(normalize=True)
    first = f"({100 * fractions.iloc[0]:.1f}%) comes from batch {fractions.index[0]}."
    assert f"The largest fraction of the neighbors {first}" in full.text


def test_the_glossary_says_that_the_type_of_a_p_value_can_differ_from_the_label(full):
    assert "the type near which it lies in the embedding, according to classifier and neighbors ." in full.text
    assert "This type can differ from the label." in full.text
    assert "of the label's type" not in full.text
    assert "not told apart" not in full.text


def test_labels_that_depend_on_one_batch_are_named(write, run):
    reference = scq.Reference.load(run.path)
    kind = reference.obs["cell_type"].astype(str)
    reference.obs["study"] = np.where(kind == "type 1", "x", np.where(np.arange(240) % 2, "x", "y"))
    text = write(reference=reference, batch_key="study").text
    assert "All reference cells of type 1 come from one study each, so these labels depend on it." in text
    reference.obs["study"] = "x"
    page = write(reference=reference, batch_key="study")
    assert "these labels depend on it" not in page.text
    assert "The reference has one study, x, so all neighbors come from it." in page.text


def test_sections_that_are_left_out_are_listed(write, full, run):
    caption = "Sections left out, and how to include them"
    page = write()
    assert len(page.all("img")) == 1
    table = page.table(caption)
    assert table["Argument of scq.report.write"].tolist() == [
        "check=scq.pp.check(adata, reference)",
        "reference=reference",
        'reference=reference, batch_key="..."',
        'groupby="..."',
        'truth_key="..."',
    ]
    assert table.loc["Batches of the nearest reference cells", "Option of scquery-ae query"] == "--batch-key"
    # The headings are those of the sections.
    headings = {text.strip() for text in full.texts}
    assert set(table.index) - {"Cell types by sample"} <= headings
    page = write(reference=run.reference, groupby="donor")
    assert len(page.all("img")) == 3
    assert len(page.table(caption)) == 3
    assert caption not in full.tables


def test_query_and_reference_in_one_embedding(write, run, trained):
    page = write(reference=run.reference)
    assert "first two principal components of both embeddings together" in page.text
    assert b">PC 1<" in page.pictures[-1]
    cells = trained.adata.copy()
    page = write(reference=cells, label_key="cell_type")
    assert b">PC 1<" in page.pictures[-1]
    assert page.table("Cells of each label")["Cells in the reference"].tolist()
    cells.obsm["X_umap"] = cells.obsm["other"] = np.random.default_rng(0).normal(size=(240, 2))
    page = write(reference=cells)
    assert b">UMAP 1<" in page.pictures[-1]
    assert "principal components" not in page.text
    assert b">other 1<" in write(reference=cells, basis="other").pictures[-1]
    del cells.obsm["X_umap"], cells.obsm["X_scquery"]
    assert "No figure: reference.obsm lacks 'X_scquery'" in write(reference=cells).text


def test_joint_components_are_those_of_all_cells():
    rng = np.random.default_rng(0)
    query, reference = (rng.normal(size=(n, 6)).astype(np.float32) * [5, 3, 1, 1, 1, 1] for n in (40, 70))
    here, there, explained = joint_components(query.astype(np.float32), reference.astype(np.float32))
    both = np.concatenate([query, reference])
    pca = PCA(2, svd_solver="full").fit(both)
    expected = pca.transform(both)
    np.testing.assert_allclose(np.abs(np.concatenate([here, there])), np.abs(expected), atol=1e-4)
    assert explained == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-5)
    axes = np.linalg.lstsq(both - both.mean(axis=0), np.concatenate([here, there]), rcond=None)[0].T
    assert all(axis[np.abs(axis).argmax()] > 0 for axis in axes)


def test_names_are_text_and_not_markup(write, run):
    nasty = ["<script>window.ran = 1</script>", "\"'>&amp; <img src=x onerror=alert(1)>", "$\\frac{x}$ `b` {{ 7 * 7 }}"]
    adata = run.adata.copy()
    adata.obs["scquery_label"] = adata.obs["scquery_label"].cat.rename_categories(nasty)
    adata.obs["donor"] = adata.obs["donor"].cat.rename_categories(["<b>bold</b>", "\x01 control"])
    adata.obs["truth"] = adata.obs["scquery_label"]
    adata.obs_names = [f"<i>{i}</i>" for i in range(60)]
    adata.uns["scquery"]["reference"]["name"] = "</title><script>"
    del adata.uns["scquery"]["types"]
    page = write(adata, groupby="donor", truth_key="truth", title="<h1>mine</h1>")
    tags = {tag for tag, _ in page.tags}
    assert tags.isdisjoint({"script", "b", "i"})
    assert "<script" not in page.source.lower()
    assert page.table("Cells of each label").index.isin(nasty).all()
    assert "<h1>mine</h1>" in page.text
    assert not any("\x01" in text for text in page.texts)
    for picture in page.pictures:
        assert b"<script" not in picture
    # A figure with characters that XML cannot hold is a PNG.
    assert sum(picture.startswith(b"\x89PNG") for picture in page.pictures) == 1


def test_cells_reference_and_settings_are_unchanged(write, everything, run, trained):
    before, settings = run.adata.copy(), dict(mpl.rcParams)
    cells = trained.adata.copy()
    with plt.style.context("dark_background"):
        dark = write(**{**everything, "reference": cells})
    assert set(run.adata.uns) == set(before.uns)
    assert set(cells.uns) == set(trained.adata.uns)
    pd.testing.assert_frame_equal(run.adata.obs, before.obs)
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == []
    # The page does not depend on the matplotlib style of the user.
    again = write(**{**everything, "reference": cells})
    assert [len(picture) for picture in dark.pictures] == [len(picture) for picture in again.pictures]
    adata = run.adata.copy()
    adata.uns["scquery_label_colors"] = ["#123456", "#654321", "#abcdef"]
    assert b"#123456" in write(adata, groupby="donor").pictures[-1]


def test_cells_read_from_a_file_give_the_same_page(write, everything, full, run, tmp_path):
    run.adata.write_h5ad(tmp_path / "cells.h5ad")
    first, second = full, write(anndata.read_h5ad(tmp_path / "cells.h5ad"), **everything)
    assert first.tables.keys() == second.tables.keys()
    for caption, rows in first.tables.items():
        if caption != "Date and versions":
            assert sorted(second.tables[caption]) == sorted(rows), caption
    assert [len(picture) for picture in first.pictures] == [len(picture) for picture in second.pictures]


def test_cells_with_few_results(write, run):
    adata = run.adata.copy()
    for slot in ("scquery_neighbors", "scquery_distances", "X_scquery"):
        del adata.obsm[slot]
    del adata.uns["scquery"], adata.obs["scquery_prediction_set"], adata.obs["scquery_novelty"]
    page = write(adata, reference=run.reference, batch_key="batch")
    assert "uns['scquery'] , the record of the query, is missing" in page.text
    assert dict(page.tables["The reference"])["Name"] == "not recorded"
    assert "Parameters of scq.tl.query" not in page.tables
    assert "No figure: adata.obsm lacks 'X_scquery'" in page.text
    assert "No figure: the query has no neighbors or no labels." in page.text
    assert "The most novel cells, by p-value" in page.tables


def test_cells_without_labels(write, run):
    adata = run.adata.copy()
    adata.obs.loc[adata.obs_names[:7], "scquery_label"] = np.nan
    adata.obs.loc[adata.obs_names[:7], "scquery_unknown"] = True
    page = write(adata)
    assert page.table("Cells of each label").loc["(no label)", "Cells"] == "7"
    assert "7 cells got no label, because no count falls on a model gene." in page.text
    adata.obs["scquery_label"] = pd.Categorical([np.nan] * 60, categories=["type 0"])
    page = write(adata, reference=run.reference, batch_key="batch")
    assert page.all("img") == []
    assert page.text.count("No cell has a label") == 3
    adata.obs["scquery_unknown"] = False
    assert "No cell is called unknown . This does not prove that all types are known." in write(adata).text


def test_warnings_on_unknown_cells_genes_and_expected_accuracy(write, run):
    adata = run.adata.copy()
    adata.obs["scquery_unknown"] = np.arange(60) < 24
    assert "Many more cells are called" not in write(adata).text
    adata.obs["scquery_unknown"] = np.arange(60) < 25
    adata.uns["scquery"]["genes"]["n_found"] = 49
    assert "Only 49.0% of the model genes are in the query" in write(adata).text
    found = replace(
        run.found,
        expected_accuracy=ExpectedAccuracy({"type 0": 0.5}, {"type 0": 9}, 0.6, 0.5),
        problems=("cell names repeat",),
        n_obs=7,
    )
    page = write(adata, check=found)
    for text in (
        "Many more cells are called unknown than expected",
        "Cell names repeat.",
        "macro- F1 0.50 on the reference's own held-out cells",
        "The check is of 7 cells, the query of 60: they may differ.",
    ):
        assert text in page.text
    # The problems of a check include missing genes.
    assert "of the model genes are in the query" not in page.text
    adata.uns["scquery"]["parameters"]["corr_method"] = "benjamini-hochberg"
    text = write(adata).text
    assert "Many more cells are called" not in text
    assert "false discovery rate" in text


def test_how_to_cite_is_as_in_the_citation_file(write):
    yaml = pytest.importorskip("yaml")
    cff = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8"))
    assert cff["authors"] == [{"name": AUTHORS}]
    page = write()
    text = page.text
    for paper, ours in zip(cff["references"], (ALAVI, VINCENT), strict=True):
        for said in (paper["title"], paper["journal"], f"({paper['year']})", paper["volume"], paper["start"]):
            assert str(said).lower() in ours.lower(), said
        names = ours.split(". ")[0].split(", ")
        assert [name.rsplit(" ", 1)[0] for name in names] == [author["family-names"] for author in paper["authors"]]
        words, url = ours.rstrip(">").split(" <")
        assert words in text
        assert url in [a["href"] for a in page.all("a")]
    assert f"<https://doi.org/{cff['references'][0]['doi']}>" in ALAVI
    assert text.count(f"doi = {{{cff['references'][0]['doi']}}}") == 1


def test_more_types_than_can_be_coloured(write, run, monkeypatch):
    for module in (comparison, labels):
        monkeypatch.setattr(module, "MOST_CATEGORIES", 2)
    page = write(reference=run.reference, groupby="donor")
    assert page.text.count("No figure: there are more than") == 2
    assert len(page.all("img")) == 1


@pytest.mark.slow
def test_ten_thousand_cells_are_below_three_megabytes(make_queried, tmp_path):
    adata = make_queried(10_000, 30)
    latent = np.random.default_rng(0).normal(size=(10_000, 8)).astype(np.float32)
    adata.obsm["X_scquery"] = latent
    reference = anndata.AnnData(np.ones((10_000, 1), np.float32), obs=adata.obs[["truth", "donor"]].copy())
    reference.obsm["X_scquery"] = latent[::-1].copy()
    wanted = {"batch_key": "donor", "groupby": "donor", "truth_key": "truth", "label_key": "truth"}
    path = scq.report.write(adata, str(tmp_path / "large.HTML"), reference=reference, **wanted)
    assert path.stat().st_size < 3_000_000
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.all("img")) == 5
    assert len(page.table("The 5 types with the highest confidence")) == 5
    medians = adata.obs.groupby("scquery_label", observed=True)["scquery_confidence"].median().sort_values()
    lowest = page.table("The 5 types with the lowest confidence, lowest first")
    assert lowest.index.tolist() == medians.index[:5].tolist()


def test_wrong_paths_are_refused(run, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("mine")
    with pytest.raises(ArgumentError, match=r"`path` exists: .*page.html.*overwrite=True"):
        scq.report.write(run.adata, path)
    assert path.read_text() == "mine"
    scq.report.write(run.adata, path, overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    for wrong, match in (
        (tmp_path / "page.pdf", r"`path` must end in one of .html, .htm. Received 'page.pdf'"),
        (tmp_path / "none" / "page.html", r"`path` must name a file in an existing folder"),
        (3, r"`path` must be a path"),
    ):
        with pytest.raises(ArgumentError, match=match):
            scq.report.write(run.adata, wrong)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ArgumentError, match="must name a file in an existing folder"):
        scq.report.write(run.adata, tmp_path / "folder.html", overwrite=True)
    with pytest.raises(ArgumentError, match="`overwrite` must be True or False"):
        scq.report.write(run.adata, path, overwrite="yes")


def test_a_failed_write_leaves_no_file(run, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("mine")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match=r"could not be written: .*No space left on device. Nothing was left behind"):
        scq.report.write(run.adata, path, overwrite=True)
    assert [found.name for found in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == "mine"


def test_wrong_arguments_are_refused_before_writing(run, make_adata, tmp_path):
    def refused(error, match, adata=run.adata, **kwargs):
        with pytest.raises(error, match=match):
            scq.report.write(adata, tmp_path / "page.html", **kwargs)
        assert list(tmp_path.iterdir()) == []

    refused(MissingKeyError, "needs the columns that `scq.tl.query` writes", make_adata(9, 9))
    refused(MissingKeyError, "Not in `adata.obs`: 'mine_label'", key_added="mine")
    refused(ArgumentError, "takes an AnnData as its first argument", "cells")
    refused(
        ArgumentError,
        r"Received str; open a saved reference with `scq.Reference.load\(path\)`",
        reference=str(run.path),
    )
    refused(ArgumentError, "Received DataFrame; open a saved reference", reference=run.reference.obs)
    refused(ArgumentError, r"`check` must be the report of `scq.pp.check\(.*Received dict", check={})
    refused(ArgumentError, "`title` must be text", title=3)
    refused(ArgumentError, "`basis` must be text", basis=3)
    for name in ("batch_key", "label_key", "basis"):
        refused(
            ArgumentError, f"`{name}` belongs to the reference. Received {name}='batch' without one", **{name: "batch"}
        )
    for name in ("groupby", "truth_key"):
        refused(MissingKeyError, f"`{name}='nothing'` is not a column", **{name: "nothing"})
    for name in ("batch_key", "label_key"):
        wrong = {name: "nothing", "reference": run.reference}
        refused(MissingKeyError, f"`{name}='nothing'` is not in the reference's `obs`", **wrong)
    refused(ArgumentError, "`basis='X_umap'` needs the AnnData", reference=run.reference, basis="X_umap")
    refused(ArgumentError, "to share names with the labels", truth_key="donor")


def test_another_reference_is_refused(run, trained, tmp_path):
    other = scq.Reference.load(run.path)
    other.relabel({"type 0": "renamed"})
    with pytest.raises(ArgumentError, match=r"differs in 'renamed', 'type 0'; pass the one that was queried"):
        scq.report.write(run.adata, tmp_path / "page.html", reference=other)
    with pytest.raises(ArgumentError, match=r"are its rows \d+ to \d+\. Received a reference of 5 cells"):
        scq.report.write(run.adata, tmp_path / "page.html", reference=trained.adata[:5].copy())
    cells = trained.adata.copy()
    cells.obsm["X_scquery"] = cells.obsm["X_scquery"][:, :3]
    with pytest.raises(ArgumentError, match=r"Expected an embedding of 8 dimensions, .* Received a reference with 3"):
        scq.report.write(run.adata, tmp_path / "page.html", reference=cells)
    assert list(tmp_path.iterdir()) == []


def test_number_formats_and_markup():
    assert [per_cent(part, 2000) for part in (0, 1, 2, 1000, 1999, 2000)] == [
        *("0%", "<0.1%", "0.1%", "50.0%", ">99.9%", "100%")
    ]
    assert per_cent(1, 0) == "-"
    values = (0.0, 0.001, 0.5, 0.994, 0.9999, 1.0, np.nan)
    assert [probability(value) for value in values] == ["0.00", "<0.01", "0.50", "0.99", ">0.99", ">0.99", "-"]
    assert probability(0.00004, 4) == "<0.0001"
    assert [listed(names, 3) for names in ([], "a", "ab", "abc", "abcde")] == [
        *("none", "a", "a and b", "a, b and c", "a, b, c and 2 more")
    ]
    assert marked("give `a<b` now") == "give <code>a&lt;b</code> now"
    assert marked("one ` & no more") == "one ` &amp; no more"
    assert marked("[[expected-accuracy]]") == '<a href="#expected-accuracy">expected accuracy</a>'
    assert marked('[[p-value|"p"]]') == '<a href="#p-value">&#34;p&#34;</a>'
    assert marked("see <https://a.org/b>") == 'see <a href="https://a.org/b">https://a.org/b</a>'
    assert marked("<javascript:b> [[a b]]") == "&lt;javascript:b&gt; [[a b]]"
