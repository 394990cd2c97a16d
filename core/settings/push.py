"""The settings `push`: where blessed models go."""

from __future__ import annotations

import dataclasses

from core.settings.checks import AtLeast1


@dataclasses.dataclass(frozen=True)
class PushSettings:
    """Where blessed models go, and how many versions stay there.

    Attributes:
        directory: where a folder per version is written; a relative path lies in `<ROOT>/<name>/`.
        keep: versions that stay; the oldest beyond that are deleted.
    """

    directory: str = "serving/"
    keep: AtLeast1 = 5
