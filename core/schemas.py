"""Files generated from our classes: docs/settings.md, and JSON Schemas for files that people and programs read.

`python -m core.schemas` regenerates them; a test checks that they are current.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from core import atomic_io
from core.artifacts.base import JsonFile
from core.artifacts.last_run import LAST_RUN
from core.artifacts.monitoring import MONITORED
from core.artifacts.verdict import VERDICT
from core.settings import reference, schema


def generated() -> Mapping[str, str]:
    """All generated files: path in the project -> content."""
    files: tuple[JsonFile, ...] = (LAST_RUN, VERDICT, MONITORED)
    schemas = {"settings": schema.schema(), **{Path(file.name).stem: file.schema() for file in files}}
    texts = {f"schemas/{name}.schema.json": json.dumps(one, indent=1) + "\n" for name, one in schemas.items()}
    return {"docs/settings.md": reference.reference(), **texts}


if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    for path, text in generated().items():
        atomic_io.write_text(root / path, text)
