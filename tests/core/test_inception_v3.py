from tensorflow import keras

from core import inception_v3
from trainer.network import backbone


def test_written_down_network_is_the_installed_keras_one(keras_base: keras.Model) -> None:
    wanted = keras_base.get_config()["layers"]
    assert wanted[0]["class_name"] == "InputLayer"
    source = {wanted[0]["name"]: inception_v3.INPUT}
    ours = inception_v3.layers()
    assert [layer.name for layer in ours] == [layer["name"] for layer in wanted[1:]]
    for mine, theirs in zip(ours, wanted[1:], strict=True):
        read = [node[0] for node in theirs["inbound_nodes"][0]]
        assert list(mine.inputs) == [source.get(name, name) for name in read]
        made = backbone.make_layer(mine, trainable=True)
        assert type(made).__name__ == theirs["class_name"]
        assert made.get_config() == theirs["config"]
        weights = [tuple(w.shape) for w in keras_base.get_layer(mine.name).weights]
        assert [shape for _, shape in mine.weights] == weights


def test_layers_between_blocks_depend_on_the_block_alone() -> None:
    for start, stop in (("mixed0", "mixed1"), ("mixed7", "mixed8"), ("mixed3", "mixed10")):
        run = inception_v3.between(start, stop)
        known = {start} | {layer.name for layer in run}
        assert all(name in known for layer in run for name in layer.inputs)
        assert run[-1].name == stop
