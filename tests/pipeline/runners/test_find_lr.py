"""What `find-lr` says where there is nothing to sweep over; tests/e2e sweeps over a real run."""

from pathlib import Path

import pytest

from core import settings
from core.errors import InputError
from pipeline.runners.find_lr import find_rate
from tests.conftest import ROOT
from tests.pipeline.report import report_run

DIGITS = settings.load(ROOT / "configs" / "digits.yaml", [f"name={report_run.NAME}"])


def test_without_a_run_it_says_what_to_do_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there are no runs in .*: run the pipeline first"):
        find_rate(DIGITS, tmp_path, 1e-6, 1.0, 20)


def test_run_that_computed_no_features_says_so(tmp_path: Path) -> None:
    report_run.write_run(tmp_path)
    with pytest.raises(InputError, match="the last run has no features of FeatureExtractor"):
        find_rate(DIGITS, tmp_path, 1e-6, 1.0, 20)
