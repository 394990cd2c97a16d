from tfx.types.standard_artifacts import Model, ModelBlessing

from components.baseline import BaselineStrategy


def model(number):
    artifact = Model()
    artifact.id = number
    return artifact


def blessing(number, of, blessed=1, baseline=0, rejected=0):
    artifact = ModelBlessing()
    artifact.id = number
    artifact.set_int_custom_property("blessed", blessed)
    artifact.set_int_custom_property("current_model_id", of)
    if rejected:
        artifact.set_int_custom_property("rejected", rejected)
    if baseline:
        artifact.set_int_custom_property("baseline_model_id", baseline)
    return artifact


def resolve(candidate, models, blessings):
    found = BaselineStrategy().resolve_artifacts(
        None,
        {
            "candidate": [model(candidate)],
            "model": [model(m) for m in models],
            "model_blessing": blessings,
        },
    )
    return [m.id for m in found["model"]]


def test_a_first_model_has_no_baseline():
    assert resolve(1, [1], []) == []


def test_the_last_blessed_model_is_the_baseline():
    assert resolve(3, [1, 2, 3], [blessing(10, 1), blessing(11, 2)]) == [2]


def test_a_refused_model_is_no_baseline():
    assert resolve(3, [1, 2, 3], [blessing(10, 1), blessing(11, 2, blessed=0)]) == [1]


def test_a_model_that_people_rejected_is_no_baseline():
    assert resolve(3, [1, 2, 3], [blessing(10, 1), blessing(11, 2, rejected=1)]) == [1]


def test_the_candidate_of_a_repeated_run_keeps_the_baseline_it_was_blessed_against():
    assert resolve(2, [1, 2], [blessing(10, 1), blessing(11, 2, baseline=1)]) == [1]
    assert resolve(1, [1], [blessing(10, 1)]) == []


def test_an_older_model_that_comes_back_is_judged_against_the_last_blessed():
    assert resolve(1, [1, 2], [blessing(10, 1), blessing(11, 2, baseline=1)]) == [2]


def test_models_that_no_blessing_names_are_passed_over():
    assert resolve(5, [4, 5], [blessing(10, 1)]) == []
