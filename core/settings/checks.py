"""What the sections of the settings share: bounded types, which the JSON Schema includes, and `require`."""

from typing import Annotated

from msgspec import Meta

AtLeast0 = Annotated[int, Meta(ge=0)]
AtLeast1 = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
FilePath = Annotated[str, Meta(extra_json_schema={"format": "path"})]
"""A file or folder. A relative path is resolved against the settings file's folder, or the current directory if given
on the command line; `~` is the user's home. The schema's `examples`, URLs and `tfds:…` are not paths."""
FractionBelow1 = Annotated[float, Meta(ge=0, lt=1)]


def require(condition: bool, message: str) -> None:
    """Raises ValueError with the message, which is for the user, unless the condition holds."""
    if not condition:
        raise ValueError(message)
