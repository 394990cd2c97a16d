"""Kills whole runs at random moments with SIGKILL, and looks after each what is left.

    python -m benchmarks.kills --kills 30 --seed 1

Runs of a few digits follow each other in one folder, each killed after a random time, the processes it has started left
to the system. The settings stay until a run ends before it is killed; then the training changes, so that there is
something to do again, and every third time there is one more image of each class. After each kill:

- every process of the run has ended within `END_SECONDS`;
- each version in the push directory is whole, by its checksums, and none that was there before is missing;
- ML Metadata is sound, and every artifact that it calls finished is whole, by every byte.

After each run that ended: it ended well, no stage but Pusher, which is never cached, was computed twice for it, and
neither working files, unfinished artifacts nor temporary folders are left. Prints a JSON object, and exits with 1 if
any of this does not hold.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

from ml_metadata.proto import metadata_store_pb2 as pb

from components.ingestion.digits import write_digits
from core.artifacts.last_run import LAST_RUN
from core.artifacts.nodes import NEVER_CACHED, RESOLVERS
from core.processes import end_with
from pipeline.cli.main import main as command_line
from pipeline.runs import integrity
from pipeline.runs.lineage import latest_run_id, node_runs
from pipeline.runs.metadata import open_store
from pipeline.runs.run_dir import ARTIFACTS, METADATA
from tests.fork_server import STACK

NAME = "kills"
PER_CLASS = 15
END_SECONDS = 5.0
_SUMS = "assets.extra/SHA256SUMS"


class Folder:
    """The pipeline's folder, what has been seen in it, and what was found wrong."""

    def __init__(self, root: Path) -> None:
        self.root, self.run_dir = root, root / NAME
        self.versions: set[str] = set()
        self.computed: collections.Counter[str] = collections.Counter()
        self.problems: list[str] = []
        self.training = 0
        self._known = 0  # the last execution of the training before

    def start(self) -> int:
        """Starts a run in a session of its own; returns its id."""
        process = os.fork()
        if process == 0:
            _run(self.root, self.training)
        return process

    def check_killed(self, session: int) -> None:
        """What must hold whenever a run was killed."""
        limit = time.monotonic() + END_SECONDS
        while left := list(_processes_of(session)):
            if time.monotonic() > limit:
                self.problems.append(f"processes live on: {left}")
                break
            time.sleep(0.05)
        present = set()
        for version in (self.run_dir / "serving").glob("[0-9]*"):
            present.add(version.name)
            if wrong := _wrong_with(version):
                self.problems.append(f"version {version.name}: {wrong}")
        if lost := self.versions - present:
            self.problems.append(f"lost versions: {sorted(lost)}")
        self.versions |= present
        if not (self.run_dir / METADATA).exists():
            return
        with closing(sqlite3.connect(self.run_dir / METADATA)) as database:
            (said,) = database.execute("PRAGMA integrity_check").fetchone()
        if said != "ok":
            self.problems.append(f"metadata: {said}")
            return
        for artifact in open_store(self.run_dir, None).get_artifacts():
            properties = {name: value.string_value for name, value in artifact.custom_properties.items()}
            if artifact.state == pb.Artifact.LIVE and (found := integrity.damage(artifact.uri, properties, True)):
                self.problems.append(f"{artifact.uri}: {found}")

    def check_ended(self, code: int) -> None:
        """What must hold where a run came to its end, by itself; the next training is another."""
        record = LAST_RUN.read(self.run_dir)
        if code or record.status != "pushed":
            self.problems.append(f"exit code {code}: {record.failures}")
        store = open_store(self.run_dir, None)
        states = (pb.Execution.COMPLETE,)
        names = {kind.id: kind.name for kind in store.get_execution_types()}
        finished = [e for e in store.get_executions() if e.last_known_state in states and e.id > self._known]
        nodes = {n.execution for n in node_runs(store, latest_run_id(store, NAME) or "").values() if n.id in RESOLVERS}
        counts = collections.Counter(names[e.type_id] for e in finished if e.id not in nodes)
        for name, number in counts.items():
            if number > 1 and "Resolver" not in name and name.rpartition(".")[2] not in NEVER_CACHED:
                self.problems.append(f"{name} was computed {number} times for training {self.training}")
        self.computed += counts
        self._known = max((e.id for e in store.get_executions()), default=0)
        live = {a.uri for a in store.get_artifacts() if a.state == pb.Artifact.LIVE}
        for folder in (self.run_dir / ARTIFACTS).glob("*/*/*"):
            if str(folder) not in live and ".system" not in folder.parts:
                self.problems.append(f"left behind: {folder}")
        for folder in (self.run_dir / ARTIFACTS).glob("*/.system/*/*/*"):
            self.problems.append(f"left behind: {folder}")
        self.training += 1
        if self.training % 3 == 0:
            _add_images(self.root)


def _run(root: Path, training: int) -> NoReturn:
    """Of the fork."""
    end_with(os.getppid())
    os.setsid()
    with (root / "output").open("ab") as output:
        for number in (1, 2):
            os.dup2(output.fileno(), number)
    overrides = f"training.seed={training} evaluation.thresholds={{}} evaluation.per_slice={{}} push.keep=100"
    arguments = ["run", "--config", str(root / "settings.yaml"), "--root", str(root), "--set", overrides]
    code = 1
    try:
        command_line(arguments, standalone_mode=False)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def _processes_of(session: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            yield int(path.parent.name)


def _wrong_with(version: Path) -> str | None:
    """By the list that the export has; without any of this project's code."""
    if not (version / _SUMS).is_file():
        return f"there is no {_SUMS}"
    for line in (version / _SUMS).read_text().splitlines():
        if line.startswith("#"):
            continue
        sha256, _, name = line.partition("  ")
        file = version / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
            return f"{name} is damaged, or not there"
    return None


def _add_images(root: Path, per_class: int = 1) -> None:
    for label in sorted(path for path in (root / "every").iterdir() if path.is_dir()):
        target = root / "images" / label.name
        target.mkdir(parents=True, exist_ok=True)
        present = len(list(target.iterdir()))
        for image in sorted(label.iterdir())[present : present + per_class]:
            shutil.copy(image, target)


def _prepare(root: Path) -> None:
    write_digits(str(root / "every"))
    _add_images(root, PER_CLASS)
    (root / "settings.yaml").write_text(
        f"name: {NAME}\ndata: {{images: images, schema: schema.pbtxt, min_class_images: 1}}\n"
        "backbone: {weights: random, image_size: 75}\ntraining: {steps: 20, eval_every: 10, batch_size: 16}\n"
    )


def kill_runs(kills: int, seed: int, root: Path) -> dict[str, Any]:
    """See the module; `root` is an empty folder."""
    random_number = random.Random(seed)
    temporary = {*Path(tempfile.gettempdir()).glob("image-classifier-*")}
    _prepare(root)
    folder = Folder(root)
    began = time.monotonic()
    run = folder.start()
    folder.check_ended(os.waitstatus_to_exitcode(os.waitpid(run, 0)[1]))
    folder.check_killed(run)
    whole = time.monotonic() - began
    killed, ended = 0, 1
    moments: list[float] = []
    while killed < kills or moments[-1] > 0:
        moment = random_number.uniform(0, whole) if killed < kills else whole * 100
        run, start = folder.start(), time.monotonic()
        while (done := os.waitpid(run, os.WNOHANG))[0] == 0 and time.monotonic() < start + moment:
            time.sleep(0.01)
        if done[0]:
            folder.check_killed(run)
            folder.check_ended(os.waitstatus_to_exitcode(done[1]))
            ended += 1
            moments.append(0)
            whole = (whole + time.monotonic() - start) / 2
        else:
            os.kill(run, signal.SIGKILL)
            os.waitpid(run, 0)
            folder.check_killed(run)
            killed += 1
            moments.append(round(moment, 1))
        print(f"{killed} kills, {ended} ends, {folder.problems}", file=sys.stderr)
    left = {*Path(tempfile.gettempdir()).glob("image-classifier-*")} - temporary
    folder.problems += [f"left behind: {path}" for path in sorted(left)]
    return {
        "seed": seed,
        "kills": killed,
        "runs_to_the_end": ended,
        "seconds_of_a_run": round(whole, 1),
        "killed_after_seconds": [moment for moment in moments if moment],
        "versions": len(folder.versions),
        "computed": dict(folder.computed),
        "problems": folder.problems,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for module in STACK:
        __import__(module)
    with tempfile.TemporaryDirectory(prefix="kills-") as root:
        found = kill_runs(options.kills, options.seed, Path(root))
    print(json.dumps(found, indent=1))
    raise SystemExit(1 if found["problems"] else 0)


if __name__ == "__main__":
    main()
