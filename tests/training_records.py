"""What a training writes down of itself, for tests of what reads it."""

from core.artifacts.backbone import BackboneRecord
from core.artifacts.training_summary import (
    Abstention,
    Calibration,
    Evaluation,
    NoveltyImages,
    Parameters,
    TrainingSummary,
)

BACKBONE = BackboneRecord("imagenet", "random", True, "ab", 75)
SUMMARY = TrainingSummary(
    steps=2,
    max_steps=2,
    stopped_early=False,
    seconds=1.0,
    best=Evaluation(2, 0.1, 0.9),
    evaluations=[],
    calibration=Calibration(1.5, 40, 0.6, 0.5),
    novelty=NoveltyImages(300, 40),
    abstention=Abstention(0.6, 0.99, 40, 36, 35),
    classes=["a", "b"],
    class_weights=None,
    cut=None,
    rules=[],
    trained_layers={},
    parameters=Parameters(1, 1, 1),
    backbone=BACKBONE,
    warm_start=None,
    notes=[],
)
