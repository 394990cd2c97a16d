"""How resolvers recognize an execution: a run repeated unchanged must get the same inputs as the first time.

TFX's own strategies resolve the latest artifact, which after a run is the one that run itself produced: the stage that
reads it then has new inputs and is never cached.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

EXECUTION = "execution"  # custom property of the artifacts that an execution produced: its `execution_key`


def execution_key(parameters: Sequence[str], inputs: Sequence[Any]) -> str:
    """Identifies an execution by its parameters, including the hash of its code, and its input artifacts."""
    return hashlib.sha256(json.dumps([*parameters, *(artifact.id for artifact in inputs)]).encode()).hexdigest()


def made_by(key: str, artifacts: Sequence[Any]) -> list[Any]:
    """The artifacts that this execution produced."""
    return [artifact for artifact in artifacts if artifact.get_string_custom_property(EXECUTION) == key]
