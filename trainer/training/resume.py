"""Lets a killed training resume in the next run, although TFX gives every execution a new empty folder."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json

import tensorflow as tf

from core import atomic_io
from core.artifacts.training_summary import SUMMARY
from trainer.arguments import FnArgs, Inputs
from trainer.training import checkpoints, distribution

_KEY_FILE = "training_key.txt"  # in the folder of a training: a hash of everything that determines it
_STATE_FILE = "checkpoint"  # TensorFlow's: names the last checkpoint


def resume(fn_args: FnArgs) -> int:
    """Copies an unfinished training with the same inputs and settings from a folder beside `model_run_dir`.

    It is not moved, since a process that was given up on may still be running.

    Returns:
        The step at which training resumes; 0 if it starts from the beginning.
    """
    own = fn_args.model_run_dir.rstrip("/")
    if not tf.io.gfile.exists(f"{own}/{_KEY_FILE}"):  # of a cluster's processes, the chief comes first
        # TFX names artifacts of other content differently, and `custom_config` has the hash of the code.
        follows_from = {field.name: getattr(fn_args, field.name) for field in dataclasses.fields(Inputs)}
        key = hashlib.sha256(json.dumps(follows_from, sort_keys=True).encode()).hexdigest()
        if found := _unfinished(own, key):
            _copy(found, own)
        tf.io.gfile.makedirs(own)
        atomic_io.sync(own)  # or a power loss could leave the key beside half a checkpoint
        atomic_io.write_text(f"{own}/{_KEY_FILE}", key)
    return checkpoints.step(tf.train.latest_checkpoint(own))


def superfluous(folder: str) -> list[str]:
    """The unfinished trainings in a folder that none will resume.

    Others with the same inputs and settings got further, or finished.
    """
    finished, unfinished = set[str](), dict[str, str]()
    for file in tf.io.gfile.glob(f"{folder}/*/{_KEY_FILE}"):
        training, key = file.rpartition("/")[0], atomic_io.read_text(file)
        if tf.io.gfile.exists(SUMMARY.path(training)):
            finished.add(key)
        else:
            unfinished[training] = key
    furthest = {key: _unfinished(f"{folder}/", key) for key in {*unfinished.values()} - finished}
    return sorted(training for training, key in unfinished.items() if training != furthest.get(key))


def _unfinished(own: str, key: str) -> str | None:
    """The folder beside `own` of the unfinished training that got furthest."""
    steps = {}
    for file in tf.io.gfile.glob(f"{own.rpartition('/')[0]}/*/{_KEY_FILE}"):
        folder = file.rpartition("/")[0]
        if atomic_io.read_text(file) == key and not tf.io.gfile.exists(SUMMARY.path(folder)):
            with contextlib.suppress(tf.errors.OpError, IndexError):  # a damaged checkpoint: nothing to resume from
                steps[folder] = _readable_step(folder)
    furthest = max(steps, key=lambda folder: steps[folder], default=None)
    return furthest if furthest and steps[furthest] else None


def _readable_step(folder: str) -> int:
    """The step of a training's last checkpoint; 0 if not every byte of it can be read, as after a power loss."""
    last = tf.train.latest_checkpoint(folder)
    try:
        if last:
            checkpoints.read(last)
        return checkpoints.step(last)
    except tf.errors.OpError:
        return 0


def _copy(source: str, target: str) -> None:
    """Copies a training; the file that makes its checkpoints visible to TensorFlow comes last."""
    for folder, _, files in tf.io.gfile.walk(source):
        folder = folder.rstrip("/")
        into = target + folder.removeprefix(source)
        tf.io.gfile.makedirs(into)
        for file in files:
            if folder != source or file not in (_STATE_FILE, distribution.TASK_FILE):
                tf.io.gfile.copy(f"{folder}/{file}", f"{into}/{file}", overwrite=True)
    tf.io.gfile.copy(f"{source}/{_STATE_FILE}", f"{target}/{_STATE_FILE}", overwrite=True)
