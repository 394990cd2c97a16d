"""A worker of Beam's external pool, which starts one for every job, with the arguments of a Beam container.

With `--fork_from=SOCKET` it is forked from the process that listens there (`tests.fork_server`): importing the stack
takes ten to thirty seconds of a core.
"""

import argparse
import os
import sys
from pathlib import Path

from tests import fork_server

MODULES = ("apache_beam.runners.worker.sdk_worker", "components.evaluator", "pipeline.inference.batch_predict")
"""What the process imports that workers are forked from."""


def main() -> None:
    """Works until the job ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--id")
    parser.add_argument("--control_endpoint")
    parser.add_argument("--fork_from")
    given, _ = parser.parse_known_args()
    if given.fork_from:
        arguments = [f"--id={given.id}", f"--control_endpoint={given.control_endpoint}"]
        log = Path(given.fork_from).with_name("log")
        fork_server.call(given.fork_from, "tests.ports.beam_worker", arguments, Path.cwd(), log, log, os.environ)
        return
    from apache_beam.runners.worker.sdk_worker import SdkHarness

    SdkHarness(given.control_endpoint, worker_id=given.id, state_cache_size=0, data_buffer_time_limit_ms=-1).run()


def write_executable(file: Path, socket: str) -> None:
    """Writes what the pool starts: a worker that begins with nothing the first time, and is forked from then on."""
    start = f"exec {sys.executable} -m tests.ports.beam_worker"
    file.write_text(f'#!/bin/sh\nmkdir {file}.started 2>/dev/null && {start} "$@"\n{start} --fork_from={socket} "$@"\n')
    file.chmod(0o755)


if __name__ == "__main__":
    main()
