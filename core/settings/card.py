"""The settings `card`: people's part of the model card."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class CardSettings:
    """What only people can say of the model; it goes onto the model card of every version pushed from then on.

    Attributes:
        intended_use: what the model is for, in a paragraph; a plain statement of what it does where not given.
        limits: where it must not be relied on, a sentence each; measured ones are added.
        owner: who answers for it, and how to reach them.
        license: of the model.
    """

    intended_use: str | None = None
    limits: tuple[str, ...] = ()
    owner: str | None = None
    license: str | None = None
