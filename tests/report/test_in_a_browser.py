"""The page in Chromium: it loads nothing, runs no script, and is readable on a desktop, on a phone and on paper."""

import shutil
from types import SimpleNamespace

import pytest

import scquery_ae as scq

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
#: The browser of the system: Playwright's own is a download of its own.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome is installed"),
]

#: CSS pixels of A4 without the margins of the page, 16 and 15 mm.
PAPER = (round((210 - 2 * 15) / 25.4 * 96), round((297 - 2 * 16) / 25.4 * 96))
WIDTHS = {"desktop": 1280, "phone": 390}


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """``open_page(path, width, **context)``: the page, and what it logs and requests."""
    contexts = []

    def call(path, width, **kwargs):
        context = browser.new_context(viewport={"width": width, "height": 900}, **kwargs)
        contexts.append(context)
        context.set_default_timeout(120_000)
        page = context.new_page()
        messages, requests = [], []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return SimpleNamespace(page=page, messages=messages, requests=requests, js=page.evaluate)

    yield call
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def path(make_adata, saved_reference, tmp_path_factory):
    """A page with all sections and long names, one of which would be a script."""
    adata = make_adata(60, 120, seed=2)
    adata.obs["donor"] = [f"donor {i % 3} of a clinic with a very long name" for i in range(60)]
    check = scq.pp.check(adata, saved_reference)
    scq.tl.query(adata, saved_reference, alpha=0.2)
    names = {"type 0": "<script>window.ran = true</script>", "type 1": "gamma-delta|regulatory_T_cell_of_the_gut" * 2}
    for key in ("scquery_label", "cell_type"):
        adata.obs[key] = adata.obs[key].cat.rename_categories(names)
    del adata.uns["scquery"]["types"]
    reference = scq.Reference.load(saved_reference)
    keys = {"batch_key": "batch", "groupby": "donor", "truth_key": "cell_type"}
    target = tmp_path_factory.mktemp("page") / "page.html"
    return scq.report.write(adata, target, reference=reference, check=check, **keys)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_nothing_fails_and_nothing_is_loaded(open_page, path, width):
    opened = open_page(path, width)
    sizes = opened.js("Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))")
    assert len(sizes) == 6
    assert min(sizes) > 100
    assert opened.messages == []
    assert {url for url in opened.requests if not url.startswith("data:")} == {path.as_uri()}
    assert opened.js("window.ran === undefined && document.scripts.length === 0")


def test_failures_and_requests_would_be_seen(open_page, tmp_path):
    # Otherwise the test above could not fail.
    path = tmp_path / "bad.html"
    path.write_text("<!DOCTYPE html><script>console.error('a'); throw 1</script><img src='none.png'>", encoding="utf-8")
    opened = open_page(path, 800)
    assert len(opened.messages) >= 2
    assert len(opened.requests) == 2


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_page_fits_the_screen(open_page, path, width):
    js = open_page(path, width).js
    assert js("document.documentElement.scrollWidth") == width
    # Wider elements are in a box that scrolls.
    outside = """
        [...document.querySelectorAll("main *, header *, nav *, footer *")].filter(
            e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll")
        ).map(e => e.outerHTML.slice(0, 80))
    """
    assert js(outside) == []
    assert js("[...document.querySelectorAll('.scroll')].every(e => getComputedStyle(e).overflowX === 'auto')")
    sizes = "[...document.querySelectorAll('main *')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert min(js(sizes)) >= 12
    # Figures are scaled to the width, and are no larger than drawn.
    assert js("[...document.querySelectorAll('.plate')].every(e => e.scrollWidth <= e.clientWidth)")
    assert max(js("[...document.images].map(i => i.width / parseFloat(i.getAttribute('width')))")) <= 1.01


def test_no_blank_band_above_the_header_of_a_table(open_page, path):
    js = open_page(path, WIDTHS["phone"]).js
    # Distance from the box of the first header to its text, and lines of the tallest header.
    headers = js("""
        [...document.querySelectorAll("thead")].map(top => {
            const first = top.querySelector("th"), text = document.createRange();
            text.selectNodeContents(first);
            const line = parseFloat(getComputedStyle(first).lineHeight);
            return {above: text.getBoundingClientRect().top - top.getBoundingClientRect().top,
                    lines: top.getBoundingClientRect().height / line};
        })
    """)
    assert len(headers) >= 4
    assert max(header["above"] for header in headers) < 12
    assert max(header["lines"] for header in headers) < 4


def test_a_term_leads_to_its_definition(open_page, path):
    page = open_page(path, WIDTHS["phone"]).page
    page.get_by_role("link", name="confidence", exact=True).first.click()
    definition = page.locator("dt#confidence")
    assert definition.inner_text() == "Confidence"
    sync_api.expect(definition).to_be_in_viewport()


def _luminance(colour):
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_contrast_of_text(open_page, path, scheme):
    js = open_page(path, 1280, color_scheme=scheme).js
    pairs = js("""
        [...document.querySelectorAll("h1, h2, p, li, td, th, dt, dd, a, code, pre, figcaption, caption")].map(e => {
            let ground = e;
            const clear = () => getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)";
            while (clear()) ground = ground.parentElement;
            return [getComputedStyle(e).color, getComputedStyle(ground).backgroundColor, e.tagName];
        })
    """)
    assert len(pairs) > 100
    for ink, ground, tag in pairs:
        low, high = sorted((_luminance(ink), _luminance(ground)))
        # WCAG 2, level AA.
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground, tag)
    paper = _luminance(js("getComputedStyle(document.body).backgroundColor"))
    assert (paper < 0.05) == (scheme == "dark")
    plates = js("[...document.querySelectorAll('.plate')].map(e => getComputedStyle(e).backgroundColor)")
    assert set(plates) == {"rgb(255, 255, 255)"}


def test_print_keeps_figures_whole(open_page, path):
    opened = open_page(path, PAPER[0], color_scheme="dark")
    opened.page.emulate_media(media="print")
    figures = opened.js("""
        [...document.querySelectorAll("figure")].map(e => {
            const box = e.getBoundingClientRect(), image = e.querySelector("img");
            const drawn = image.getBoundingClientRect();
            return {height: box.height, inside: getComputedStyle(e).breakInside, right: drawn.right,
                    shape: drawn.width / drawn.height * image.naturalHeight / image.naturalWidth};
        })
    """)
    assert len(figures) == 6
    for figure in figures:
        assert figure["inside"] == "avoid"
        assert figure["height"] < PAPER[1]
        assert figure["right"] <= PAPER[0] + 1
        assert figure["shape"] == pytest.approx(1, abs=0.02)
    assert opened.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    right = "Math.max(...[...document.querySelectorAll('main *')].map(e => e.getBoundingClientRect().right))"
    assert opened.js(right) <= PAPER[0] + 1
    pdf = opened.page.pdf(prefer_css_page_size=True, print_background=True)
    assert pdf.startswith(b"%PDF-")
    assert 5 <= pdf.count(b"/Type /Page\n") <= 20
