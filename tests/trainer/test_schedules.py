import tensorflow as tf

from trainer import schedules
from trainer.config import LearningRateConfig


def rates(config: LearningRateConfig, steps: list[int]) -> list[float]:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        step = tf.compat.v1.placeholder(tf.int64, [])
        rate = schedules.learning_rate(config, step)
        return [round(float(session.run(rate, {step: s})), 6) for s in steps]


def test_piecewise_constant_changes_after_its_boundary() -> None:
    config = LearningRateConfig(values=(0.1, 0.01, 0.001), boundaries=(10, 20))
    assert rates(config, [0, 10, 11, 20, 21, 1000]) == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]


def test_one_value_is_constant() -> None:
    assert rates(LearningRateConfig(values=(0.5,)), [0, 10_000]) == [0.5, 0.5]
