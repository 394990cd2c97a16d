"""Pushes a model: a copy becomes the version that serves, and no server ever sees a partial or damaged one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from core import atomic_io, checksums, storage
from core.artifacts import provenance
from core.artifacts.monitoring import REFERENCE, Reference
from core.artifacts.provenance import Origin
from core.artifacts.pushed_model import (
    CARD_WORDS,
    DECISION,
    REJECTED,
    ROLLED_BACK,
    WAITING,
    Decision,
    again,
    beside,
    locked,
    next_number,
    numbered,
    rolled_back_path,
    version_of,
)
from core.errors import InputError, MachineError
from core.settings.monitoring import MonitoringSettings
from core.settings.push import CardSettings

if TYPE_CHECKING:
    from core.signing import PrivateKey, PublicKey

_SERVED = "saved_model.pb"  # without it no server takes a folder for a version


class Pushed(NamedTuple):
    """Where the model is, whether it serves there, and a note if it was not pushed just now."""

    path: str
    note: str = ""
    state: Literal["serves", "waits", "rejected"] = "serves"


def push(
    model: str,
    directory: str,
    card: CardSettings,
    origin: Origin,
    approval: bool = False,
    reference: Reference | None = None,
    key: PrivateKey | None = None,
) -> Pushed:
    """Pushes a SavedModel, unless it is already being served, or somebody rolled it back.

    It is verified before copying, as a copy under a hidden name, and as the version. On a remote file system, where
    renaming a folder is not atomic, it is copied in place, and the file that makes it a version comes last.

    Args:
        model: the SavedModel's folder, with checksums; local or remote.
        directory: the push directory; local or remote.
        card: what people say about the model; changed text is pushed as a new version.
        origin: what the model was made from, for its provenance.
        key: signs the version; a version that it did not sign is pushed again.
        approval: whether the version waits for `approve` or `reject` in a folder where no server looks, replacing one
            that waited before; a rejected model does not wait again.
        reference: what monitoring compares production with; changed bounds are pushed as a new version.

    Raises:
        MachineError: the model or its copy is damaged; or another task has just pushed to the same remote folder.
    """
    directory = directory.rstrip("/")
    _verify(model, "it is not pushed; run again, and it is trained again")
    target = beside(directory, WAITING) if approval else directory
    state: Literal["serves", "waits"] = "waits" if approval else "serves"
    signer = key.public_key() if key else None
    if found := _find(model, directory, card, approval, reference, signer):
        return found
    earlier = numbered(beside(directory, WAITING))
    if storage.is_remote(directory):
        version = f"{target}/{next_number(directory)}"
        _write_words(version, card, reference)
        provenance.write(version, model, origin, key)
        copy_model(model, version)
        _verify(version, "it was taken away again, and what served before serves on; run again", version)
        if checksums.listed(version) != checksums.listed(model):
            raise MachineError(f"another task pushed {version} at the same moment; run again")
    else:
        with atomic_io.staging_directory(f"{target}/version") as copy:
            _write_words(copy, card, reference)
            provenance.write(copy, model, origin, key)
            copy_model(model, copy)
            _verify(copy, "it is not pushed, and what served before serves on; run again")
            with locked(directory):
                # By another task while this one copied.
                if found := _find(model, directory, card, approval, reference, signer):
                    return found
                version = f"{target}/{next_number(directory)}"
                atomic_io.publish(copy, version, replace=False)
        _verify(version, "it was taken away again, and what served before serves on; run again", version)
    for one in earlier:
        discard(one.path)
    return Pushed(version, state=state)


def approve(directory: str, version: str, decision: Decision, finish: Callable[[str], None]) -> str:
    """Puts the waiting version into service, with the decision in it; returns its folder.

    Args:
        version: its number.
        finish: called with its folder before it serves.

    Raises:
        InputError: no such version waits.
        MachineError: the version or its copy is damaged.
    """
    with locked(directory):
        waiting = _waiting(directory, version)
        _verify(waiting, "it does not serve; run again, and its model is put aside anew")
        number = max(int(version), *(entry.number + 1 for entry in numbered(directory)), 1)
        target = f"{directory.rstrip('/')}/{number}"
        for entry in numbered(beside(directory, REJECTED)):
            if version_of(entry.path) == version:  # who rejected this one was killed
                discard(entry.path)
        DECISION.write(waiting, decision)
        finish(waiting)
        if storage.is_remote(directory):
            _copy_all(waiting, target)
            _verify(target, "it was taken away again, and what served before serves on; try again", target)
            discard(waiting)
        else:
            atomic_io.move(Path(waiting), Path(target))
    return target


def reject(directory: str, version: str, decision: Decision) -> str:
    """Removes the waiting version, except for its checksums and the decision; returns the folder that keeps these.

    Raises:
        InputError: no such version waits.
    """
    with locked(directory):
        waiting, kept = _waiting(directory, version), f"{beside(directory, REJECTED)}/{version}"
        if storage.exists(f"{waiting}/{checksums.CHECKSUMS}"):  # else it is none that a run could push again
            _copy(waiting, kept, [checksums.CHECKSUMS])
        storage.make_folder(kept)
        DECISION.write(kept, decision)
        discard(waiting)
    return kept


def decided(directory: str, version: str) -> tuple[str, Decision] | None:
    """Where the version with this number is now, and the decision about it; None if there is no decision."""
    for kind in (directory.rstrip("/"), beside(directory, REJECTED), beside(directory, ROLLED_BACK)):
        for entry in numbered(kind):
            if version_of(entry.path) == version and (decision := DECISION.read_if_any(entry.path)):
                return entry.path, decision
    return None


def _waiting(directory: str, version: str) -> str:
    """The folder of the waiting version with that number. Raises InputError if there is none."""
    there = {version_of(entry.path): entry.path for entry in numbered(beside(directory, WAITING))}
    if version in there:
        return there[version]
    now = f"version {', '.join(there)} does" if there else "none does"
    raise InputError(
        f"no version {version} waits for approval in {directory}: {now}. A newer blessed model takes the place of one "
        "that waits; `make history` lists what came of each run"
    )


def _find(
    model: str,
    directory: str,
    card: CardSettings,
    approval: bool,
    reference: Reference | None,
    signer: PublicKey | None,
) -> Pushed | None:
    """The version that serves or waits, if it is this model and intact; or where it was, if it was taken out."""
    this = checksums.listed(model)

    def same(version: str) -> bool:
        known = checksums.listed(version) == this and _words(version) == (card, reference and reference.bounds)
        return known and not provenance.problem(version, signer)

    serving = [entry.path for entry in numbered(directory) if checksums.is_complete(entry.path)][-1:]
    if any(map(same, serving)):
        return Pushed(serving[0], f"this model serves already, as version {version_of(serving[0])}")
    for out in numbered(beside(directory, ROLLED_BACK)):
        if checksums.listed(out.path) == this:
            name = version_of(out.path)
            return Pushed(
                f"{directory}/{name}", f"this model was version {name}, which was rolled back; {again(out.path)}"
            )
    if approval:
        for entry in numbered(beside(directory, WAITING)):
            if same(entry.path):
                return Pushed(entry.path, f"this model waits already, as version {version_of(entry.path)}", "waits")
    for entry in numbered(beside(directory, REJECTED)):  # also once nobody has to approve any more
        if checksums.listed(entry.path) == this:
            said = DECISION.read(entry.path)
            return Pushed(entry.path, f"this model was {said}; {again(entry.path)}", "rejected")
    return None


def _words(version: str) -> tuple[CardSettings | None, MonitoringSettings | None] | None:
    """What was pushed with a model: the card's text and the bounds on production; None if they are damaged."""
    try:
        card, reference = CARD_WORDS.read_if_any(version), REFERENCE.read_if_any(version)
    except InputError:
        return None
    return card, reference.bounds if reference else None


def _write_words(version: str, card: CardSettings, reference: Reference | None) -> None:
    CARD_WORDS.write(version, card)
    if reference:
        REFERENCE.write(version, reference)


def _verify(model: str, so: str, doomed: str | None = None) -> None:
    try:
        checksums.verify(model)
    except (checksums.DamagedModelError, FileNotFoundError) as error:
        if doomed:
            discard(doomed)
        raise MachineError(f"the model in {model} is damaged: {error}; {so}") from error


def discard(version: str) -> None:
    """Deletes a version; the file that servers look for goes first."""
    if storage.is_remote(version):
        storage.delete_folder(version, _SERVED)
    else:
        atomic_io.discard(Path(version))


def take_out(version: str) -> str:
    """Takes a version out of service; returns its new folder. A link is moved, not followed."""
    out = rolled_back_path(version)
    if storage.is_remote(version):
        _copy_all(version, out)
        discard(version)
        return out
    path = Path(version)
    storage.make_folder(out.rpartition("/")[0])
    if path.is_symlink():  # a relative one would lead elsewhere from there
        Path(out).symlink_to(path.resolve())
        atomic_io.discard(path)
    else:
        atomic_io.move(path, Path(out))
    return out


def copy_model(model: str, target: str) -> None:
    """Copies the files in the list of checksums, and the list, from folder to folder; `saved_model.pb` comes last."""
    _copy(model, target, [*checksums.digests(model), checksums.CHECKSUMS])


def _copy_all(version: str, target: str) -> None:
    _copy(version, target, checksums.files(version))


def _copy(source: str, target: str, names: Iterable[str]) -> None:
    for name in sorted(names, key=lambda name: name == _SERVED):
        storage.make_folder(f"{target}/{name}".rpartition("/")[0])
        storage.copy(f"{source}/{name}", f"{target}/{name}")
