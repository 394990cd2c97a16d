"""Keras's own network, which ours is compared with."""

import pytest
from tensorflow import keras


@pytest.fixture(scope="session")
def one_keras_base() -> keras.Model:
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    return keras.applications.InceptionV3(weights=None, include_top=False)


@pytest.fixture
def keras_base(one_keras_base: keras.Model) -> keras.Model:
    """Keras's InceptionV3 without top, its layers named as in a fresh process and none of them frozen."""
    one_keras_base.trainable = True
    return one_keras_base
