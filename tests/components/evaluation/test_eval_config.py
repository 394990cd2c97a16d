"""The evaluation config: slices of the settings as features of the tf.Examples."""

import subprocess
import sys

import pytest

from components.evaluation.eval_config import eval_config
from core.errors import InputError
from core.slices import feature_keys


def test_slices_are_the_features_of_the_examples() -> None:
    assert feature_keys(["label", "brightness", "label * resolution"]) == [
        ["label"],
        ["slice/brightness"],
        ["label", "slice/resolution"],
    ]


@pytest.mark.parametrize("name", ["", "label*", "*", "brightness*brightness"])
def test_a_slice_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"evaluation\.slices: '.*' is not a feature's name"):
        feature_keys([name])


def test_the_same_slice_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'brightness\\*label' is given twice"):
        feature_keys(["label*brightness", "brightness*label"])


def test_the_whole_split_is_measured_first_and_both_models_alike() -> None:
    config = eval_config(["label"])

    assert [list(s.feature_keys) for s in config.slicing_specs] == [[], ["label"]]
    candidate, baseline = config.model_specs
    assert (candidate.is_baseline, baseline.is_baseline) == (False, True)
    assert (candidate.prediction_key, baseline.prediction_key) == ("candidate", "baseline")
    assert candidate.label_key == baseline.label_key == "label_xf"


@pytest.mark.parametrize(
    "module", ["components.evaluation.eval_config", "pipeline.runners.local", "pipeline.runs.history"]
)
def test_importing_is_cheap(module: str) -> None:
    """TensorFlow takes ten seconds, and says so on standard error."""
    code = f"import {module}, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
