"""The settings that docs/retraining.md shows can be loaded, and mean what it says."""

import re

import pytest

from pipeline import settings
from tests.conftest import ROOT
from trainer import rules

EXAMPLES = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "retraining.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def loaded(tmp_path):
    """All examples, in order."""

    def load(number):
        path = tmp_path / f"{number}.yaml"
        path.write_text(EXAMPLES[number], encoding="utf-8")
        return settings.load(path)

    return [load(number) for number in range(len(EXAMPLES))]


def test_every_example_loads(loaded):
    spans, warm, live, views = loaded
    assert (spans.data.span, spans.data.window) == ("latest", 30)
    assert warm.training.warm_start == "latest_blessed"
    assert rules.features_cut(warm.trainer) == "mixed8"
    assert live.training.augmentation.cutout == 0.2
    assert views.training.augmentation.views == 4


def test_augmentation_without_views_reads_images_and_with_views_features(loaded):
    assert [rules.features_cut(one.trainer) for one in loaded[2:]] == [None, "pooled"]
