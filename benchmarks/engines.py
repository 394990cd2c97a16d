"""From which size on a cluster pays: seconds of the six Beam components in memory and on an engine.

    python -m benchmarks.engines --beam '{engine: flink, flink_master: "flink:8081", …}' --images 24 250 1000 4000

The cluster runs already, and sees the folder `--work`. Prints a line of JSON for each number of pictures and engine,
with the load of the machine before it: numbers of a busy one are worth nothing.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pictures import class_of_many, folder_of
from core.artifacts.heartbeat import HEARTBEAT

SIDE = 160  # pixels of a picture
CLASSES = 3
STAGES = ("ImageExampleGen", "StatisticsGen", "Transform", "FeatureExtractor", "Predictor", "Evaluator")


def measure(images: Path, root: Path, beam: str, size: int) -> dict[str, float]:
    """Seconds of each stage in a run that ends with them, and those in which any of them ran: some wait for others."""
    shutil.rmtree(root, ignore_errors=True)  # nothing is to be cached
    settings = ["backbone.weights=random", f"backbone.image_size={size}", f"data.schema={root}/schema.pbtxt"]
    settings += [f"data.images={images}", f"runtime.beam={beam}", "training.steps=50"]
    command = [sys.executable, "-m", "pipeline", "run", "--root", str(root), "--to", STAGES[-1]]
    for setting in settings:
        command += ["--set", setting]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    stages = {name: beat for name, beat in HEARTBEAT.read(root / "digits").stages.items() if name in STAGES}
    all_of_them, until = 0.0, 0.0
    for beat in sorted(stages.values(), key=lambda beat: beat.started):
        end = beat.started + beat.seconds
        all_of_them += max(0.0, end - max(until, beat.started))
        until = max(until, end)
    return {"seconds": round(all_of_them, 1), **{name: beat.seconds for name, beat in stages.items()}}


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beam", required=True, help="runtime.beam of the cluster")
    parser.add_argument("--images", type=int, nargs="+", default=[24, 250, 1000, 4000])
    parser.add_argument("--size", type=int, default=75, help="pixels of the network's input")
    parser.add_argument("--work", type=Path, default=Path("build/benchmark-engines"))
    given = parser.parse_args(arguments)
    work = given.work.resolve()
    for number in given.images:
        images = folder_of(work / "pictures", number, functools.partial(class_of_many, CLASSES, SIDE))
        for beam in ("local", given.beam):
            load = os.getloadavg()[0]
            seconds = measure(images, work / "root", beam, given.size)
            print(
                json.dumps({"images": number, "size": given.size, "beam": beam, "load": round(load, 1), **seconds}),
                flush=True,
            )


if __name__ == "__main__":
    main()
