"""The settings `serving.server`: what a model server may be asked for."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

from msgspec import Meta

from core.settings.checks import AtLeast1, Positive

HIGHEST_MESSAGE_MB = 1024
"""A message of protobuf ends at 2 GB."""

_AROUND_IMAGES = 2**16  # bytes of a request for names, shapes and lengths


@dataclasses.dataclass(frozen=True)
class ServerLimits:
    """Bounds of one server; what is over them is refused, and the server goes on.

    Attributes:
        max_message_mb: of a request's images, in MB of 2^20 bytes, from `data.max_file_mb` to 1024. (gRPC's own
            default is 4, TensorFlow Serving has none.)
        max_batch: images in a request; each is held as pixels, and in the network as some ten times that.
        request_seconds: a request that has waited and computed so long is given up.
        concurrent: requests that are computed at the same time.
        waiting: requests that may wait for that; more are refused at once as busy.
        poll_seconds: how often it looks for versions that were pushed or rolled back.
        drain_seconds: once told to stop, it gives running requests so long to end.
    """

    max_message_mb: Annotated[int, Meta(ge=1, le=HIGHEST_MESSAGE_MB)] = 64
    max_batch: AtLeast1 = 64
    request_seconds: Positive = 60.0
    concurrent: AtLeast1 = 2
    waiting: AtLeast1 = 16
    poll_seconds: Positive = 1.0
    drain_seconds: Positive = 10.0

    @property
    def image_bytes(self) -> int:
        """The most bytes that a request's images have together."""
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
