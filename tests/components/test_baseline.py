from tfx.types.standard_artifacts import Model, ModelBlessing

from components.baseline import BaselineStrategy


def model(number, folder=None):
    artifact = Model()
    artifact.id = number
    artifact.uri = str(folder / str(number)) if folder else ""
    return artifact


def write_classes(folder, number, classes):
    assets = folder / str(number) / "Format-Serving" / "assets"
    assets.mkdir(parents=True)
    (assets / "classes.txt").write_text(classes)


def blessing(number, of, blessed=1, baseline=0):
    artifact = ModelBlessing()
    artifact.id = number
    artifact.set_int_custom_property("blessed", blessed)
    artifact.set_int_custom_property("current_model_id", of)
    if baseline:
        artifact.set_int_custom_property("baseline_model_id", baseline)
    return artifact


def resolve(candidate, models, blessings, folder=None):
    found = BaselineStrategy().resolve_artifacts(
        None,
        {
            "candidate": [model(candidate, folder)],
            "model": [model(m, folder) for m in models],
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


def test_the_candidate_of_a_repeated_run_keeps_the_baseline_it_was_blessed_against():
    assert resolve(2, [1, 2], [blessing(10, 1), blessing(11, 2, baseline=1)]) == [1]
    assert resolve(1, [1], [blessing(10, 1)]) == []


def test_an_older_model_that_comes_back_is_judged_against_the_last_blessed():
    assert resolve(1, [1, 2], [blessing(10, 1), blessing(11, 2, baseline=1)]) == [2]


def test_models_that_no_blessing_names_are_passed_over():
    assert resolve(5, [4, 5], [blessing(10, 1)]) == []


def test_a_model_of_other_classes_or_whose_files_are_gone_is_no_baseline(tmp_path):
    write_classes(tmp_path, 1, "daisy\nroses\n")
    write_classes(tmp_path, 2, "daisy\nroses\ntulips\n")
    write_classes(tmp_path, 3, "daisy\nroses\ntulips\n")
    assert resolve(2, [1, 2], [blessing(10, 1)], tmp_path) == []
    assert resolve(3, [2, 3], [blessing(10, 2)], tmp_path) == [2]
    assert resolve(3, [3, 4], [blessing(10, 4)], tmp_path) == []
