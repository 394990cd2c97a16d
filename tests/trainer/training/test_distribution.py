"""Training on two devices, and in the four processes of a cluster: real ones, on this machine."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from core.artifacts.training_summary import SUMMARY
from core.errors import InputError
from core.settings.training import FineTuneConfig, HeadConfig, LearningRateConfig, TrainerConfig, TrainingConfig
from tests.conftest import ROOT
from tests.trainer import training_data
from tests.trainer.conftest import settings
from trainer.network import backbone
from trainer.training import checkpoints, distribution, train_loop

_ON_TWO_DEVICES = """
import sys
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from trainer import task
from trainer.network import backbone
task.main(sys.argv[1])
"""


@pytest.mark.ports
def test_mirrored_on_two_devices_trains_what_one_trains_on_twice_the_batch(
    features_at: Callable[[str], Path],
    transform_directory: Path,
    packed: Callable[..., Path],
    frozen_run: Path,
    tmp_path: Path,
) -> None:
    """To rounding, and from an earlier model; BatchNorm is frozen, because its statistics are of one device's batch."""
    base = packed(frozen_run)
    rules = FineTuneConfig(rules=(("conv2d_93", 0.5), (".*", 0.0)), l2_sp=0.1)
    common = {"steps": 10, "eval_every": 5, "head_steps": 5, "optimizer": "sgd"}

    def args(out: Path, **training: object) -> tuple[TrainerConfig, SimpleNamespace]:
        head = HeadConfig(hidden_units=(16,), dropout=0.0)
        config = dataclasses.replace(settings(rules, **common, **training), head=head)  # type: ignore[arg-type]
        return config, training_data.fn_args(config, features_at("mixed9"), transform_directory, base, out)

    _, two = args(tmp_path / "two", batch_size=8, distribution="mirrored")
    (tmp_path / "task.json").write_text(json.dumps(vars(two)))
    command = [sys.executable, "-c", _ON_TWO_DEVICES, str(tmp_path / "task.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    config, one = args(tmp_path / "one", batch_size=16)
    assert [e.step for e in train_loop.train(config, one).evaluations.history] == [0, 5, 10]
    found, wanted = (checkpoints.read(tf.train.latest_checkpoint(a.model_run_dir)) for a in (two, one))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    assert (tmp_path / "two" / "Format-Serving" / "saved_model.pb").is_file()


@pytest.mark.ports
def test_chief_worker_ps_and_evaluator_train_one_model(
    features_at: Callable[[str], Path],
    transform_directory: Path,
    backbone_directory: Path,
    packed: Callable[..., Path],
    frozen_run: Path,
    tmp_path: Path,
) -> None:
    """The chief is what TFX's Trainer is; the others wait for what it writes, and end with it, but for the ps.

    The earlier model that they begin with is evaluated by the chief, once, before the others are there. The names of
    its classes are mixed up, so that there is much to learn.
    """
    base = packed(frozen_run, ("green", "red", "blue"))
    fine_tune = FineTuneConfig(rules=(("conv2d_93", 0.1), (".*", 0.0)))
    rate = LearningRateConfig((1e-3,))
    config = settings(fine_tune, steps=60, eval_every=20, learning_rate=rate, distribution="parameter_server")
    args = training_data.fn_args(config, features_at("mixed9"), transform_directory, base, tmp_path)
    (tmp_path / "chief.json").write_text(json.dumps(vars(args)))
    cluster = {role: [f"127.0.0.1:{port}"] for role, port in zip(("chief", "worker", "ps"), free_ports(3), strict=True)}
    processes = {}
    for role in ("ps", "evaluator", "worker", "chief"):
        file = tmp_path / "chief.json" if role == "chief" else tmp_path / "r*n" / "task.json"
        described = {"cluster": cluster, "task": {"type": role, "index": 0}}
        with (tmp_path / f"{role}.log").open("w") as log:
            processes[role] = subprocess.Popen(
                [sys.executable, "-m", "trainer.task", str(file)],
                cwd=ROOT, stderr=log, env={**os.environ, "TF_CONFIG": json.dumps(described)},
            )  # fmt: skip
    try:
        for role in ("chief", "evaluator", "worker"):
            assert processes[role].wait(500) == 0, (tmp_path / f"{role}.log").read_text()[-3000:]
        assert processes["ps"].poll() is None  # Estimator's never end by themselves
    finally:
        for process in processes.values():
            process.kill()
    summary = SUMMARY.read(tmp_path / "run")
    assert summary.steps >= 60
    assert [e.step for e in summary.evaluations].count(0) == 1
    assert summary.evaluations[-1].step >= 60
    assert summary.best.loss < summary.evaluations[0].loss
    assert "Loss for final step" in (tmp_path / "worker.log").read_text()  # it has trained
    assert (tmp_path / "Format-Serving" / "saved_model.pb").is_file()
    assert not (tmp_path / "run" / "task.json").exists()
    exported = backbone.unfolded(str(tmp_path / "Format-Serving"))
    start = checkpoints.read(str(backbone_directory / "backbone.ckpt"))
    moved = {
        name.split("/")[1] for name, value in start.items() if not np.allclose(exported[name], value, rtol=2e-7, atol=0)
    }
    assert moved == {"conv2d_93"}


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


CLUSTER = {"chief": ["127.0.0.1:1"], "worker": ["127.0.0.1:2"], "ps": ["127.0.0.1:3"]}


@pytest.mark.parametrize(
    ("setting", "described", "words"),
    [
        ("none", {"cluster": CLUSTER, "task": {"type": "worker", "index": 0}}, "a cluster of 3 processes"),
        ("mirrored", {"cluster": CLUSTER, "task": {"type": "chief", "index": 0}}, "a cluster of 3 processes"),
        ("parameter_server", {}, "does not describe a cluster with a chief and a ps"),
        ("parameter_server", {"cluster": CLUSTER}, "does not describe a cluster with a chief and a ps"),
    ],
)
def test_setting_and_cluster_that_do_not_agree_are_refused(
    setting: str, described: dict, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps(described))
    with pytest.raises(InputError, match=words):
        distribution.run_config(TrainingConfig(distribution=setting), str(tmp_path))  # type: ignore[arg-type]


def test_cluster_of_this_process_alone_is_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vertex sets TF_CONFIG for a single machine too."""
    described = json.dumps({"cluster": {"chief": ["127.0.0.1:1"]}, "task": {"type": "chief", "index": 0}})
    monkeypatch.setenv("TF_CONFIG", described)
    config = distribution.run_config(TrainingConfig(), str(tmp_path))
    assert config.is_chief and not distribution.is_in_cluster(config)
    assert os.environ["TF_CONFIG"] == described
