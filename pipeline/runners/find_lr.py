"""`find-lr`: sweeps the learning rate over what the last run left in its cache, and draws what came of it."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from types import SimpleNamespace

from core import atomic_io
from core.errors import InputError
from core.rules import features_cut
from core.settings import Settings
from pipeline.runs.history import open_store
from pipeline.runs.lineage import NodeRun, latest_run_id, node_runs
from trainer.training import lr_finder

_HEADER = ("learning_rate", "loss", "smoothed_loss")


@dataclasses.dataclass(frozen=True)
class Found:
    """What the sweep suggests, and the files that show why."""

    suggested: float
    table: Path
    plot: Path


def find_rate(settings: Settings, home: Path, lowest: float, highest: float, steps: int) -> Found:
    """Sweeps the rate from `lowest` to `highest`, with these settings and the last run's data.

    Args:
        settings: of the pipeline; those of head and training may differ from the last run's.
        home: the pipeline's folder; gets `find_lr.csv` and `find_lr.png`.
        lowest: the first rate.
        highest: the last.
        steps: of training, one a rate.

    Raises:
        InputError: there is no run to take features from, or its features are of another cut.
    """
    nodes = _last_run(home, settings.name)
    cut = features_cut(settings.trainer)
    examples = (
        _uri(nodes, "ImageExampleGen", "examples") if cut is None else _uri(nodes, "FeatureExtractor", "features")
    )
    fn_args = SimpleNamespace(
        train_files=[f"{examples}/Split-train/*"],
        eval_files=[f"{examples}/Split-eval/*"],
        transform_graph_path=_uri(nodes, "Transform", "transform_graph"),
        base_model=f"{_uri(nodes, 'BackboneImporter', 'backbone')}/Format-Serving",
        model_run_dir=str(home / "find_lr"),  # never made: nothing is written there
    )
    try:
        sweep = lr_finder.sweep(settings.trainer, fn_args, lowest, highest, steps)  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError(f"{error}: run the pipeline with these settings first") from error
    found = Found(sweep.suggested, home / "find_lr.csv", home / "find_lr.png")
    with atomic_io.replacing(found.table) as file:
        writer = csv.writer(file)
        writer.writerow(_HEADER)
        writer.writerows(zip(sweep.rates, sweep.losses, sweep.smoothed, strict=True))
    _draw(sweep, found.plot)
    return found


def _last_run(home: Path, name: str) -> dict[str, NodeRun]:
    store = open_store(home)
    run_id = latest_run_id(store, name)
    return node_runs(store, run_id) if run_id else {}


def _uri(nodes: dict[str, NodeRun], node: str, output: str) -> str:
    run = nodes.get(node)
    if run is None or run.state not in ("complete", "cached") or not run.outputs.get(output):
        raise InputError(f"the last run has no {output} of {node}; run the pipeline with these settings first")
    return run.outputs[output][0].uri


def _draw(sweep: lr_finder.Sweep, path: Path) -> None:
    from matplotlib.figure import Figure  # half a second

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(sweep.rates, sweep.losses, color="0.8", label="loss of a batch")
    axes.plot(sweep.rates, sweep.smoothed, color="C0", label="smoothed")
    axes.axvline(sweep.suggested, color="C1", linestyle="--", label=f"suggested: {sweep.suggested:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    axes.legend()
    figure.savefig(path, dpi=120)
