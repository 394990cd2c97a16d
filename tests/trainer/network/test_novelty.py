"""Novelty: pictures unlike the training ones rank above the eval split's, on the same scale for every network."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from trainer.network import novelty

WIDTH, CLASSES = 256, 3
_random = np.random.default_rng(0)
CENTERS = _random.uniform(0.2, 1, (CLASSES, WIDTH))
DIRECTIONS = _random.normal(size=(12, WIDTH))


def features(count: int, seed: int, *, scale: float = 1.0, unlike: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Of images of three classes that vary in some directions; `unlike` moves them in another one."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    varied = random.normal(size=(count, 12)) @ DIRECTIONS * 0.1 + random.normal(size=(count, WIDTH)) * 0.02
    moved = np.random.default_rng(7).normal(size=WIDTH) * unlike
    return ((CENTERS[labels] + varied + moved) * scale).astype(np.float32), labels


def answers(values: dict[str, np.ndarray], pooled: np.ndarray, ranked: bool = True) -> np.ndarray:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        distance = novelty.distance(tf.constant(pooled), CLASSES)
        wanted = novelty.rank(distance) if ranked else distance
        feeds = {v.initializer.inputs[1]: values[v.op.name] for v in tf.compat.v1.global_variables()}
        session.run([v.initializer for v in tf.compat.v1.global_variables()], feeds)
        return session.run(wanted)


def fitted(train: int = 300, evaluate: int = 200, scale: float = 1.0) -> dict[str, np.ndarray]:
    values = novelty.directions(*features(train, 1, scale=scale), CLASSES)
    return values | novelty.quantiles(answers(values, features(evaluate, 2, scale=scale)[0], ranked=False))


def test_new_pictures_of_the_same_kind_rank_evenly_among_the_eval_split() -> None:
    found = answers(fitted(), features(1000, 3)[0])

    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(np.quantile(found, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.08)


def test_pictures_of_another_kind_rank_above_nearly_all_and_the_farther_the_higher() -> None:
    near, far, farther = (answers(fitted(), features(50, 4, unlike=by)[0]).min() for by in (0.0, 0.03, 0.04))

    assert near < 0.1 and 0.99 < far < farther <= 1


def test_the_distance_is_that_of_scikit_learns_probabilistic_pca() -> None:
    train, labels = features(300, 1)
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    means = np.stack([unit[labels == number].mean(axis=0) for number in range(CLASSES)])
    from sklearn.decomposition import PCA

    precision = PCA(128, svd_solver="full").fit(unit - means[labels]).get_precision()
    new, _ = features(40, 5, unlike=0.02)
    deviations = (new / np.linalg.norm(new, axis=1, keepdims=True))[:, None] - means
    wanted = np.sqrt(np.einsum("nkd,de,nke->nk", deviations, precision, deviations)).min(axis=1)

    found = answers(novelty.directions(train, labels, CLASSES), new, ranked=False)

    np.testing.assert_allclose(found, wanted, rtol=0.05)


@pytest.mark.parametrize("scale", [1e-4, 1e3])
def test_neither_the_scale_of_the_features_nor_how_bright_they_are_matters(scale: float) -> None:
    new, _ = features(100, 6)

    np.testing.assert_allclose(answers(fitted(scale=scale), new * scale), answers(fitted(), new), atol=0.01)


@pytest.mark.parametrize(("train", "evaluate"), [(1, 1), (3, 2), (9, 5)])
def test_few_pictures_give_a_coarse_rank_and_no_error(train: int, evaluate: int) -> None:
    values = fitted(train, evaluate)

    assert all(np.isfinite(value).all() for value in values.values())
    far = answers(values, features(3, 8, unlike=3.0)[0])
    assert (far >= evaluate / (evaluate + 1) - 1e-6).all() and (far <= 1).all()


def test_pictures_that_are_all_the_same_leave_no_number_infinite() -> None:
    same = np.repeat(features(1, 1)[0], 30, axis=0)
    values = novelty.directions(same, np.zeros(30, int), CLASSES)
    values |= novelty.quantiles(answers(values, same, ranked=False))

    assert answers(values, same).max() < 1
    assert (answers(values, features(3, 2, unlike=0.1)[0]) > 0.9).all()
    assert np.isfinite(answers(values, np.zeros((1, WIDTH), np.float32))).all()


def test_classes_without_a_picture_in_the_sample_are_no_obstacle() -> None:
    train, labels = features(90, 1)
    values = novelty.directions(train[labels > 0], labels[labels > 0], CLASSES)

    assert np.isfinite(answers(values, train, ranked=False)).all()
