"""A version's provenance: what its signature covers, and what may be added beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from core import checksums
from core.artifacts import provenance
from core.artifacts.provenance import PROVENANCE, SIGNED, Origin
from core.artifacts.pushed_model import CARD_WORDS
from core.settings.push import CardSettings
from core.signing import SignatureError, private_key, public_key
from tests.components.ram_files import ram  # noqa: F401 - a fixture
from tests.core.test_signing import write_keys
from tests.small_model import flip, write_model

ORIGIN = Origin({"data": {"images": "photos"}}, "c0de", "abc", "12" * 32, "34" * 32, ("weights.h5", "56" * 32), "run")


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, Any]:
    private, public = write_keys(tmp_path)
    version = write_model(tmp_path / "1")
    CARD_WORDS.write(version, CardSettings())
    provenance.write(str(version), str(version), ORIGIN, private_key(private))
    provenance.verify(str(version), public_key(public))
    return version, public_key(public)


def test_what_people_and_reports_add_later_changes_nothing(signed: tuple[Path, Any]) -> None:
    version, key = signed
    (version / "model_card.md").write_text("# Card")
    provenance.verify(str(version), key)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("saved_model.pb", "saved_model.pb is not what was signed"),
        ("assets/classes.txt", "assets/classes.txt is not what was signed"),
        ("card.json", "card.json is not what was signed"),
        (checksums.CHECKSUMS, "assets.extra/SHA256SUMS is not what was signed"),
        (PROVENANCE, "provenance.json is not what was signed"),
        (SIGNED, r"provenance.intoto.jsonl: it is no envelope"),
    ],
)
def test_a_changed_file_is_refused_though_its_checksum_was_made_anew(
    signed: tuple[Path, Any], name: str, why: str
) -> None:
    version, key = signed
    if name == SIGNED:
        (version / name).write_text("{")
    else:
        flip(version, name)
    if name not in (checksums.CHECKSUMS, SIGNED, PROVENANCE, "card.json"):
        checksums.write_checksums(str(version))
        why += "|SHA256SUMS is not what was signed"
    with pytest.raises(SignatureError, match=why):
        provenance.verify(str(version), key)


@pytest.mark.parametrize("name", ["variables/more", "assets/more", "assets.extra/more", "int8.tflite"])
def test_a_file_that_a_program_would_load_cannot_be_added(signed: tuple[Path, Any], name: str) -> None:
    version, key = signed
    (version / name).write_text("more")
    with pytest.raises(SignatureError, match=f"{name} was not there when the version was signed"):
        provenance.verify(str(version), key)


def test_a_file_that_is_gone_is_refused_and_so_is_a_version_without_a_signature(
    signed: tuple[Path, Any],
) -> None:
    version, key = signed
    (version / "assets" / "classes.txt").unlink()
    assert provenance.problem(str(version), key) == "assets/classes.txt, which was signed, is gone"
    (version / SIGNED).unlink()
    assert "this version is not signed; sign the next one with push.signing_key" in provenance.problem(
        str(version), key
    )


def test_remote_versions_are_signed_and_verified_too(ram: str, tmp_path: Path) -> None:  # noqa: F811
    private, public = write_keys(tmp_path)
    model, version = write_model(tmp_path / "model"), f"{ram}/1"
    tf.io.gfile.makedirs(version)
    CARD_WORDS.write(version, CardSettings())
    provenance.write(version, str(model), ORIGIN, private_key(private))
    for name in [*checksums.digests(str(model)), checksums.CHECKSUMS]:
        tf.io.gfile.makedirs(f"{version}/{name}".rpartition("/")[0])
        tf.io.gfile.copy(f"{model}/{name}", f"{version}/{name}")
    provenance.verify(version, public_key(public))


def test_the_statement_has_the_form_of_in_toto_and_slsa(signed: tuple[Path, Any]) -> None:
    statement = json.loads((signed[0] / PROVENANCE).read_text())
    assert (statement["_type"], statement["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    predicate = statement["predicate"]
    assert set(predicate) == {"buildDefinition", "runDetails"}
    names = [one["name"] for one in predicate["buildDefinition"]["resolvedDependencies"]]
    assert names == ["code", "uv.lock", "images", "weights"]
    assert predicate["runDetails"]["metadata"]["invocationId"] == "run"
    assert predicate["runDetails"]["builder"]["version"]["tensorflow"] == tf.__version__
