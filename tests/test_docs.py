"""What the documentation shows works: settings load, commands and their options exist, links lead somewhere."""

import re
from pathlib import Path

import pytest

from core import rules
from core.settings import loading
from core.settings.data import DataBounds
from pipeline.cli.main import main
from tests.conftest import ROOT

PAGES = {
    path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
DOCS = [name for name in PAGES if name != "README.md"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LEAST = {"name": "name: birds\n", "data": "data: {images: photos}\n"}
"""What an example that shows something else leaves out."""


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


def load(block: str, folder: Path) -> loading.Settings:
    path = folder / "birds.yaml"
    missing = [line for key, line in LEAST.items() if not re.search(rf"^{key}:", block, re.MULTILINE)]
    path.write_text("".join([*missing, block]), encoding="utf-8")
    return loading.load(path)


def code(page: str) -> str:
    """All that stands in code blocks and between backticks, a piece a line; continued lines joined."""
    text = PAGES[page]
    inside = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return re.sub(r" *\\\n *", " ", "\n".join([*inside, *inline]))


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_a_page_shows_load(page: str, tmp_path: Path) -> None:
    foreign = ("apiVersion:", "groups:")  # Kubernetes's, and Prometheus' rules
    for block in (one for one in blocks(page, "yaml") if not any(line in one for line in foreign)):
        assert load(block, tmp_path).name


def test_examples_of_fine_tuning_say_something_else_than_the_defaults(tmp_path: Path) -> None:
    default = load("", tmp_path).trainer
    shown = [load(block, tmp_path).trainer for block in blocks("fine-tuning.md", "yaml")]
    assert len(shown) >= 10
    assert all(one != default for one in shown[1:])  # the first shows the default


def test_examples_of_retraining_mean_what_they_say(tmp_path: Path) -> None:
    spans, warm, live, views = (load(block, tmp_path) for block in blocks("retraining.md", "yaml"))
    assert (spans.data.span, spans.data.window) == ("latest", 30)
    assert warm.training.warm_start == "latest_blessed"
    assert [rules.features_cut(one.trainer) for one in (warm, live, views)] == ["mixed8", None, "pooled"]


def test_every_bound_on_data_is_shown_with_its_default() -> None:
    for name, value in vars(DataBounds()).items():
        shown = "null" if value is None else f"{value:g}"
        assert re.search(rf"^    {name}: .*\({shown}\)$", PAGES["data.md"], re.MULTILINE), name


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_a_page_shows_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    variables = {name for line in re.findall(r"^export (.*)$", MAKEFILE, re.MULTILINE) for name in line.split()}
    shown = code(page)
    for target, rest in re.findall(r"\bmake ([a-z][a-z-]+)(.*)", shown):
        assert target in targets, f"make {target}"
        unknown = set(re.findall(r"\b([A-Z]+)=", re.sub(r'".*?"', "", rest))) - variables
        assert not unknown, f"make {target}{rest}"
    assert set(re.findall(r"python -m pipeline ([a-z-]+)", shown)) <= set(main.commands)


@pytest.mark.parametrize("page", PAGES)
def test_overrides_that_a_page_shows_load(page: str) -> None:
    for text in re.findall(r'SET="([^"…]+)"', code(page)):
        assert loading.load(ROOT / "configs" / "digits.yaml", loading.split_overrides([text]))


def anchors(text: str) -> set[str]:
    """GitHub's: lower case, blanks to dashes, all else that is no letter, digit or dash left out."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (folder / path) if path else (folder / page)
        assert found.exists(), target
        assert not anchor or anchor in anchors(found.read_text(encoding="utf-8")), target


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), ["README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            waiting += [name for name in re.findall(r"\((?:docs/)?([\w-]+\.md)", PAGES[page]) if name in PAGES]
    assert reached == set(PAGES)
