"""The report in a real browser: no error, no request, images show, tables sort, it fits a phone, all can use it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from pipeline.report.collect import collect
from pipeline.report.make import make_report
from pipeline.report.render import render
from tests.pipeline.report.report_run import NAME, SETTINGS, many_classes, write_run

pytestmark = pytest.mark.slow

_PHONE = {"width": 360, "height": 740}
_DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a refused run, with a settings table long enough to be searched."""
    run_dir = tmp_path_factory.mktemp("build") / NAME
    make_report(run_dir, NAME, write_run(run_dir, "pushed"), SETTINGS)
    return make_report(
        run_dir, NAME, write_run(run_dir, "refused"), SETTINGS | {"many": {f"s{n}": n for n in range(30)}}
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no browser: chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The report, opened as it is; whatever it says on the console or asks of the network fails the test."""
    page = browser.new_page(viewport=_DESKTOP)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("data:") else None)
    page.goto(report.as_uri())
    yield page
    page.close()
    assert said == [report.as_uri()]


def test_all_images_show(page: Page) -> None:
    page.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every((image) => image.complete)")

    widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")

    assert len(widths) > 30 and min(widths) > 0


def test_a_policy_that_is_broken_is_noticed(browser: Browser, report: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(report.read_text().replace("</body>", '<img src="https://example.com/x.png" alt=""></body>'))
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))

    page.goto(path.as_uri())
    page.close()

    assert any("Content Security Policy" in text for text in said)


def slices(page: Page) -> Locator:
    """The table of slices."""
    return page.locator("table", has=page.locator("caption", has_text="The whole split and every slice"))


def accuracies(page: Page) -> list[str]:
    return slices(page).locator("tbody tr").evaluate_all("(rows) => rows.map((row) => row.cells[2].dataset.v)")


def test_tables_sort_by_mouse_both_ways_and_say_so(page: Page) -> None:
    head = slices(page).locator("th", has_text="Accuracy")

    assert sorted(accuracies(page)) == ["0.6", "0.8", "0.9"]
    head.get_by_role("button").click()
    assert (head.get_attribute("aria-sort"), accuracies(page)) == ("ascending", ["0.6", "0.8", "0.9"])
    head.get_by_role("button").click()
    assert (head.get_attribute("aria-sort"), accuracies(page)) == ("descending", ["0.9", "0.8", "0.6"])


def test_tables_sort_by_keyboard(page: Page) -> None:
    slices(page).locator("th button").first.focus()
    page.keyboard.press("Tab")  # on to the images
    page.keyboard.press("Tab")  # on to the accuracy
    page.keyboard.press("Enter")
    page.keyboard.press("Space")

    assert page.evaluate("document.activeElement.closest('th').ariaSort") == "descending"
    assert accuracies(page) == ["0.9", "0.8", "0.6"]


def test_the_first_tab_leads_past_the_navigation(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")

    assert page.evaluate("document.activeElement.id") == "main"


def test_long_tables_can_be_searched(page: Page) -> None:
    page.get_by_text("settings of the run").first.click()
    page.get_by_label("Find in").last.fill("many.s1")

    assert page.get_by_role("status").last.text_content() == "11 found"
    assert page.locator("tr", has_text="many.s10").is_visible()
    assert not page.locator("tr", has_text="many.s2").first.is_visible()


def test_a_link_to_an_artifact_opens_the_part_it_is_in(page: Page) -> None:
    page.get_by_text("Executions and artifacts").click()
    link = page.locator('a[href^="#artifact-"]').first
    target = str(link.get_attribute("href"))
    link.click()

    assert page.locator(target).is_visible()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("viewport", [_PHONE, _DESKTOP], ids=["phone", "desktop"])
def test_the_report_is_accessible(browser: Browser, report: Path, viewport: dict, dark: bool) -> None:
    """axe-core: contrast of every text, names, landmarks, headings, tables; and no sideways scrolling."""
    page = browser.new_page(viewport=viewport, color_scheme="dark" if dark else "light", bypass_csp=True)
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")

    violations = Axe().run(page).response["violations"]
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.close()

    assert [(v["id"], [node["html"] for node in v["nodes"][:3]]) for v in violations] == []
    assert overflow == 0
    assert (background == "rgb(18, 20, 26)") is dark


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a thousand classes, whose names are long, in many scripts, and some without any place to break."""
    run_dir = tmp_path_factory.mktemp("build") / NAME
    report = collect(run_dir, NAME, write_run(run_dir, "refused"), SETTINGS)
    odd = ["a" * 100, "蝶" * 80, "🦋" * 50, "פרפר לבן " * 12, "&lt;" * 25, "long words in a long name " * 4]
    names = [*odd, *(f"{number} " + odd[number % 6] for number in range(994))]
    page = run_dir / "many.html"
    page.write_text(render(many_classes(report, names)), encoding="utf-8")
    return page


@pytest.mark.parametrize("viewport", [_PHONE, _DESKTOP], ids=["phone", "desktop"])
def test_a_thousand_classes_of_long_names_stay_in_their_places(browser: Browser, many: Path, viewport: dict) -> None:
    page = browser.new_page(viewport=viewport)
    page.goto(many.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")

    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    spilled = page.evaluate(
        "[...document.querySelectorAll('th, td')].filter((cell) => cell.scrollWidth > cell.clientWidth + 1)"
        ".map((cell) => cell.textContent.slice(0, 40))"
    )
    widest = page.evaluate("Math.max(...[...document.querySelectorAll('.matrix thead th')].map((c) => c.offsetWidth))")
    page.close()

    assert (overflow, spilled) == (0, [])
    assert widest < 200


def test_all_classes_can_be_saved_as_a_file(browser: Browser, many: Path) -> None:
    page = browser.new_page()
    page.goto(many.as_uri())
    with page.expect_download() as download:
        page.get_by_text("All classes as a CSV file").first.click()

    assert download.value.suggested_filename == "classes.csv"
    assert Path(download.value.path()).read_text(encoding="utf-8").count("\n") == 1001
    page.close()
