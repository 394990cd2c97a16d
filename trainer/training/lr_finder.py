"""Finds a learning rate: trains some steps at exponentially rising rates, and finds where the loss falls fastest.

After Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import tensorflow as tf

from core import progress
from core.errors import InputError
from core.settings.training import LearningRateConfig, TrainerConfig
from trainer.arguments import FnArgs
from trainer.network.model import LOSS_TENSOR, make_model_fn
from trainer.training import inputs, train_loop
from trainer.training.distribution import session_config

_SMOOTHING = 0.9  # of the running mean of the losses
_DIVERGED = 4.0  # times the lowest loss: higher rates are not worth trying
_REPORT_EVERY = 10  # steps


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a sweep measured, step by step; it ends early if the training diverges.

    Attributes:
        losses: of the steps' batches, before the step.
        smoothed: their exponential running mean, corrected for its initial bias.
        suggested: the rate at which `smoothed` fell fastest relative to the logarithm of the rate.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggested: float


def sweep(settings: TrainerConfig, fn_args: FnArgs, lowest: float, highest: float, steps: int) -> Sweep:
    """Trains from scratch, at the `lowest` rate in the first step up to the `highest` in the last; writes nothing.

    Raises what `run_fn` raises, and InputError if no rate made the loss fall.
    """
    rate = LearningRateConfig((lowest,), schedule="exponential", decay_rate=highest / lowest, decay_steps=steps - 1)
    training = dataclasses.replace(settings.training, learning_rate=rate, head_steps=0, distribution="none")
    model, source, *_ = train_loop.prepare(dataclasses.replace(settings, training=training), fn_args)
    losses: list[float] = []
    with tf.Graph().as_default():
        tf.compat.v1.set_random_seed(training.seed)
        batches = inputs.training_input(source, training.batch_size, training.seed, training.augmentation)
        iterator = tf.compat.v1.data.make_initializable_iterator(batches())
        spec = make_model_fn(model)(*iterator.get_next(), tf.estimator.ModeKeys.TRAIN)
        with tf.compat.v1.Session(config=session_config()) as session:
            session.run([tf.compat.v1.tables_initializer(), tf.compat.v1.global_variables_initializer()])
            session.run(iterator.initializer)
            while len(losses) < steps:
                losses.append(float(session.run([LOSS_TENSOR, spec.train_op])[0]))
                smoothed = smooth(losses)
                if not math.isfinite(losses[-1]) or smoothed[-1] > _DIVERGED * min(smoothed):
                    losses.pop()
                    break
                if len(losses) % _REPORT_EVERY == 0:
                    progress.report(len(losses), steps, "steps", f"loss {losses[-1]:.3f}")
    rates = tuple(lowest * (highest / lowest) ** (i / (steps - 1)) for i in range(len(losses)))
    smoothed = smooth(losses)
    return Sweep(rates, tuple(losses), smoothed, suggest(rates, smoothed))


def smooth(losses: list[float]) -> tuple[float, ...]:
    """The exponential running mean, divided by the sum of weights so far."""
    mean, found = 0.0, []
    for i, loss in enumerate(losses, start=1):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        found.append(mean / (1 - _SMOOTHING**i))
    return tuple(found)


def suggest(rates: tuple[float, ...], smoothed: tuple[float, ...]) -> float:
    """Where the loss falls fastest, up to its lowest point. Raises InputError if it does not fall.

    Slopes are taken over a fifth of the sweep, since from step to step, batches differ more than rates. The first tenth
    does not count, since its running means are over few batches.
    """
    end = int(np.argmin(smoothed)) + 1 if smoothed else 0
    if end < 3:
        raise InputError(
            "no learning rate made the loss fall: begin the sweep with a lower rate (--lowest), or look for a mistake "
            "in the labels"
        )
    tenth = len(smoothed) // 10
    first = tenth if end - tenth >= 3 else 0
    steps = np.arange(first, end)
    before, after = np.maximum(steps - max(tenth, 1), first), np.minimum(steps + max(tenth, 1), end - 1)
    losses, logs = np.asarray(smoothed), np.log(np.asarray(rates))
    slopes = (losses[after] - losses[before]) / (logs[after] - logs[before])
    return rates[first + int(np.argmin(slopes))]
