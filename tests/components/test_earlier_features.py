from tfx.types.standard_artifacts import Examples

from components.earlier_features import EarlierFeaturesStrategy


def raw(number):
    artifact = Examples()
    artifact.id = number
    return artifact


def features(number, of, parameters="p"):
    artifact = raw(number)
    artifact.set_int_custom_property("examples_id", of)
    artifact.set_string_custom_property("parameters", parameters)
    return artifact


def resolve(at_hand, *there, parameters="p"):
    channels = {"examples": [raw(at_hand)], "features": list(there)}
    return [a.id for a in EarlierFeaturesStrategy(parameters).resolve_artifacts(None, channels)["features"]]


def test_a_first_run_finds_none_among_raw_examples():
    assert resolve(1, raw(1)) == []


def test_new_images_find_the_features_of_earlier_ones_latest_first():
    assert resolve(20, raw(20), features(11, of=1), features(12, of=2)) == [12, 11]


def test_a_run_repeated_unchanged_finds_what_it_found():
    first = features(11, of=1)
    own = features(21, of=20)
    assert resolve(20, first) == resolve(20, first, own) == [11]
    assert resolve(20, first, own, features(31, of=30)) == [11]
    assert resolve(1, first) == []


def test_the_same_images_with_other_parameters_find_their_own():
    assert resolve(1, features(11, of=1, parameters="other")) == [11]
    assert resolve(1, features(11, of=1, parameters="other"), features(12, of=1)) == [11]


def test_only_the_latest_few_are_read():
    assert resolve(99, *(features(n, of=n - 10) for n in range(11, 20))) == [19, 18, 17, 16]
