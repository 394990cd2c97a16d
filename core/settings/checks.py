"""What the sections of the settings share: types with bounds, which the JSON Schema states, and `require`."""

from typing import Annotated

from msgspec import Meta

AtLeast0 = Annotated[int, Meta(ge=0)]
AtLeast1 = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
FractionBelow1 = Annotated[float, Meta(ge=0, lt=1)]


def require(condition: bool, message: str) -> None:
    """Raises ValueError with the message, which is for the user, where the condition does not hold."""
    if not condition:
        raise ValueError(message)
