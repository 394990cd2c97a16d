"""The Tuner's tuner_fn: trains the Estimator with several combinations of settings, and selects the best.

A trial is a complete training by the Trainer's code; on pooled features it takes seconds. keras-tuner proposes the
combinations.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from typing import TYPE_CHECKING

import keras_tuner
import tensorflow as tf
from keras_tuner.engine import base_tuner
from keras_tuner.errors import FailedTrialError, FatalError

from core import progress
from core.artifacts import search
from core.errors import InputError
from core.settings import converter
from core.settings.training import TrainerConfig
from core.settings.tuner import TunerConfig
from trainer.arguments import FnArgs
from trainer.training import train_loop

if TYPE_CHECKING:  # imports all of TFX's components, 16 s
    from tfx.components.tuner.component import TunerFnResult

OBJECTIVE = "eval_loss"  # the lowest evaluation loss that a trial reached


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """TFX Tuner's entry point: takes `run_fn`'s arguments, and a TunerConfig as JSON in `custom_config["tuner"]`."""
    from tfx.components.tuner.component import TunerFnResult

    space = converter.from_json(fn_args.custom_config["tuner"], TunerConfig)
    settings = converter.from_json(fn_args.custom_config["trainer"], TrainerConfig)
    return TunerFnResult(tuner=EstimatorTuner(space, settings, fn_args), fit_kwargs={})


def choices(space: TunerConfig) -> keras_tuner.HyperParameters:
    """Each list in the settings as a choice; hidden units are text, `512-128`, since a choice must be a scalar."""
    found = keras_tuner.HyperParameters()
    found.Choice("hidden_units", ["-".join(map(str, units)) for units in space.hidden_units], ordered=False)
    for name in ("dropout", "l2", "learning_rate"):
        found.Choice(name, sorted(getattr(space, name)), ordered=True)
    if space.output:
        found.Choice("output", list(space.output), ordered=False)
    return found


class EstimatorTuner(base_tuner.BaseTuner):
    """keras-tuner's loop around the Estimator."""

    def __init__(self, space: TunerConfig, settings: TrainerConfig, fn_args: FnArgs) -> None:
        """Prepares a search of `space`; each trial has its own folder under `working_dir`."""
        oracles = {
            "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
            "random": keras_tuner.oracles.RandomSearchOracle,
        }
        oracle = oracles[space.algorithm](
            objective=keras_tuner.Objective(OBJECTIVE, "min"),
            max_trials=space.trials,
            seed=settings.training.seed,
            hyperparameters=choices(space),
            allow_new_entries=False,
            tune_new_entries=False,
            max_consecutive_failed_trials=space.trials + 1,
        )
        oracle.verbose = 0
        super().__init__(oracle, directory=fn_args.working_dir, project_name="search", overwrite=True)
        steps = space.steps or settings.training.steps
        self._space = space
        self._settings = dataclasses.replace(settings, training=dataclasses.replace(settings.training, steps=steps))
        self._fn_args = fn_args
        self._failure = ""

    def search(self) -> None:
        """Runs the trials. Raises InputError if none could be trained."""
        progress.report(0, self._space.trials, "trials")
        super().search()
        if self._best_loss() is None:
            raise InputError(
                f"tuner: none of {len(self.oracle.trials)} trials could be trained. The last one: {self._failure}"
            )

    def run_trial(self, trial: keras_tuner.engine.trial.Trial) -> dict[str, float]:
        """Trains one combination, and returns the best evaluation's loss and accuracy."""
        values = trial.hyperparameters.values
        fn_args = copy.copy(self._fn_args)
        fn_args.model_run_dir = f"{self.get_trial_dir(trial.trial_id)}/model"
        try:
            best = train_loop.train(search.apply(values, self._settings), fn_args).evaluations.best
            if best.loss is None:
                raise InputError("Training diverged: no evaluation had a finite loss.")
        except InputError as error:
            self._failure = f"{values}: {error}"
            raise FailedTrialError(str(error)) from error
        except Exception as error:  # keras-tuner would count any other as a failed trial, and continue
            raise FatalError(f"trial {values}") from error
        finally:
            if tf.io.gfile.exists(fn_args.model_run_dir):
                tf.io.gfile.rmtree(fn_args.model_run_dir)
        logging.getLogger(__name__).info("trial %s: %s: %s", trial.trial_id, values, best)
        return {OBJECTIVE: best.loss, "eval_accuracy": best.accuracy, "step": best.step}

    def on_trial_end(self, trial: keras_tuner.engine.trial.Trial) -> None:
        """See BaseTuner."""
        super().on_trial_end(trial)
        best = self._best_loss()
        note = "none could be trained yet" if best is None else f"best eval loss {best:.3f}"
        progress.report(len(self.oracle.trials), self._space.trials, "trials", note)

    def _best_loss(self) -> float | None:
        """The best loss of the completed trials; `Oracle.get_best_trials` includes the failed ones."""
        return min((trial.score for trial in self.oracle.trials.values() if trial.status == "COMPLETED"), default=None)
