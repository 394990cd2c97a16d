"""Runs the pipeline on this machine, shows it stage by stage, and says how it ended."""

from __future__ import annotations

import dataclasses
import json
import logging
import resource
import time
import traceback
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core import atomic_io
from core.errors import InputError, input_error_behind, message_of
from core.settings import Settings, to_dict
from core.settings.beam import DataflowEngine
from pipeline.data_source import images_folder, list_images, reviewed_schema
from pipeline.runners.console import Console, StageLine, StageLines
from pipeline.runs import history, push_directory
from pipeline.runs import outcome as outcomes
from pipeline.runs.lineage import RESOLVERS, latest_run_id, node_runs
from pipeline.runs.outcome import Outcome
from pipeline.runs.run_dir import ARTIFACTS, check_pushed, home_of, only_run, push_folder, push_nonce
from pipeline.runs.run_summary import say_outcome
from trainer.weights import sources

if TYPE_CHECKING:
    from ml_metadata.metadata_store import MetadataStore


def run(settings: Settings, root: Path) -> Outcome:
    """Runs the whole pipeline, writes `last_run.json` in its folder, and returns what stands there.

    Raises:
        InputError: another run holds the folder, the push directory is not local, or Beam's engine cannot see local
            files; then nothing is written.
    """
    if isinstance(settings.runtime.beam, DataflowEngine):
        raise InputError(
            f"runtime.beam is dataflow, whose workers cannot see {root}; it is for runs on Kubeflow or Airflow with a "
            "root on gs:// (docs/beam-engines.md). Here take local or local-parallel"
        )
    home = home_of(settings, root)
    home.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    log = home / "logs" / f"{datetime.now():%Y%m%d-%H%M%S}.log"
    record = home / outcomes.RECORD_FILE
    pushed_to = push_folder(settings, root)
    with only_run(home), Console(log) as console:
        console.say(f"{settings.name}: images to a pushed model, in {home}", style="bold")
        nonce = push_nonce(pushed_to, record)
        failed = Outcome("failed", outcomes.FAULT, str(home / ARTIFACTS), log=str(log))
        unfinished = dataclasses.replace(failed, failures=[outcomes.failure("the run was interrupted")])
        atomic_io.write_text(home / outcomes.SETTINGS_FILE, json.dumps(to_dict(settings), indent=1, ensure_ascii=False))
        unfinished.write(record)  # so that no record of an earlier run is taken for this one's
        try:
            outcome = _run_stages(settings, home, pushed_to, nonce, console)
        except KeyboardInterrupt:
            console.say(f"interrupted; what is finished is kept and reused. Log: {log}")
            raise
        except Exception as error:  # before the first stage or after the last
            logging.getLogger(__name__).exception("the run failed")
            outcome = failed
            _blame(outcome, error)
        outcome.log = str(log)
        _measure(outcome, began)
        outcome.write(record)  # before the report, which must not cost a finished push its record
        outcome.report = _make_report(home, settings, outcome, console)
        _measure(outcome, began)
        outcome.write(record)
        if outcome.run_id:
            history.record(history.open_store(home), settings.name, outcome.run_id, to_dict(settings), outcome)
        say_outcome(outcome, console, home)
    return outcome


def _run_stages(settings: Settings, home: Path, pushed_to: Path, nonce: str, console: Console) -> Outcome:
    images = images_folder(settings, home)
    fingerprint = sources.fingerprint(settings.backbone.weights)
    loading = StageLine(console, "load the stack")
    from ml_metadata.metadata_store import MetadataStore  # the imports below take ten seconds or more
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.orchestration.metadata import sqlite_metadata_connection_config

    from pipeline.deployment import Deployment
    from pipeline.pipeline import create_pipeline

    loading.finish("✓", "green", "TensorFlow, TFX")
    listing = list_images(settings, images)
    console.say(f"  {listing.describe()}")
    schema, inferred = reviewed_schema(settings, listing)
    if inferred:
        console.say(
            f"  wrote {settings.schema_file}: the classes found, and where slices begin; review and commit it",
            style="yellow",
        )
    deployment = Deployment(
        pipeline_root=str(home / ARTIFACTS),
        images=images,
        push_directory=str(pushed_to),
        push_nonce=nonce,
        weights_fingerprint=fingerprint,
    )
    connection = sqlite_metadata_connection_config(str(home / history.METADATA))
    pipeline = create_pipeline(settings, deployment, schema, connection)
    ids = [component.id for component in pipeline.components]
    store = MetadataStore(connection)
    before = latest_run_id(store, settings.name)

    error: Exception | None = None
    with StageLines(console, len(ids), lambda node: _is_cached(store, settings.name, node)) as stages:
        try:
            LocalDagRunner().run(pipeline)
        except Exception as caught:  # whatever a component raised: it is told apart below, and logged whole
            logging.getLogger(__name__).exception("the run failed")
            error = caught
    run_id = latest_run_id(store, settings.name)
    run_id = run_id if run_id != before else None
    outcome = outcomes.from_nodes(node_runs(store, run_id) if run_id else {}, ids, deployment.pipeline_root)
    outcome.run_id = run_id
    outcome.stages = stages.stages
    if error is not None:
        _blame(outcome, error)
    elif outcome.pushed_model:
        push_directory.prune(pushed_to, settings.push.keep)
        check_pushed(outcome, pushed_to)
    return outcome


def _make_report(home: Path, settings: Settings, outcome: Outcome, console: Console) -> str | None:
    """The report's path; one that cannot be made fails no run."""
    line = StageLine(console, "report")
    try:
        from pipeline.report.make import make_report  # brings matplotlib

        path = make_report(home, settings.name, outcome, to_dict(settings))
    except Exception as error:  # whatever it is, the run has ended as it did
        logging.getLogger(__name__).exception("the report was not made")
        outcome.notes.append(f"the report could not be made: {error}; the log has the details")
        line.finish("✗", "yellow", "not made")
        return None
    line.finish("✓", "green", str(path))
    return str(path)


def _is_cached(store: MetadataStore, name: str, node: str) -> bool:
    """Whether the node that has just finished was served from the cache; a resolver never is."""
    run_id = latest_run_id(store, name)
    found = node_runs(store, run_id).get(node) if run_id else None
    return found is not None and found.state == "cached" and node not in RESOLVERS


def _blame(outcome: Outcome, error: Exception) -> None:
    """Puts the cause of a failed run first among its failures, and the exit code right."""
    outcome.status = "failed"
    stage = outcome.stages[-1]["id"] if outcome.stages else None
    cause = input_error_behind(error)
    if cause is not None:
        outcome.exit_code = outcomes.BAD_INPUT
        message = message_of(cause)
    else:
        outcome.exit_code = outcomes.FAULT
        message = "".join(traceback.format_exception_only(type(error), error)).strip()
    others = [entry for entry in outcome.failures if stage is None or entry.get("stage") != stage]  # says less
    outcome.failures = [outcomes.failure(message, stage=stage), *others]


def _measure(outcome: Outcome, began: float) -> None:
    """Time since `began`, and the most memory that this process or its largest child took (Linux counts KiB)."""
    outcome.seconds = round(time.monotonic() - began, 1)
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    outcome.peak_rss_mb = max(usage.ru_maxrss for usage in usages) // 1024
