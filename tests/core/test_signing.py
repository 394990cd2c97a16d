"""Signed documents: by the keys that openssl makes, verified by openssl too, and refused where anything differs."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from core import signing
from core.errors import InputError
from core.signing import SignatureError, private_key, public_key

KIND = "application/vnd.in-toto+json"
ALGORITHMS = {"ed25519": ["ed25519"], "p256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]}


def write_keys(folder: Path, algorithm: str = "ed25519") -> tuple[Path, Path]:
    """A private and a public key in PEM."""
    private, public = folder / f"{algorithm}.pem", folder / f"{algorithm}.pub.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", *ALGORITHMS[algorithm], "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return private, public


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_signed_is_verified_by_its_key_alone_and_by_openssl(tmp_path: Path, algorithm: str) -> None:
    private, public = write_keys(tmp_path, algorithm)
    content = '{"é": 1}'.encode()

    envelope = signing.sign(content, KIND, private_key(private))

    assert signing.verified(envelope, KIND, public_key(public)) == content
    read = json.loads(envelope)
    (tmp_path / "message").write_bytes(b"DSSEv1 28 " + KIND.encode() + b" %d " % len(content) + content)
    (tmp_path / "sig").write_bytes(base64.b64decode(read["signatures"][0]["sig"]))
    raw = ["-rawin", *(["-digest", "sha256"] if algorithm == "p256" else [])]
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, *raw, "-in", "message", "-sigfile", "sig"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "other").mkdir()
    for other in ALGORITHMS:
        with pytest.raises(SignatureError, match="not of this key"):
            signing.verified(envelope, KIND, public_key(write_keys(tmp_path / "other", other)[1]))


@pytest.mark.parametrize("part", ["payload", "sig", "payloadType", "signatures", "text"])
def test_what_was_changed_after_signing_is_refused(tmp_path: Path, part: str) -> None:
    private, public = write_keys(tmp_path)
    envelope = json.loads(signing.sign(b"content", KIND, private_key(private)))
    changed = {
        "payload": envelope | {"payload": base64.b64encode(b"another").decode()},
        "sig": envelope | {"signatures": [{"sig": base64.b64encode(b"0" * 64).decode()}]},
        "payloadType": envelope | {"payloadType": "text/plain"},
        "signatures": envelope | {"signatures": []},
        "text": "no envelope",
    }[part]
    with pytest.raises(SignatureError):
        signing.verified(json.dumps(changed), KIND, public_key(public))


def test_a_key_that_cannot_be_used_is_refused_with_what_to_do(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:x", "-out", tmp_path / "locked.pem"],
        check=True,
    )
    rsa = ["openssl", "genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", "-out", tmp_path / "rsa.pem"]
    subprocess.run(rsa, check=True, capture_output=True)
    for path, why in (
        (tmp_path / "absent.pem", "No such file or directory; make one with openssl genpkey"),
        (public, "holds no private key in PEM"),
        (tmp_path / "locked.pem", "needs a password"),
        (tmp_path / "rsa.pem", "is neither Ed25519 nor ECDSA on P-256"),
    ):
        with pytest.raises(InputError, match=why):
            private_key(path)
    with pytest.raises(InputError, match="is a private key, which belongs to the signer alone"):
        public_key(private)
    with pytest.raises(InputError, match=r"Is a directory$"):
        private_key(tmp_path)
    with pytest.raises(InputError, match="holds no public key in PEM"):
        public_key(__file__)


def test_the_advice_about_a_key_can_be_followed_and_overwrites_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def follow(read: Callable[[str], object], path: str) -> str:
        """Runs the command that the message gives; returns the file that it writes."""
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        with pytest.raises(InputError) as refused:
            read(path)
        command = shlex.split(str(refused.value).rpartition("openssl ")[2])
        subprocess.run(["openssl", *command], check=True)
        assert before == {name: (tmp_path / name).read_bytes() for name in before}
        return command[-1]

    private_key(follow(private_key, "my key.pem"))
    public_key(follow(public_key, "my key.pem"))
    Path("signing_key.pem").write_bytes(Path("my key.pem").read_bytes())
    public_key(follow(public_key, "public_key.pem"))
    (tmp_path / "new_public_key.pem").unlink()
    Path("public_key.pem").write_text("none")
    public_key(follow(public_key, "public_key.pem"))
    subprocess.run(["openssl", "genpkey", "-algorithm", "rsa", "-out", "key.pem"], check=True, capture_output=True)
    private_key(follow(private_key, "key.pem"))
