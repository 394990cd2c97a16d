"""The output of `serve`: sentences for people, or one JSON object per line, with every request, for log collectors."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import logging.handlers
import queue
import sys
from collections.abc import Callable, Iterator

from components.serving.model_api import Call

_LOG = logging.getLogger(__name__)
_MOST_WAITING = 10_000  # lines; more are left out where nobody reads what is printed, so that no answer waits for it


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        fields = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class _Queue(logging.handlers.QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """As it is: the listener formats it in this process."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Waits for nothing."""
        with contextlib.suppress(queue.Full):
            self.queue.put_nowait(record)


@contextlib.contextmanager
def json_lines() -> Iterator[tuple[Callable[[str], None], Callable[[Call], None]]]:
    """Prints all logging as JSON lines within the block; yields functions to log a sentence and a request."""
    printed = logging.StreamHandler(sys.stdout)
    printed.setFormatter(_Json())
    lines: queue.Queue = queue.Queue(_MOST_WAITING)
    listener = logging.handlers.QueueListener(lines, printed)
    root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
    root.handlers[:] = [_Queue(lines)]
    level = _LOG.level
    _LOG.setLevel(logging.INFO)
    listener.start()
    try:
        yield _LOG.info, _tell
    finally:
        listener.stop()
        root.handlers[:] = handlers
        _LOG.setLevel(level)


def _tell(call: Call) -> None:
    fields = {
        "protocol": call.protocol,
        "method": call.method,
        "model": call.model,
        "version": call.version,
        "signature": call.signature,
        "images": len(call.images),
        "code": call.code,
        "seconds": round(call.seconds, 6),
    }
    if call.message:
        fields["error"] = call.message
    _LOG.log(logging.INFO if call.code == "OK" else logging.WARNING, "request", extra={"fields": fields})
