"""Pushing a model: a copy of it becomes the version that serves, and no server ever sees a part or a damaged one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from core import atomic_io, checksums
from core.artifacts.pushed_model import CARD_WORDS, again, locked, next_number, numbered, rolled_back
from core.errors import MachineError
from core.settings.push import CardSettings

_SERVED = "saved_model.pb"  # without it no server takes a folder for a version


class Pushed(NamedTuple):
    """Where the model is, and what to say of it if it was not pushed just now."""

    path: str
    note: str = ""


def push(model: str, directory: str, card: CardSettings) -> Pushed:
    """Pushes a SavedModel, unless the version that serves is this very model, or somebody rolled it back.

    It is verified before, as a copy under a hidden name, and as the version. On a remote file system, where no folder
    is renamed in one step, it is copied to its place, and the file that makes it a version comes last.

    Args:
        model: the SavedModel's folder, with checksums; local or remote.
        directory: the push directory; local or remote.
        card: what people say of the model; another version is pushed for other words, too.

    Raises:
        MachineError: the model, or its copy, is damaged.
    """
    directory = directory.rstrip("/")
    _verify(model, "it is not pushed; run again, and it is trained again")
    if found := _find(model, directory, card):
        return found
    if "://" in directory:
        version = f"{directory}/{next_number(directory)}"
        _copy(model, version, card)
        _verify(version, "it was taken away again, and what served before serves on; run again", version)
        return Pushed(version)
    with atomic_io.staging_directory(f"{directory}/version") as copy:
        _copy(model, copy, card)
        _verify(copy, "it is not pushed, and what served before serves on; run again")
        with locked(directory):
            if found := _find(model, directory, card):  # pushed by another task while this one copied
                return found
            version = f"{directory}/{next_number(directory)}"
            atomic_io.publish(copy, version, replace=False)
    _verify(version, "it was taken away again, and what served before serves on; run again", version)
    return Pushed(version)


def _find(model: str, directory: str, card: CardSettings) -> Pushed | None:
    """The version that serves, if it is this model and whole; or where it was, if somebody rolled it back."""
    this = checksums.listed(model)
    serving = [version for version in numbered(directory) if checksums.is_complete(version.path)][-1:]
    for version in serving:
        if (
            checksums.listed(version.path) == this
            and _words(version.path) == card
            and not checksums.problem(version.path)
        ):
            return Pushed(version.path, f"this model serves already, as version {_name(version.path)}")
    for out in numbered(rolled_back(directory)):
        if checksums.listed(out.path) == this:
            name = _name(out.path)
            return Pushed(
                f"{directory}/{name}", f"this model was version {name}, which was rolled back; {again(out.path)}"
            )
    return None


def _name(version: str) -> str:
    return version.rpartition("/")[2]


def _words(version: str) -> CardSettings | None:
    return CARD_WORDS.read(version) if tf.io.gfile.exists(CARD_WORDS.path(version)) else None


def _verify(model: str, so: str, doomed: str | None = None) -> None:
    try:
        checksums.verify(model)
    except (checksums.DamagedModelError, tf.errors.NotFoundError) as error:
        if doomed:
            discard(doomed)
        raise MachineError(f"the model in {model} is damaged: {error}; {so}") from error


def discard(version: str) -> None:
    """Takes a version away, the file that servers look for first."""
    if "://" not in version:
        atomic_io.discard(Path(version))
        return
    if tf.io.gfile.exists(f"{version}/{_SERVED}"):
        tf.io.gfile.remove(f"{version}/{_SERVED}")
    tf.io.gfile.rmtree(version)


def _copy(model: str, target: str, card: CardSettings) -> None:
    """Copies the listed files, `saved_model.pb` last."""
    names = sorted([*checksums.names(model), checksums.CHECKSUMS], key=lambda name: name == _SERVED)
    tf.io.gfile.makedirs(target)
    CARD_WORDS.write(target, card)
    for name in names:
        tf.io.gfile.makedirs(f"{target}/{name}".rpartition("/")[0])
        if "://" in model or "://" in target:
            tf.io.gfile.copy(f"{model}/{name}", f"{target}/{name}")
        else:
            shutil.copyfile(f"{model}/{name}", f"{target}/{name}")  # whose errors name the file
