"""The history of evaluations: keeps the best checkpoint, says when to stop, and survives a restart.

Estimator calls an Exporter after each evaluation, the only place where metrics, checkpoint and step are known together.
(`stop_if_no_decrease_hook` reads event files and counts steps; `BestExporter` writes a SavedModel at each improvement.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from core.artifacts.base import JsonLines
from core.artifacts.training_summary import Evaluation
from trainer.network.model import ACCURACY, LOSS, is_exported
from trainer.training import checkpoints

_FILE = JsonLines("evaluations.jsonl", Evaluation)


class Evaluations(tf.estimator.Exporter):
    """The evaluations of one run, in order (`history`), and its best weights."""

    name = "evaluations"  # required by Exporter

    def __init__(self, model_dir: str, patience: int | None, patient_until: int = 0) -> None:
        """Continues the history of an earlier process in the Estimator's `model_dir`.

        Training should stop after `patience` evaluations in a row without a lower loss, of those after `patient_until`.
        """
        self._directory = model_dir.rstrip("/")
        self._patience = patience
        self._patient_until = patient_until
        self.history: list[Evaluation] = []
        self.reload()

    @property
    def best(self) -> Evaluation:
        """The evaluation with the lowest loss; the earliest if several are equal."""
        return min(self.history, key=lambda evaluation: math.inf if evaluation.loss is None else evaluation.loss)

    @property
    def best_checkpoint(self) -> str:
        """Prefix of a checkpoint with the network's weights at that evaluation, without the optimizer's."""
        return f"{self._directory}/best.ckpt"

    def covers(self, step: int) -> bool:
        """Whether the network as of `step` has been evaluated."""
        return bool(self.history) and self.history[-1].step >= step

    def reload(self) -> None:
        """Reads what another process, a cluster's evaluator, has written since."""
        if tf.io.gfile.exists(_FILE.path(self._directory)):
            self.history = list(_FILE.read(self._directory))

    def should_stop(self) -> bool:
        """Whether the last `patience` evaluations brought no lower loss."""
        if self._patience is None or not self.history:
            return False
        since = self.history[self.history.index(self.best) + 1 :]
        return sum(evaluation.step > self._patient_until for evaluation in since) >= self._patience

    def evaluate(
        self, estimator: tf.estimator.Estimator, evaluation_input: Callable[[], tf.data.Dataset], checkpoint: str
    ) -> None:
        """Evaluates the Estimator's current network, whose weights are in `checkpoint`."""
        self.export(estimator, "", checkpoint, estimator.evaluate(evaluation_input), False)

    def evaluate_if_missed(
        self, estimator: tf.estimator.Estimator, evaluation_input: Callable[[], tf.data.Dataset]
    ) -> None:
        """Evaluates the last checkpoint if a process ended after writing it and before evaluating it."""
        checkpoint = estimator.latest_checkpoint()
        step = checkpoints.step(checkpoint)
        if step and not self.covers(step):
            self.evaluate(estimator, evaluation_input, checkpoint)

    def export(
        self,
        estimator: tf.estimator.Estimator,
        export_path: str,
        checkpoint_path: str,
        eval_result: dict[str, float],
        is_the_final_export: bool,
    ) -> None:
        """Called by `train_and_evaluate`; the arguments are Exporter's. What was evaluated before counts once."""
        del estimator, export_path, is_the_final_export
        step, loss = int(eval_result[tf.compat.v1.GraphKeys.GLOBAL_STEP]), float(eval_result[LOSS])
        if self.covers(step):
            return
        evaluation = Evaluation(step, loss if math.isfinite(loss) else None, float(eval_result[ACCURACY]))
        self.history.append(evaluation)
        if self.best is evaluation:
            best = checkpoints.read(checkpoint_path, is_exported)
            best[tf.compat.v1.GraphKeys.GLOBAL_STEP] = np.asarray(step, np.int64)  # what training starts with has none
            checkpoints.write(self.best_checkpoint, best)
        _FILE.write(self._directory, self.history)
