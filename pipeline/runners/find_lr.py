"""`find-lr`: sweeps the learning rate over the features of the last run, and plots the loss."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from core import atomic_io
from core.artifacts.backbone import BACKBONE
from core.artifacts.base import split_dir
from core.artifacts.exported_model import serving_dir
from core.artifacts.features import EXTRACTED
from core.artifacts.ingest_record import EXAMPLES
from core.artifacts.nodes import TRANSFORM_GRAPH
from core.errors import InputError
from core.rules import features_cut
from core.settings import Settings
from pipeline.runs.lineage import latest_run_id, node_runs, uri_of
from pipeline.runs.metadata import open_store
from trainer.arguments import FnArgs
from trainer.training import lr_finder


def find_rate(settings: Settings, run_dir: Path, lowest: float, highest: float, steps: int) -> dict[str, Any]:
    """Sweeps the rate from `lowest` to `highest` in `steps`, and writes `find_lr.csv` and `find_lr.png` into `run_dir`.

    The data are the last run's; the settings of head and training may differ from that run's.

    Returns:
        The suggested `learning_rate`, and the paths of the `table` and the `plot` that show why.

    Raises:
        InputError: there is no run to take features from, or its features come from another layer.
    """
    store = open_store(run_dir, settings.runtime.metadata)
    run_id = latest_run_id(store, settings.name)
    nodes = node_runs(store, run_id) if run_id else {}
    examples = uri_of(nodes, EXTRACTED if features_cut(settings.trainer) else EXAMPLES)
    fn_args = FnArgs(
        train_files=[f"{split_dir(examples, 'train')}/*"],
        eval_files=[f"{split_dir(examples, 'eval')}/*"],
        transform_graph_path=uri_of(nodes, TRANSFORM_GRAPH),
        base_model=serving_dir(uri_of(nodes, BACKBONE)),
        model_run_dir=str(run_dir / "find_lr"),  # never made: nothing is written there
    )
    try:
        sweep = lr_finder.sweep(settings.trainer, fn_args, lowest, highest, steps)
    except ValueError as error:
        raise InputError(f"{error}: run the pipeline with these settings first") from error
    table, plot = run_dir / "find_lr.csv", run_dir / "find_lr.png"
    with atomic_io.replacing(table) as file:
        writer = csv.writer(file)
        writer.writerow(("learning_rate", "loss", "smoothed_loss"))
        writer.writerows(zip(sweep.rates, sweep.losses, sweep.smoothed, strict=True))
    _draw(sweep, plot)
    return {"learning_rate": sweep.suggested, "table": str(table), "plot": str(plot)}


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
