"""The request log of a model server: what it was asked and what it answered, a line an image, in files by time.

`serve` writes it where the setting `serving.request_log` says; `monitor` reads it. Its folder holds files
`requests-<UTC>.jsonl`, whose names sort by time, and, where pictures are kept, `images/<SHA-256>`. The oldest files go
when the log has reached its limits, so a picture that a line names may be gone.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from core.errors import InputError

PATTERN = "requests-*.jsonl"
"""Of the files with lines."""

IMAGES = "images"
"""The folder of the pictures, in that of the log."""


@dataclasses.dataclass(frozen=True)
class LoggedImage:
    """An image that a model server was asked about.

    Attributes:
        time: when the answer was there, UTC, as in 2026-11-30T17:54:02.123Z.
        model: the name that clients call it by.
        version: of the model.
        label: the class; empty where it got none.
        probability: of the label; 0 where it got none.
        probabilities: of every class, by its name; all are 0 where the image got an error.
        error: why the model could not read it; empty if it could.
        reason: why `label` was withheld; empty where it was not, and of models that withhold none.
        novelty: the fraction of eval images that are more like the training images; None of models that do not say.
        format: JPEG, PNG, GIF or BMP, by the first bytes; empty if it is none.
        width: in pixels, by the header; 0 where it has none.
        height: as `width`.
        bytes: of the encoded image.
        file: the kept picture, relative to the log's folder; None where it was not kept.
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
        """The time in seconds since 1970. Raises ValueError if it is none."""
        return datetime.datetime.fromisoformat(self.time.replace("Z", "+00:00")).timestamp()


def read(folder: str | Path, damaged: Callable[[str], None]) -> Iterator[LoggedImage]:
    """All images of a log, in the order of its files, one at a time.

    A last line that is only half there, as a server leaves it that is killed or still writes, is passed over. So is one
    that is damaged, of which `damaged` is told: the others are worth no less.

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
