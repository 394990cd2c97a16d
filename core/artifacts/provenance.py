"""Where a pushed version comes from: an in-toto statement with SLSA provenance, signed if there is a key.

It names every file of the version with its SHA-256, and what the version was made from: settings, code, packages,
images and weights (https://in-toto.io/Statement/v1, https://slsa.dev/spec/v1.0/provenance). `provenance.json` is for
reading; `provenance.intoto.jsonl` is the same, signed.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import platform
from typing import TYPE_CHECKING, Any

from core import atomic_io, checksums, signing
from core.artifacts.tflite_files import SUFFIX
from core.signing import SignatureError

if TYPE_CHECKING:
    from core.signing import PrivateKey, PublicKey

PROVENANCE, SIGNED = "provenance.json", "provenance.intoto.jsonl"

_KIND = "application/vnd.in-toto+json"
_ID = "urn:tfx-image-classifier"
_LOADED = (*checksums.MODEL_PARTS, "assets.extra/")
_PACKAGES = ("tfx", "tensorflow", "tensorflow-estimator", "apache-beam")


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a model was made from.

    Attributes:
        settings: as plain values, every default written out.
        code: a hash of this project's code.
        commit: of the checkout, with `-dirty` if files were changed; None without a checkout.
        lock: SHA-256 of uv.lock; None without a checkout.
        images: SHA-256 of the images' paths, contents and classes.
        weights: source of the base's weights, and their SHA-256.
        run: id of the pipeline run.
    """

    settings: dict[str, Any]
    code: str
    commit: str | None = None
    lock: str | None = None
    images: str | None = None
    weights: tuple[str, str] | None = None
    run: str | None = None


def write(version: str, model: str, origin: Origin, key: PrivateKey | None = None) -> None:
    """Writes the provenance of a model into the folder of its version.

    Args:
        version: the version's folder, local or remote, which already holds what is to be signed beside the model, such
            as the text of the model card.
        model: the SavedModel's folder, with checksums.
        key: to sign with; None writes no envelope.
    """
    files = {name: checksums.sha256(f"{version}/{name}") for name in checksums.files(version)}
    files[checksums.CHECKSUMS] = checksums.sha256(f"{model}/{checksums.CHECKSUMS}")
    files |= checksums.digests(model)
    content = json.dumps(_statement(files, origin), indent=1, ensure_ascii=False).encode()
    atomic_io.write_text(f"{version}/{PROVENANCE}", content.decode())
    if key:
        atomic_io.write_text(f"{version}/{SIGNED}", signing.sign(content, _KIND, key))


def verify(version: str, key: PublicKey) -> None:
    """Checks every byte of a version, local or remote, against the signature of this key.

    Files that no program loads, such as a model card, may have been added since.

    Raises:
        SignatureError: the version is not signed, or not by this key; or a file was changed, removed or added since.
        OSError: a file cannot be read; StoreError for a remote one.
    """
    try:
        content = signing.verified(_read(version, SIGNED), _KIND, key)
    except SignatureError as error:
        raise SignatureError(f"{SIGNED}: {error}") from error
    signed = {one["name"]: one["digest"]["sha256"] for one in json.loads(content)["subject"]}
    if _read(version, PROVENANCE).encode() != content:
        raise SignatureError(f"{PROVENANCE} is not what was signed")
    present = checksums.files(version)
    for name in present:
        if name not in signed and (name.startswith(_LOADED) or name.endswith(SUFFIX)):
            raise SignatureError(f"{name} was not there when the version was signed")
    for name, digest in signed.items():
        if name not in present:
            raise SignatureError(f"{name}, which was signed, is gone")
        if checksums.sha256(f"{version}/{name}") != digest:
            raise SignatureError(f"{name} is not what was signed")


def problem(version: str, key: PublicKey | None) -> str:
    """Why a version is not intact, by its signature or, without a key, by its checksums; "" if it is intact.

    Raises StoreError if a remote one cannot be read.
    """
    if key is None:
        return checksums.problem(version)
    try:
        verify(version, key)
    except OSError as error:
        return str(error)
    return ""


def _read(version: str, name: str) -> str:
    """Raises SignatureError if there is no such file."""
    if name not in checksums.files(version):
        raise SignatureError("it is not there: this version is not signed; sign the next one with push.signing_key")
    return atomic_io.read_text(f"{version}/{name}")


def _statement(files: dict[str, str], origin: Origin) -> dict[str, Any]:
    """`files`: their SHA-256, by name."""
    dependencies = [{"name": "code", "digest": {"codeHash": origin.code}}]
    if origin.lock:
        dependencies.append({"name": "uv.lock", "digest": {"sha256": origin.lock}})
    if origin.images:
        place = origin.settings["data"].get("images")
        uri = {"uri": place} if place else {}
        dependencies.append({"name": "images", **uri, "digest": {"sha256": origin.images}})
    if origin.weights:
        source, sha256 = origin.weights
        dependencies.append({"name": "weights", "uri": source, "digest": {"sha256": sha256}})
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(files.items())],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": f"{_ID}:pipeline:1",
                "externalParameters": {"settings": origin.settings},
                "internalParameters": {"commit": origin.commit, "platform": platform.platform()},
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": f"{_ID}:pipeline", "version": {"python": platform.python_version(), **versions}},
                "metadata": {"invocationId": origin.run, "finishedOn": now},
            },
        },
    }
