from tfx.types.standard_artifacts import Examples, Model, TransformGraph

from components.earlier_features import EarlierFeaturesStrategy
from core.artifacts.executions import EXECUTION, execution_key

CONFIG = ("config", "code")


def artifact(number, kind=Examples):
    made = kind()
    made.id = number
    return made


def inputs(examples, transform_graph=2):
    return {
        "examples": [artifact(examples)],
        "transform_graph": [artifact(transform_graph, TransformGraph)],
        "backbone": [artifact(3, Model)],
    }


def features(number, of, parameters=CONFIG, transform_graph=2):
    made = artifact(number)
    read = [artifacts[0] for artifacts in inputs(of, transform_graph).values()]
    made.set_string_custom_property(EXECUTION, execution_key(parameters, read))
    return made


def resolve(examples, *found, parameters=CONFIG, transform_graph=2):
    channels = {**inputs(examples, transform_graph), "features": list(found)}
    resolved = EarlierFeaturesStrategy(*parameters).resolve_artifacts(None, channels)
    assert resolved.keys() == channels.keys()
    return [a.id for a in resolved["features"]]


def test_a_first_run_finds_none_among_raw_examples():
    assert resolve(1, artifact(1)) == []


def test_new_images_find_the_features_of_earlier_ones_latest_first():
    assert resolve(20, artifact(20), features(11, of=1), features(12, of=2)) == [12, 11]


def test_a_run_repeated_unchanged_finds_what_it_found():
    first = features(11, of=1)
    own = features(21, of=20)
    assert resolve(20, first) == resolve(20, first, own) == [11]
    assert resolve(20, first, own, features(31, of=30)) == [11]
    assert resolve(1, first) == []


def test_the_same_images_with_other_parameters_find_their_own():
    assert resolve(1, features(11, of=1, parameters=("other", "code"))) == [11]
    assert resolve(1, features(11, of=1, parameters=("other", "code")), features(12, of=1)) == [11]


def test_only_the_latest_few_are_read():
    assert resolve(99, *(features(n, of=n - 10) for n in range(11, 20))) == [19, 18, 17, 16]


def test_other_code_or_another_graph_finds_the_features_of_the_same_images():
    """Whether they are the same is for FeatureExtractor to see."""
    assert resolve(1, features(11, of=1), parameters=("config", "other code")) == [11]
    assert resolve(1, features(11, of=1), transform_graph=9) == [11]
