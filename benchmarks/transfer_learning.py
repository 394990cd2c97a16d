"""What each kind of transfer learning reaches on a folder of photos, and what it costs: the table of docs/results.md.

    .venv/bin/python benchmarks/transfer_learning.py --data ../shared/data/flowers_500 \
        --weights ../shared/weights/inception_v3_imagenet_partial_notop.h5

Every figure comes from whole runs of the pipeline, one a seed. They share one folder, so that features are computed
once for all that need the same; a run that ended is not made again, so a benchmark that was stopped resumes. Rows
without a run stay as they are on the page.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "results.md"
BEGIN, END = "<!-- made by benchmarks/transfer_learning.py -->", "<!-- end -->"

HEADER = """\
| base | seeds | accuracy | over the seeds | features, CPU s | training, CPU s |
|---|---|---|---|---|---|"""

ALL = (
    "evaluation.thresholds={} evaluation.per_slice={} evaluation.slices=[label] training.early_stopping=null "
    "serving.timeout_seconds=1800"  # other work may share the machine
)
SUFFIX = "training.steps=80 training.eval_every=20 training.batch_size=32"
NORMS_FROZEN = "[['batch_normalization.*', 0], ['conv2d_(7[6-9]|8.|9.)', 1], ['.*', 0]]"
VARIANTS = {
    "random base, frozen": "backbone.weights=random backbone.output=mixed8",
    "ImageNet, frozen": "backbone.output=mixed8",
    "ImageNet, last 5 layers": f"backbone.output=mixed8 fine_tune.last_layers=5 {SUFFIX}",
    "ImageNet, from mixed9": f"fine_tune.from=mixed9 training.learning_rate=1e-4 {SUFFIX}",
    "ImageNet, from mixed9, BatchNorm frozen": (f"fine_tune.rules={NORMS_FROZEN} training.learning_rate=1e-4 {SUFFIX}"),
    "from scratch, 150 pixels": (
        "backbone.weights=random backbone.output=mixed8 backbone.image_size=150 fine_tune.rules=[['.*', 1]] "
        f"training.learning_rate=1e-3 {SUFFIX}"
    ),
}


def run(root: Path, data: str, weights: str, overrides: str, seed: int) -> dict[str, Any]:
    """The record of one run of the pipeline, pushed or not."""
    command = [sys.executable, "-m", "pipeline", "run", "--config", "configs/flowers.yaml", "--root", str(root)]
    settings = [f"backbone.weights={weights}", ALL, overrides, f"training.seed={seed}"]
    command += ["--data", data, *(option for one in settings for option in ("--set", one))]
    subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
    return json.loads((root / "flowers" / "last_run.json").read_text())


def cost(record: dict[str, Any], stage: str) -> float:
    """CPU seconds of a stage; 0 where it is not part of the run."""
    return sum(s["cpu_seconds"] for s in record["stages"] if s["id"] == stage)


def row(name: str, records: list[dict[str, Any]]) -> str:
    """A row of the table: the median costs, and the accuracies with their spread."""
    accuracy = [record["metrics"]["accuracy"]["overall"] for record in records]
    spread = f"{min(accuracy):.1%} to {max(accuracy):.1%}"
    computed = max(cost(record, "FeatureExtractor") for record in records)  # by the run that was not cached
    reads_images = all(stage["id"] != "FeatureExtractor" for stage in records[0]["stages"])
    features = f"{computed:.0f}" if computed >= 1 else "none" if reads_images else "none: shared"
    training = statistics.median(cost(record, "Trainer") for record in records)
    mean = f"{statistics.mean(accuracy):.1%}"
    return f"| {name} | {len(records)} | {mean} | {spread} | {features} | {training:.0f} |"


def main() -> None:
    """Makes the runs that are missing, and writes the table into docs/results.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="a folder of class folders")
    parser.add_argument("--weights", required=True, help="imagenet, or a Keras .h5 file")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each; 0 only writes the table of those kept")
    parser.add_argument("--only", metavar="BASE", choices=VARIANTS, help="run this row of the table alone")
    parser.add_argument("--root", type=Path, default=PROJECT / "build" / "transfer-learning")
    options = parser.parse_args()
    folder = options.root / "records"
    folder.mkdir(parents=True, exist_ok=True)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()}
    for name, overrides in VARIANTS.items():
        stem = name.replace(" ", "-")
        for seed in range(1, options.seeds + 1) if options.only in (None, name) else ():
            kept = folder / f"{stem}-{seed}.json"
            if not kept.exists():
                kept.write_text(json.dumps(run(options.root, options.data, options.weights, overrides, seed), indent=1))
        records = [json.loads(kept.read_text()) for kept in sorted(folder.glob(f"{stem}-[0-9]*.json"))]
        if records:
            rows[name] = row(name, records)
            print(rows[name], flush=True)
    lines = [HEADER, *(rows[name] for name in VARIANTS if name in rows)]
    PAGE.write_text("\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"]))


if __name__ == "__main__":
    main()
