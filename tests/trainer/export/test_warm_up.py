"""What a loaded model is asked before its first client."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from components.serving.model_versions import ModelVersions
from core import checksums, signatures
from tests.trainer import training_data
from trainer.export import warm_up

IMAGE = training_data.image("red", 1)


def seconds_of_requests(model: Path) -> list[float]:
    """Of the first requests with one image after the model was loaded."""
    versions = ModelVersions(lambda: {1: str(model)})
    versions.poll()
    times = []
    with versions.use() as (_, served):
        for _ in range(8):
            start = time.perf_counter()
            served.request(signatures.IMAGES, [IMAGE])
            times.append(time.perf_counter() - start)
    versions.close()
    return times


@pytest.fixture
def cold(frozen_run: Path, tmp_path: Path) -> Path:
    model = shutil.copytree(frozen_run / "Format-Serving", tmp_path / "model")
    (model / warm_up.WARM_UP).unlink()
    checksums.write_checksums(str(model))
    return model


def test_each_signature_that_takes_images_is_asked_for_a_made_one(frozen_run: Path) -> None:
    logs = warm_up.read_warm_up(str(frozen_run / "Format-Serving"))

    assert [log.WhichOneof("log_type") for log in logs] == ["predict_log", "predict_log", "classify_log"]
    asked = [getattr(log, log.WhichOneof("log_type")).request for log in logs]
    assert [request.model_spec.signature_name for request in asked] == ["serving_images", "serving_default", "classify"]
    (image,) = asked[0].inputs["images"].string_val
    assert len(image) < 2000, "one color: none of the user's images"
    assert image in asked[1].inputs["examples"].string_val[0]
    assert [e.features.feature["image/encoded"].bytes_list.value[0] for e in asked[2].input.example_list.examples] == [
        image
    ]
    assert warm_up.WARM_UP in (frozen_run / "Format-Serving" / checksums.CHECKSUMS).read_text()


def test_other_exports_have_no_warm_up_requests(tmp_path: Path) -> None:
    assert warm_up.read_warm_up(str(tmp_path)) == []


def test_the_first_request_is_as_fast_as_later_ones(frozen_run: Path, cold: Path) -> None:
    warm, without = ([seconds_of_requests(model) for _ in range(3)] for model in (frozen_run / "Format-Serving", cold))

    assert min(times[0] / np.median(times[1:]) for times in warm) < 3
    assert min(times[0] / np.median(times[1:]) for times in without) > 3
