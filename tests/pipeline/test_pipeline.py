"""Which stage waits for which."""

import pytest

from core.settings import loading
from pipeline.deployment import Deployment
from pipeline.pipeline import create_pipeline
from tests.conftest import ROOT

SCHEMA = (ROOT / "schemas" / "digits.pbtxt").read_text()


@pytest.mark.parametrize(
    "override",
    ["fine_tune={from: mixed9}", "fine_tune={rules: [['.*', 1.0]]}", "tuner.trials=2"],
    ids=["cut", "images", "tuner"],
)
def test_nothing_learns_from_images_before_validation_gate_passed_them(override: str) -> None:
    settings = loading.load(ROOT / "configs" / "digits.yaml", [override])
    stages = {c.id: c for c in create_pipeline(settings, Deployment("/root", "/images", "/serving"), SCHEMA).components}

    def before(stage) -> set[str]:
        return {stage.id}.union(*map(before, stage.upstream_nodes))

    learn = {"FeatureExtractor", "Tuner", "Trainer"} & set(stages)
    assert all("ValidationGate" in before(stages[stage]) for stage in learn)
    assert "ValidationGate" not in before(stages["Transform"])
