import math

import pytest
import tensorflow as tf

from core.settings.training import LearningRateConfig
from trainer.training import optimizers

STEPS = 1000


def rates(config: LearningRateConfig, steps: list[int]) -> list[float]:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        step = tf.compat.v1.placeholder(tf.int64, [])
        rate = optimizers.learning_rate(config, step, STEPS)
        return [float(session.run(rate, {step: s})) for s in steps]


def test_piecewise_constant_changes_after_its_boundary() -> None:
    config = LearningRateConfig(values=(1e-3, 1e-4, 1e-5), boundaries=(10_000, 20_000))
    found = rates(config, [0, 10_000, 10_001, 20_000, 20_001, 10**6])
    assert found == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_a_single_learning_rate_is_constant() -> None:
    assert rates(LearningRateConfig(values=(0.5,)), [0, 10_000]) == [0.5, 0.5]


def test_cosine_falls_in_half_a_wave_until_the_last_step() -> None:
    config = LearningRateConfig(values=(0.1,), schedule="cosine", end=0.02)
    wanted = [0.02 + 0.08 * (1 + math.cos(math.pi * part)) / 2 for part in (0, 0.25, 0.5, 1, 1)]
    assert rates(config, [0, 250, 500, 1000, 2000]) == pytest.approx(wanted)
    quick = LearningRateConfig(values=(0.1,), schedule="cosine", decay_steps=100)
    assert rates(quick, [50, 100]) == pytest.approx([0.05, 0.0], abs=1e-8)


def test_exponential_is_multiplied_every_decay_steps() -> None:
    config = LearningRateConfig(values=(0.1,), schedule="exponential", decay_rate=0.5, decay_steps=100)
    assert rates(config, [0, 50, 100, 300]) == pytest.approx([0.1, 0.1 * 0.5**0.5, 0.05, 0.0125])
    assert rates(LearningRateConfig((0.1,), schedule="exponential", decay_rate=0.5), [STEPS]) == pytest.approx([0.05])


def test_warm_up_goes_before_any_schedule() -> None:
    """It reaches the schedule's rate with its last step; the boundaries of `piecewise` count from the first."""
    piecewise = LearningRateConfig(values=(0.1, 0.01), boundaries=(20,), warmup_steps=10)
    assert rates(piecewise, [0, 4, 9, 20, 21]) == pytest.approx([0.01, 0.05, 0.1, 0.1, 0.01])
    cosine = LearningRateConfig(values=(0.1,), schedule="cosine", warmup_steps=200)
    assert rates(cosine, [0, 99, 200, 600, 1000]) == pytest.approx([0.0005, 0.05, 0.1, 0.05, 0.0], abs=1e-8)
    exponential = LearningRateConfig((0.1,), schedule="exponential", decay_rate=0.5, decay_steps=10, warmup_steps=10)
    assert rates(exponential, [9, 10, 20]) == pytest.approx([0.1, 0.1, 0.05])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"boundaries": (5,)}, "1 boundaries need 2 values"),
        ({"schedule": "cosine", "values": (0.1, 0.2), "boundaries": (5,)}, "boundaries means nothing to the schedule"),
        ({"schedule": "exponential"}, "needs a decay_rate"),
        ({"decay_steps": 5}, "decay_steps means nothing to the schedule piecewise"),
        ({"schedule": "cosine", "end": 1.0}, "end must lie between"),
    ],
)
def test_schedule_that_cannot_be_meant_is_refused(given: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LearningRateConfig(**given)


def test_another_first_rate_keeps_the_shape() -> None:
    config = LearningRateConfig(values=(0.1,), schedule="cosine", end=0.01).starting_at(0.2)
    assert (*config.values, config.end) == pytest.approx((0.2, 0.02))
