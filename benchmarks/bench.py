"""`make bench`: how fast everything is, beside what the base alone costs on the same pictures in the same minutes.

    make bench DATA=folder WEIGHTS=imagenet|random|file CASES="cold head" IMAGES=200 ROUNDS=3 SET="path=value"

Each case runs the real command in processes of their own; what is measured goes into `benchmarks/results/<cpu>.csv`,
in place of what was measured of the same case before, and the tables of README.md and docs/ are written anew.
Without DATA, the photos are made up; where DATA has too few, parts of its own are added. With IMAGES it
is a trial: its results go into build/bench, and the tables stay. CASES=pages only writes the tables.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks import pages, pictures, results

PROJECT = Path(__file__).resolve().parent.parent
WORK = PROJECT / "build" / "bench"
SIZE, SMALL = 299, 75  # of the network's input; SMALL is InceptionV3's least
FLOAT32 = "runtime.bfloat16=off"  # as the bare pass
EPOCHS, BATCH = 5, 32  # of the peers
PUSHED, REFUSED = 0, 3


@dataclasses.dataclass
class Bench:
    """What all cases share: the pictures, the settings, and where results go."""

    data: Path | None
    weights: str
    settings: str
    images: int | None
    rounds: int | None
    commit: str
    file: Path
    photos: list[Path] = dataclasses.field(default_factory=list)
    warm: set[Path] = dataclasses.field(default_factory=set)
    measured: set[tuple[str, int]] = dataclasses.field(default_factory=set)

    @property
    def name(self) -> str:
        """Of the data."""
        return self.data.name if self.data else "made up"

    def count(self, usual: int) -> int:
        """How many pictures a case takes that usually takes so many."""
        return self.images or usual

    def folder(self, kind: str, count: int, make: Callable[..., Any], keep: bool = False, first: int = 0) -> Path:
        """A folder of pictures of a kind, made of the photos; with `keep`, of these themselves as far as they go."""
        made = functools.partial(make, self.photos, self.data)
        copies = self.photos if keep else ()
        return pictures.folder_of(WORK / "pictures" / self.name / kind, count, made, copies, self.data, first)

    def web(self, count: int) -> Path:
        """A folder of so many photos as they are on the web."""
        return self.folder("web", count, functools.partial(pictures.web_photo, None), keep=True)

    def add(self, case: str, images: int, number: int, what: str, **measured: float | int | None) -> None:
        """Keeps a measurement; the first of a case and number of pictures replaces all that was measured of it."""
        rows = results.load(self.file)
        if (case, images) not in self.measured:
            self.measured.add((case, images))
            rows = [row for row in rows if (row.case, row.images) != (case, images)]
        rounded = {key: value if value is None else round(value, 4) for key, value in measured.items()}
        when = datetime.now().isoformat(timespec="seconds")
        rows.append(results.Row(when, self.commit, self.name, case, images, number, what, **rounded))  # type: ignore[arg-type]
        results.save(self.file, rows)
        shown = ", ".join(f"{key} {value:,.4g}" for key, value in rounded.items() if value is not None)
        if not what.startswith("stage "):
            print(
                f"  {datetime.now():%H:%M:%S} {case}, {images:,} pictures, round {number}, {what}: {shown}", flush=True
            )


@dataclasses.dataclass(frozen=True)
class Used:
    """What a command took, its children included; and the last line that it printed to standard output."""

    code: int
    wall: float
    cpu: float
    peak_mb: int
    last: str


def use(command: Sequence[str], log: Path) -> Used:
    """Runs a command of this environment to its end."""
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    errors = log.with_suffix(".stderr")
    with log.open("w") as out, errors.open("w") as err:
        process = subprocess.Popen([sys.executable, *command], cwd=PROJECT, stdout=out, stderr=err)
    peak, ended = [0.0], threading.Event()
    sampler = threading.Thread(target=_sample, args=(process.pid, peak, ended))
    sampler.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.send_signal(signal.SIGINT)
        raise
    finally:
        ended.set()
        sampler.join()
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    largest = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    lines = log.read_text(errors="replace").splitlines() or [""]
    peak_mb = round(max(largest, peak[0]))
    return Used(process.returncode, wall, usage.ru_utime + usage.ru_stime, peak_mb, lines[-1])


def _sample(pid: int, peak: list[float], ended: threading.Event) -> None:
    """Twice a second, the MB of the process and all below it: shared pages count once (PSS)."""
    while not ended.wait(0.5):
        total = 0
        try:
            root = psutil.Process(pid)
            processes = [root, *root.children(recursive=True)]
        except psutil.Error:
            continue
        for process in processes:
            try:
                total += getattr(process.memory_full_info(), "pss", 0)
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total / 2**20)


def run(
    bench: Bench, case: str, images: int, number: int, data: Path, root: Path, *settings: str, **names: str
) -> None:
    """The whole pipeline once, as a user starts it; keeps the run and its stages."""
    config = names.get("config", "flowers")
    options = [f"data.schema={root}/schema.pbtxt", f"backbone.weights={bench.weights}", *settings, bench.settings]
    if config != "digits":
        options.append(f"data.images={data}")
    command = ["-m", "pipeline", "run", "--config", f"configs/{config}.yaml", "--root", str(root)]
    command += [word for one in options if one for word in ("--set", one)]
    log = WORK / "logs" / f"{case}-{images}-{number}.log"
    used = use(command, log)
    if used.code not in (PUSHED, REFUSED):
        sys.exit(f"a run ended with exit code {used.code}: see {log}")
    if not names.get("what", "run"):
        return
    record = outcome(root, config)
    bench.add(
        case, images, number, names.get("what", "run"),
        wall=used.wall, cpu=used.cpu, peak_mb=used.peak_mb, value=record["metrics"]["accuracy"]["overall"],
    )  # fmt: skip
    for stage in record["stages"]:
        if stage["seconds"] >= 0.05:
            seconds = {"wall": stage["seconds"], "cpu": stage["cpu_seconds"]}
            bench.add(case, images, number, f"stage {stage['id']}", **seconds)
    if record["report"]:
        bench.add(case, images, number, "report MB", value=Path(record["report"]).stat().st_size / 2**20)


def outcome(root: Path, config: str = "flowers") -> dict[str, Any]:
    """The record of the last run in a folder."""
    return json.loads((root / config / "last_run.json").read_text())


def script(bench: Bench, case: str, images: int, number: int, *command: str) -> tuple[Used, Any]:
    """Runs a module of ours that prints JSON in its last line."""
    log = WORK / "logs" / f"{case}-{images}-{number}-{command[0].rpartition('.')[2]}.log"
    used = use(["-m", *command], log)
    if used.code:
        sys.exit(f"{command[0]} ended with exit code {used.code}: see {log.with_suffix('.stderr')}")
    return used, json.loads(used.last)


def bare(bench: Bench, case: str, images: int, number: int, data: Path, size: int = SIZE) -> None:
    """The bare pass over the same pictures."""
    used, seconds = script(bench, case, images, number, "benchmarks.bare", "pass", str(data), "--size", str(size))
    bench.add(case, images, number, "bare", **seconds, peak_mb=used.peak_mb)


def fresh(case: str, images: int) -> Path:
    """An empty folder for runs."""
    root = WORK / "runs" / f"{case}-{images}"
    shutil.rmtree(root, ignore_errors=True)
    return root


def beside_bare(
    bench: Bench, case: str, images: int, rounds: int, data: Path, *settings: str, size: int = SIZE
) -> None:
    """Cold runs, and the bare pass beside each."""
    for number in range(1, rounds + 1):
        bare(bench, case, images, number, data, size)
        root = fresh(case, images)
        run(bench, case, images, number, data, root, FLOAT32, *settings)
        bench.warm.add(root)


def cold(bench: Bench, rounds: int) -> None:
    """The folder as it is, from nothing to the end."""
    count = bench.count(len(bench.photos) or 500)
    data = bench.data if bench.data and not bench.images else bench.web(count)
    beside_bare(bench, "cold", count, rounds, data)


LARGE = 3669  # photos: one less than tf_flowers has


def large(bench: Bench, rounds: int) -> None:
    """As `cold`, of 3,669 photos."""
    count = bench.count(LARGE)
    beside_bare(bench, "large", count, rounds, bench.web(count))


def warm_root(bench: Bench) -> tuple[int, Path, Path]:
    """A folder in which `large` ran; how many pictures, the pictures, the folder."""
    count = bench.count(LARGE)
    data, root = bench.web(count), WORK / "runs" / f"large-{count}"
    if root not in bench.warm:
        print("  a cold run first, which does not count", flush=True)
        run(bench, "large", count, 0, data, fresh("large", count), FLOAT32, what="")
        bench.warm.add(root)
    return count, data, root


def unchanged(bench: Bench, rounds: int) -> None:
    """Run again, nothing changed."""
    count, data, root = warm_root(bench)
    for number in range(1, rounds + 1):
        run(bench, "unchanged", count, number, data, root, FLOAT32)


def head(bench: Bench, rounds: int) -> None:
    """Run again with another head, a new one each round."""
    count, data, root = warm_root(bench)
    for number in range(1, rounds + 1):
        run(bench, "head", count, number, data, root, FLOAT32, f"head.hidden_units=[{128 + number}]")


def more(bench: Bench, rounds: int) -> None:
    """Run again with 100 new photos, other ones each round."""
    count, data, root = warm_root(bench)
    for number in range(1, rounds + 1):
        make = functools.partial(pictures.web_photo, None)
        new = bench.folder(f"new-{count}-{number}", 100, make, first=count + 100 * number)
        added = [data / path.relative_to(new) for path in pictures.files(new)]
        try:
            for path in added:
                path.hardlink_to(new / path.relative_to(data))
            run(bench, "more", count, number, data, root, FLOAT32)
        finally:
            for path in added:
                path.unlink(missing_ok=True)


def scale(bench: Bench, rounds: int) -> None:
    """250 to 16,000 pictures of 160 px at 75 px."""
    most = bench.count(16_000)
    for share in (64, 16, 4, 1):
        count = most // share
        data = bench.folder("160px", count, functools.partial(pictures.web_photo, (160, 160)))
        beside_bare(bench, "scale", count, rounds, data, f"backbone.image_size={SMALL}", size=SMALL)


def phones(bench: Bench, rounds: int) -> None:
    """Photos of 12 megapixels."""
    count = bench.count(200)
    beside_bare(bench, "phones", count, rounds, bench.folder("phone", count, pictures.phone_photo))


def digits(bench: Bench, rounds: int) -> None:
    """The embedded digits, as `make run-local` in a fresh clone without a network."""
    offline = dataclasses.replace(bench, weights="random", settings="", measured=bench.measured)
    for number in range(1, rounds + 1):
        run(offline, "digits", 1797, number, Path(), fresh("digits", 1797), config="digits")


def served(bench: Bench, rounds: int) -> None:
    """Requests of one picture and of 32, beside the base alone."""
    count, data, root = warm_root(bench)
    for number in range(1, rounds + 1):
        _, rows = script(bench, "served", count, number, "benchmarks.served", outcome(root)["model"], str(data))
        for row in rows:
            bench.add("served", count, number, **row)


def load(bench: Bench, rounds: int) -> None:
    """Clients that ask again and again: the median of a request, and images a second."""
    count, data, root = warm_root(bench)
    for number in range(1, rounds + 1):
        for row in script(bench, "load", count, number, "benchmarks.load", outcome(root)["model"], str(data))[1]:
            bench.add("load", count, number, row["what"], wall=row["median_ms"] / 1000, value=row["images_s"])


def floor(bench: Bench, rounds: int) -> None:
    """Operations of the base, and how many a second this machine does."""
    for number in range(1, rounds + 1):
        for what, value in script(bench, "floor", 0, number, "benchmarks.bare", "floor")[1].items():
            bench.add("floor", 0, number, what, value=value)


def epochs(bench: Bench, rounds: int) -> None:
    """An epoch of 48 photos from the cut on, beside one through the complete network."""
    for number in range(1, rounds + 1):
        for what, cpu in script(bench, "epochs", 48, number, "benchmarks.epochs")[1].items():
            bench.add("epochs", 48, number, what, cpu=cpu)


PEERS = ("keras_guide", "estimator_every_step", "bottlenecks")


def peers(bench: Bench, rounds: int) -> None:
    """Other ways to train the same head for as many epochs on the same photos, and this pipeline."""
    count = bench.count(len(bench.photos) or 500)
    folder = bench.data if bench.data and not bench.images else bench.web(count)
    data = pictures.split(pictures.files(folder), WORK / "pictures" / bench.name / f"split-{count}")
    steps = -(-len(pictures.files(data / "train")) // BATCH)
    training = (
        f"training.batch_size={BATCH} training.steps={EPOCHS * steps} training.eval_every={steps} "
        "training.learning_rate=1e-3 training.early_stopping=null head.hidden_units=[] head.l2=0"
    )
    options = ["--weights", bench.weights, "--size", str(SIZE), "--epochs", str(EPOCHS), "--batch", str(BATCH)]
    for number in range(1, rounds + 1):
        for peer in PEERS:
            used, accuracy = script(bench, "peers", count, number, f"benchmarks.peers.{peer}", str(data), *options)
            taken = {"wall": used.wall, "cpu": used.cpu, "peak_mb": used.peak_mb}
            bench.add("peers", count, number, peer, **taken, value=accuracy)
        run(bench, "peers", count, number, data, fresh("peers", count), FLOAT32, training, what="pipeline")


FEW_STEPS = "training.steps=60 training.eval_every=30"


def of_classes(case: str, usual: int, make: pictures.Make, bench: Bench, rounds: int) -> None:
    """Made-up pictures of many classes at 75 px."""
    count = bench.count(usual)
    data = pictures.folder_of(WORK / "pictures" / case, count, make)
    made_up = dataclasses.replace(bench, data=None, weights="random", settings="", measured=bench.measured)
    for number in range(1, rounds + 1):
        root = fresh(case, count)
        run(made_up, case, count, number, data, root, FLOAT32, f"backbone.image_size={SMALL} {FEW_STEPS}")


@dataclasses.dataclass(frozen=True)
class Case:
    """How often it is measured, and whether without being asked for."""

    measure: Callable[[Bench, int], None]
    rounds: int
    usual: bool = True


CASES = {
    "floor": Case(floor, 3),
    "digits": Case(digits, 3),
    "cold": Case(cold, 3),
    "large": Case(large, 1),
    "unchanged": Case(unchanged, 3),
    "head": Case(head, 2),
    "served": Case(served, 3),
    "more": Case(more, 1),
    "phones": Case(phones, 1),
    "peers": Case(peers, 1),
    "scale": Case(scale, 1),
    "epochs": Case(epochs, 1, usual=False),
    "load": Case(load, 1, usual=False),
    "classes": Case(functools.partial(of_classes, "classes", 4000, pictures.few_of_a_class), 1, usual=False),
    "ten": Case(
        functools.partial(of_classes, "ten", 10_000, functools.partial(pictures.class_of_many, 1000, SMALL)), 1, False
    ),
    "many": Case(
        functools.partial(of_classes, "many", 100_000, functools.partial(pictures.class_of_many, 10, SMALL)), 1, False
    ),
}


def git(*arguments: str) -> str:
    """What git prints; nothing outside of a checkout."""
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def main() -> None:
    """Measures the cases, prints the table, and writes the pages."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="a folder of labeled images; most cases want class folders")
    parser.add_argument("--weights", default="random", help="imagenet, random, or a Keras .h5 file")
    parser.add_argument("--cases", default="", help=f"of {', '.join(CASES)}; pages: none, only write the tables")
    parser.add_argument("--images", type=int, help="how many pictures, instead of each case's own number")
    parser.add_argument("--rounds", type=int, help="how often, instead of each case's own number")
    parser.add_argument("--set", default="", help="settings of the runs on DATA")
    options = parser.parse_args()
    chosen = options.cases.replace(",", " ").split() or [name for name, case in CASES.items() if case.usual]
    if unknown := set(chosen) - {*CASES, "pages"}:
        parser.error(f"no case {', '.join(sorted(unknown))}: there are {', '.join(CASES)}, and pages")
    data = options.data.resolve() if options.data else None
    photos = pictures.files(data) if data else []
    if data and not photos:
        parser.error(f"no pictures in {data}")
    weights = options.weights if options.weights in ("imagenet", "random") else str(Path(options.weights).resolve())
    changed = git("status", "--porcelain", "core", "trainer", "components", "pipeline", "configs", "uv.lock")
    commit = git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    file = (WORK if options.images else results.FOLDER) / f"{results.cpu_name()}.csv"
    bench = Bench(data, weights, options.set, options.images, options.rounds, commit, file, photos)
    began = time.monotonic()
    for name in chosen:
        if name != "pages":
            print(f"{name}: {CASES[name].measure.__doc__ or ''}".split("\n")[0], flush=True)
            CASES[name].measure(bench, options.rounds or CASES[name].rounds)
            print(f"  {(time.monotonic() - began) / 60:.1f} minutes so far", flush=True)
    print("\n".join(pages.summary(results.load(file))))
    if not options.images:
        pages.write()


if __name__ == "__main__":
    main()
