"""Runs containers of a compiled spec as processes: the same command and arguments, in a folder of their own.

What the image would bring is here already: `python` is the environment's, and the project is importable from anywhere.

Importing TFX takes ten to thirty seconds of a core, and there are forty containers. So each entry point is started from
nothing once, which shows that it imports what it needs; its later starts are forked from a process that has imported
TFX, and run the same module with the same arguments as `__main__`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from tests.conftest import ROOT
from tests.fork_server import ForkServer

AT_A_TIME = 2
"""Containers of one run that are let run together, where the graph allows it."""


class Node:
    """A machine on which containers run."""

    def __init__(self, forks: ForkServer) -> None:
        self._forks = forks
        self._started: set[str] = set()
        self._lock = threading.Lock()

    def run(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        """Runs one container to its end; what it prints goes to `log.txt` in `folder`, its working directory.

        Raises:
            RuntimeError: with the end of the log, if it ends with another code than 0.
        """
        folder.mkdir(parents=True, exist_ok=True)
        variables = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **environment,
        }
        python, option, module, *arguments = command
        assert (python, option) == ("python", "-m"), f"neither of TFX's launchers starts {command[:3]}"
        with self._lock:
            first = module not in self._started
            self._started.add(module)
        log = folder / "log.txt"
        if first:
            with log.open("a") as output:
                code = subprocess.call(command, cwd=folder, env=variables, stdout=output, stderr=output)
        else:
            code = self._forks.run(module, arguments, folder, log, log, variables)
        if code:
            raise RuntimeError(f"{command[:3]} ended with {code}:\n{log.read_text()[-4000:]}")


def run_graph(dependencies: Mapping[str, set[str]], run: Callable[[str], None]) -> list[str]:
    """Runs every node after those it depends on, and returns them in the order in which they ended.

    Raises:
        ValueError: a node depends on one that there is not, or on itself.
    """
    unknown = set().union(*dependencies.values()) - set(dependencies)
    if unknown:
        raise ValueError(f"nodes that are not in the graph: {unknown}")
    done: list[str] = []
    running: dict[Future[None], str] = {}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        while len(done) < len(dependencies):
            started = {*done, *running.values()}
            for node in sorted(n for n in dependencies if n not in started and dependencies[n] <= set(done)):
                running[pool.submit(run, node)] = node
            if not running:
                raise ValueError(f"a cycle among {set(dependencies) - set(done)}")
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done.append(running.pop(future))
                future.result()
    return done
