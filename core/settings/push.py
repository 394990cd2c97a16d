"""The settings `push` and `card`: where blessed models go, and what their model card says."""

import dataclasses
from typing import Literal

from core.settings.checks import AtLeast1, FilePath


@dataclasses.dataclass(frozen=True)
class PushSettings:
    """Where blessed models go, and how many versions stay there.

    Attributes:
        directory: where a folder per version is written, `gs://` and `s3://` too; a relative path lies in
            `<ROOT>/<name>/`.
        keep: versions that stay; the oldest beyond that are deleted.
        signing_key: a file with a private key in PEM, Ed25519 or ECDSA on P-256, without a password, where Pusher runs:
            it signs every version (docs/provenance.md).
        approval: `required` keeps a blessed model aside, where no server looks, until `make approve` or `make reject`.
    """

    directory: str = "serving/"
    keep: AtLeast1 = 5
    signing_key: FilePath | None = None
    approval: Literal["none", "required"] = "none"


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
