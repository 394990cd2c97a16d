"""The report in a real browser: no error, no request, its pictures show, its tables sort, it fits a phone."""

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from pipeline.report.make import make_report
from tests.pipeline.report_run import NAME, SETTINGS, write_run

pytestmark = pytest.mark.slow

_FLAGS = (
    "--headless",
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
    "--v=0",
)
# Milliseconds of the page's own clock, which jumps ahead whenever the page waits. Pictures are decoded in real time
# beside it, so on a busy machine the page may be dumped too early: then once more, with more of it.
_VIRTUAL_TIME = (4_000, 40_000, 400_000)

# Runs in the page beside its own script, and leaves what it found in the DOM.
_PROBE = """
addEventListener("load", () => {
  const table = document.querySelector("#metrics ~ .scroll table");
  const column = (n) => [...table.tBodies[0].rows].map((row) => row.cells[n].dataset.v ?? row.cells[n].textContent);
  const found = { before: column(2) };
  const head = table.tHead.rows[0].cells[2];
  head.querySelector("button").click();
  found.rising = [head.ariaSort, column(2)];
  head.querySelector("button").click();
  found.falling = [head.ariaSort, column(2)];
  table.tHead.rows[0].cells[0].querySelector("button").click();
  found.sorted = [...table.tHead.rows[0].cells].map((cell) => cell.getAttribute("aria-sort"));
  const pictures = [...document.images];
  found.pictures = pictures.length;
  pictures.forEach((picture) => { picture.loading = "eager"; });
  found.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  found.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const colour = (element, property) => getComputedStyle(element)[property];
  found.dark = matchMedia("(prefers-color-scheme: dark)").matches;
  found.ink = colour(document.querySelector("svg.plot text"), "fill");
  found.card = colour(document.querySelector("section"), "backgroundColor");
  Promise.all(pictures.map((picture) => picture.decode())).then(() => {
    found.shown = pictures.filter((picture) => picture.naturalWidth > 0).length;
    document.documentElement.dataset.found = JSON.stringify(found);
  }).catch((error) => { document.documentElement.dataset.found = String(error); });
});
"""

_FRAME = """<!doctype html><iframe src="report.html" width="WIDTH" height="800"></iframe><script>
setInterval(() => {
  const found = frames[0].document.documentElement.dataset.found;
  if (found) document.documentElement.dataset.found = found;
}, 50);
</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no browser: chromium is not installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("build") / NAME
    make_report(home, NAME, write_run(home, "pushed"), SETTINGS)
    return make_report(home, NAME, write_run(home, "refused"), SETTINGS)


def browse(
    chromium: str, page: Path, profile: Path, *flags: str, milliseconds: int = _VIRTUAL_TIME[0]
) -> tuple[str, list[str]]:
    """The page's DOM after its scripts ran, and what it wrote on the console."""
    done = subprocess.run(
        [
            chromium,
            *_FLAGS,
            f"--virtual-time-budget={milliseconds}",
            f"--user-data-dir={profile}",
            *flags,
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def probe(chromium: str, report: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict]:
    """Opens the report with `_PROBE` in it, which its policy then has to allow, in a frame of some width."""

    @functools.cache
    def look(width: int, dark: bool = False) -> dict:
        folder = tmp_path_factory.mktemp("probed")
        html = report.read_text(encoding="utf-8").replace("script-src '", "script-src 'nonce-probe' '", 1)
        html = html.replace("</body>", f'<script nonce="probe">{_PROBE}</script></body>')
        (folder / "report.html").write_text(html, encoding="utf-8")
        frame = folder / "frame.html"  # a headless window cannot be as narrow as a phone
        frame.write_text(_FRAME.replace("WIDTH", str(width)), encoding="utf-8")
        for milliseconds in _VIRTUAL_TIME:
            dom, console = browse(
                chromium,
                frame,
                folder / "profile",
                "--window-size=1400,900",
                "--allow-file-access-from-files",
                f"--blink-settings=preferredColorScheme={0 if dark else 1}",
                milliseconds=milliseconds,
            )
            assert console == []
            if match := re.search(r'data-found="([^"]*)"', dom):
                break
        assert match, dom[:2000]
        return json.loads(unescape(match[1]))

    return look


def test_it_opens_without_a_word_on_the_console(chromium: str, report: Path, tmp_path: Path) -> None:
    dom, console = browse(chromium, report, tmp_path)

    assert console == []
    assert dom.count("<button") > 20  # its own script ran: the policy's hash fits


def test_a_broken_policy_would_be_noticed(chromium: str, report: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(report.read_text().replace("</body>", '<img src="https://example.com/x.png" alt=""></body>'))

    _, console = browse(chromium, page, tmp_path / "profile")

    assert any("Content Security Policy" in line for line in console)


def test_it_asks_nothing_of_the_network(probe: Callable[..., dict]) -> None:
    assert [name for name in probe(1200)["requests"] if not name.startswith("data:")] == []


def test_all_pictures_show(probe: Callable[..., dict]) -> None:
    found = probe(1200)

    assert found["shown"] == found["pictures"] > 20


def test_tables_sort_both_ways_and_say_so(probe: Callable[..., dict]) -> None:
    found = probe(1200)

    assert sorted(found["before"]) == ["0.6", "0.8", "0.9"]
    assert found["rising"] == ["ascending", ["0.6", "0.8", "0.9"]]
    assert found["falling"] == ["descending", ["0.9", "0.8", "0.6"]]
    assert found["sorted"][0] == "ascending" and set(found["sorted"][1:]) == {None}


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_page_does_not_scroll_sideways(probe: Callable[..., dict], width: int) -> None:
    assert probe(width)["overflow"] == 0


@pytest.mark.parametrize("dark", [False, True])
def test_text_in_plots_can_be_read_in_both_themes(probe: Callable[..., dict], dark: bool) -> None:
    found = probe(1200, dark)

    assert found["dark"] is dark
    assert contrast(found["ink"], found["card"]) >= 4.5  # WCAG's AA


def contrast(first: str, second: str) -> float:
    """WCAG 2.1's contrast ratio of two colours like `rgb(1, 2, 3)`."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
