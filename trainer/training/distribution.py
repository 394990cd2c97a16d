"""Training on several devices or in the processes of a cluster: the RunConfig, and the role of each process.

`none` and `mirrored` are one process. With `parameter_server` every process of the cluster calls `run_fn`, and
Estimator's TF_CONFIG says which it is: the chief, which also exports the model, a worker, a parameter server, or the
evaluator.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator

import tensorflow as tf

from core import atomic_io
from core.errors import InputError
from core.settings.training import TrainingConfig
from trainer.arguments import FnArgs

TASK_FILE = "task.json"
"""In `model_run_dir` while a cluster trains: the arguments of `run_fn` for its other processes."""

_VARIABLE = "TF_CONFIG"
_CHECKPOINTS_OF_CLUSTER = 5  # the evaluator reads one while the chief writes others


def run_config(training: TrainingConfig, model_dir: str) -> tf.estimator.RunConfig:
    """How the Estimator runs in this process. Raises InputError if TF_CONFIG does not agree with the settings."""
    shared = {
        "model_dir": model_dir,
        "tf_random_seed": training.seed,
        "save_checkpoints_steps": training.eval_every,
        "save_summary_steps": max(1, training.eval_every // 10),
        "log_step_count_steps": training.eval_every,
    }
    if training.distribution == "parameter_server":
        described = _described()
        cluster, role = described.get("cluster", {}), described.get("task", {}).get("type")
        if not cluster.get("chief") or not cluster.get("ps") or role not in ("chief", "worker", "ps", "evaluator"):
            raise InputError(
                "training.distribution is parameter_server, but the environment variable TF_CONFIG does not describe "
                "a cluster with a chief and a ps, and this process's task (found "
                f"{json.dumps(described)}). Set it as docs/fine-tuning.md shows, or set training.distribution to none "
                "or mirrored."
            )
        return tf.estimator.RunConfig(
            keep_checkpoint_max=_CHECKPOINTS_OF_CLUSTER, experimental_max_worker_delay_secs=0, **shared
        )
    session, strategy = session_config(), None
    if training.distribution == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        names = [device.name for device in devices]
        strategy = tf.distribute.MirroredStrategy(names)
        session.device_count["CPU"] = sum("CPU" in name for name in names) or 1
        session.allow_soft_placement = True
    with _one_process(training.distribution):
        return tf.estimator.RunConfig(
            keep_checkpoint_max=1, session_config=session, train_distribute=strategy, **shared
        )


def session_config() -> tf.compat.v1.ConfigProto:
    """For sessions of a single process: all cores, shared by few operations at a time."""
    cores = os.cpu_count() or 1
    return tf.compat.v1.ConfigProto(intra_op_parallelism_threads=cores, inter_op_parallelism_threads=min(cores, 4))


def is_in_cluster(config: tf.estimator.RunConfig) -> bool:
    """Whether this process belongs to a cluster; the evaluator is not in its `cluster_spec`."""
    return bool(config.cluster_spec) or config.task_type == "evaluator"


@contextlib.contextmanager
def publish_task(run_config: tf.estimator.RunConfig, fn_args: FnArgs) -> Iterator[None]:
    """Provides the arguments for a cluster's other processes in `TASK_FILE` while its chief trains."""
    if not (run_config.is_chief and is_in_cluster(run_config)):
        yield
        return
    path = f"{fn_args.model_run_dir.rstrip('/')}/{TASK_FILE}"
    tf.io.gfile.makedirs(fn_args.model_run_dir)
    task = {field.name: getattr(fn_args, field.name) for field in dataclasses.fields(FnArgs)}
    atomic_io.write_text(path, json.dumps(task))
    try:
        yield
    finally:
        tf.io.gfile.remove(path)


@contextlib.contextmanager
def _one_process(distribution: str) -> Iterator[None]:
    """Hides a TF_CONFIG for only this process (Vertex AI sets one), which RunConfig would take for a cluster."""
    tasks = [address for addresses in _described().get("cluster", {}).values() for address in addresses]
    if len(tasks) > 1:
        raise InputError(
            f"the environment variable TF_CONFIG describes a cluster of {len(tasks)} processes, but "
            f"training.distribution is {distribution}: each would train by itself. Set it to parameter_server, or "
            "unset TF_CONFIG."
        )
    hidden = os.environ.pop(_VARIABLE, None)
    try:
        yield
    finally:
        if hidden is not None:
            os.environ[_VARIABLE] = hidden


def _described() -> dict:
    text = os.environ.get(_VARIABLE, "{}")
    try:
        described = json.loads(text)
    except ValueError as error:
        raise InputError(f"the environment variable TF_CONFIG is not JSON: {text!r}") from error
    return described if isinstance(described, dict) else {}
