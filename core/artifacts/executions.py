"""Executions, known again by resolvers: a run that is repeated unchanged must be given what it was given before.

TFX's own strategies resolve the latest there is, which after a run is what that run has made itself: the stage that
reads it has new inputs then, and is never cached.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

EXECUTION = "execution"  # custom property of what an execution made: its `execution_key`


def execution_key(parameters: Sequence[str], inputs: Sequence[Any]) -> str:
    """Stands for an execution: its parameters, the hash of its code among them, and the artifacts that it reads."""
    return hashlib.sha256(json.dumps([*parameters, *(artifact.id for artifact in inputs)]).encode()).hexdigest()


def made_by(key: str, artifacts: Sequence[Any]) -> list[Any]:
    """Of the artifacts those that this execution made."""
    return [artifact for artifact in artifacts if artifact.get_string_custom_property(EXECUTION) == key]
