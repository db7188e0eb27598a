"""The page of ``pl.report`` in Chromium: nothing asked of a network, no script, readable at each width, printed whole.

The browser is spoken to over a pipe (``--remote-debugging-pipe``), which needs nothing but the standard library.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

import scquery_ae as scq

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="the pipe to the browser needs descriptors that Windows has not"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome is installed"),
]

#: Seconds that the browser may take for one thing; two slow cores may be busy with something else.
PATIENCE = 120
#: CSS pixels of A4 without the margins of the page, 16 and 15 mm.
PAPER = (round((210 - 2 * 15) / 25.4 * 96), round((297 - 2 * 16) / 25.4 * 96))
WIDTHS = {"desktop": 1280, "phone": 390}

#: Puts the pipe where the browser looks for it, and becomes the browser.
_BECOME = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 20) for end in sys.argv[1:3]]
for there, end in zip((3, 4), ends):
    os.dup2(end, there)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A headless browser with one page. `events` holds what it told of itself."""

    def __init__(self, profile):
        hears, self._says = os.pipe()
        self._hears, says = os.pipe()
        flags = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
            *("--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BECOME, str(hears), str(says), CHROMIUM, *flags],
            pass_fds=(hears, says),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(hears)
        os.close(says)
        fcntl.fcntl(self._hears, fcntl.F_SETFL, os.O_NONBLOCK)
        self._rest, self._n, self._session, self.events = b"", 0, None, []
        page = next(t for t in self("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self(f"{part}.enable")

    def __call__(self, method, **parameters):
        """Return the answer to a command of the DevTools protocol."""
        self._n += 1
        message = {"id": self._n, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._says, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda heard: heard.get("id") == self._n)
        assert "error" not in answer, answer
        return answer["result"]

    def _wait(self, wanted):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            while b"\0" in self._rest:
                text, self._rest = self._rest.split(b"\0", 1)
                heard = json.loads(text)
                self.events.append(heard)
                if wanted(heard):
                    return heard
            if select.select([self._hears], [], [], 1)[0]:
                read = os.read(self._hears, 1 << 20)
                assert read, "the browser has ended"
                self._rest += read
        raise TimeoutError

    def open(self, path, width, *, scheme="light", media="screen"):
        """Open a page as it is at a width, and forget what happened before."""
        self.events.clear()
        self("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])
        self("Page.navigate", url=path.as_uri())
        # An answer to another command may have taken the event along.
        if not any(heard.get("method") == "Page.loadEventFired" for heard in self.events):
            self._wait(lambda heard: heard.get("method") == "Page.loadEventFired")

    def js(self, expression):
        """Return the value of an expression in the page, once a promise is kept."""
        found = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def heard(self, *methods):
        """Return what it told under these names."""
        return [event["params"] for event in self.events if event.get("method") in methods]

    def screenshot(self, path):
        """Save the whole page as a picture."""
        size = self("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        path.write_bytes(
            base64.b64decode(self("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"])
        )

    def pdf(self):
        """Return the page as printed."""
        return base64.b64decode(self("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])

    def close(self):
        os.close(self._says)
        os.close(self._hears)
        # The whole group: the browser has helpers of its own, and is not the process that was started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def page(make_adata, saved_reference, tmp_path_factory):
    """A page with all that can be on it, long names, and one that would be a script."""
    adata = make_adata(60, 120, seed=2)
    adata.obs["donor"] = [f"donor {i % 3} of a clinic with a very long name" for i in range(60)]
    found = scq.pp.check(adata, saved_reference)
    scq.tl.query(adata, saved_reference, alpha=0.2)
    names = {"type 0": "<script>window.ran = true</script>", "type 1": "gamma-delta|regulatory_T_cell_of_the_gut" * 2}
    for key in ("scquery_label", "cell_type"):
        adata.obs[key] = adata.obs[key].cat.rename_categories(names)
    del adata.uns["scquery"]["types"]
    reference = scq.Reference.load(saved_reference)
    path = tmp_path_factory.mktemp("page") / "page.html"
    wanted = {"batch_key": "batch", "groupby": "donor", "truth_key": "cell_type"}
    return scq.pl.report(adata, path, reference=reference, check=found, **wanted)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_nothing_goes_wrong_and_nothing_is_fetched(browser, page, width):
    browser.open(page, width)
    sizes = browser.js("Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))")
    assert len(sizes) == 6
    assert min(sizes) > 100
    told = browser.heard("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert told == []
    asked = {event["request"]["url"] for event in browser.heard("Network.requestWillBeSent")}
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    assert browser.js("window.ran === undefined && document.scripts.length === 0")


def test_what_goes_wrong_would_be_heard(browser, tmp_path):
    # Otherwise the test above could not fail.
    path = tmp_path / "bad.html"
    path.write_text("<!DOCTYPE html><script>console.error('a'); throw 1</script><img src='none.png'>", encoding="utf-8")
    browser.open(path, 800)
    assert browser.heard("Runtime.consoleAPICalled")
    assert browser.heard("Runtime.exceptionThrown")
    assert browser.heard("Log.entryAdded")
    assert len(browser.heard("Network.requestWillBeSent")) == 2


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_all_can_be_reached_without_pushing_the_page_sideways(browser, page, width):
    browser.open(page, width)
    assert browser.js("document.documentElement.scrollWidth") == width
    # What is wider than the page stands in a box that scrolls.
    outside = """
        [...document.querySelectorAll("main *, header *, nav *, footer *")].filter(
            e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll")
        ).map(e => e.outerHTML.slice(0, 80))
    """
    assert browser.js(outside) == []
    assert browser.js("[...document.querySelectorAll('.scroll')].every(e => getComputedStyle(e).overflowX === 'auto')")
    sizes = "[...document.querySelectorAll('main *')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert min(browser.js(sizes)) >= 12
    # Letters of a figure are at least three quarters of what they were drawn as.
    assert min(browser.js("[...document.images].map(i => i.width / parseFloat(i.getAttribute('width')))")) >= 0.74
    # Links of the contents lead somewhere.
    assert browser.js("[...document.links].every(a => document.getElementById(a.hash.slice(1)))")


def _luminance(colour):
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, page, scheme):
    browser.open(page, 1280, scheme=scheme)
    pairs = browser.js("""
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
    paper = _luminance(browser.js("getComputedStyle(document.body).backgroundColor"))
    assert (paper < 0.05) == (scheme == "dark")
    plates = browser.js("[...document.querySelectorAll('.plate')].map(e => getComputedStyle(e).backgroundColor)")
    assert set(plates) == {"rgb(255, 255, 255)"}


def test_print_keeps_figures_whole(browser, page, tmp_path):
    browser.open(page, PAPER[0], media="print", scheme="dark")
    figures = browser.js("""
        [...document.querySelectorAll("figure")].map(e => {
            const box = e.getBoundingClientRect(), image = e.querySelector("img");
            const drawn = image.getBoundingClientRect();
            return {height: box.height, inside: getComputedStyle(e).breakInside, right: drawn.right,
                    shape: drawn.width / drawn.height * image.naturalHeight / image.naturalWidth,
                    scrolls: getComputedStyle(e.querySelector(".scroll")).overflowX};
        })
    """)
    assert len(figures) == 6
    for figure in figures:
        assert figure["inside"] == "avoid"
        assert figure["height"] < PAPER[1]
        assert figure["right"] <= PAPER[0] + 1
        assert figure["shape"] == pytest.approx(1, abs=0.02)
        assert figure["scrolls"] == "visible"
    assert browser.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    right = "Math.max(...[...document.querySelectorAll('main *')].map(e => e.getBoundingClientRect().right))"
    assert browser.js(right) <= PAPER[0] + 1
    browser("Emulation.clearDeviceMetricsOverride")
    browser("Emulation.setEmulatedMedia", media="", features=[])
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF-")
    assert 5 <= pdf.count(b"/Type /Page\n") <= 20
