import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.errors import InputError
from core.image_limits import ImageLimits
from core.settings import Settings, converter, from_dict, load, split_overrides, to_dict
from core.settings.data import DataBounds, DataSettings, IngestionConfig
from core.settings.reference import paths
from core.settings.schema import fields
from tests.conftest import ROOT

DIGITS = ROOT / "configs" / "digits.yaml"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "birds.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_config_of_the_project_is_valid(path):
    assert load(path).name == path.stem


def test_what_is_not_said_has_its_default(tmp_path):
    loaded = load(write(tmp_path, "name: birds\ndata: {images: photos}\n"))
    assert loaded.backbone.image_size == 299
    assert loaded.head.hidden_units == (1024,)
    assert loaded.data.splits == {"train": 8, "eval": 1, "test": 1}


def test_overrides_win_and_the_last_of_them_most(tmp_path):
    path = write(tmp_path, "name: birds\ndata: {images: photos}\ntraining: {steps: 5}\n")
    loaded = load(
        path, ["training.steps=6", "training.steps=7", "training.learning_rate=1e-4", "head.hidden_units=[8, 4]"]
    )
    assert loaded.training.steps == 7
    assert loaded.training.learning_rate.values == (1e-4,)
    assert loaded.head.hidden_units == (8, 4)


def test_paths_are_relative_to_the_settings_file_and_on_the_command_line_to_the_current_directory(
    tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", "/home/jo")
    file = write(
        tmp_path,
        "name: birds\n"
        "data: {images: 'photos/day-{SPAN}', schema: ../birds.pbtxt}\n"
        "backbone: {weights: ~/w.h5}\n"
        "runtime: {beam: {engine: flink, job_server_jar: jars/flink.jar}}\n",
    )
    there = load(Path("..") / file.name)
    assert there.data.images == f"{tmp_path}/photos/day-{{SPAN}}"
    assert there.schema_file == tmp_path.parent / "birds.pbtxt"
    assert there.backbone.weights == "/home/jo/w.h5"
    assert there.runtime.beam.job_server_jar == f"{tmp_path}/jars/flink.jar"
    assert to_dict(there)["data"]["images"] == there.data.images

    here = load(
        file,
        [
            "data.images=photos",
            "data.schema=s.pbtxt",
            "backbone={weights: /abs/w.h5}",
            "runtime.beam.job_server_jar=../f.jar",
        ],
    )
    assert here.data.images == f"{tmp_path}/here/photos"
    assert here.schema_file == tmp_path / "here/s.pbtxt"
    assert here.backbone.weights == "/abs/w.h5"
    assert here.runtime.beam.job_server_jar == f"{tmp_path}/f.jar"


@pytest.mark.parametrize("images", ["sklearn-digits", "tfds:tf_flowers", "gs://bucket/photos", "s3://b/day-{SPAN}"])
@pytest.mark.parametrize("weights", ["imagenet", "random", "https://tfhub.dev/google/x/5", "gs://bucket/w.h5"])
def test_what_is_no_path_stays_as_it_is(images, weights, tmp_path):
    loaded = load(write(tmp_path, f"name: birds\ndata: {{images: '{images}'}}\nbackbone: {{weights: '{weights}'}}\n"))
    assert (loaded.data.images, loaded.backbone.weights) == (images, weights)
    overridden = load(DIGITS, [f"data.images='{images}'", f"backbone.weights='{weights}'"])
    assert (overridden.data.images, overridden.backbone.weights) == (images, weights)


def test_a_folder_may_be_called_like_another_settings_word(tmp_path):
    assert load(write(tmp_path, "name: birds\ndata: {images: random}\n")).data.images == f"{tmp_path}/random"


def test_the_schema_is_the_checkouts_wherever_a_run_is_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(write(tmp_path, "name: birds\ndata: {images: p}\n")).schema_file == ROOT / "schemas/birds.pbtxt"


def test_settings_survive_the_way_through_plain_values():
    loaded = load(DIGITS, ["fine_tune.from=mixed9"])
    text = json.dumps(to_dict(loaded))
    assert '"from": "mixed9"' in text
    assert from_dict(json.loads(text), Settings) == loaded


def test_a_search_can_be_asked_for():
    assert load(DIGITS, ["tuner.trials=3"]).tuner.trials == 3


def test_the_limits_of_images_reach_the_exported_model():
    loaded = load(DIGITS, ["data.max_megapixels=20", "data.max_file_mb=1.5"])
    assert loaded.trainer.limits == ImageLimits(1.5, 20)
    assert converter.from_json(converter.to_json(loaded.trainer), type(loaded.trainer)) == loaded.trainer
    assert load(DIGITS).trainer.limits == ImageLimits(64, 64)


def test_settings_cannot_be_changed():
    loaded = load(DIGITS)
    with pytest.raises(AttributeError, match="immutable"):
        loaded.name = "other"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the settings .*nothing\.yaml"):
        load(tmp_path / "nothing.yaml")


def test_numbers_are_those_of_yaml_1_2(tmp_path):
    loaded = load(write(tmp_path, "name: birds\ndata: {images: no}\ntraining: {learning_rate: 1e-3}\n"))
    assert loaded.data.images == str(tmp_path / "no")
    assert loaded.training.learning_rate.values == (0.001,)


KNOWN = "|".join(sorted({path.split(".")[0] for path in paths()}))
NAMED = re.compile(rf"\b({KNOWN})\b|there is no such setting|settings are a mapping|not valid YAML|not of the form")
EXPLAINED = re.compile(
    "expected |there is no such|: missing;|not valid YAML: .|must |is not (of the form|a |a layer)|; use |no pattern|"
    "has no keys|choose among|is a secret|is given twice|settings are a mapping of keys to values, found |"
    "cannot read .*: .|names a"
)


def assert_helps(error: InputError, *places: str) -> None:
    """The message says where the mistake is, names the setting, and says what is wrong."""
    assert str(error).startswith(places), error
    assert NAMED.search(str(error)) or str(error).startswith("cannot read"), error
    assert EXPLAINED.search(str(error)), error


def test_all_mistakes_are_said_at_once():
    with pytest.raises(InputError) as error:
        load(DIGITS, ["training.batch_sise=3", "data.imags=x", "head.dropout=no"])
    assert len(str(error.value).splitlines()) == 3


@given(st.text(max_size=60))
def test_an_override_ends_in_settings_or_in_a_message_that_helps(text):
    try:
        load(DIGITS, [text])
    except InputError as error:
        assert_helps(error, "SET")


_KEYS = [field.name for cls in (Settings, DataSettings, DataBounds) for field, _ in fields(cls).values()]
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["auto", "latest", "digits"]),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(_KEYS), st.text(max_size=8)), inner, max_size=5),
    ),
    max_leaves=12,
)


def test_more_mistakes_than_are_said_leave_the_rest_unread():
    many = [f"data.unknown_{number}=1" for number in range(60)]
    with pytest.raises(InputError, match="and more"):
        load(DIGITS, [*many, "serving={server: true}", "training=true"])


@given(
    values=st.fixed_dictionaries(
        {"name": _VALUES, "data": _VALUES}, optional=dict.fromkeys({*_KEYS} - {"name", "data"}, _VALUES)
    )
)
@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_values_settings_have_they_are_read_or_refused_in_words(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("fuzz") / "s.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    try:
        load(path)
    except InputError as error:
        assert_helps(error, str(path))


@given(
    text=st.one_of(st.text(max_size=80), st.text(alphabet="{}[]:,-&*!|>'\"%@`#? \n\tab1.", max_size=80)),
    key=st.text(max_size=12),
)
@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_text_settings_are_it_is_read_or_refused_in_words(tmp_path_factory, text, key):
    path = tmp_path_factory.mktemp("fuzz") / "s.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    for overrides in ([], [f"{key}={text}"], [f"data.images={text}"]):
        for file in (path, DIGITS):
            try:
                load(file, overrides)
            except InputError as error:
                assert_helps(error, str(file), "SET", f"cannot read the settings {file}")


@pytest.mark.parametrize(
    ("given", "split"),
    [
        (("a=1 b=2",), ["a=1", "b=2"]),
        (("a=1", "b=2"), ["a=1", "b=2"]),
        (("head.hidden_units=[64, 32] training.steps=5",), ["head.hidden_units=[64, 32]", "training.steps=5"]),
        (("a={x: [1, 2], y: 3} b=4",), ["a={x: [1, 2], y: 3}", "b=4"]),
        (("data.images=my photos name=birds",), ["data.images=my photos", "name=birds"]),
        ((), []),
        (('"a=1 b=2',), ['"a=1', "b=2"]),
        (('card.owner="A = B" training.steps=3',), ['card.owner="A = B"', "training.steps=3"]),
        (("card.owner='a b=c' training.steps=3",), ["card.owner='a b=c'", "training.steps=3"]),
        (('"card.owner=A b=c" training.steps=3',), ["card.owner=A b=c", "training.steps=3"]),
        (('card.owner="say \\"a b=c\\"" training.steps=3',), ['card.owner="say \\"a b=c\\""', "training.steps=3"]),
        (("card.owner=Ann's team training.steps=3",), ["card.owner=Ann's team", "training.steps=3"]),
        (
            ('runtime.beam={engine: flink, job_endpoint: "h:1", options: ["--a=b c=d"]} name=x',),
            ['runtime.beam={engine: flink, job_endpoint: "h:1", options: ["--a=b c=d"]}', "name=x"],
        ),
        (("data={images: x, bounds: {leaked: 0}} name=x",), ["data={images: x, bounds: {leaked: 0}}", "name=x"]),
    ],
)
def test_overrides_are_split_at_blanks_but_not_in_brackets_or_quotes(given, split):
    assert split_overrides(given) == split


@given(st.text(alphabet="ab=. \"'[]{}\\\\\n", max_size=40))
def test_whatever_overrides_are_they_are_split_and_nothing_is_lost(text):
    parts = split_overrides([text])
    assert all(part == part.strip() for part in parts if not part.startswith(("'", '"')))
    bare = re.sub(r"[\s\"'\\\\]", "", text)
    assert re.sub(r"[\s\"'\\\\]", "", "".join(parts)) == bare


def test_a_value_in_quotes_may_hold_what_looks_like_an_override():
    loaded = load(DIGITS, split_overrides(['card.owner="A = B training.steps=4" training.steps=3']))
    assert (loaded.card.owner, loaded.training.steps) == ("A = B training.steps=4", 3)


def test_what_the_user_gave_is_known_and_changes_nothing_else(tmp_path):
    loaded = load(write(tmp_path, "name: birds\ndata: {images: photos}\n"), ["head.dropout=0.2"])
    assert loaded.given == {"name", "data", "data.images", "head", "head.dropout"}
    assert loaded == load(write(tmp_path, "name: birds\ndata: {images: photos}\n"))
    assert "given" not in to_dict(loaded)


def test_the_order_in_which_splits_are_given_decides_nothing():
    """Hash buckets are counted in the order of the splits: another one would move images between them."""
    config = DataSettings("images", splits={"test": 1, "train": 8, "eval": 1}).ingestion({})
    assert list(converter.from_json(converter.to_json(config), IngestionConfig).splits) == ["train", "eval", "test"]


@pytest.mark.parametrize(
    "default", ["training.seed=1", "head.dropout=0.2", "data.bounds.leaked=0.01", "card.limits=[]"]
)
def test_a_default_that_is_given_changes_nothing_that_is_written(default):
    """Neither a stage's cache key nor the record of the run."""
    given, left_out = load(DIGITS, [default]), load(DIGITS)
    assert given == left_out and converter.to_json(given) == converter.to_json(left_out)
    assert set(to_dict(given)["training"]) == {field.name for field in dataclasses.fields(given.training)}


BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
MERGED = "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 10))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "with every alias (*) written out, its values have more than 262,144 characters"),
        (MERGED, "with every alias (*) written out, its values have more than 262,144 characters"),
        (f"training: {{steps: &a {'x' * 9999}}}\nhead: {{hidden_units: [{'*a,' * 99}]}}", "with every alias (*)"),
        ("training: &a {steps: *a}", "values within values, more than 32 deep"),
        (f"training: {'{a: ' * 200}1{'}' * 200}", "values within values, more than 32 deep"),
        ("b0: &b0 [1]\n" + "".join(f"b{i}: &b{i} [*b{i - 1}]\n" for i in range(1, 400)), "more than 32 deep"),
        ("# " + "x" * 2**20, "settings have at most 262,144 characters"),
        ("\n".join(f"k{i}: 1" for i in range(2000)), "k49: there is no such setting"),
        (f"training: {{steps: {'x' * 99_999}}}", "(100,001 characters)"),
        ("x" * 900 + ": 1", "(900 characters): there is no such setting"),
        (f"training: {{steps: 0x{'9' * 9999}}}", "a number of thousands of digits; it must be below"),
        (f"training: {{steps: {'9' * 9999}}}", "Exceeds the limit"),
        (f"training: {{steps: {2**70}}}", "it must be below 2 to the power of 63"),
        ("kubeflow: {environment: {T: {password: hunter2, password: hunter3}}}", 'duplicate key "password"'),
    ],
    ids=[
        "aliases", "merged", "a long value", "itself", "deep", "deep by aliases", "a large file", "many mistakes",
        "a long word", "a long key", "many digits", "many decimals", "beyond 64 bits", "twice",
    ],
)  # fmt: skip
def test_hostile_yaml_is_refused_in_few_words(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as error:
        load(write(tmp_path, f"name: birds\ndata: {{images: photos}}\n{text}\n"))
    assert len(str(error.value)) < 12_000 and "hunter" not in str(error.value)


def test_an_override_may_be_as_hostile() -> None:
    for override in (
        "data={? [a, [b]] : c}",
        "training.steps." + "x" * 9999 + "=1",
        "a." * 3000 + "b=1",
        "x" * 99_999,
        "training.steps=" + "[" * 99,
    ):
        with pytest.raises(InputError) as error:
            load(DIGITS, [override])
        assert len(str(error.value)) < 500
