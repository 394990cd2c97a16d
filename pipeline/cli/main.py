"""The command line: `python -m pipeline <verb>`; the Makefile's targets are the same verbs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import rich.console
from click.shell_completion import CompletionItem

from core import atomic_io, storage
from core.artifacts.last_run import BAD_INPUT, EXIT_CODES, REFUSED
from core.checkout import CHECKOUT
from core.errors import InputError, cause_of
from core.loopback import bypass_proxy
from core.processes import TerminatedError, raise_when_terminated
from core.quiet import quiet_stack
from core.secrets import resolve
from core.settings import Settings, ineffective, load, split_overrides
from core.settings.reference import paths
from core.settings.tuner import TunerConfig
from core.signing import public_key
from pipeline.cli.home import ensure_home
from pipeline.inference import records
from pipeline.runs.run_dir import push_folder, run_dir
from pipeline.runs.run_lock import alone

if TYPE_CHECKING:
    from core.signing import PublicKey


def _complete_path(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(f"{path}=") for path in paths() if path.startswith(incomplete)]


class _PathOrUrl(click.ParamType):
    """A path as text, or a URL; `~` is the user's home, which few shells expand after `ROOT=`.

    An empty text is refused: as a path it would be the current folder.
    """

    name = "path"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value).strip():
            self.fail("it is empty; give a path", param, ctx)
        try:
            return str(value) if storage.is_remote(value) else str(Path(value).expanduser())
        except RuntimeError as error:
            self.fail(str(error), param, ctx)


class _LocalPath(_PathOrUrl):
    """A local path."""

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # type: ignore[override]
        return Path(super().convert(value, param, ctx))


_CONFIG = click.option(
    "--config",
    type=_LocalPath(),
    default=CHECKOUT / "configs" / "digits.yaml",
    show_default="the checkout's configs/digits.yaml",
    help="Settings, a YAML file; relative paths in it start at its folder.",
)
_SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    shell_complete=_complete_path,
    help="Overrides settings; may hold several, separated by blanks. Quotes keep a value together.",
)
_SHORTHANDS = {
    "data": ("data.images", "A folder of class folders (data.images)."),
    "weights": ("backbone.weights", "imagenet, random, or a file, folder or TF-Hub handle (backbone.weights)."),
}
_MODEL = click.option(
    "--model",
    type=_PathOrUrl(),
    help="A SavedModel's folder, a push directory, or a .tflite file; by default the pushed model.",
)
_VERIFY_KEY = click.option(
    "--verify-key",
    type=_LocalPath(),
    help="A public key in PEM: use only a version signed with its private key (push.signing_key).",
)
_TOP = click.option("--top", default=3, type=click.IntRange(min=1), help="How many classes to list.")
_FORMAT = click.option(
    "--format", "file_format", type=click.Choice(["jsonl", "csv"]), default="jsonl", help="Output format."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """From folders of labeled images to a pushed classifier that passed its gates."""
    raise_when_terminated()
    ensure_home()
    bypass_proxy()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show ends no run, and data are UTF-8
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


Loader = Callable[..., Settings]
"""Loads the settings, with additional overrides."""


def _verb(
    *shorthands: str, root: str = "build", noisy: bool = False, lazy: bool = False
) -> Callable[[Callable[..., int | None]], click.Command]:
    """Makes a verb from a function that takes the settings and the root, and returns an exit code, or None for 0.

    Args:
        shorthands: options from `_SHORTHANDS`, which are short for a setting.
        root: the default of `--root`; "" for a verb without it.
        noisy: whether the verb itself handles the output of TensorFlow and other libraries.
        lazy: whether the function takes a `Loader` instead, since it may not need the settings.
    """

    def decorate(function: Callable[..., int | None]) -> click.Command:
        @functools.wraps(function)
        def command(config: Path, overrides: tuple[str, ...], **params: Any) -> None:
            short = {_SHORTHANDS[option][0]: params.pop(option) for option in shorthands}
            given = [f"{key}={json.dumps(value)}" for key, value in short.items() if value]

            def loader(*more: str) -> Settings:
                return load(config, [*given, *split_overrides(overrides), *more])

            with _ending_in_words():
                if not noisy:
                    quiet_stack()
                sys.exit(function(loader if lazy else loader(), **params) or 0)

        for option in reversed(shorthands):
            command = click.option(f"--{option}", help=_SHORTHANDS[option][1])(command)
        command = _SET(command)
        if root:
            command = click.option(
                "--root",
                default=CHECKOUT / root,
                show_default=f"the checkout's {root}",
                type=_LocalPath(),
                help="Where runs keep files.",
            )(command)
        return main.command()(_CONFIG(command))

    return decorate


@contextlib.contextmanager
def _ending_in_words() -> Iterator[None]:
    """Ends the process with a message and an exit code for errors that are not our code's fault."""
    try:
        yield
    except KeyboardInterrupt as error:
        if isinstance(error, TerminatedError):
            click.secho(str(error), fg="red", err=True)
        sys.exit(128 + getattr(error, "number", signal.SIGINT))
    except Exception as error:
        cause = cause_of(error)
        if cause.blame == "code":
            raise
        click.secho(f"error: {cause.message}", fg="red", err=True)
        sys.exit(EXIT_CODES[cause.blame])


@_verb("data", "weights", noisy=True)
@click.option("--from", "first", metavar="STAGE", help="Start at this stage, with an earlier run's results.")
@click.option("--to", "last", metavar="STAGE", help="Stop after this stage.")
def run(settings: Settings, root: Path, first: str | None, last: str | None) -> int:
    """Runs the pipeline on this machine, or some of its stages.

    Exit codes: 0 pushed (or the requested stages finished), 2 bad input or settings, 3 the gate refused the model, 4
    the machine failed (no room, no memory), 1 an internal error, 130 and 143 interrupted.
    """
    return _run(settings, root, first, last)


@_verb("data", "weights", noisy=True, lazy=True)
@click.option("--trials", type=click.IntRange(min=1), help="How many combinations to train (tuner.trials).")
def tune(loader: Loader, root: Path, trials: int | None) -> int:
    """Runs the pipeline with a search for better settings before training; exit codes as for run.

    The settings under tuner say what is searched; the best combination trains the model.
    """
    settings = loader()
    if trials is not None or settings.tuner is None:
        settings = loader(f"tuner.trials={trials or TunerConfig().trials}")
    return _run(settings, root)


@_verb()
@click.option("--lowest", default=1e-6, help="The first learning rate.")
@click.option("--highest", default=1.0, help="The last learning rate.")
@click.option("--steps", type=click.IntRange(min=10), default=200, help="How many rates to try.")
def find_lr(settings: Settings, root: Path, lowest: float, highest: float, steps: int) -> None:
    """Suggests a learning rate: trains some steps at rising rates on the last run's cached features.

    Prints a JSON line with the rate, and the paths of the losses and their plot.
    """
    if not 0 < lowest < highest:
        raise InputError(f"--lowest is {lowest} and --highest {highest}: it must be 0 < lowest < highest")
    from pipeline.runners.console import progress_line
    from pipeline.runners.find_lr import find_rate

    with progress_line("reading the features"):
        found = find_rate(settings, run_dir(settings, root), lowest, highest, steps)
    click.echo(json.dumps(found))


@_verb(lazy=True)
@_MODEL
@_VERIFY_KEY
@_TOP
@_FORMAT
@click.option("--output", type=_LocalPath(), help="A file to write instead of the screen; appears at the end.")
@click.option("--images", "text", help="Files and folders as a single text, as in make's IMAGES: separated by blanks.")
@click.argument("images", nargs=-1)
def predict(
    loader: Loader,
    root: Path,
    model: str | None,
    verify_key: Path | None,
    top: int,
    file_format: records.Format,
    output: Path | None,
    text: str | None,
    images: tuple[str, ...],
) -> int:
    """Classifies files and folders: a line per image with class, probability, top k.

    IMAGES may be `-`: then file names are read from standard input, one per line or separated by NULs.

    Exit codes: 0; 2 if an image could not be classified: its line says why; all others are classified.
    """
    files = _named(text, images)
    key = _public(verify_key)
    model = model or _pushed(loader(), root, key)
    from pipeline.inference.predict import predict as predict_images
    from pipeline.runners.console import progress_line

    with contextlib.ExitStack() as stack:
        target = stack.enter_context(atomic_io.replacing(output)) if output else sys.stdout
        if not target.isatty():
            stack.enter_context(progress_line("loading the model"))
        counts = records.write(predict_images(model, files(), top, say=_note, key=key), target, file_format, top)
    return _exit_code(counts)


@_verb()
@_MODEL
@_VERIFY_KEY
@_TOP
@_FORMAT
@click.option(
    "--output",
    type=_PathOrUrl(),
    required=True,
    help="The file to write, on this machine or any file system that Beam can write to.",
)
@click.option("--shards", default=1, help="How many files to write, OUTPUT with a number in the name.")
@click.argument("folder")
def batch_predict(
    settings: Settings,
    root: Path,
    model: str | None,
    verify_key: Path | None,
    top: int,
    file_format: records.Format,
    output: str,
    shards: int,
    folder: str,
) -> int:
    """Classifies a folder of any size in a Beam job, as runtime.beam says; exit codes as for predict."""
    key = _public(verify_key)
    model = model or _pushed(settings, root, key)
    from pipeline.inference.batch_predict import batch_predict as predict_folder
    from pipeline.runners.beam_engines import notes_on_engine, options_for
    from pipeline.runners.console import progress_line

    for note in notes_on_engine(settings.runtime.beam):
        _note(note)
    with progress_line("loading the model"):
        counts = predict_folder(
            model,
            folder,
            output,
            file_format=file_format,
            top_k=top,
            shards=shards,
            beam_arguments=[resolve(option) for option in options_for(settings.runtime.beam, "batch-predict")],
            key=key,
            say=_note,
        )
    return _exit_code(counts)


@main.command()
@click.option("--port", type=click.IntRange(1, 65535), default=50000, help="The port to listen on.")
@click.option(
    "--host",
    default="127.0.0.1",
    help="The address to listen on, reachable from this node only: nobody is authenticated.",
)
def beam_worker_pool(port: int, host: str) -> None:
    """Starts Python workers for Beam when Flink or Spark on this node ask for them (runtime.beam.worker_pool)."""
    quiet_stack()
    from pipeline.runners.worker_pool import serve

    with _ending_in_words():
        serve(host, port, click.echo)


@_verb()
@_MODEL
@click.option("--labels", type=_LocalPath(), help="A table of file_name and label: labels that arrived later.")
@click.option("--count", default=200, help="How many images to put into label_next.csv.")
@click.option("--output", type=_PathOrUrl(), help="The folder to write; by default <root>/<name>/monitoring.")
@click.argument("images")
def monitor(
    settings: Settings,
    root: Path,
    model: str | None,
    labels: Path | None,
    count: int,
    output: str | None,
    images: str,
) -> int:
    """Compares production with the test split of the pushed model; needs only the model's folder.

    IMAGES is a folder of images, which a Beam job classifies as runtime.beam says, or the folder of a request log.

    Exit codes: 0; 3 if production exceeds the bounds that were pushed with the model (monitoring).
    """
    model = model or _pushed(settings, root)
    from pipeline.cli import tables
    from pipeline.monitoring.monitor import PAGE
    from pipeline.monitoring.monitor import monitor as compare_with_test_split
    from pipeline.runners.beam_engines import notes_on_engine, options_for
    from pipeline.runners.console import progress_line

    output = output or str(run_dir(settings, root) / "monitoring")
    for note in notes_on_engine(settings.runtime.beam):
        _note(note)
    with progress_line("loading the model"):
        found = compare_with_test_split(
            model,
            images,
            output,
            labels=labels,
            count=count,
            beam_arguments=[resolve(option) for option in options_for(settings.runtime.beam, "monitor")],
            say=_note,
        )
    tables.print_monitored(_terminal(), found, f"{output.rstrip('/')}/{PAGE}")
    return REFUSED if found.broken else 0


@_verb()
@click.option("--top", default=5, type=click.IntRange(min=1), help="How many pictures to list for each.")
@click.option("--images", "text", help="Files and folders as a single text, as in make's IMAGES: separated by blanks.")
@click.argument("images", nargs=-1)
def similar(settings: Settings, root: Path, top: int, text: str | None, images: tuple[str, ...]) -> int:
    """Lists, for each image, the last run's training pictures that look most like it to the network, as JSON lines.

    IMAGES and exit codes are as for predict.
    """
    files = _named(text, images)
    from pipeline.inference.similar import similar as find_similar
    from pipeline.runners.console import progress_line
    from pipeline.runs.lineage import latest_run_id, node_runs
    from pipeline.runs.metadata import open_store

    store = open_store(run_dir(settings, root), settings.runtime.metadata)
    run_id = latest_run_id(store, settings.name)
    with contextlib.nullcontext() if sys.stdout.isatty() else progress_line("loading the model"):
        found = find_similar(node_runs(store, run_id) if run_id else {}, files(), top, _note)
        return _exit_code(records.write(found, sys.stdout, "jsonl", top))


@_verb()
def report(settings: Settings, root: Path) -> None:
    """Makes the report of the last run again, and prints where it is."""
    from pipeline.report.make import remake_report

    click.echo(remake_report(run_dir(settings, root), settings.name))


@_verb("data", root="")
@click.option("--target", type=click.Choice(["cluster", "vertex"]), required=True, help="Where it will run.")
@click.option("--output", type=_LocalPath(), required=True, help="The file to write: .yaml; for vertex also .json.")
def kubeflow(settings: Settings, target: str, output: Path) -> None:
    """Compiles the pipeline for Kubeflow: an Argo workflow for your own cluster, or a KFP v2 spec for Vertex AI."""
    from pipeline.runners.kubeflow import compile_pipeline

    _warn_of_ineffective(settings)
    open_parameters = compile_pipeline(settings, "vertex" if target == "vertex" else "cluster", output)
    click.echo(f"wrote {output}; its containers run the image {settings.kubeflow.image}")
    if open_parameters:
        click.echo(f"to be given when a run is started: {', '.join(open_parameters)}")


@_verb("data", root="build/airflow")
@click.option("--dag-file", type=_LocalPath(), help="The file to write; by default <root>/<name>_dag.py.")
def airflow(settings: Settings, root: Path, dag_file: Path | None) -> None:
    """Writes the pipeline as a DAG file for Airflow's DAGs folder; all of Airflow's workers must see the root."""
    from pipeline.runners.airflow import write_dag_file

    _warn_of_ineffective(settings)
    path = dag_file or root / f"{settings.name}_dag.py"
    write_dag_file(settings, root, path)
    click.echo(f"wrote {path}: put it into Airflow's folder of DAGs (docs/airflow.md)")


@_verb()
@click.option("--json", "as_json", is_flag=True, help="For machines: a JSON list, with all metrics and settings.")
def history(settings: Settings, root: Path, as_json: bool) -> None:
    """Lists every run: when, verdict, metrics, pushed version."""
    from pipeline.cli import tables
    from pipeline.runs import history as runs
    from pipeline.runs.metadata import open_store

    found = runs.all_runs(open_store(run_dir(settings, root), settings.runtime.metadata), settings.name)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(run) for run in found], default=str, ensure_ascii=False, indent=1))
    else:
        tables.print_history(_terminal(), found)


@_verb()
@click.option("--json", "as_json", is_flag=True, help="For machines: a JSON object.")
@click.argument("a")
@click.argument("b")
def compare(settings: Settings, root: Path, as_json: bool, a: str, b: str) -> None:
    """Says what differs between two runs: settings, and metrics by more than chance.

    A and B are run ids (`history` lists them), their beginnings, or pipelines' folders: their last runs.
    """
    if not (a and b):  # as make leaves them
        raise InputError("name two runs, as `make history` lists them: make compare A=… B=…")
    from pipeline.cli import tables
    from pipeline.runs import history as runs
    from pipeline.runs.comparison import compare as compare_runs

    where = run_dir(settings, root), settings.name, settings.runtime.metadata
    found = compare_runs(*(runs.find(reference, *where) for reference in (a, b)))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), ensure_ascii=False, indent=1))
    else:
        tables.print_comparison(_terminal(), found)


@_verb()
def prune(settings: Settings, root: Path) -> None:
    """Deletes versions beyond push.keep, damaged ones, and what only runs before the last runtime.keep_runs need."""
    from pipeline.runs import metadata, push_directory
    from pipeline.runs.pruning import prune_runs

    folder, server = run_dir(settings, root), settings.runtime.metadata
    removed = push_directory.prune(push_folder(settings, root), settings.push.keep)
    click.echo(
        "\n".join(f"deleted {path}" for path in removed) or f"no old versions: push.keep is {settings.push.keep}"
    )
    if folder.is_dir() and metadata.exists(folder, server):
        with alone(folder, click.echo if settings.runtime.if_running == "wait" else None):
            store = metadata.open_store(folder, server)
            pruned = prune_runs(store, settings.name, folder, settings.runtime.keep_runs)
        click.echo(f"deleted {pruned}; runtime.keep_runs is {settings.runtime.keep_runs}")


@_verb()
def rollback(settings: Settings, root: Path) -> None:
    """Takes the newest pushed version out of service, so that the one before serves again."""
    from pipeline.runs import push_directory

    removed, now = push_directory.rollback(push_folder(settings, root))
    click.echo("\n".join([f"now serving {now}", *(f"rolled back {version}" for version in removed)]))


def _decision(function: Callable[..., None]) -> Callable[..., None]:
    """Options of the verbs that decide about a version that waits for approval."""
    for option in (
        click.option("--version", required=True, help="Number of the waiting version, as the run printed it."),
        click.option("--why", required=True, help="The reason; kept in the record and the model card."),
        click.option("--by", help="Who decides; by default the user of this machine."),
        click.option("--directory", type=_PathOrUrl(), help="The push directory, if not the one in the settings."),
    ):
        function = option(function)
    return function


@_verb()
@_decision
def approve(settings: Settings, root: Path, **given: Any) -> None:
    """Puts a blessed model that waits for approval (push.approval) into service."""
    _decide(settings, root, "approved", **given)


@_verb()
@_decision
def reject(settings: Settings, root: Path, **given: Any) -> None:
    """Removes a blessed model that waits for approval; no later candidate is compared with it."""
    _decide(settings, root, "rejected", **given)


def _decide(
    settings: Settings,
    root: Path,
    decision: Literal["approved", "rejected"],
    version: str,
    why: str,
    by: str | None,
    directory: str | None,
) -> None:
    from pipeline.runners.approval import decide

    folder = run_dir(settings, root)
    directory = directory or push_folder(settings, root)
    done, *problems = decide(settings, folder, directory, version, decision, by, why)
    click.echo(done)
    for problem in problems:
        _note(problem)


@_verb()
@_MODEL
@_VERIFY_KEY
@click.option("--name", help="What clients call the model; by default the name in the settings, or --model's folder.")
@click.option("--host", default="127.0.0.1", help="The address to listen on; one open to other machines needs TLS.")
@click.option("--port", default=8500, help="Port for gRPC; 0 takes a free one.")
@click.option("--rest-port", default=8501, help="Port for REST and /metrics; 0 takes a free one.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VERSION", help="Also serve this version, under a name.")
@click.option("--certificate", type=_LocalPath(), help="The server's certificate and chain, in PEM, for TLS.")
@click.option("--key", type=_LocalPath(), help="The certificate's key, in PEM, not encrypted.")
@click.option("--client-authority", type=_LocalPath(), help="Answer only clients with this authority's certificate.")
@click.option("--log", type=click.Choice(["text", "json"]), default="text", help="json prints one line per request.")
def serve(
    settings: Settings,
    root: Path,
    model: str | None,
    verify_key: Path | None,
    name: str | None,
    host: str,
    port: int,
    rest_port: int,
    labels: tuple[str, ...],
    certificate: Path | None,
    key: Path | None,
    client_authority: Path | None,
    log: str,
) -> None:
    """Serves the pushed model over gRPC and REST, as TensorFlow Serving does, until it is stopped (Ctrl-C)."""
    from components.serving.tls import TlsFiles
    from pipeline.inference.serve import Listening, model_name, version_labels
    from pipeline.inference.serve import serve as serve_model
    from pipeline.inference.server_log import json_lines

    tls = TlsFiles.given(certificate, key, client_authority)
    directory = model or push_folder(settings, root)
    name = name or (model_name(directory) if model else settings.name)
    listening = Listening(host, port, rest_port, tls)
    named, signer = version_labels(labels), _public(verify_key)
    if log == "text":
        serve_model(directory, name, listening, settings.serving, click.echo, named, key=signer)
        return
    with json_lines() as (say, tell):
        serve_model(directory, name, listening, settings.serving, say, named, [tell], signer)


def _named(text: str | None, images: tuple[str, ...]) -> Callable[[], list[str]]:
    """A function that lists the image files that the user named, which may take a while."""
    from pipeline.inference import names

    given = [*names.words(text or ""), *images]
    if not given:
        raise InputError("give files or folders, or - to read the names of files from standard input")
    return lambda: [
        name for one in given for name in (names.listed(sys.stdin.buffer.read()) if one == "-" else names.expand([one]))
    ]


def _run(settings: Settings, root: Path, first: str | None = None, last: str | None = None) -> int:
    from pipeline.runners.local import Stages
    from pipeline.runners.local import run as run_local

    _warn_of_ineffective(settings)
    return run_local(settings, root, Stages(first, last)).exit_code


def _warn_of_ineffective(settings: Settings) -> None:
    for note in ineffective(settings):
        _note(note)


def _note(text: str) -> None:
    click.secho(f"note: {text}", fg="yellow", err=True)


def _pushed(settings: Settings, root: Path, key: PublicKey | None = None) -> str:
    """The serving version."""
    from pipeline.runs import push_directory

    return push_directory.latest(push_folder(settings, root), _note, key)


def _public(path: Path | None) -> PublicKey | None:
    return public_key(path) if path else None


def _exit_code(counts: records.Counts) -> int:
    """Reports how many images could not be classified, and returns the exit code."""
    if counts.errors:
        click.echo(f"{counts.errors} of {counts.records} images could not be classified; see their lines", err=True)
    return BAD_INPUT if counts.errors else 0


def _terminal() -> rich.console.Console:
    """Standard output; nothing is truncated in a file or a pipe."""
    return rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 200)
