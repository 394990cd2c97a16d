"""Runs modules in processes forked from this one, which has imported the stack: `python fork_server.py SOCKET`.

A call is a line of JSON with the arguments of `run`; the answer is the exit code.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import socketserver
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import pipeline.pipeline  # noqa: F401


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Answers calls at the same time."""


class Handler(socketserver.StreamRequestHandler):
    """Of one call, in a process of its own."""

    def handle(self) -> None:
        call = json.loads(self.rfile.readline())
        child = os.fork()
        if child == 0:
            run(**call)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self.wfile.write(f"{code}\n".encode())


def run(module: str, arguments: list[str], folder: str, log: str, environment: dict[str, str]) -> NoReturn:
    """`python -m module arguments` in this process, with the folder as working directory and all it prints in `log`."""
    with open(log, "a") as output:  # noqa: PTH123
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
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


if __name__ == "__main__":
    socket = sys.argv[1]
    with Server(f"{socket}.unready", Handler) as server:
        Path(f"{socket}.unready").rename(socket)  # a socket has its name before it listens
        server.serve_forever()
