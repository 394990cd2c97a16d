"""A push: whole or not at all, above every number there was, and not again what serves or was rolled back."""

import multiprocessing
import shutil
import time
from pathlib import Path

import pytest
import tensorflow as tf

from components.serving.push import approve, push, reject
from core import checksums, storage
from core.artifacts.provenance import Origin
from core.artifacts.pushed_model import CARD_WORDS, DECISION, REJECTED, ROLLED_BACK, WAITING, Decision, beside, numbered
from core.errors import InputError, MachineError
from core.settings.push import CardSettings
from tests.components import ram_files
from tests.components.ram_files import ram  # noqa: F401 - a fixture
from tests.small_model import cut, flip, write_model, write_versions

WORDS = CardSettings(owner="us")
ORIGIN = Origin({"data": {"images": "photos"}}, "c0de")


def visible(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != ".lock")


def test_a_version_holds_the_model_its_checksums_and_what_was_said_of_it(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / "notes").write_text("not of the export")
    before = int(time.time())

    path, note, _ = push(str(model), str(tmp_path / "serving"), WORDS, ORIGIN)

    assert not note and before <= int(Path(path).name) <= time.time()
    assert checksums.verify(path) and checksums.listed(path) == checksums.listed(str(model))
    assert visible(tmp_path / "serving") == [Path(path).name]
    files = ["assets", "assets.extra", "card.json", "provenance.json", "saved_model.pb", "variables"]
    assert visible(Path(path)) == files


@pytest.mark.parametrize("how", [flip, cut])
def test_a_damaged_model_is_not_pushed(how, tmp_path: Path) -> None:
    model = how(write_model(tmp_path / "model"))
    with pytest.raises(MachineError, match=r"model is damaged: variables.*; it is not pushed; run again"):
        push(str(model), str(tmp_path / "serving"), WORDS, ORIGIN)
    assert not (tmp_path / "serving").exists()


def test_a_copy_that_is_damaged_is_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copyfile

    def copy_with_a_fault(source: str, target: str) -> None:
        copy(source, target)
        if target.endswith("classes.txt"):
            Path(target).write_text("another")

    monkeypatch.setattr(shutil, "copyfile", copy_with_a_fault)
    (old,) = write_versions(tmp_path / "serving", 1)
    with pytest.raises(MachineError, match=r"classes.txt is damaged.*what served before serves on"):
        push(str(write_model(tmp_path / "model")), str(tmp_path / "serving"), WORDS, ORIGIN)
    assert visible(tmp_path / "serving") == [old.name]


def test_a_full_disk_pushes_nothing_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        Path(target).write_text("ha")
        raise OSError(28, "No space left on device", target)

    monkeypatch.setattr(shutil, "copyfile", full)
    write_versions(tmp_path / "serving", 1)
    with pytest.raises(OSError, match=r"No space left on device: .*/serving/"):
        push(str(write_model(tmp_path / "model")), str(tmp_path / "serving"), WORDS, ORIGIN)
    assert visible(tmp_path / "serving") == ["1"]


@pytest.mark.parametrize("where", ["", ROLLED_BACK])
def test_a_version_is_above_all_there_were_whatever_the_clock_says(where: str, tmp_path: Path) -> None:
    later = int(time.time()) + 10**6
    write_versions(tmp_path / where, later)
    path, _, _ = push(str(write_model(tmp_path / "model")), str(tmp_path), WORDS, ORIGIN)
    assert Path(path).name == str(later + 1)


def test_names_that_no_server_reads_as_versions_do_not_count(tmp_path: Path) -> None:
    for name in (str(2**63), "²", "1e99", ".5"):
        (tmp_path / name).mkdir()
    assert numbered(str(tmp_path)) == []


def test_what_serves_is_not_pushed_again_unless_it_is_damaged_or_said_to_be_another(tmp_path: Path) -> None:
    model, directory = str(write_model(tmp_path / "model")), str(tmp_path / "serving")
    first = push(model, directory, WORDS, ORIGIN).path
    assert push(model, directory, WORDS, ORIGIN)[:2] == (
        first,
        f"this model serves already, as version {Path(first).name}",
    )

    flip(Path(first))
    second, note, _ = push(model, directory, WORDS, ORIGIN)
    assert int(Path(second).name) > int(Path(first).name) and not note

    third, note, _ = push(model, directory, CardSettings(owner="them"), ORIGIN)
    assert third != second and not note


def test_a_b_a_ends_with_a_serving(tmp_path: Path) -> None:
    a, b = (str(write_model(tmp_path / name, name)) for name in "ab")
    pushed = [push(model, str(tmp_path / "serving"), WORDS, ORIGIN).path for model in (a, b, a)]
    assert sorted(pushed, key=lambda path: int(Path(path).name)) == pushed and len(set(pushed)) == 3
    assert checksums.listed(pushed[2]) == checksums.listed(a)


def test_what_was_rolled_back_is_pushed_again_only_as_the_note_says(tmp_path: Path) -> None:
    model, directory = str(write_model(tmp_path / "model")), tmp_path / "serving"
    write_versions(directory, 1)
    path, _, _ = push(model, str(directory), WORDS, ORIGIN)
    out = directory / ROLLED_BACK / Path(path).name
    out.parent.mkdir()
    Path(path).rename(out)

    again, note, _ = push(model, str(directory), WORDS, ORIGIN)
    assert again == path and not Path(path).exists()
    assert note.endswith(f"rolled back; to push it again, delete {out} and run again")

    shutil.rmtree(out)
    assert checksums.is_complete(push(model, str(directory), WORDS, ORIGIN).path)


def push_at(model: str, directory: str, start: float) -> None:
    time.sleep(max(0.0, start - time.time()))
    push(model, directory, WORDS, ORIGIN)


def test_pushes_of_one_second_get_a_version_each(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    start = int(time.time()) + 2.0
    models = [str(write_model(tmp_path / str(number), str(number))) for number in range(4)]
    pushes = [fork.Process(target=push_at, args=(model, str(tmp_path / "serving"), start)) for model in models * 2]
    for process in pushes:
        process.start()
    for process in pushes:
        process.join()
    assert [process.exitcode for process in pushes] == [0] * 8
    served = [checksums.listed(version.path) for version in numbered(str(tmp_path / "serving"))]
    assert {checksums.listed(model) for model in models} == set(served)


def test_a_remote_directory_gets_whole_versions_too(tmp_path: Path, ram: str) -> None:  # noqa: F811
    model = write_model(tmp_path / "model")
    ram_files.upload(model, f"{ram}/model")
    copied: list[str] = []
    copy = storage.copy

    def watched(source: str, target: str) -> None:
        copied.append(target)
        copy(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "copy", watched)
        first = push(f"{ram}/model", f"{ram}/serving/", WORDS, ORIGIN).path
    assert copied[-1] == f"{first}/saved_model.pb" and checksums.verify(first)
    assert push(str(model), f"{ram}/serving", WORDS, ORIGIN).path == first

    with tf.io.gfile.GFile(f"{first}/saved_model.pb", "w") as file:
        file.write("damaged")
    second = push(f"{ram}/model", f"{ram}/serving", WORDS, ORIGIN).path
    assert int(second.rpartition("/")[2]) > int(first.rpartition("/")[2]) and checksums.verify(second)


def test_a_damaged_remote_version_is_taken_away(tmp_path: Path, ram: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    copy = storage.copy

    def copy_with_a_fault(source: str, target: str) -> None:
        copy(source, target)
        if target.endswith("classes.txt"):
            with tf.io.gfile.GFile(target, "w") as file:
                file.write("another")

    monkeypatch.setattr(storage, "copy", copy_with_a_fault)
    with pytest.raises(MachineError, match="it was taken away again"):
        push(str(write_model(tmp_path / "model")), f"{ram}/serving", WORDS, ORIGIN)
    assert numbered(f"{ram}/serving") == []


def test_a_version_in_which_what_was_said_of_it_is_damaged_is_pushed_anew(tmp_path: Path) -> None:
    model, directory = write_model(tmp_path / "model"), tmp_path / "serving"
    version = push(str(model), str(directory), WORDS, ORIGIN).path
    Path(CARD_WORDS.path(version)).write_text("{")
    again = push(str(model), str(directory), WORDS, ORIGIN)
    assert again.path != version and not again.note and CARD_WORDS.read(again.path) == WORDS


def test_of_two_pushes_to_a_store_at_the_same_moment_one_says_that_it_failed(
    tmp_path: Path,
    ram: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other, copy = write_model(tmp_path / "other", "other"), storage.copy

    def copy_and_be_overwritten(source: str, target: str) -> None:
        copy(source, target)
        copy(source.replace("/model/", "/other/"), target)

    monkeypatch.setattr(storage, "copy", copy_and_be_overwritten)
    with pytest.raises(MachineError, match=r"another task pushed .* at the same moment; run again"):
        push(str(write_model(tmp_path / "model")), f"{ram}/serving", WORDS, ORIGIN)
    (version,) = numbered(f"{ram}/serving")
    assert checksums.listed(version.path) == checksums.listed(str(other)) and checksums.verify(version.path)


APPROVED = Decision("approved", "jo", "2026-01-02T03:04:05+00:00", "looks right")
NOT_APPROVED = Decision("rejected", "jo", "2026-01-02T03:04:05+00:00", "looks wrong")


def waits(model: Path | str, directory: Path | str) -> str:
    pushed = push(str(model), str(directory), WORDS, ORIGIN, approval=True)
    assert pushed.state == "waits"
    return pushed.path


def test_what_waits_serves_once_it_is_approved(tmp_path: Path) -> None:
    directory = tmp_path / "serving"
    write_versions(directory, 1)
    model = write_model(tmp_path / "model")
    waiting = Path(waits(model, directory))
    assert waiting.parent.name == WAITING and [one.number for one in numbered(str(directory))] == [1]
    assert waits(model, directory) == str(waiting)

    seen = []
    version = approve(str(directory), waiting.name, APPROVED, seen.append)
    assert seen == [str(waiting)] and Path(version) == directory / waiting.name
    assert checksums.verify(version) and DECISION.read(version) == APPROVED and not waiting.exists()
    assert push(str(model), str(directory), WORDS, ORIGIN, approval=True).state == "serves"


def test_an_approved_version_is_above_all_that_came_meanwhile(tmp_path: Path) -> None:
    waiting = Path(waits(write_model(tmp_path / "model"), tmp_path / "serving"))
    (later,) = write_versions(tmp_path / "serving", int(waiting.name) + 5)
    version = approve(str(tmp_path / "serving"), waiting.name, APPROVED, lambda _: None)
    assert int(Path(version).name) == int(later.name) + 1


def test_a_newer_model_takes_the_place_of_the_one_that_waits(tmp_path: Path) -> None:
    directory = str(tmp_path / "serving")
    first = Path(waits(write_model(tmp_path / "model"), directory))
    second = Path(waits(write_model(tmp_path / "other", "other"), directory))
    assert not first.exists() and int(second.name) > int(first.name)
    with pytest.raises(InputError, match=rf"no version {first.name} waits .*: version {second.name} does"):
        approve(directory, first.name, APPROVED, lambda _: None)
    # … and so does one that needs no approval.
    assert push(str(write_model(tmp_path / "third", "third")), directory, WORDS, ORIGIN).state == "serves"
    with pytest.raises(InputError, match=r"waits for approval in .*: none does"):
        approve(directory, second.name, APPROVED, lambda _: None)


def test_a_rejected_model_waits_again_once_its_decision_is_deleted_as_it_says(tmp_path: Path) -> None:
    directory, model = str(tmp_path / "serving"), write_model(tmp_path / "model")
    waiting = Path(waits(model, directory))
    kept = reject(directory, waiting.name, NOT_APPROVED)
    assert not waiting.exists() and Path(kept) == Path(beside(directory, REJECTED), waiting.name)
    pushed = push(str(model), directory, WORDS, ORIGIN, approval=True)
    assert pushed.state == "rejected" and pushed.note.startswith(
        "this model was rejected by jo on 2026-01-02 03:04 UTC"
    )
    assert f"delete {kept} and run again" in pushed.note
    assert push(str(write_model(tmp_path / "other", "other")), directory, WORDS, ORIGIN, approval=True).state == "waits"
    # Nor is it pushed because nobody has to approve any more.
    assert push(str(model), directory, WORDS, ORIGIN).state == "rejected"
    shutil.rmtree(kept)
    assert waits(model, directory)


def test_a_waiting_version_that_was_damaged_never_serves_and_another_run_puts_it_aside_anew(tmp_path: Path) -> None:
    directory, model = str(tmp_path / "serving"), write_model(tmp_path / "model")
    waiting = flip(Path(waits(model, directory)))
    with pytest.raises(MachineError, match=r"is damaged: .*; it does not serve; run again"):
        approve(directory, waiting.name, APPROVED, lambda _: None)
    assert not numbered(directory)
    again = Path(waits(model, directory))
    assert not waiting.exists() and approve(directory, again.name, APPROVED, lambda _: None)


def test_a_decision_about_a_remote_version(ram: str, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    model = write_model(tmp_path / "model")
    waiting = waits(model, f"{ram}/serving")
    number = waiting.rpartition("/")[2]
    version = approve(f"{ram}/serving", number, APPROVED, lambda _: None)
    assert version == f"{ram}/serving/{number}" and checksums.verify(version)
    assert DECISION.read(version) == APPROVED and not list(storage.find(waiting))
    other = waits(write_model(tmp_path / "other", "other"), f"{ram}/serving")
    kept = reject(f"{ram}/serving", other.rpartition("/")[2], NOT_APPROVED)
    assert not list(storage.find(other)) and DECISION.read(kept) == NOT_APPROVED
