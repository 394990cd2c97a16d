"""What a model server may be asked for; reading this loads nothing, so that settings can hold it."""

from __future__ import annotations

import dataclasses
import json
import math

HIGHEST_MESSAGE_MB = 1024
"""A message of protobuf ends at 2 GB."""

_AROUND_IMAGES = 2**16  # bytes of a request for names, shapes and lengths


@dataclasses.dataclass(frozen=True)
class ServerLimits:
    """Bounds of one server; what is over them is refused, and the server goes on.

    Attributes:
        max_message_mb: of a request's pictures, in MB of 2^20 bytes, from `data.max_file_mb` to 1024. (gRPC's own
            default is 4, TensorFlow Serving has none.)
        max_batch: images in a request; each is held as pixels, and in the network as some ten times that.
        request_seconds: a request that has waited and computed so long is given up.
        concurrent: requests that are computed at the same time.
        waiting: requests that may wait for that; more are told at once that the server is busy.
        poll_seconds: how often it looks for versions that were pushed or rolled back.
        drain_seconds: when it is told to stop, requests begun get so long to end.
    """

    max_message_mb: int = 64
    max_batch: int = 64
    request_seconds: float = 60.0
    concurrent: int = 2
    waiting: int = 16
    poll_seconds: float = 1.0
    drain_seconds: float = 10.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 < value < math.inf:
                raise ValueError(f"{field.name} is {value}; it must be a positive, finite number")
        if self.max_message_mb > HIGHEST_MESSAGE_MB:
            raise ValueError(f"max_message_mb is {self.max_message_mb}; it must be at most {HIGHEST_MESSAGE_MB}")

    @property
    def image_bytes(self) -> int:
        """The most bytes that a request's pictures have together."""
        return self.max_message_mb * 2**20

    @property
    def message_bytes(self) -> int:
        """The most bytes of a request."""
        return self.image_bytes + _AROUND_IMAGES

    def to_json(self) -> str:
        """For TFX's properties and the command line."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> ServerLimits:
        """The inverse of `to_json`; what the text leaves out has its default."""
        return ServerLimits(**json.loads(text))


DEFAULT_LIMITS = ServerLimits()
