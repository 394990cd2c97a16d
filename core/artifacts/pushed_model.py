"""What Pusher leaves: whether it pushed the model, and the folder of the version, as model servers read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from core.artifacts.base import Artifact

PUSHED_MODEL = Artifact("Pusher", "pushed_model")

MODEL_CARD = "model_card.md"  # in the version's folder, where model servers do not look at it
_LAST_FILE = "saved_model.pb"


def pushed_to(properties: Mapping[str, object]) -> str | None:
    """The version's folder, by the artifact's properties; its name is the version. None if nothing was pushed."""
    return str(properties["pushed_destination"]) if properties.get("pushed") == 1 else None


def is_complete(version: Path) -> bool:
    """Whether a version's folder holds the file that Pusher writes last: else its push is running, or was cut off."""
    return (version / _LAST_FILE).is_file()


def withdraw(version: Path) -> None:
    """Deletes that file, so that the version no longer counts; what is left of it can be deleted at leisure."""
    (version / _LAST_FILE).unlink(missing_ok=True)
