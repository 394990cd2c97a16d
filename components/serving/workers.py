"""Threads for work that would block the event loop: reading and writing messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Workers:
    """A number of threads; to be used in one event loop."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="messages")

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """The function's result; where the caller is canceled, only once the function has ended."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise

    def close(self) -> None:
        """Waits for all running work."""
        self._threads.shutdown()
