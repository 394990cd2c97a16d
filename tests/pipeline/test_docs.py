"""The settings that the documentation shows are settings."""

import re
from pathlib import Path

import pytest

from pipeline import settings
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "fine-tuning.md"
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_of_settings_loads(block: str, tmp_path: Path) -> None:
    path = tmp_path / "birds.yaml"
    path.write_text(f"name: birds\ndata: {{images: photos}}\n{block}", encoding="utf-8")
    default = settings.load(ROOT / "configs" / "digits.yaml").trainer
    assert settings.load(path).trainer != default


def test_page_shows_settings() -> None:
    assert len(BLOCKS) >= 10
