"""What came of every evaluation: keeps the best checkpoint, says when to stop, and survives a restart.

`tf.estimator.train_and_evaluate` calls an Exporter after each evaluation with its metrics; that is the one place where
metrics, checkpoint and step are known together. (`stop_if_no_decrease_hook` reads event files for them and counts
steps; `BestExporter` writes a whole SavedModel at each improvement.)
"""

from __future__ import annotations

import json
import math

import numpy as np
import tensorflow as tf

from core import atomic_io
from trainer.network.model import ACCURACY, LOSS, is_exported
from trainer.training import checkpoints

_FILE = "evaluations.json"
_BEST = "best.ckpt"


class Evaluations(tf.estimator.Exporter):
    """The evaluations of one run, in order, and its best weights.

    Attributes:
        history: a mapping for each evaluation: `step`, `loss`, `accuracy`.
    """

    def __init__(self, model_dir: str, patience: int | None, patient_until: int = 0) -> None:
        """Continues what an earlier process left in `model_dir`.

        Args:
            model_dir: of the Estimator.
            patience: evaluations in a row without a lower loss after which training should stop; None: never.
            patient_until: evaluations up to this step do not count among them.
        """
        self._directory = model_dir.rstrip("/")
        self._patience = patience
        self._patient_until = patient_until
        self.history: list[dict[str, float]] = []
        self.reload()

    @property
    def name(self) -> str:
        """Required by Exporter."""
        return "evaluations"

    @property
    def best(self) -> dict[str, float]:
        """The evaluation with the lowest loss; the earliest of equals."""
        return min(self.history, key=_loss)

    @property
    def best_checkpoint(self) -> str:
        """Prefix of a checkpoint with the network's weights at that evaluation, without the optimizer's."""
        return f"{self._directory}/{_BEST}"

    def covers(self, step: int) -> bool:
        """Whether the network as of `step` has been evaluated."""
        return bool(self.history) and self.history[-1]["step"] >= step

    def reload(self) -> None:
        """Reads what another process, a cluster's evaluator, has written since."""
        if tf.io.gfile.exists(f"{self._directory}/{_FILE}"):
            with tf.io.gfile.GFile(f"{self._directory}/{_FILE}") as file:
                self.history = json.load(file)

    def should_stop(self) -> bool:
        """Whether the last `patience` evaluations brought no lower loss."""
        if self._patience is None or not self.history:
            return False
        since = self.history[self.history.index(self.best) + 1 :]
        return sum(evaluation["step"] > self._patient_until for evaluation in since) >= self._patience

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
        step = int(eval_result[tf.compat.v1.GraphKeys.GLOBAL_STEP])
        if self.covers(step):
            return
        evaluation = {"step": step, "loss": float(eval_result[LOSS]), "accuracy": float(eval_result[ACCURACY])}
        self.history.append(evaluation)
        if self.best is evaluation:
            best = checkpoints.read(checkpoint_path, is_exported)
            best[tf.compat.v1.GraphKeys.GLOBAL_STEP] = np.asarray(step, np.int64)  # what training starts with has none
            checkpoints.write(self.best_checkpoint, best)
        atomic_io.write_text(f"{self._directory}/{_FILE}", json.dumps(self.history))


def _loss(evaluation: dict[str, float]) -> float:
    return math.inf if math.isnan(evaluation["loss"]) else evaluation["loss"]
