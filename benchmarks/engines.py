"""From which size on a cluster pays: seconds of ImageExampleGen and FeatureExtractor in memory and on an engine.

    python -m benchmarks.engines --beam '{engine: flink, flink_master: "flink:8081", …}' --images 250 1000 4000

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
from core.artifacts.features import EXTRACTED
from core.artifacts.ingest_record import EXAMPLES
from core.artifacts.last_run import LAST_RUN

SIDE = 160  # pixels
CLASSES = 3


def measure(images: Path, root: Path, beam: str) -> dict[str, float]:
    """Seconds of the two stages in a run that ends with them."""
    shutil.rmtree(root, ignore_errors=True)  # nothing is to be cached
    settings = ["backbone.weights=random", f"backbone.image_size={SIDE}", f"data.schema={root}/schema.pbtxt"]
    settings += [f"data.images={images}", f"runtime.beam={beam}"]
    command = [sys.executable, "-m", "pipeline", "run", "--root", str(root), "--to", EXTRACTED.node]
    for setting in settings:
        command += ["--set", setting]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    record = LAST_RUN.read(root / "digits")
    return {stage.id: stage.seconds for stage in record.stages if stage.id in (EXAMPLES.node, EXTRACTED.node)}


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beam", required=True, help="runtime.beam of the cluster")
    parser.add_argument("--images", type=int, nargs="+", default=[250, 1000, 4000])
    parser.add_argument("--work", type=Path, default=Path("build/benchmark-engines"))
    given = parser.parse_args(arguments)
    work = given.work.resolve()
    for number in given.images:
        images = folder_of(work / "pictures", number, functools.partial(class_of_many, CLASSES, SIDE))
        for beam in ("local", given.beam):
            load = os.getloadavg()[0]
            seconds = measure(images, work / "root", beam)
            print(json.dumps({"images": number, "beam": beam, "load": round(load, 1), **seconds}), flush=True)


if __name__ == "__main__":
    main()
