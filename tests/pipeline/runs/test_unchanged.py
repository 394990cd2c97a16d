"""When the last run stands: only if all that decides a run is the same, and all that it left is there."""

import dataclasses
import importlib.metadata
import os
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from core import settings as pipeline_settings
from core.artifacts import provenance
from core.artifacts.last_run import LAST_RUN, Outcome, Status
from core.artifacts.provenance import Origin
from core.settings import Settings
from pipeline.runs import unchanged
from pipeline.runs.run_dir import METADATA, read_last
from pipeline.runs.unchanged import hash_inputs, is_unchanged, repeated
from tests.components.ingestion.listings import read_layout
from tests.pipeline.report.report_run import NAME, write_run
from tests.small_model import flip, write_model


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for label in ("cat", "owl"):
        (tmp_path / "images" / label).mkdir(parents=True)
        (tmp_path / "images" / label / "1.png").write_bytes(label.encode())
    return tmp_path / "images"


def test_whatever_decides_a_run_changes_the_hash(images: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.pbtxt"
    (tmp_path / "settings.yaml").write_text(f"name: x\ndata: {{images: {images}, schema: {schema}}}\n")

    def load(*overrides: str) -> Settings:
        return pipeline_settings.load(tmp_path / "settings.yaml", list(overrides))

    def now(settings: Settings | None = None, weights: str = "w") -> str:
        listing = read_layout(str(images))
        return hash_inputs(settings or load(), [listing], weights)

    first = now()
    assert now() == first
    seen = {first, now(weights="other"), now(load("training.steps=7"))}
    schema.write_text("feature {}")
    seen.add(now())
    os.utime(images / "cat" / "1.png", ns=(1, 1))
    seen.add(now())
    (images / "owl" / "2.png").touch()
    seen.add(now())
    assert len(seen) == 6


def test_code_and_libraries_count_as_they_were_when_the_run_began(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.yaml").write_text(f"name: x\ndata: {{images: {images}}}\n")
    settings, listing = pipeline_settings.load(tmp_path / "settings.yaml"), read_layout(str(images))
    monkeypatch.setattr(unchanged, "CHECKOUT", tmp_path)
    (tmp_path / "core").mkdir()

    def later_run() -> str:
        unchanged._hash_code.cache_clear()
        return hash_inputs(settings, [listing], "w")

    first = later_run()
    (tmp_path / "core" / "new.py").write_text("x = 1")
    assert hash_inputs(settings, [listing], "w") == first  # edited while it ran: nothing that it did is of that
    seen = {first, later_run()}
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **_: [])
    assert len(seen | {later_run()}) == 3
    unchanged._hash_code.cache_clear()


def run(folder: Path, status: Status = "pushed") -> Outcome:
    """The last run, with its record."""
    outcome = dataclasses.replace(write_run(folder, status), inputs="same", report=str(folder / "page.html"))
    (folder / "page.html").touch()
    if outcome.pushed_model:
        write_model(Path(outcome.pushed_model))
    LAST_RUN.write(folder, outcome)
    return outcome


@pytest.mark.parametrize("status", ["pushed", "refused"])
def test_a_run_that_judged_its_model_stands(tmp_path: Path, status: Status) -> None:
    outcome = run(tmp_path, status)
    last = read_last(tmp_path, pytest.fail)
    assert last == outcome and is_unchanged(last, "same", tmp_path, NAME)
    assert not is_unchanged(last, "other", tmp_path, NAME)

    again = repeated(outcome, 0.5, 90)
    assert (again.seconds, again.peak_rss_mb, again.status) == (0.5, 90, status)
    assert again.images and (again.images.computed, again.images.reused) == (0, 30)
    assert all(stage.cached and not stage.seconds for stage in again.stages)
    assert repeated(again, 0.5, 90) == again


@pytest.mark.parametrize(
    "what", ["artifact", "pushed version", "a byte of it", "all versions", "report", "metadata", "later run"]
)
def test_what_is_gone_or_came_later_ends_that(tmp_path: Path, what: str) -> None:
    outcome = run(tmp_path)
    if what == "artifact":
        shutil.rmtree(next((tmp_path / "artifacts" / "Trainer").rglob("*/")))
    elif what == "pushed version":
        (Path(str(outcome.pushed_model)) / "saved_model.pb").unlink()
    elif what == "a byte of it":
        flip(Path(str(outcome.pushed_model)))
    elif what == "all versions":
        outcome.pushed_model = None  # as a cached push whose version was rolled back since, and none was before
    elif what == "metadata":
        (tmp_path / METADATA).unlink()
    elif what == "report":
        (tmp_path / "page.html").unlink()
    else:
        write_run(tmp_path, "failed")
    assert not is_unchanged(outcome, "same", tmp_path, NAME)


def test_a_version_that_another_key_signed_is_pushed_anew(tmp_path: Path) -> None:
    outcome = run(tmp_path)
    version = str(outcome.pushed_model)
    key, other = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()

    def stands(signer: ed25519.Ed25519PrivateKey) -> bool:
        return is_unchanged(outcome, "same", tmp_path, NAME, signer=signer.public_key())

    assert not stands(key)
    provenance.write(version, version, Origin({"data": {}}, "code"), key)
    assert stands(key) and not stands(other)
    assert is_unchanged(outcome, "same", tmp_path, NAME)


def test_without_a_record_that_can_be_read_there_is_no_last_run(tmp_path: Path) -> None:
    assert read_last(tmp_path, pytest.fail) is None and not is_unchanged(None, "same", tmp_path, NAME)
    (tmp_path / "last_run.json").write_text("{")
    said: list[str] = []
    assert read_last(tmp_path, said.append) is None and len(said) == 1
