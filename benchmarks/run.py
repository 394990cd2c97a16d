"""`make bench`: how long a run takes, as a multiple of importing TFX on the same machine in the same minutes.

TFX is imported without any compiled modules, so that the unit does not depend on what ran before.

Three runs of the embedded default: cold, again with nothing changed, and with other settings of the head. Absolute
seconds differ from machine to machine; these ratios hardly do. Exits with 1 if one is over its bar.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
BARS = {"cold": 5.0, "again": 1.6, "other head": None}
IMPORT = [sys.executable, "-c", "from tfx import v1"]
HEAD = "head.hidden_units=[256] training.steps=300"


def seconds(command: list[str], **environment: str) -> float:
    """Of a whole process, which must succeed."""
    began = time.monotonic()
    subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - began


def unit() -> float:
    """Seconds to import TFX, every module compiled anew."""
    with tempfile.TemporaryDirectory() as empty:
        return seconds(IMPORT, PYTHONPYCACHEPREFIX=empty, PYTHONDONTWRITEBYTECODE="1")


def measure(root: str) -> tuple[dict[str, float], dict[str, dict]]:
    """Ratios and the record of each run; the import is timed beside every run."""
    run = [sys.executable, "-m", "pipeline", "run", "--root", root, "--set", "backbone.weights=random"]
    ratios, records = {}, {}
    for name, extra in (("cold", []), ("again", []), ("other head", ["--set", HEAD])):
        reference = unit()
        ratios[name] = seconds(run + extra) / reference
        records[name] = json.loads((Path(root) / "digits" / "last_run.json").read_text())
    return ratios, records


def main() -> int:
    """Measures, prints a Markdown table, and returns the exit code."""
    unit()  # fills the disk cache
    with tempfile.TemporaryDirectory() as root:
        ratios, records = measure(root)
    print("| run | seconds / import of TFX | bar | stages not cached | peak memory |\n|---|---|---|---|---|")
    over = False
    for name, ratio in ratios.items():
        bar = BARS[name]
        over |= bar is not None and ratio > bar
        ran = [s["id"] for s in records[name]["stages"] if not s["cached"]]
        shown = "all" if len(ran) == len(records[name]["stages"]) else ", ".join(ran)
        print(f"| {name} | {ratio:.2f} | {bar or ''} | {shown} | {records[name]['peak_rss_mb']:,} MB |")
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
