"""Runs the pipeline on this machine, shows it stage by stage, and says how it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import resource
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.ingestion import slices, spans
from pipeline import files, push_directory, runs
from pipeline import outcome as outcomes
from pipeline.beam_engines import DataflowEngine
from pipeline.console import Console, StageLine, StageLines
from pipeline.evaluation import feature_keys
from pipeline.lineage import RESOLVERS, latest_run_id, node_runs
from pipeline.outcome import Outcome
from pipeline.settings import Settings, to_dict
from pipeline.settings_data import DIGITS, TFDS
from trainer import weights
from trainer.errors import InputError, input_error_behind, message_of

if TYPE_CHECKING:
    from ml_metadata.metadata_store import MetadataStore

    from components.ingestion.image_layout import Listing

ARTIFACTS = "artifacts"
"""Folder of all artifacts in the pipeline's folder."""

"""ML Metadata's database in the pipeline's folder."""

_NONCE = ".nonce"
_SHOWN = ("accuracy", "top_3_accuracy", "cross_entropy")  # of the metrics; last_run.json has all


def folder(settings: Settings, root: Path) -> Path:
    """Where everything of this pipeline is kept."""
    return root.resolve() / settings.name


def push_folder(settings: Settings, root: Path) -> Path:
    """Where its models are pushed; a relative `push.directory` lies in the pipeline's own folder.

    Raises:
        InputError: it is no local folder; only clusters push to remote ones.
    """
    if "://" in settings.push.directory:
        raise InputError(f"push.directory is {settings.push.directory}; a local run pushes to a local folder")
    return folder(settings, root) / Path(settings.push.directory).expanduser()


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
    home = folder(settings, root)
    home.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    log = home / "logs" / f"{datetime.now():%Y%m%d-%H%M%S}.log"
    record = home / outcomes.RECORD_FILE
    pushed_to = push_folder(settings, root)
    with _only_run(home), Console(log) as console:
        console.say(f"{settings.name}: images to a pushed model, in {home}", style="bold")
        nonce = push_nonce(pushed_to, record)
        failed = Outcome("failed", outcomes.FAULT, str(home / ARTIFACTS), log=str(log))
        unfinished = dataclasses.replace(failed, failures=[outcomes.failure("the run was interrupted")])
        files.write(home / outcomes.SETTINGS_FILE, json.dumps(to_dict(settings), indent=1, ensure_ascii=False))
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
            runs.record(runs.open_store(home), settings.name, outcome.run_id, to_dict(settings), outcome)
        _say_outcome(outcome, console, home)
    return outcome


def _run_stages(settings: Settings, home: Path, pushed_to: Path, nonce: str, console: Console) -> Outcome:
    images = images_folder(settings, home)
    fingerprint = weights.fingerprint(settings.backbone.weights)
    loading = StageLine(console, "load the stack")
    from ml_metadata.metadata_store import MetadataStore  # the imports below take ten seconds or more
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.orchestration.metadata import sqlite_metadata_connection_config

    from pipeline.pipeline import Places, create_pipeline

    loading.finish("✓", "green", "TensorFlow, TFX")
    listing = list_images(settings, images)
    console.say(f"  {listing.describe()}")
    schema, inferred = reviewed_schema(settings, listing)
    if inferred:
        console.say(
            f"  wrote {settings.schema_file}: the classes found, and where slices begin; review and commit it",
            style="yellow",
        )
    places = Places(
        pipeline_root=str(home / ARTIFACTS),
        images=images,
        push_directory=str(pushed_to),
        push_nonce=nonce,
        weights_fingerprint=fingerprint,
    )
    connection = sqlite_metadata_connection_config(str(home / runs.METADATA))
    pipeline = create_pipeline(settings, places, schema, connection)
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
    outcome = outcomes.from_nodes(node_runs(store, run_id) if run_id else {}, ids, places.pipeline_root)
    outcome.run_id = run_id
    outcome.stages = stages.stages
    if error is not None:
        _blame(outcome, error)
    elif outcome.pushed_model:
        push_directory.prune(pushed_to, settings.push.keep)
        check_pushed(outcome, pushed_to)
    return outcome


def check_pushed(outcome: Outcome, pushed_to: Path) -> None:
    """A cached push may name a version that is no longer in service: then says what is."""
    version = Path(str(outcome.pushed_model))
    if (version / "saved_model.pb").is_file():
        return
    gone = "was rolled back since" if push_directory.aside(version).exists() else "was deleted since"
    serving = push_directory.versions(pushed_to)
    outcome.pushed_model = str(serving[-1]) if serving else None
    now = f"what serves is {serving[-1]}" if serving else "nothing serves now"
    outcome.notes.append(f"this model was pushed before as version {version.name}, which {gone}; {now}")


def list_images(settings: Settings, images: str) -> Listing:
    """What the data folder holds, or the spans that are to be read.

    Raises:
        InputError: there is no such folder or span, or it is not laid out as it must be.
    """
    data = settings.data
    base, pattern = spans.split_pattern(images)
    chosen = None if data.span == "latest" else data.span
    folders = [span.folder for span in spans.resolve(base, pattern, chosen, data.window)] if pattern else [""]
    return spans.read_spans(base, folders, data.layout, data.metadata or "")


def reviewed_schema(settings: Settings, listing: Listing) -> tuple[str, bool]:
    """The schema as text, and whether it was inferred from the images and written for review.

    Raises:
        InputError: the schema is not as it must be, or a slice is of a feature that no image has.
    """
    from pipeline import schema as schemas  # brings TFX

    schema, inferred = schemas.load_or_infer(settings.schema_file, settings.name, listing)
    _check_slices(settings.evaluation.slices, schemas.feature_names(schema))
    return schema, inferred


def _check_slices(named: Sequence[str], known: Sequence[str]) -> None:
    """TFMA is silent about a feature that no image has, and a gate on its slices would never close."""
    for key in (key for keys in feature_keys(named) for key in keys):
        if key not in known:
            names = [slices.name_of(k) for k in known if slices.is_slice(k)]
            raise InputError(f"evaluation.slices: no image has {slices.name_of(key)!r}; known are {', '.join(names)}")


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


def images_folder(settings: Settings, home: Path) -> str:
    """The data folder, or the pattern of several: an absolute path, or a URL.

    Raises:
        InputError: there is no such folder, or no such data set of TensorFlow Datasets.
    """
    images = settings.data.images
    if images == DIGITS:
        from components.ingestion.digits import write_digits

        write_digits(str(home / "images"))
        return str(home / "images")
    if images.startswith(TFDS):
        from components.ingestion.tfds_source import prepare

        return prepare(images.removeprefix(TFDS))
    if "://" in images:
        return images
    directory = Path(images).expanduser().resolve()
    base, _ = spans.split_pattern(str(directory))
    if not Path(base).is_dir():
        raise InputError(
            f"data.images: there is no folder {images}; give a folder that has one folder of images per class, or is "
            "laid out otherwise as docs/data.md shows (make run-local DATA=folder, or data.images in the settings)"
        )
    return str(directory)


def push_nonce(directory: Path, last_run: Path) -> str:
    """A name for the push directory's present content, part of Pusher's cache key.

    A cached push is as good as a new one only while the version is still there. Where the last run's version was
    deleted, or the whole directory, the name is made anew and the model is pushed again; a version that `rollback`
    set aside stays aside.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / _NONCE
    pushed = json.loads(last_run.read_text(encoding="utf-8")).get("pushed_model") if last_run.exists() else None
    lost = pushed and not Path(pushed).exists() and not push_directory.aside(Path(pushed)).exists()
    if lost or not path.exists():
        path.write_text(uuid.uuid4().hex)
    return path.read_text()


@contextlib.contextmanager
def _only_run(home: Path) -> Iterator[None]:
    with (home / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another run is going on in {home}; wait for it, or give another ROOT") from None
        yield


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


def _say_outcome(outcome: Outcome, console: Console, home: Path) -> None:
    console.say()
    style = {"pushed": "bold green", "refused": "bold red", "failed": "bold red"}[outcome.status]
    verdict = {
        "pushed": f"pushed: {outcome.pushed_model}",
        "refused": "refused: nothing was pushed",
        "failed": "failed: " + ("the input is unfit" if outcome.exit_code == outcomes.BAD_INPUT else "a fault of ours"),
    }[outcome.status]
    console.say(verdict, style=style)
    for entry in outcome.failures:
        where = f"{entry['stage']}: " if entry.get("stage") else ""
        console.say(f"  {where}{entry['message']}")
    if outcome.metrics:
        shown = {name: m for name, m in outcome.metrics.items() if name in _SHOWN and m["overall"] is not None}
        console.say("  " + " · ".join(_metric(name, m) for name, m in shown.items()))
    if outcome.images:
        counts = outcome.images
        console.say(
            f"  {counts['read']:,} images read, {counts['rejected']:,} rejected; "
            f"{counts['train']:,} train, {counts['eval']:,} eval, {counts['test']:,} test"
        )
    if outcome.tuning:
        best = " ".join(f"{path}={json.dumps(value)}" for path, value in outcome.tuning["best"].items())
        console.say(f"  best of {outcome.tuning['trials']} trials: {best}")
        console.say("  to keep these without a search, write them into the settings")
    for note in outcome.notes:
        console.say(f"  note: {note}", style="yellow")
    if outcome.status == "pushed" and outcome.pushed_model:
        console.say(f'  try it: make predict MODEL={outcome.pushed_model} IMAGES="one.jpg two.png"')
    console.say(f"  {outcome.seconds:.0f} s · peak memory {outcome.peak_rss_mb:,} MB")
    if outcome.report:
        console.say(f"  report:  {outcome.report}")
    console.say(f"  details: {home / outcomes.RECORD_FILE}")
    console.say(f"  log:     {outcome.log}")


def _metric(name: str, values: dict[str, float | None]) -> str:
    baseline = f" (last blessed {values['baseline']:.4f})" if values.get("baseline") is not None else ""
    return f"{name} {values['overall']:.4f}{baseline}"
