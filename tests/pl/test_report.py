"""``pl.report``: one page, and what stands on it, against counts of our own."""

import base64
import re
from html.parser import HTMLParser
from importlib.resources import files
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
from scquery_ae.pl import _report_beside, _report_labels
from scquery_ae.pl._report_figures import shared_plane
from scquery_ae.pl._report_parts import listed, marked, per_cent, probability
from scquery_ae.pl._report_words import ALAVI, AUTHORS, VINCENT

VOID = {"meta", "img", "link", "br", "hr", "input"}
SECTIONS = ["summary", "asked", "check", "read", "composition", "certainty", "unknown", "together", "studies"]
SECTIONS += ["truth", "cite", "record"]


class Page(HTMLParser):
    """A page as a list of tags, its text and its tables; a tag that is not closed where it should be is an error."""

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
        """The figures as they were drawn, in bytes."""
        return [base64.b64decode(img["src"].split(",", 1)[1]) for img in self.all("img")]

    def table(self, caption):
        classifier, *rows = self.tables[caption]
        return pd.DataFrame([row[1:] for row in rows], index=[row[0] for row in rows], columns=head[1:])


@pytest.fixture(scope="module")
def asked(make_adata, saved_reference):
    """Cells after a query of a saved reference, the reference, and the check. Do not change them."""
    adata = make_adata(60, 120, seed=2)
    adata.obs["donor"] = pd.Categorical(np.where(np.arange(60) % 4, "donor a", "donor b"))
    found = scq.pp.check(adata, saved_reference)
    scq.tl.query(adata, saved_reference, alpha=0.2)
    return SimpleNamespace(
        adata=adata, reference=scq.Reference.load(saved_reference), found=found, path=saved_reference
    )


@pytest.fixture
def write(asked, tmp_path):
    """``write(adata=None, **kwargs)``: the page, read back."""

    def call(adata=None, **kwargs):
        path = tmp_path / "page.html"
        returned = scq.pl.report(asked.adata if adata is None else adata, path, overwrite=True, **kwargs)
        assert returned == path
        return Page(path.read_text(encoding="utf-8"))

    return call


@pytest.fixture(scope="module")
def everything(asked):
    return {
        "reference": asked.reference,
        "check": asked.found,
        "batch_key": "batch",
        "groupby": "donor",
        "truth_key": "cell_type",
    }


@pytest.fixture(scope="module")
def full(asked, everything, tmp_path_factory):
    """The page with all that can be on it, read."""
    path = scq.pl.report(
        asked.adata, tmp_path_factory.mktemp("full") / "page.html", title="Islets of spring", **everything
    )
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_stands_alone(full):
    page = full
    assert page.source.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert {"script", "link", "iframe", "object", "base", "form"}.isdisjoint(tag for tag, _ in page.tags)
    assert all(img["src"].startswith("data:image/") for img in page.all("img"))
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "url(" not in page.source
    assert "@import" not in page.source
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    for picture in page.pictures:
        assert picture.startswith((b"\x89PNG", b"<?xml"))
        # Only names of XML, of which nothing is fetched.
        assert b'href="http' not in picture


def test_headings_links_and_figures_are_for_everyone(full):
    page = full
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    assert [a["href"] for a in page.all("a")] == [f"#{name}" for name in SECTIONS]
    assert set(SECTIONS) <= set(ids)
    alts = [img["alt"] for img in page.all("img")]
    assert len(alts) == 6
    assert all(len(alt) > 40 for alt in alts)
    assert len(page.all("figcaption")) == len(page.all("figure")) == 6
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(th.get("scope") in ("row", "col") for th in page.all("th"))


def test_what_was_asked_and_of_which_reference(full, asked):
    page = full
    provenance = asked.adata.uns["scquery"]
    assert page.text.startswith("Islets of spring Islets of spring 60 cells, asked of small.scq;")
    reference = dict(page.tables["The reference"])
    assert reference["Name"] == "small.scq"
    assert reference["SHA-256"] == provenance["reference"]["sha256"]
    assert len(reference["SHA-256"]) == 64
    assert reference["Cells"] == "240"
    assert reference["Types that it can name"] == "3: type 0, type 1, type 2"
    assert reference["Confidence and p-values set"] == "on cells that training held out"
    assert reference["Changed since"] == "no"
    parameters = dict(page.tables["Parameters of scq.tl.query"])
    assert set(parameters) == set(provenance["parameters"])
    assert (parameters["n_neighbors"], parameters["alpha"], parameters["where"]) == ("15", "0.2", "-")
    versions = dict(page.tables["Date and versions"])
    assert versions["Queried with scquery_ae"] == versions["Page made with scquery-ae"] == scq.__version__
    assert versions["Page made with numpy"] == np.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d \(UTC[+-]\d{4}\)", versions["This page was made"])
    said = [text for _, text in page.tables["The check in words"]]
    assert said == [text for _, text in asked.found.lines()]
    method = page.text.split("For the methods section:")[1]
    assert f"small.scq of 240 cells (SHA-256 {provenance['reference']['sha256']}), with 15 neighbors, error" in method


def test_steps_of_the_reference_are_named(write, asked, make_adata):
    changed = scq.Reference.load(asked.path)
    changed.remove(list(changed.obs.index[-2:]))
    adata = asked.adata.copy()
    scq.tl.query(adata, changed)
    page = write(adata, reference=changed)
    assert dict(page.tables["The reference"])["Changed since"].startswith("1: remove (")
    assert "The reference's name and hash are recorded only if it is queried by its path" in page.text


def test_the_composition_is_that_of_the_cells(full, asked):
    obs = asked.adata.obs
    table = full.table("Cells of each label")
    counts = obs["scquery_label"].value_counts()
    assert table["Cells"].astype(int).tolist() == sorted(counts[counts > 0], reverse=True)
    for kind, row in table.iterrows():
        mine = obs[obs["scquery_label"] == kind]
        n = int(mine["scquery_unknown"].sum())
        assert row["Cells"] == str(len(mine))
        assert float(row["Share"].rstrip("%")) == pytest.approx(100 * len(mine) / 60, abs=0.05)
        assert row["Unknown"].startswith(f"{n} (")
        assert float(row["Median confidence"].lstrip(">")) == pytest.approx(
            mine["scquery_confidence"].median(), abs=0.011
        )
        assert float(row["Median p-value"].strip("<>")) == pytest.approx(mine["scquery_pvalue"].median(), abs=1e-3)
        assert row["Cells in the reference"] == str((asked.reference.obs["cell_type"] == kind).sum())


def test_certain_types_unknown_cells_and_the_truth_are_those_of_the_cells(full, asked):
    obs = asked.adata.obs
    page = full
    table = page.table("Types from the most to the least certain")
    medians = obs.groupby("scquery_label", observed=True)["scquery_confidence"].median()
    assert table.index.tolist() == medians.sort_values(ascending=False).index.tolist()
    sets = obs["scquery_prediction_set"].astype(str).str.split("|")
    for kind, row in table.iterrows():
        mine = (obs["scquery_label"] == kind).to_numpy()
        assert row["Confidence below 0.8"].startswith(f"{(obs['scquery_confidence'][mine] < 0.8).sum()} (")
        assert row["One type in the prediction set"].startswith(f"{(sets[mine].map(len) == 1).sum()} (")
        others = sets[mine].explode().value_counts().drop(kind, errors="ignore")
        assert row["Cannot be told from"].startswith(f"{others.index[0]} ({others.iloc[0]})" if len(others) else "-")

    unknown = obs["scquery_unknown"].to_numpy()
    assert 0 < unknown.sum() < 60
    by_label = page.table("Unknown cells by label")
    assert by_label["Unknown"].astype(int).sum() == unknown.sum()
    strangest = next(rows for caption, rows in page.tables.items() if caption.startswith("The most novel cells"))
    # Among equal p-values the strangest first.
    ranked = obs[unknown].sort_values("scquery_novelty", ascending=False).sort_values("scquery_pvalue", kind="stable")
    assert ranked["scquery_pvalue"].duplicated().any()
    assert [row[0] for row in strangest[1:]] == list(ranked.index[:10])
    assert [row[4] for row in strangest[1:]] == [f"{value:.1f}" for value in ranked["scquery_novelty"][:10]]

    right = (obs["scquery_label"].astype(str) == obs["cell_type"].astype(str)).to_numpy()
    assert f"Of 60 cells with a type in cell_type and a label, {right.sum()} (" in page.text
    assert f"of the {(~unknown).sum()} not called unknown, {right[~unknown].sum()} (" in page.text
    truth = page.table("By type in cell_type")
    for kind, row in truth.iterrows():
        mine = (obs["cell_type"] == kind).to_numpy()
        assert row["Right label"].startswith(f"{right[mine].sum()} (")
        assert row["Called unknown"].startswith(f"{unknown[mine].sum()} (")


def test_nearest_studies_are_those_of_the_hits(full, asked):
    table = full.table("Hits by batch")
    batches = asked.reference.obs["batch"].astype(str).to_numpy()
    neighbors = batches[asked.adata.obsm["scquery_neighbors"]]
    assert sorted(table.index) == ["batch 0", "batch 1"]
    for name, row in table.iterrows():
        share, size = (neighbors == name).mean(), (batches == name).mean()
        assert row["Cells whose nearest hit it has"] == str((neighbors[:, 0] == name).sum())
        assert float(row["Share of all neighbors"].rstrip("%")) == pytest.approx(100 * share, abs=0.051)
        assert float(row["Share of the reference"].rstrip("%")) == pytest.approx(100 * size, abs=0.051)
        assert float(row["Hits for its size"]) == pytest.approx(share / size, abs=0.006)


def test_a_label_that_rests_on_one_study_is_named(write, asked):
    reference = scq.Reference.load(asked.path)
    kind = reference.obs["cell_type"].astype(str)
    reference.obs["study"] = np.where(kind == "type 1", "x", np.where(np.arange(240) % 2, "x", "y"))
    text = write(reference=reference, batch_key="study").text
    assert "In the reference, all cells of type 1 are of one study each: these labels rest on it." in text
    reference.obs["study"] = "x"
    page = write(reference=reference, batch_key="study")
    assert "these labels rest on it" not in page.text
    assert "The reference has one value of study alone, x: all neighbors are of it." in page.text


def test_what_is_not_given_is_left_out_with_how_to_get_it(write, asked):
    page = write()
    assert len(page.all("img")) == 1
    for hint in (
        "make one with found = scq.pp.check(adata, reference) and give it as check=found",
        "give the reference that was queried as reference= , opened with scq.Reference.load(path)",
        "Name its column of studies with batch_key=",
        'name its column of obs : groupby="donor"',
        'name their column of obs : truth_key="cell_type"',
    ):
        assert hint in page.text, hint
    page = write(reference=asked.reference)
    assert len(page.all("img")) == 2
    assert "Columns that it could be: batch." in page.text


def test_reference_and_query_together(write, asked, trained):
    page = write(reference=asked.reference)
    assert "first two principal components of both embeddings together" in page.text
    assert "There is no UMAP of the reference, and none is computed unasked." in page.text
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
    assert "reference.obsm has no 'X_scquery'" in write(reference=cells).text


def test_the_plane_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    query, reference = (rng.normal(size=(n, 6)).astype(np.float32) * [5, 3, 1, 1, 1, 1] for n in (40, 70))
    here, there, share = shared_plane(query.astype(np.float32), reference.astype(np.float32))
    both = np.concatenate([query, reference])
    pca = PCA(2, svd_solver="full").fit(both)
    expected = pca.transform(both)
    np.testing.assert_allclose(np.abs(np.concatenate([here, there])), np.abs(expected), atol=1e-4)
    assert share == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-5)
    axes = np.linalg.lstsq(both - both.mean(axis=0), np.concatenate([here, there]), rcond=None)[0].T
    assert all(axis[np.abs(axis).argmax()] > 0 for axis in axes)


def test_names_are_text_and_never_markup(write, asked):
    nasty = ["<script>window.ran = 1</script>", "\"'>&amp; <img src=x onerror=alert(1)>", "$\\frac{x}$ `b` {{ 7 * 7 }}"]
    adata = asked.adata.copy()
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
    # The figure with letters that XML cannot hold is one of dots.
    assert sum(picture.startswith(b"\x89PNG") for picture in page.pictures) == 1


def test_nothing_of_the_users_is_changed(write, everything, asked, trained):
    before, settings = asked.adata.copy(), dict(mpl.rcParams)
    cells = trained.adata.copy()
    with plt.style.context("dark_background"):
        dark = write(**{**everything, "reference": cells})
    assert set(asked.adata.uns) == set(before.uns)
    assert set(cells.uns) == set(trained.adata.uns)
    pd.testing.assert_frame_equal(asked.adata.obs, before.obs)
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == []
    # Nor does the page depend on how the user likes figures.
    again = write(**{**everything, "reference": cells})
    assert [len(picture) for picture in dark.pictures] == [len(picture) for picture in again.pictures]
    adata = asked.adata.copy()
    adata.uns["scquery_label_colors"] = ["#123456", "#654321", "#abcdef"]
    assert b"#123456" in write(adata, groupby="donor").pictures[-1]


def test_a_file_written_and_read_gives_the_same_page(write, everything, full, asked, tmp_path):
    asked.adata.write_h5ad(tmp_path / "cells.h5ad")
    first, second = full, write(anndata.read_h5ad(tmp_path / "cells.h5ad"), **everything)
    assert first.tables.keys() == second.tables.keys()
    for caption, rows in first.tables.items():
        if caption != "Date and versions":
            assert sorted(second.tables[caption]) == sorted(rows), caption
    assert [len(picture) for picture in first.pictures] == [len(picture) for picture in second.pictures]


def test_a_query_of_which_little_is_recorded(write, asked):
    adata = asked.adata.copy()
    for slot in ("scquery_neighbors", "scquery_distances", "X_scquery"):
        del adata.obsm[slot]
    del adata.uns["scquery"], adata.obs["scquery_prediction_set"], adata.obs["scquery_novelty"]
    page = write(adata, reference=asked.reference, batch_key="batch")
    assert "uns['scquery'] , where a query records what it was asked, is not there" in page.text
    assert dict(page.tables["The reference"])["Name"] == "not recorded"
    assert "The parameters of the query are not recorded." in page.text
    assert "adata.obsm has no 'X_scquery'" in page.text
    assert "the query's neighbors, or its labels, are not there" in page.text
    assert "The most novel cells, lowest p-value first" in page.tables


def test_cells_without_labels(write, asked):
    adata = asked.adata.copy()
    adata.obs.loc[adata.obs_names[:7], "scquery_label"] = np.nan
    adata.obs.loc[adata.obs_names[:7], "scquery_unknown"] = True
    page = write(adata)
    assert page.table("Cells of each label").loc["(no label)", "Cells"] == "7"
    assert "7 cells got no label: nothing was counted" in page.text
    adata.obs["scquery_label"] = pd.Categorical([np.nan] * 60, categories=["type 0"])
    page = write(adata, reference=asked.reference, batch_key="batch")
    assert page.all("img") == []
    assert page.text.count("No cell got a label") == 3
    adata.obs["scquery_unknown"] = False
    assert "No cell was called unknown. That does not prove that all are of known types." in write(adata).text


def test_many_unknown_cells_few_genes_and_a_poor_rehearsal_are_warned_of(write, asked):
    adata = asked.adata.copy()
    adata.obs["scquery_unknown"] = np.arange(60) < 24
    assert "Many more cells are unknown than the error rate allows" not in write(adata).text
    adata.obs["scquery_unknown"] = np.arange(60) < 25
    adata.uns["scquery"]["genes"]["n_found"] = 49
    found = SimpleNamespace(
        **{name: getattr(asked.found, name) for name in ("genes", "counts", "reference_counts", "detected")},
        **{name: getattr(asked.found, name) for name in ("reference_detected", "input_state", "important_missing")},
        expected_accuracy=SimpleNamespace(macro_f1=0.5, accuracy=0.6, f1={"type 0": 0.5}, n_cells={"type 0": 9}),
        problems=("the moon is full",),
        lines=list,
        n_obs=7,
    )
    page = write(adata, check=found)
    for text in (
        "Many more cells are unknown than the error rate allows",
        "Only 49.0% of the genes that the reference reads were there",
        "The check says: the moon is full.",
        "macro-F1 of 0.50 only",
        "The check is of 7 cells, this page of 60: it may be of others.",
    ):
        assert text in page.text
    adata.uns["scquery"]["parameters"]["corr_method"] = "benjamini-hochberg"
    text = write(adata).text
    assert "Many more cells are unknown" not in text
    assert "of the cells called unknown, about 20.0% should be known ones after all" in text


def test_how_to_cite_is_as_in_the_citation_file(write):
    yaml = pytest.importorskip("yaml")
    cff = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8"))
    assert cff["authors"] == [{"name": AUTHORS}]
    text = write().text
    for paper, ours in zip(cff["references"], (ALAVI, VINCENT), strict=True):
        for said in (paper["title"], paper["journal"], f"({paper['year']})", paper["volume"], paper["start"]):
            assert str(said).lower() in ours.lower(), said
        names = ours.split(". ")[0].split(", ")
        assert [name.rsplit(" ", 1)[0] for name in names] == [author["family-names"] for author in paper["authors"]]
        assert ours in text
    assert cff["references"][0]["doi"] in ALAVI
    assert text.count(f"doi = {{{cff['references'][0]['doi']}}}") == 1


def test_more_types_than_can_be_coloured(write, asked, monkeypatch):
    for module in (_report_beside, _report_labels):
        monkeypatch.setattr(module, "MOST_CATEGORIES", 2)
    page = write(reference=asked.reference, groupby="donor")
    assert page.text.count("No figure: no more than") == 2
    assert len(page.all("img")) == 1


def test_ten_thousand_cells_are_below_three_megabytes(make_judged, tmp_path):
    adata = make_judged(10_000, 30)
    latent = np.random.default_rng(0).normal(size=(10_000, 8)).astype(np.float32)
    adata.obsm["X_scquery"] = latent
    reference = anndata.AnnData(np.ones((10_000, 1), np.float32), obs=adata.obs[["truth", "donor"]].copy())
    reference.obsm["X_scquery"] = latent[::-1].copy()
    wanted = {"batch_key": "donor", "groupby": "donor", "truth_key": "truth", "label_key": "truth"}
    path = scq.pl.report(adata, str(tmp_path / "large.HTML"), reference=reference, **wanted)
    assert path.stat().st_size < 3_000_000
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.all("img")) == 5
    assert len(page.table("The 5 most certain types")) == len(page.table("The 5 least certain types, the least on top"))
    medians = adata.obs.groupby("scquery_label", observed=True)["scquery_confidence"].median().sort_values()
    assert page.table("The 5 least certain types, the least on top").index.tolist() == medians.index[:5].tolist()


def test_places_that_cannot_be_written_to_are_refused(asked, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("mine")
    with pytest.raises(ArgumentError, match=r"`path` is there already: .*page.html.*overwrite=True"):
        scq.pl.report(asked.adata, path)
    assert path.read_text() == "mine"
    scq.pl.report(asked.adata, path, overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    for wrong, match in (
        (tmp_path / "page.pdf", r"`path` must end in one of .html, .htm. Received 'page.pdf'"),
        (tmp_path / "none" / "page.html", r"`path` must name a file in a folder that is there"),
        (3, r"`path` must be a path"),
    ):
        with pytest.raises(ArgumentError, match=match):
            scq.pl.report(asked.adata, wrong)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ArgumentError, match="must name a file in a folder"):
        scq.pl.report(asked.adata, tmp_path / "folder.html", overwrite=True)
    with pytest.raises(ArgumentError, match="`overwrite` must be True or False"):
        scq.pl.report(asked.adata, path, overwrite="yes")


def test_a_page_that_cannot_be_put_in_place_leaves_nothing(asked, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("mine")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match=r"could not be written to .*No space left on device. Nothing was left"):
        scq.pl.report(asked.adata, path, overwrite=True)
    assert [found.name for found in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == "mine"


def test_arguments_that_cannot_be_are_refused_before_anything_is_written(asked, make_adata, tmp_path):
    def refused(error, match, adata=asked.adata, **kwargs):
        with pytest.raises(error, match=match):
            scq.pl.report(adata, tmp_path / "page.html", **kwargs)
        assert list(tmp_path.iterdir()) == []

    refused(MissingKeyError, "needs the columns that `scq.tl.query` writes", make_adata(9, 9))
    refused(MissingKeyError, "Not in `adata.obs`: 'mine_label'", key_added="mine")
    refused(ArgumentError, "takes an AnnData as its first argument", "cells")
    refused(
        ArgumentError, r"Received str; open a saved one with `scq.Reference.load\(path\)`", reference=str(asked.path)
    )
    refused(ArgumentError, "Received DataFrame; open a saved one", reference=asked.reference.obs)
    refused(ArgumentError, r"`check` must be the report of `scq.pp.check\(.*Received dict", check={})
    refused(ArgumentError, "`title` must be text", title=3)
    refused(ArgumentError, "`basis` must be text", basis=3)
    for name in ("batch_key", "label_key", "basis"):
        refused(ArgumentError, f"`{name}` is about the reference. Received 'batch' without one", **{name: "batch"})
    for name in ("groupby", "truth_key"):
        refused(MissingKeyError, f"`{name}='nothing'` is not a column", **{name: "nothing"})
    for name in ("batch_key", "label_key"):
        wrong = {name: "nothing", "reference": asked.reference}
        refused(MissingKeyError, f"`{name}='nothing'` is not in the reference's `obs`", **wrong)
    refused(ArgumentError, "`basis='X_umap'` needs the AnnData", reference=asked.reference, basis="X_umap")
    refused(ArgumentError, "shares none with the labels", truth_key="donor")


def test_another_reference_than_the_one_queried_is_refused(asked, trained, tmp_path):
    other = scq.Reference.load(asked.path)
    other.relabel({"type 0": "renamed"})
    with pytest.raises(ArgumentError, match=r"they differ in 'renamed', 'type 0'. Give the one that was queried"):
        scq.pl.report(asked.adata, tmp_path / "page.html", reference=other)
    with pytest.raises(ArgumentError, match=r"The neighbors point to row \d+, and the one given has 5 cells"):
        scq.pl.report(asked.adata, tmp_path / "page.html", reference=trained.adata[:5].copy())
    cells = trained.adata.copy()
    cells.obsm["X_scquery"] = cells.obsm["X_scquery"][:, :3]
    with pytest.raises(ArgumentError, match=r"The embedding of the query has 8 dimensions, that of the reference 3"):
        scq.pl.report(asked.adata, tmp_path / "page.html", reference=cells)
    assert list(tmp_path.iterdir()) == []


def test_numbers_in_words():
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


def test_the_template_is_part_of_the_package():
    assert files("scquery_ae.pl").joinpath("report.html.jinja").is_file()
