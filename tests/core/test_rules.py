import pytest
from tensorflow import keras

from core import rules
from core.errors import InputError
from core.settings.training import FineTuneConfig


@pytest.mark.parametrize("output", ["mixed10", "mixed7"])
def test_last_layers_means_what_the_keras_loop_means(output: str, keras_base: keras.Model) -> None:
    base = keras.Model(keras_base.input, keras_base.get_layer(output).output)
    for n in (5, 17, 60):
        base.trainable = True
        for layer in base.layers[:-n]:
            layer.trainable = False
        wanted = [layer.name for layer in base.layers if layer.trainable and layer.weights]
        assert list(rules.trained_layers(FineTuneConfig(last_layers=n), output)) == wanted


@pytest.mark.parametrize(
    ("fine_tune", "cut"),
    [
        (FineTuneConfig(), "pooled"),
        (FineTuneConfig(last_layers=0), "pooled"),
        (FineTuneConfig(last_layers=5), "pooled"),  # none of the last five has weights
        (FineTuneConfig(from_layer="mixed9"), "mixed8"),
        (FineTuneConfig(from_layer="mixed8"), "mixed7"),
        (FineTuneConfig(from_layer="mixed0"), None),
        (FineTuneConfig(last_layers=1000), None),
        (FineTuneConfig(from_layer="conv2d"), None),
        (FineTuneConfig(rules=(("conv2d_5", 1.0), (".*", 0.0))), None),
        (FineTuneConfig(rules=(("conv2d_(8[5-9]|9.)", 0.1), (".*", 0.0))), "mixed9"),
        (FineTuneConfig(rules=(("conv2d_93", 0.0), ("conv2d_93", 1.0), (".*", 0.0))), "pooled"),
    ],
)
def test_cut_is_the_last_block_before_what_trains(fine_tune: FineTuneConfig, cut: str | None) -> None:
    assert rules.cut_for(fine_tune, "mixed10") == cut


def test_decay_is_a_power_for_every_block_below_the_last() -> None:
    fine_tune = FineTuneConfig(from_layer="mixed7", decay=0.8)
    trained = rules.trained_layers(fine_tune, "mixed10")
    by_block = {"conv2d_93": 1.0, "conv2d_84": 0.8, "conv2d_75": 0.64, "batch_normalization_69": 0.512}
    assert {layer: round(trained[layer], 9) for layer in by_block} == by_block  # mixed10, mixed9, mixed8, mixed7
    assert len(set(trained.values())) == 4
    assert list(trained) == list(rules.trained_layers(FineTuneConfig(from_layer="mixed7"), "mixed10"))
    assert {m.rule for m in rules.matched(fine_tune, "mixed10") if m.multiplier} == {"from: mixed7, decay: 0.8"}


def test_decay_counts_the_stem_as_a_block() -> None:
    trained = rules.trained_layers(FineTuneConfig(last_layers=1000, decay=0.5), "mixed1")
    assert (trained["conv2d"], trained["conv2d_4"], trained["conv2d_5"], trained["conv2d_12"]) == (0.25, 0.25, 0.5, 1.0)


@pytest.mark.parametrize("given", [{"decay": 0.5}, {"decay": 0.5, "rules": ((".*", 1.0),)}, {"decay": 1.5}])
def test_decay_needs_a_shorthand_and_is_at_most_1(given: dict) -> None:
    with pytest.raises(ValueError, match="decay"):
        FineTuneConfig(**given)


def test_first_matching_pattern_decides_and_is_named() -> None:
    fine_tune = FineTuneConfig(rules=(("conv2d_93", 0.1), ("(conv2d|batch_normalization)_93", 1.0), (".*", 0.0)))
    found = {m.layer: m for m in rules.matched(fine_tune, "mixed10")}
    assert len(found) == 310
    assert (found["conv2d_93"].multiplier, found["conv2d_93"].rule) == (0.1, "conv2d_93")
    assert found["conv2d_93"].parameters == 2048 * 192
    assert (found["batch_normalization_93"].multiplier, found["batch_normalization_93"].parameters) == (1.0, 192)
    assert (found["conv2d_92"].multiplier, found["conv2d_92"].rule) == (0.0, ".*")


@pytest.mark.parametrize(
    ("fine_tune", "words"),
    [
        (FineTuneConfig(from_layer="mixd8"), "Near it: mixed8"),
        (FineTuneConfig(from_layer="mixed9"), "up to mixed8"),
        (FineTuneConfig(rules=(("conv2d.*", 1.0),)), "no pattern matches the layer batch_normalization"),
        (FineTuneConfig(rules=(("conv2d_8", -1.0), (".*", 0.0))), "-1.0"),
        (FineTuneConfig(rules=(("conv2d_(", 1.0), (".*", 0.0))), "not a regular expression"),
        (FineTuneConfig(rules=(("onv2d_8", 1.0), (".*", 0.0))), "whole name, such as conv2d_8"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_explained(fine_tune: FineTuneConfig, words: str) -> None:
    with pytest.raises(InputError) as error:
        rules.cut_for(fine_tune, "mixed8")
    assert words in str(error.value)
