"""Runs the pipeline on this machine, shows its progress stage by stage, and says how it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import logging
import resource
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ml_metadata.metadata_store import MetadataStore
from rich.console import Console

from core import secrets, storage
from core.artifacts.ingest_record import EXAMPLES
from core.artifacts.last_run import INTERNAL_ERROR, LAST_RUN, Failure, Outcome
from core.artifacts.validation import VERDICT
from core.errors import DISK_FULL, Cause, InputError, cause_of
from core.settings import Settings, to_dict
from core.settings.beam import DataflowEngine
from core.signing import private_key
from pipeline.data_source import (
    check_classes,
    check_regressions,
    check_run_folder,
    images_folder,
    list_images,
    list_regressions,
    reviewed_schema,
)
from pipeline.runners.beam_engines import notes_on_engine, options_for
from pipeline.runners.console import NodeLines, StageLines, print_prose, screen
from pipeline.runners.ending import Execution, end_run, notify, record
from pipeline.runners.machine import notes_on_gpu, notes_on_memory, stages_at_once
from pipeline.runs import integrity, preflight
from pipeline.runs.lineage import Reader, latest_run_id, node_runs
from pipeline.runs.metadata import check_owner, connect
from pipeline.runs.monitor import Monitor
from pipeline.runs.outcome import objection
from pipeline.runs.run_dir import ARTIFACTS, check_root, push_folder, read_last, run_dir
from pipeline.runs.run_lock import only_run
from pipeline.runs.run_summary import run_summary
from pipeline.runs.unchanged import hash_inputs, is_unchanged, repeated
from trainer.weights import sources

if TYPE_CHECKING:
    from components.ingestion.layouts.listing import Listing


class Stages(NamedTuple):
    """Which stages to run: from the first to the last of these two; None means the pipeline's own first or last."""

    first: str | None = None
    last: str | None = None

    @property
    def partial(self) -> bool:
        """Whether this leaves out any stage."""
        return self != (None, None)


def run(settings: Settings, root: Path, stages: Stages = Stages()) -> Outcome:  # noqa: B008
    """Runs the pipeline, writes `last_run.json` in its folder, and returns its content.

    Raises:
        InputError: TFX cannot use the folder, another run holds it, it or a local push directory is not writable,
            Beam's engine cannot see local files, or an environment variable that the settings refer to is not set;
            then nothing is written.
        MachineError: the machine has no room for the first record.
        KeyboardInterrupt: the user ended it.
    """
    if isinstance(settings.runtime.beam, DataflowEngine):
        raise InputError(
            f"runtime.beam is dataflow, whose workers cannot see {root}; it is for runs on Kubeflow or Airflow with a "
            "root on gs:// (docs/beam-engines.md). Here take local or local-parallel"
        )
    secrets.require_set(secrets.variables(to_dict(settings)))
    check_root(str(root.resolve()))
    push_folder(settings, root)
    with preflight.naming_full_disks(settings, root):
        preflight.check_folders(settings, root)
        with only_run(run_dir(settings, root), print if settings.runtime.if_running == "wait" else None):
            return _run(settings, root, stages)


def _run(settings: Settings, root: Path, stages: Stages) -> Outcome:
    """See `run`; this process holds the folder's lock."""
    folder = run_dir(settings, root)
    log = folder / "logs" / f"{datetime.now():%Y%m%d-%H%M%S}.log"
    began = time.monotonic()
    with screen(log, secrets.variables(to_dict(settings))) as console:
        monitor = Monitor(settings.name, folder, log.stem, settings.runtime.metrics_directory)
        execution = Execution(functools.partial(_usage, began), monitor, log=str(log))
        console.print(f"{settings.name}: images to a pushed model, in {folder}", style="bold")
        engine = notes_on_engine(settings.runtime.beam)
        for note in (*notes_on_memory(), *preflight.notes_on_disk(settings, root), *engine):
            print_prose(console, "  note: ", note, "yellow")
        execution.notes += preflight.set_aside_records(folder)
        last = read_last(folder, execution.notes.append)
        unfinished = Failure("the run was interrupted, or killed, as a system does when memory runs out")
        started = Outcome("failed", INTERNAL_ERROR, str(folder / ARTIFACTS), failures=[unfinished], log=str(log))
        record(folder, to_dict(settings), started)  # so that an earlier run's record is not mistaken for this one's
        stands = False
        with StageLines(console) as lines:
            try:
                if not settings.runtime.metadata:
                    execution.notes += preflight.check_metadata(folder)
                if storage.is_remote(pushed_to := push_folder(settings, root)):
                    reaching = lines.start("reach the bucket")
                    preflight.check_store(pushed_to)
                    reaching.finish("✓", "green", pushed_to)
                inputs = _find_inputs(settings, folder, console)
                execution.inputs = None if stages.partial else inputs.hash(settings)
                if execution.inputs and settings.runtime.cache:
                    server, key = settings.runtime.metadata, settings.push.signing_key
                    signer = private_key(key).public_key() if key else None
                    stands = is_unchanged(last, execution.inputs, folder, settings.name, server, signer)
                if not stands:
                    _run_stages(settings, root, stages, inputs, execution, console, lines)
            except KeyboardInterrupt as error:
                lines.end("interrupted")
                how = str(error) or "interrupted"
                console.print(f"{how}; the stages that finished are kept, and the next run reuses them. Log: {log}")
                code = 128 + getattr(error, "number", signal.SIGINT)
                ended = dataclasses.replace(started, exit_code=code, failures=[Failure(f"the run was {how}")])
                monitor.finish(ended)
                with contextlib.suppress(OSError):  # then the record says that the run was interrupted or killed
                    LAST_RUN.write(folder, ended)
                if problem := notify(settings, ended):
                    console.print(problem, style="yellow")
                raise
            except Exception as error:  # whatever a library raised: the cause is determined at the end
                logging.getLogger(__name__).exception("the run failed")
                execution.cause = cause_of(error)
                lines.end("failed")
            if execution.cause and execution.cause.message.startswith(DISK_FULL):
                said = f"{execution.cause.message}. {preflight.rooms(settings, root)}"
                execution.cause = execution.cause._replace(message=said)
            if last and stands:
                console.print(f"  nothing has changed since the run of {last.run_id}, so no stage runs again")
                outcome = repeated(last, *execution.usage())
                LAST_RUN.write(folder, outcome)
                monitor.finish(outcome)
                if problem := notify(settings, outcome):
                    print_prose(console, "  note: ", problem, "yellow")
            else:
                line = lines.start("report") if execution.run_id else None
                outcome = end_run(settings, root, execution)
                if line:
                    line.finish(*(("✓", "green", outcome.report) if outcome.report else ("✗", "yellow", "not made")))
        console.print()
        for text, head, style in run_summary(outcome, folder):
            if head:
                print_prose(console, head, text, style)
            else:
                console.print(text, style=style)
    return outcome


class _Inputs(NamedTuple):
    """What decides a run besides its settings: the data folder, its files, the weights' fingerprint, past failures."""

    images: str
    listing: Listing
    weights: str
    regressions: Listing | None

    def hash(self, settings: Settings) -> str:
        """See `hash_inputs`."""
        return hash_inputs(settings, [one for one in (self.listing, self.regressions) if one], self.weights)


def _find_inputs(settings: Settings, folder: Path, console: Console) -> _Inputs:
    """Looks at the data, and prints which layout they were recognized as."""
    images = images_folder(settings, folder)
    check_run_folder(settings, images, folder)
    listing = list_images(settings, images)
    for text in (listing.describe(), *listing.remarks, *listing.notes(settings.data.ignore)):
        console.print(f"  {text}")
    past = list_regressions(settings)
    if past:
        console.print(f"  evaluation.regressions: {past.describe()}")
    return _Inputs(images, listing, sources.fingerprint(settings.backbone), past)


def _run_stages(
    settings: Settings,
    root: Path,
    stages: Stages,
    inputs: _Inputs,
    execution: Execution,
    console: Console,
    lines: StageLines,
) -> None:
    """Composes and runs the pipeline; `execution` is filled with what is known so far, even if this raises."""
    line = lines.start("load libraries")
    gc.disable()  # none of what is imported is garbage
    from tfx.dsl.compiler.compiler import Compiler  # together with the next import, ten seconds or more

    from pipeline.pipeline import local_pipeline
    from pipeline.runners import forks, partial_run
    from pipeline.runners.job_server import kept
    from pipeline.runners.parallel_dag_runner import NodeError, Observers, ParallelDagRunner
    from pipeline.runs import leftovers
    from pipeline.schema import keep

    gc.freeze()  # the stages are forks, and share it as long as the collector does not touch it
    gc.enable()
    line.finish("✓", "green", "TensorFlow, TFX")
    for note in forks.call(line.progressed, notes_on_gpu):
        print_prose(console, "  note: ", note, "yellow")
    if not settings.schema_file.exists():
        console.print(
            f"  no schema {settings.schema_file} yet: inferred, and written if the images pass ValidationGate"
        )
        line = lines.start("infer schema")
    schema = forks.call(line.progressed, reviewed_schema, settings, inputs.listing)
    if schema.inferred:
        line.finish("✓", "green")
    if not stages.first:
        check_classes(settings, inputs.listing, schema.text)
    if inputs.regressions:
        check_regressions(inputs.regressions, schema.text)
    composed = local_pipeline(settings, root, schema.text, inputs.images, inputs.weights, schema.inferred)
    folder = run_dir(settings, root)
    store = connect(folder, settings.runtime.metadata)
    if settings.runtime.metadata:
        check_owner(store, settings.name, folder / ARTIFACTS)
    before = latest_run_id(store, settings.name)
    compiled = Compiler().compile(composed)

    def look(node: str) -> tuple[bool, str | None]:
        def find() -> tuple[bool, str | None]:
            nodes = node_runs(store, latest_run_id(store, settings.name) or "")
            return nodes[node].cached, objection(nodes, node)

        found = Reader({}).attempt("ML Metadata could not be read", find)  # a mark on the screen must not end the run
        return found or (False, None)

    def tell(notes: list[str]) -> None:
        execution.notes += notes
        for note in notes:
            print_prose(console, "  note: ", note, "yellow")

    artifacts = folder / ARTIFACTS
    reader = Reader({})
    left = "what was interrupted left files that could not be deleted"
    if freed := reader.attempt(left, lambda: leftovers.clear(store, folder)):
        console.print(f"  deleted {freed / 2**20:,.1f} MB that runs which were interrupted had left")
    tell([*reader.problems, *integrity.discard_damaged(store, artifacts)])
    if stages.partial:
        base = partial_run.mark(compiled, *stages, store)
        if base:
            said = f"the stages before {stages.first} did not run: what they left is that of the run of {base}"
            execution.notes.append(said)
    execution.nodes = partial_run.to_run(compiled)
    job_server_log = Path(f"{execution.log}").with_suffix(".job-server.log")
    beam_options = options_for(settings.runtime.beam, EXAMPLES.node)
    try:
        for again in (not stages.partial, False):
            drawn = NodeLines(lines, len(execution.nodes), look)
            execution.stages = drawn.stages
            try:
                with kept(beam_options, job_server_log):
                    ParallelDagRunner(stages_at_once(), Observers(drawn, execution.monitor)).run_with_ir(compiled)
                break
            except NodeError as error:
                damaged = []
                if error.cause.blame != "input":
                    ran = latest_run_id(store, settings.name) or ""
                    damaged = integrity.discard_damaged_inputs(store, ran, error.node, artifacts)
                if damaged and again:
                    tell(damaged)
                    continue
                cause = Cause(f"{'; '.join(damaged)}: run the whole pipeline", "machine") if damaged else error.cause
                execution.cause, execution.failed_stage = cause, error.node
                break
    finally:
        run_id = latest_run_id(store, settings.name)
        execution.run_id = run_id if run_id != before else None
        if schema.inferred and execution.run_id and _passed(store, execution.run_id):
            try:
                keep(settings.schema_file, schema.text)
            except OSError as error:  # must not cost the run its model
                execution.notes.append(
                    f"the schema that was inferred was not written: {error}; data.schema can name another file"
                )
            else:
                execution.inputs = execution.inputs and inputs.hash(settings)
                written = f"  wrote {settings.schema_file}: the classes found, and the boundaries of slice buckets"
                console.print(f"{written}; review and commit it", style="yellow")


def _passed(store: MetadataStore, run_id: str) -> bool:
    """Whether the data passed ValidationGate."""
    gate = node_runs(store, run_id).get(VERDICT.node)
    return gate is not None and gate.finished


def _usage(began: float) -> tuple[float, int]:
    """Seconds since `began`, and the peak memory in MB of this process or its largest child (Linux counts KiB)."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(time.monotonic() - began, 1), max(usage.ru_maxrss for usage in usages) // 1024
