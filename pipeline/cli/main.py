"""The command line: `python -m pipeline <verb>`; the Makefile's targets are the same verbs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click
import rich.console

from core import atomic_io
from core.errors import InputError
from core.settings import loading
from core.settings.tuner import TunerConfig
from pipeline.inference import records
from pipeline.runs import outcome
from pipeline.runs.run_dir import home_of, push_folder

_CONFIG = click.option("--config", default="configs/digits.yaml", show_default=True, help="Settings, a YAML file.")
_ROOT = click.option("--root", default="build", show_default=True, type=Path, help="Where runs keep their files.")
_SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Overrides settings; several may stand in one, apart by spaces.",
)
_MODEL = click.option("--model", help="A SavedModel's folder, or a push directory; the pushed one if not given.")
_TOP = click.option("--top", default=3, show_default=True, type=click.IntRange(min=1), help="How many classes to list.")
_FORMAT = click.option(
    "--format",
    "file_format",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="Of the lines.",
)

_DATA = click.option("--data", help="A folder of class folders (data.images).")
_WEIGHTS = click.option("--weights", help="imagenet, random, or a file, folder or TF-Hub handle (backbone.weights).")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """From folders of labelled images to a pushed classifier that passed its gates."""


@main.command()
@_CONFIG
@_ROOT
@_SET
@_DATA
@_WEIGHTS
def run(config: str, root: Path, overrides: tuple[str, ...], data: str | None, weights: str | None) -> None:
    """Runs the whole pipeline on this machine.

    Exit codes: 0 pushed, 2 bad input or settings, 3 the gate refused, 1 a fault of ours.
    """
    with _user_errors():
        _run(loading.load(config, [*_given(data, weights), *loading.split_overrides(overrides)]), root)


@main.command()
@_CONFIG
@_ROOT
@_SET
@_DATA
@_WEIGHTS
@click.option("--trials", type=click.IntRange(min=1), help="How many combinations to train (tuner.trials).")
def tune(
    config: str, root: Path, overrides: tuple[str, ...], data: str | None, weights: str | None, trials: int | None
) -> None:
    """Runs the whole pipeline with a search for better settings before training; exit codes as run's.

    What is searched stands in the settings under tuner; the best combination trains the model that is judged.
    """
    with _user_errors():
        overrides = (*_given(data, weights), *loading.split_overrides(overrides))
        loaded = loading.load(config, overrides)
        if trials is not None or loaded.tuner is None:
            loaded = loading.load(config, [*overrides, f"tuner.trials={trials or TunerConfig().trials}"])
        _run(loaded, root)


@main.command(name="find-lr")
@_CONFIG
@_ROOT
@_SET
@click.option("--lowest", default=1e-6, show_default=True, help="The first learning rate.")
@click.option("--highest", default=1.0, show_default=True, help="The last.")
@click.option("--steps", type=click.IntRange(min=10), default=200, show_default=True, help="How many rates to try.")
def find_lr(config: str, root: Path, overrides: tuple[str, ...], lowest: float, highest: float, steps: int) -> None:
    """Suggests a learning rate: trains some steps at rising rates on the last run's cached features.

    Prints a JSON line with the rate, and where the losses and their plot are.
    """
    with _user_errors():
        if not 0 < lowest < highest:
            raise InputError(f"--lowest is {lowest} and --highest {highest}: it must be 0 < lowest < highest")
        loaded = loading.load(config, loading.split_overrides(overrides))
        _quiet_stack()
        from pipeline.runners.console import progress_line
        from pipeline.runners.find_lr import find_rate

        with progress_line("reading the features"):
            found = find_rate(loaded, home_of(loaded, root), lowest, highest, steps)
        click.echo(json.dumps({"learning_rate": found.suggested, "table": str(found.table), "plot": str(found.plot)}))


def _run(loaded: loading.Settings, root: Path) -> NoReturn:
    from pipeline.runners.local import run as run_local

    sys.exit(run_local(loaded, root).exit_code)


def _given(data: str | None, weights: str | None) -> list[str]:
    """The options that are short for a setting, as overrides."""
    return [
        f"{key}={json.dumps(value)}" for key, value in (("data.images", data), ("backbone.weights", weights)) if value
    ]


@main.command()
@_CONFIG
@_ROOT
@_SET
@_MODEL
@_TOP
@_FORMAT
@click.option("--output", type=Path, help="A file to write instead of the screen; it appears when all is done.")
@click.argument("images", nargs=-1, required=True)
def predict(
    config: str,
    root: Path,
    overrides: tuple[str, ...],
    model: str | None,
    top: int,
    file_format: records.Format,
    output: Path | None,
    images: tuple[str, ...],
) -> None:
    """Classifies files and folders: a line per image with class, probability, top k.

    IMAGES may be `-`: then their names are read from standard input, one a line.

    Exit codes: 0; 2 if an image could not be classified: its line says why, and all the others are there.
    """
    with _user_errors(), contextlib.ExitStack() as stack:
        model = model or _pushed(config, overrides, root)
        _quiet_stack()
        from pipeline.inference.predict import predict as predict_images
        from pipeline.runners.console import progress_line

        names = [name for given in images for name in (sys.stdin.read().splitlines() if given == "-" else [given])]
        target = stack.enter_context(atomic_io.replacing(output)) if output else sys.stdout
        if not target.isatty():
            stack.enter_context(progress_line("loading the model"))
        counts = records.write(predict_images(model, names, top), target, file_format, top)
    _exit_by(counts)


@main.command()
@_CONFIG
@_ROOT
@_SET
@_MODEL
@_TOP
@_FORMAT
@click.option("--output", required=True, help="The file to write; local, or of any file system that Beam writes.")
@click.option("--shards", default=1, show_default=True, help="Write so many files, OUTPUT with a number in its name.")
@click.argument("folder")
def batch_predict(
    config: str,
    root: Path,
    overrides: tuple[str, ...],
    model: str | None,
    top: int,
    file_format: records.Format,
    output: str,
    shards: int,
    folder: str,
) -> None:
    """Classifies a folder of any size as a Beam job, by runtime.beam; exit codes as of predict."""
    with _user_errors():
        loaded = loading.load(config, loading.split_overrides(overrides))
        model = model or _pushed(config, overrides, root)
        _quiet_stack()
        from pipeline.inference.batch_predict import batch_predict as predict_folder
        from pipeline.runners.console import progress_line

        with progress_line("loading the model"):
            counts = predict_folder(
                model,
                folder,
                output,
                file_format=file_format,
                top_k=top,
                shards=shards,
                beam_arguments=loaded.runtime.beam.options_for("batch-predict"),
            )
    _exit_by(counts)


@main.command()
@_CONFIG
@_ROOT
@_SET
def report(config: str, root: Path, overrides: tuple[str, ...]) -> None:
    """Makes the report of the last run again, and prints where it is."""
    with _user_errors():
        _quiet_stack()
        from pipeline.report.make import remake_report

        loaded = loading.load(config, loading.split_overrides(overrides))
        click.echo(remake_report(home_of(loaded, root), loaded.name))


@main.command()
@_CONFIG
@_SET
@click.option("--target", type=click.Choice(["cluster", "vertex"]), required=True, help="Where it is to run.")
@click.option("--output", type=Path, required=True, help="The file to write: .yaml; for vertex also .json.")
@click.option("--data", help="A folder of class folders that containers can see (data.images).")
def kubeflow(config: str, overrides: tuple[str, ...], target: str, output: Path, data: str | None) -> None:
    """Compiles the pipeline for Kubeflow: an Argo workflow for a cluster of one's own, a KFP v2 spec for Vertex AI."""
    given = [f"data.images={json.dumps(data)}"] if data else []
    with _user_errors():
        loaded = loading.load(config, [*given, *loading.split_overrides(overrides)])
        _quiet_stack()
        from pipeline.runners.kubeflow import compile_pipeline

        compiled = compile_pipeline(loaded, "vertex" if target == "vertex" else "cluster", output)
        click.echo(f"wrote {compiled.path}; its containers run the image {loaded.kubeflow.image}")
        if compiled.open_parameters:
            click.echo(f"to be given when a run is started: {', '.join(compiled.open_parameters)}")


@main.command()
@_CONFIG
@_SET
@click.option(
    "--root",
    default="build/airflow",
    show_default=True,
    type=Path,
    help="Where the DAG's runs keep their files; a folder that all of Airflow's workers see.",
)
@click.option("--data", help="A folder of class folders (data.images).")
@click.option("--dag-file", type=Path, help="The file to write; <root>/<name>_dag.py if not given.")
def airflow(config: str, overrides: tuple[str, ...], root: Path, data: str | None, dag_file: Path | None) -> None:
    """Writes the pipeline as a DAG file, to be put into Airflow's folder of DAGs."""
    given = [f"data.images={json.dumps(data)}"] if data else []
    with _user_errors():
        loaded = loading.load(config, [*given, *loading.split_overrides(overrides)])
        _quiet_stack()
        from pipeline.runners.airflow import write_dag_file

        path = dag_file or root / f"{loaded.name}_dag.py"
        write_dag_file(loaded, root, path)
        click.echo(f"wrote {path}: put it into Airflow's folder of DAGs (docs/airflow.md)")


@main.command()
@_CONFIG
@_ROOT
@_SET
@click.option("--json", "as_json", is_flag=True, help="For machines: a JSON list, with all metrics and settings.")
def history(config: str, root: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Lists every run: when, verdict, metrics, pushed version."""
    with _user_errors():
        _quiet_stack()
        from pipeline.cli import tables
        from pipeline.runs import history as runs

        loaded = loading.load(config, loading.split_overrides(overrides))
        found = runs.all_runs(runs.open_store(home_of(loaded, root)), loaded.name)
        if as_json:
            click.echo(
                json.dumps([dataclasses.asdict(run) for run in found], default=str, ensure_ascii=False, indent=1)
            )
        else:
            _terminal().print(tables.history(found))


@main.command()
@_CONFIG
@_ROOT
@_SET
@click.option("--json", "as_json", is_flag=True, help="For machines: a JSON object.")
@click.argument("a")
@click.argument("b")
def compare(config: str, root: Path, overrides: tuple[str, ...], as_json: bool, a: str, b: str) -> None:
    """Says what differs between two runs: settings, and metrics by more than chance.

    A and B are ids of runs (`history` lists them), beginnings of such, or pipelines' folders: their last runs.
    """
    with _user_errors():
        _quiet_stack()
        from pipeline.cli import tables
        from pipeline.runs import history as runs
        from pipeline.runs.comparison import compare as compare_runs

        loaded = loading.load(config, loading.split_overrides(overrides))
        found = compare_runs(*(runs.find(reference, home_of(loaded, root), loaded.name) for reference in (a, b)))
        if as_json:
            click.echo(json.dumps(found.to_dict(), ensure_ascii=False, indent=1))
        else:
            tables.print_comparison(_terminal(), found)


@main.command()
@_CONFIG
@_ROOT
@_SET
def prune(config: str, root: Path, overrides: tuple[str, ...]) -> None:
    """Deletes the oldest pushed versions beyond push.keep."""
    with _user_errors():
        from pipeline.runs import push_directory

        loaded = loading.load(config, loading.split_overrides(overrides))
        removed = push_directory.prune(push_folder(loaded, root), loaded.push.keep)
        click.echo("\n".join(f"deleted {path}" for path in removed) or f"nothing to delete: keep is {loaded.push.keep}")


@main.command()
@_CONFIG
@_ROOT
@_SET
def rollback(config: str, root: Path, overrides: tuple[str, ...]) -> None:
    """Takes the newest pushed version out of service, so that the one before serves again."""
    with _user_errors():
        from pipeline.runs import push_directory

        removed, now = push_directory.rollback(
            push_folder(loading.load(config, loading.split_overrides(overrides)), root)
        )
        click.echo(f"now serving {now}\nset aside   {removed}")


@main.command()
@_CONFIG
@_ROOT
@_SET
@_MODEL
@click.option("--port", default=8500, show_default=True, help="Of 127.0.0.1; 0 takes a free one.")
def serve(config: str, root: Path, overrides: tuple[str, ...], model: str | None, port: int) -> None:
    """Serves the pushed model over gRPC, as TensorFlow Serving does, until it is stopped (Ctrl-C)."""
    with _user_errors():
        loaded = loading.load(config, loading.split_overrides(overrides))
        if model is None:
            model = str(push_folder(loaded, root))
        _quiet_stack()
        from pipeline.inference.serve import serve as serve_model

        serve_model(Path(model), loaded.name, port, loaded.serving.server, click.echo)


def _pushed(config: str, overrides: tuple[str, ...], root: Path) -> str:
    """The version that serves."""
    from pipeline.runs import push_directory

    return str(push_directory.latest(push_folder(loading.load(config, loading.split_overrides(overrides)), root)))


def _exit_by(counts: records.Counts) -> NoReturn:
    """Says how many images could not be classified, and exits with the code for that."""
    if counts.errors:
        click.echo(f"{counts.errors} of {counts.records} images could not be classified; see their lines", err=True)
    sys.exit(outcome.BAD_INPUT if counts.errors else 0)


def _terminal() -> rich.console.Console:
    """Standard output; into a file or a pipe nothing is cut short."""
    return rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def _quiet_stack() -> None:
    """For verbs whose output is data: keeps the warnings of TensorFlow and what it brings off the screen."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


@contextlib.contextmanager
def _user_errors() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(outcome.BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(130)
