"""The settings `runtime`: how the pipeline is executed, which changes nothing of the model."""

import dataclasses
from typing import Literal

from core.settings.beam import BeamEngine, LocalEngine
from core.settings.checks import AtLeast1


@dataclasses.dataclass(frozen=True)
class RuntimeSettings:
    """How the pipeline is executed; none of it changes what the model is.

    Attributes:
        beam: where Apache Beam's steps run: `local`, `local-parallel`, `flink`, `spark` or `dataflow`, or a mapping of
            `engine` and its settings (core/settings/beam.py), or a list of Beam's pipeline options, taken as it is.
        bfloat16: compute the frozen prefix in bfloat16: `auto` where the CPU has it and the result agrees.
        feature_batch_size: images that go through the frozen prefix at a time; bounds the memory it needs.
        cache: reuse the outputs of stages whose inputs, settings and code have not changed.
    """

    beam: BeamEngine = LocalEngine()
    bfloat16: Literal["auto", "on", "off"] = "auto"
    feature_batch_size: AtLeast1 = 32
    cache: bool = True
