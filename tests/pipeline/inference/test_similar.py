"""What `similar` says where there is nothing to compare with; tests/e2e asks it about a real run."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from core.errors import InputError
from pipeline.cli.main import main
from pipeline.inference.similar import similar
from pipeline.runs.lineage import node_runs
from pipeline.runs.metadata import open_store
from tests.pipeline.report import report_run


def test_without_a_run_it_says_what_to_do_first(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["similar", "--root", str(tmp_path), "one.jpg"])

    assert done.exit_code == 2 and "run the pipeline first" in done.stderr


def test_without_images_it_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["similar", "--root", str(tmp_path)])

    assert done.exit_code == 2 and "give files or folders" in done.stderr


def test_a_run_that_stored_no_features_is_named_with_the_way_on(tmp_path: Path) -> None:
    outcome = report_run.write_run(tmp_path, "pushed")
    nodes = node_runs(open_store(tmp_path, None), str(outcome.run_id))

    with pytest.raises(InputError, match=r"the last run stored no features, .* The model's signature embed"):
        next(similar(nodes, ["one.jpg"], 5, print))
    with pytest.raises(InputError, match="the last run has no model of Trainer; run the pipeline"):
        next(similar({}, ["one.jpg"], 5, print))
