"""The measurements: `benchmarks/results/<cpu>.csv`, a line each."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "results"


@dataclasses.dataclass(frozen=True)
class Row:
    """A measurement.

    Attributes:
        date: ISO 8601.
        commit: of this repository; with `+` if its code was changed since.
        data: the name of the folder with the pictures, `made up` if there was none.
        case: what it belongs to.
        images: how many pictures.
        round: 1 for the first; all measurements of a round were made one after the other.
        what: `run`, `bare`, `stage <id>`, …
        wall: seconds.
        cpu: seconds of all cores.
        peak_mb: the most memory of all processes together (PSS, sampled), or of the largest of them.
        value: anything else that `what` says.
    """

    date: str
    commit: str
    data: str
    case: str
    images: int
    round: int
    what: str
    wall: float | None = None
    cpu: float | None = None
    peak_mb: int | None = None
    value: float | None = None


FIELDS = [field.name for field in dataclasses.fields(Row)]


def cpu_name() -> str:
    """A slug of the processor, what oneDNN computes with on it, and the number of cores."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)
    flags = set((re.search(r"^flags\s*: (.*)$", info, re.MULTILINE) or ["", ""])[1].split())
    best = next((name for flag, name in (("avx512f", "avx512"), ("avx2", "avx2")) if flag in flags), "other")
    best = os.environ.get("ONEDNN_MAX_CPU_ISA", best).lower()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{model[1] if model else 'cpu'} {best} {cores} cores"
    return re.sub(r"\W+", "-", text.lower().replace("(r)", "").replace("(tm)", "")).strip("-")


def load(path: Path) -> list[Row]:
    """The rows of a file; none if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [_row(line) for line in csv.DictReader(file)]


def save(path: Path, rows: Iterable[Row]) -> None:
    """Writes a file of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for row in rows:
            writer.writerow("" if value is None else value for value in dataclasses.astuple(row))


def of(rows: Sequence[Row], case: str, what: str, images: int | None = None) -> list[Row]:
    """Those of a case, in the order of their rounds; of the most pictures that it was measured with, if not given."""
    found = [row for row in rows if row.case == case and row.what == what]
    images = images if images is not None else max((row.images for row in found), default=0)
    return sorted((row for row in found if row.images == images), key=lambda row: row.round)


def median(values: Iterable[float | None]) -> float:
    """Of those that were measured."""
    return statistics.median([value for value in values if value is not None])


def _row(line: dict[str, str]) -> Row:
    numbers = {name: float(line[name]) if line[name] else None for name in ("wall", "cpu", "value")}
    peak = int(line["peak_mb"]) if line["peak_mb"] else None
    texts = {name: line[name] for name in ("date", "commit", "data", "case", "what")}
    return Row(**texts, images=int(line["images"]), round=int(line["round"]), peak_mb=peak, **numbers)
