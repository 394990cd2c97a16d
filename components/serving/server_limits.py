"""What a model server may be asked for; reading this loads nothing, so that settings can hold it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class ServerLimits:
    """Bounds of one server; what is over them is refused, and the server goes on.

    Attributes:
        max_message_mb: of a request, in MB. (gRPC's own default is 4, TensorFlow Serving has none.)
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
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}; it must be positive")
