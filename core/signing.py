"""Signed documents: DSSE envelopes (https://github.com/secure-systems-lab/dsse), with a key in a PEM file.

Keys are Ed25519 or ECDSA on P-256, as `openssl genpkey` and cosign generate them. Needs no network.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
    PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey

_NEW, _NEW_PUBLIC = "new_key.pem", "new_public_key.pem"
"""File names in advice to users, chosen so that following it overwrites no existing key."""
_SIGNING = "signing_key.pem"  # as docs/provenance.md calls the signer's


class SignatureError(OSError):
    """A document is not signed, or not by this key."""


def private_key(path: str | Path) -> PrivateKey:
    """Reads a key to sign with. Raises InputError if the file holds no usable key."""
    from cryptography.hazmat.primitives import serialization

    data = _read(path, f"make one with {_make(path)}")
    try:
        key = serialization.load_pem_private_key(data, None)
    except TypeError:
        raise InputError(
            f"the key in {path} needs a password, which nobody could type; store it without: "
            f"openssl pkey -in {shlex.quote(str(path))} -out {_NEW}"
        ) from None
    except Exception as error:  # the library raises many types
        raise InputError(
            f"{path} holds no private key in PEM ({_first(error)}); make one with {_make(_NEW)}"
        ) from error
    return _known(key, key.public_key(), path)


def public_key(path: str | Path) -> PublicKey:
    """Reads a key to verify with. Raises InputError if the file holds no usable key."""
    from cryptography.hazmat.primitives import serialization

    data = _read(path, f"write that of a private key with {_write_public(_SIGNING, path)}")
    if b"PRIVATE KEY" in data:
        raise InputError(
            f"{path} is a private key, which belongs to the signer alone; write the public one: "
            f"{_write_public(path, _NEW_PUBLIC)}"
        )
    try:
        key = serialization.load_pem_public_key(data)
    except Exception as error:
        raise InputError(
            f"{path} holds no public key in PEM ({_first(error)}); write one with "
            f"{_write_public(_SIGNING, _NEW_PUBLIC)}"
        ) from error
    return _known(key, key, path)


def key_id(key: PublicKey) -> str:
    """The SHA-256 of a public key in DER."""
    from cryptography.hazmat.primitives import serialization

    formats = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(*formats)).hexdigest()


def sign(content: bytes, kind: str, key: PrivateKey) -> str:
    """An envelope around a document of media type `kind`, as a line of JSON."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    message = _encoded(content, kind)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    else:
        signature = key.sign(message)
    envelope = {
        "payloadType": kind,
        "payload": base64.b64encode(content).decode(),
        "signatures": [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(envelope) + "\n"


def verified(envelope: str, kind: str, key: PublicKey) -> bytes:
    """The document in an envelope. Raises SignatureError unless this key signed it."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        read = json.loads(envelope)
        content = base64.b64decode(read["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in read["signatures"]]
        stated = str(read["payloadType"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise SignatureError(f"it is no envelope of a signed document: {error}") from error
    if stated != kind:
        raise SignatureError(f"a document of another kind is signed: {stated[:100]}")
    message = _encoded(content, kind)
    for signature in signatures:
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            else:
                key.verify(signature, message)
        except InvalidSignature:
            continue
        return content
    raise SignatureError("its signature is not of this key, or what was signed has changed")


def _encoded(content: bytes, kind: str) -> bytes:
    """DSSE's pre-authentication encoding, which is what gets signed."""
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(content), content)


def _known(key: Any, public: Any, path: str | Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    on_p256 = isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1)
    if not on_p256 and not isinstance(public, ed25519.Ed25519PublicKey):
        raise InputError(f"the key in {path} is neither Ed25519 nor ECDSA on P-256; make one with {_make(_NEW)}")
    return key


def _make(path: str | Path) -> str:
    return f"openssl genpkey -algorithm ed25519 -out {shlex.quote(str(path))}"


def _write_public(key: str | Path, path: str | Path) -> str:
    return f"openssl pkey -in {shlex.quote(str(key))} -pubout -out {shlex.quote(str(path))}"


def _first(error: Exception) -> str:
    """The first sentence."""
    return str(error).split(". ")[0]


def _read(path: str | Path, otherwise: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        advice = f"; {otherwise}" if isinstance(error, FileNotFoundError) else ""
        raise InputError(f"cannot read the key {path}: {error.strerror}{advice}") from error
