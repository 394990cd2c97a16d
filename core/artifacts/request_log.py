"""The request log of a model server: requests and answers, one line per image, in files by time.

`serve` writes it to the folder in the setting `serving.request_log`; `monitor` reads it. The folder holds files
`requests-<UTC>.jsonl`, whose names sort by time, and `images/<SHA-256>` if images are kept. The oldest files are
deleted when the log reaches its limits, so an image that a line names may be gone.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from core.errors import InputError

PATTERN = "requests-*.jsonl"
"""Of the log's files."""

IMAGES = "images"
"""The subfolder of the images."""


@dataclasses.dataclass(frozen=True)
class LoggedImage:
    """An image that a model server was asked about.

    Attributes:
        time: when the answer was ready, UTC, as in 2026-11-30T17:54:02.123Z.
        model: the name that clients use for it.
        version: of the model.
        label: the class; empty if the image got none.
        probability: of the label; 0 if the image got none.
        probabilities: of every class, by its name; all 0 if the image got an error.
        error: why the model could not read it; empty if it could.
        reason: why `label` was withheld; empty if it was not.
        novelty: the fraction of eval images that are more like the training images; None for models without this
            output.
        format: JPEG, PNG, GIF or BMP, by the first bytes; empty if it is none of these.
        width: in pixels, from the header; 0 if it has none.
        height: like `width`.
        bytes: size of the encoded image.
        file: the kept image, relative to the log's folder; None if it was not kept.
    """

    time: str
    model: str
    version: int
    label: str
    probability: float
    probabilities: dict[str, float]
    error: str
    reason: str
    novelty: float | None
    format: str
    width: int
    height: int
    bytes: int
    file: str | None = None

    def __post_init__(self) -> None:
        self.seconds()

    def seconds(self) -> float:
        """The time in seconds since 1970. Raises ValueError if it is not valid."""
        return datetime.datetime.fromisoformat(self.time.replace("Z", "+00:00")).timestamp()


def read(folder: str | Path, damaged: Callable[[str], None]) -> Iterator[LoggedImage]:
    """All images of a log, in the order of its files, one at a time.

    An incomplete last line, as a server leaves it when it is killed or still writing, is skipped. So is a damaged line,
    which is reported to `damaged`.

    Raises:
        InputError: there is no log in the folder.
    """
    paths = sorted(Path(folder).glob(PATTERN))
    if not paths:
        raise InputError(
            f"there is no request log in {folder}: no {PATTERN}; `serve` writes one where serving.request_log is set"
        )
    decoder = msgspec.json.Decoder(LoggedImage)
    for path in paths:
        try:
            file = path.open("rb")
        except FileNotFoundError:  # the server that writes the log has just deleted its oldest file
            continue
        with file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    try:
                        one = decoder.decode(line)
                    except (msgspec.DecodeError, ValueError) as error:
                        damaged(f"line {number} of {path.name}: {error}")
                    else:
                        yield one
