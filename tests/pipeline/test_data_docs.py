"""The examples of docs/data.md are settings that can be read."""

import re

import pytest

from pipeline import settings
from pipeline.settings_data import DataBounds
from tests.conftest import ROOT

EXAMPLES = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "data.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_of_the_page_can_be_read(text, tmp_path):
    path = tmp_path / "birds.yaml"
    path.write_text(text, encoding="utf-8")
    assert settings.load(path).data.images


def test_the_page_names_every_bound_with_its_default():
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for name, value in vars(DataBounds()).items():
        shown = "null" if value is None else f"{value:g}"
        assert re.search(rf"^    {name}: .*\({shown}\)$", page, re.MULTILINE), name
