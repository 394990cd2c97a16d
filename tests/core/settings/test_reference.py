"""docs/settings.md and the JSON Schema say what the classes of settings say."""

import re
from pathlib import Path

import pytest

from core.settings import load
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w.<>]+)` \| .*? \| (?:`(.*)`)? \| (.*) \|$", PAGE, flags=re.MULTILINE)


def test_every_setting_says_what_it_means() -> None:
    assert len(ROWS) > 100
    assert not [path for path, _, meaning in ROWS if len(meaning) < 5]


ABSENT = (
    "abstain.",
    "training.augmentation.",
    "tuner.",
    "kubeflow.volume.",
    "runtime.metadata.",
    "evaluation.thresholds.",
    "evaluation.per_slice.",
    "serving.request_log.",
)
DEFAULTS = [(path, value) for path, value, _ in ROWS if value and "<" not in path and not path.startswith(ABSENT)]


@pytest.mark.parametrize(("path", "value"), DEFAULTS)
def test_a_default_given_as_it_stands_changes_nothing(path: str, value: str, tmp_path: Path) -> None:
    least = tmp_path / "least.yaml"
    least.write_text("name: birds\ndata: {images: photos}\n")

    assert load(least, [f"{path}={value}"]) == load(least)
