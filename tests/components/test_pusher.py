"""Pusher: TFX's component with its blessings, and a push that verifies."""

import dataclasses
import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from tfx.components.pusher import component
from tfx.types import Artifact
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model, ModelBlessing, PushedModel
from tfx.utils import io_utils

from components.evaluation.reference import reference
from components.pusher import Executor, Pusher
from components.serving.push import reject
from core import checksums
from core.artifacts import provenance
from core.artifacts.monitoring import REFERENCE, MonitoringConfig
from core.artifacts.provenance import PROVENANCE, SIGNED
from core.artifacts.pushed_model import DECIDED, REJECTED_TO, WAITS, Decision
from core.errors import MachineError
from core.settings.monitoring import MonitoringSettings
from core.signing import public_key
from pipeline.deployment import push_to
from tests.core.test_signing import write_keys
from tests.small_model import flip, write_model, write_versions


def made(kind: type[Artifact], uri: Path, **properties: int) -> list[Artifact]:
    artifact = kind()
    artifact.uri = str(uri)
    for name, value in properties.items():
        artifact.set_int_custom_property(name, value)
    return [artifact]


def run(
    folder: Path, blessed: int = 1, infra: str = "INFRA_BLESSED", approval: bool = False, key: Path | None = None
) -> Artifact:
    (blessing,) = made(InfraBlessing, folder / "infra")
    blessing.set_int_custom_property("blessed", int(infra == "INFRA_BLESSED"))
    examples, backbone = made(Examples, folder / "examples"), made(Model, folder / "backbone")
    examples[0].set_string_custom_property("content_sha256", "ab" * 32)
    backbone[0].set_string_custom_property("source", "weights.h5")
    backbone[0].set_string_custom_property("sha256", "cd" * 32)
    inputs = {
        "examples": examples,
        "backbone": backbone,
        "model": made(Model, folder / "model"),
        "model_blessing": made(ModelBlessing, folder / "blessing", blessed=blessed),
        "infra_blessing": [blessing],
    }
    output = made(PushedModel, folder / "pushed_model")
    properties = {
        "push_destination": json_format.MessageToJson(push_to(str(folder / "serving"))),
        "custom_config": json.dumps(
            {
                "card": {"owner": "us"},
                "approval": approval,
                "signing_key": str(key) if key else None,
                "origin": {"settings": {"data": {"images": "photos"}}, "code": "c0de", "commit": "abc-dirty"},
            }
        ),
    }
    Executor().Do(inputs, {"pushed_model": output}, properties)
    return output[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "model" / "Format-Serving")
    (tmp_path / "blessing").mkdir()
    return tmp_path


def test_it_is_tfxs_component_with_another_executor_and_what_the_model_was_made_of() -> None:
    assert Pusher.EXECUTOR_SPEC.executor_class is Executor
    tfxs, ours = component.Pusher.SPEC_CLASS, Pusher.SPEC_CLASS
    assert (ours.PARAMETERS, ours.OUTPUTS) == (tfxs.PARAMETERS, tfxs.OUTPUTS)
    assert set(ours.INPUTS) == {*tfxs.INPUTS, "examples", "backbone"}


def test_a_version_says_what_it_was_made_of(folder: Path) -> None:
    version = Path(run(folder).get_string_custom_property("pushed_destination"))

    statement = json.loads((version / PROVENANCE).read_text())

    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    made = statement["predicate"]["buildDefinition"]
    assert made["externalParameters"]["settings"] == {"data": {"images": "photos"}}
    assert made["internalParameters"]["commit"] == "abc-dirty"
    assert made["resolvedDependencies"] == [
        {"name": "code", "digest": {"codeHash": "c0de"}},
        {"name": "images", "uri": "photos", "digest": {"sha256": "ab" * 32}},
        {"name": "weights", "uri": "weights.h5", "digest": {"sha256": "cd" * 32}},
    ]
    subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    assert subjects == {name: checksums.sha256(version / name) for name in subjects}
    assert {"saved_model.pb", "assets/classes.txt", checksums.CHECKSUMS, "card.json"} <= set(subjects)
    assert not (version / SIGNED).exists()


def test_with_a_key_a_version_is_signed_and_one_that_is_not_is_pushed_anew(folder: Path) -> None:
    private, public = write_keys(folder)
    unsigned = run(folder).get_string_custom_property("pushed_destination")
    signed = run(folder, key=private).get_string_custom_property("pushed_destination")

    assert signed != unsigned and provenance.problem(unsigned, public_key(public))
    provenance.verify(signed, public_key(public))
    assert run(folder, key=private).get_string_custom_property("pushed_destination") == signed
    assert run(folder).get_string_custom_property("pushed_destination") == signed


def test_a_blessed_model_is_pushed_and_a_copy_kept(folder: Path) -> None:
    left = run(folder)
    version = left.get_string_custom_property("pushed_destination")
    assert left.get_int_custom_property("pushed") == 1
    assert Path(version) == folder / "serving" / left.get_string_custom_property("pushed_version")
    assert checksums.verify(version) and checksums.verify(left.uri)
    assert run(folder).get_string_custom_property("pushed_destination") == version


def test_where_people_approve_a_blessed_model_waits_and_a_rejected_one_is_not_asked_about_again(folder: Path) -> None:
    left = run(folder, approval=True)
    waiting = left.get_string_custom_property(WAITS)
    assert left.get_int_custom_property("pushed") == 0 and checksums.verify(waiting)
    assert run(folder, approval=True).get_string_custom_property(WAITS) == waiting

    decision = Decision("rejected", "jo", "2026-01-02T03:04:05+00:00", "too big")
    kept = reject(str(folder / "serving"), Path(waiting).name, decision)
    left = run(folder, approval=True)
    assert left.get_int_custom_property("pushed") == 0 and not left.get_string_custom_property(WAITS)
    assert json.loads(left.get_string_custom_property(DECIDED)) == dataclasses.asdict(decision)
    assert left.get_string_custom_property(REJECTED_TO) == kept


def test_what_monitoring_compares_with_is_pushed_too_and_other_bounds_push_another_version(folder: Path) -> None:
    config = MonitoringConfig({}, (), MonitoringSettings())
    REFERENCE.write(folder / "blessing", reference([], ["cat"], config))
    first = run(folder).get_string_custom_property("pushed_destination")
    assert REFERENCE.read(first).bounds == config.bounds and checksums.verify(first)
    assert run(folder).get_string_custom_property("pushed_destination") == first
    other = dataclasses.replace(config, bounds=MonitoringSettings(novel=0.1))
    REFERENCE.write(folder / "blessing", reference([], ["cat"], other))
    assert run(folder).get_string_custom_property("pushed_destination") > first


@pytest.mark.parametrize("without", ["blessing", "infra blessing"])
def test_a_model_that_is_not_blessed_is_not_pushed(folder: Path, without: str) -> None:
    left = run(folder, 0) if without == "blessing" else run(folder, infra="INFRA_NOT_BLESSED")
    assert left.get_int_custom_property("pushed") == 0 and not (folder / "serving").exists()


def test_a_byte_flipped_in_the_trainers_model_is_not_pushed(folder: Path) -> None:
    write_versions(folder / "serving", 1)
    flip(folder / "model" / "Format-Serving")
    with pytest.raises(MachineError, match=r"variables/variables.index is damaged"):
        run(folder)
    assert [path.name for path in (folder / "serving").iterdir()] == ["1"]


def test_where_no_copy_can_be_kept_nothing_is_pushed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push that is live is never called failed: what may fail comes before."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(io_utils, "copy_dir", full)
    with pytest.raises(OSError, match="No space left"):
        run(folder)
    assert not (folder / "serving").exists()
