"""Runs modules in processes forked from one that has imported the stack, which takes ten to thirty seconds of a core.

`ForkServer` is the client; `python -m tests.fork_server SOCKET MODULE...` the server, which imports the modules first.
A call is a line of JSON with the arguments of `_run`; the answer is the exit code.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import socket
import socketserver
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
STACK = (
    "pipeline.pipeline",
    "pipeline.report.make",
    "pipeline.runners.parallel_dag_runner",
)


class ForkServer:
    """Serves as long as it is entered; calls may be made from several threads.

    Args:
        python: the interpreter.
        modules: what it imports.
        environment: in which it does.

    Attributes:
        socket: the name of the socket on which the server listens, once it has imported them.
    """

    def __init__(
        self,
        python: Path | str = sys.executable,
        modules: Sequence[str] = STACK,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._program = [str(python), "-m", "tests.fork_server"]
        self._modules = modules
        self._environment = environment or os.environ

    def __enter__(self) -> ForkServer:
        self._folder = tempfile.TemporaryDirectory(prefix="forks-")  # short: the name of a socket has 107 bytes
        self.socket = f"{self._folder.name}/socket"
        self._process = subprocess.Popen(
            [*self._program, self.socket, *self._modules],
            cwd=ROOT,
            env={**self._environment, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    def run(self, *command: Any) -> int:
        """`call` of this server, with all but its socket, once it has imported the modules."""
        while not Path(self.socket).exists():  # it is made when the modules have been imported
            if self._process.poll() is not None:
                raise RuntimeError(f"the fork server ended with {self._process.returncode}")
            time.sleep(0.1)
        return call(self.socket, *command)


def call(
    name: str,
    module: str,
    arguments: Sequence[str],
    folder: Path,
    stdout: Path,
    stderr: Path,
    environment: Mapping[str, str],
) -> int:
    """As `python -m module arguments` in `folder`, forked from the server that listens on the socket `name`.

    What it prints is added to the files. Returns the exit code.
    """
    what = {
        "module": module,
        "arguments": list(arguments),
        "folder": str(folder),
        "stdout": str(stdout),
        "stderr": str(stderr),
        "environment": dict(environment),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(name)
        connection.sendall(f"{json.dumps(what)}\n".encode())
        with connection.makefile() as answer:
            return int(answer.readline())


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Answers calls at the same time, and ends with the process that started it."""

    _parent = os.getppid()

    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() != self._parent:
            os._exit(1)


class _Handler(socketserver.StreamRequestHandler):
    """Of one call, in a process of its own."""

    def handle(self) -> None:
        call = json.loads(self.rfile.readline())
        child = os.fork()
        if child == 0:
            _run(**call)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self.wfile.write(f"{code}\n".encode())


def _run(
    module: str, arguments: list[str], folder: str, stdout: str, stderr: str, environment: dict[str, str]
) -> NoReturn:
    for number, name in ((1, stdout), (2, stderr)):
        with open(name, "a") as output:  # noqa: PTH123
            os.dup2(output.fileno(), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _serve(name: str, modules: Sequence[str]) -> None:
    gc.disable()  # nothing of what is imported is garbage
    for module in modules:
        __import__(module)
    gc.freeze()  # a collection in a fork would copy what it shares
    gc.enable()
    with _Server(f"{name}.unready", _Handler) as server:
        Path(f"{name}.unready").rename(name)  # a socket has its name before it listens
        server.serve_forever()


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
