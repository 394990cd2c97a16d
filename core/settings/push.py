"""The settings `push` and `card`: where blessed models go, and what their model card says."""

import dataclasses
from typing import Literal

from core.settings.checks import AtLeast1, FilePath


@dataclasses.dataclass(frozen=True)
class PushSettings:
    """Where blessed models go, and how many versions are kept.

    Attributes:
        directory: where a folder per version is written, local, `gs://` or `s3://`; a relative path is in
            `<ROOT>/<name>/`.
        keep: how many versions to keep; older ones are deleted.
        signing_key: a private key file in PEM without a password, Ed25519 or ECDSA on P-256, on the machine where
            Pusher
            runs: it signs every version (docs/provenance.md).
        approval: `required` holds a blessed model back, where no server looks, until `make approve` or `make reject`.
    """

    directory: str = "serving/"
    keep: AtLeast1 = 5
    signing_key: FilePath | None = None
    approval: Literal["none", "required"] = "none"


@dataclasses.dataclass(frozen=True)
class CardSettings:
    """What only people can say about the model; it goes on the model card of every version pushed from then on.

    Attributes:
        intended_use: what the model is for, in a paragraph; by default a plain statement of what it does.
        limits: where it must not be relied on, one sentence each; measured limits are added.
        owner: who is responsible for it, and how to reach them.
        license: of the model.
    """

    intended_use: str | None = None
    limits: tuple[str, ...] = ()
    owner: str | None = None
    license: str | None = None
