"""Tries made inputs, or the cases that are kept, in processes that may crash, hang or grow; prints what became of them.

    python -m benchmarks.fuzz settings tables --inputs 100000 --seed 1 --workers 2
    python -m benchmarks.fuzz images --seed 1 --first 4711 --inputs 1     # one input again
    python -m benchmarks.fuzz tables --case found/tables-1-4711           # a file again

Prints a line of JSON for each target: `inputs`, their `outcomes`, `seconds`, the `slowest` input in CPU seconds, and by
how many MB the largest raised the memory (`largest_mb`). Whatever did harm is written to a file of `--found`, whose
name says how to make it again; then this exits with 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fuzz.runner import TARGETS, Memory, Result, attempt, fuzz, load_target, make, words


def run(options: argparse.Namespace) -> bool:
    """Tries what the options say; whether nothing did harm."""
    sound = True
    for name in options.targets:
        began, target = time.monotonic(), None
        for one in fuzz(name, options.seed, options.first, options.inputs, options.workers, options.seconds):
            if isinstance(one, Result):
                print(json.dumps({
                    "target": name, "seed": options.seed, "first": options.first, "inputs": one.outcomes.total(),
                    "outcomes": dict(sorted(one.outcomes.items())), "seconds": round(time.monotonic() - began, 1),
                    "slowest": round(one.slowest, 2), "largest_mb": round(one.largest_mb), "found": len(one.found),
                }), flush=True)  # fmt: skip
                continue
            sound = False
            number, fault = one
            target = target or load_target(name)
            options.found.mkdir(parents=True, exist_ok=True)
            path = options.found / f"{name}-{options.seed}-{number}"
            path.write_bytes(make(target, options.seed, number))
            print(f"{path}: {fault}", file=sys.stderr, flush=True)
        if target:
            target.close()
    return sound


def replay(name: str, paths: Sequence[Path]) -> bool:
    """Tries files in this process; whether nothing did harm."""
    sound = True
    with contextlib.closing(load_target(name)) as target:
        for path in paths:
            try:
                outcome, seconds, grown = attempt(target, path.read_bytes(), Memory())
                print(f"{path}: {outcome}, {seconds:.2f} CPU seconds, {grown:.0f} MB")
            except Exception as error:
                sound = False
                print(f"{path}: {words(error)}", file=sys.stderr)
    return sound


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all, if none is named")
    parser.add_argument("--inputs", type=int, default=2000, help="for each target")
    parser.add_argument("--seconds", type=float, default=86_400, help="for each target, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--found", type=Path, default=Path("build/fuzz"), help="folder for what did harm")
    parser.add_argument("--case", type=Path, nargs="+", default=[], help="files to try instead, of one target")
    options = parser.parse_args()
    options.targets = options.targets or list(TARGETS)
    if unknown := set(options.targets) - TARGETS.keys():
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    sound = replay(options.targets[0], options.case) if options.case else run(options)
    sys.exit(not sound)


if __name__ == "__main__":
    main()
