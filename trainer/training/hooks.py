"""Hooks between steps: report progress, and end a training that no longer improves."""

import time

import tensorflow as tf

from core import progress
from trainer.network.model import LOSS_TENSOR
from trainer.training.evaluations import Evaluations

_REPORT_SECONDS = 0.5
_RELOAD_SECONDS = 5


class StepHook(tf.estimator.SessionRunHook):
    """Reports the step, the loss and the latest accuracy, and ends training once the evaluations say so.

    Estimator runs the checkpoint saver's hook, and with it the evaluation, before this one in the same step. Steps that
    are not reported fetch nothing extra.
    """

    def __init__(self, steps: int, evaluations: Evaluations, reload: bool) -> None:
        """`steps` is the training's total; with `reload`, another process writes the evaluations."""
        self._steps = steps
        self._evaluations = evaluations
        self._reload = reload
        self._last_reload = time.monotonic()
        self._last_report = 0.0
        self._fetches: dict[str, tf.Tensor] = {}

    def begin(self) -> None:
        """See SessionRunHook."""
        graph = tf.compat.v1.get_default_graph()
        step = tf.compat.v1.train.get_global_step(graph)
        self._fetches = {"loss": graph.get_tensor_by_name(LOSS_TENSOR), "step": step}

    def before_run(self, run_context: tf.estimator.SessionRunContext) -> tf.estimator.SessionRunArgs | None:
        """See SessionRunHook."""
        del run_context
        due = time.monotonic() - self._last_report >= _REPORT_SECONDS
        return tf.estimator.SessionRunArgs(self._fetches) if due else None

    def after_run(self, run_context: tf.estimator.SessionRunContext, run_values: tf.estimator.SessionRunValues) -> None:
        """See SessionRunHook."""
        if run_values.results is not None:
            self._last_report = time.monotonic()
            note = f"loss {run_values.results['loss']:.3f}"
            if self._evaluations.history:
                note += f", eval accuracy {self._evaluations.history[-1].accuracy:.3f}"
            progress.report(int(run_values.results["step"]), self._steps, "steps", note)
        if self._reload and time.monotonic() - self._last_reload >= _RELOAD_SECONDS:
            self._evaluations.reload()
            self._last_reload = time.monotonic()
        if self._evaluations.should_stop():
            run_context.request_stop()


class StopEvaluator(tf.estimator.SessionRunHook):
    """Ends a cluster's evaluator when training stops early, as it would wait for the last step forever."""

    class Stopped(Exception):  # noqa: N818 - no error
        """Nothing is left to evaluate."""

    def __init__(self, evaluations: Evaluations) -> None:
        self._evaluations = evaluations

    def begin(self) -> None:
        """See SessionRunHook; called before each evaluation."""
        if self._evaluations.should_stop():
            raise StopEvaluator.Stopped
