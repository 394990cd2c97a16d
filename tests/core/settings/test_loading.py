import contextlib
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.errors import InputError
from core.image_limits import ImageLimits
from core.settings import converter, loading
from core.settings.data import DataBounds, DataSettings
from tests.conftest import ROOT

DIGITS = ROOT / "configs" / "digits.yaml"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "birds.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_config_of_the_project_is_valid(path):
    assert loading.load(path).name == path.stem


def test_what_is_not_said_has_its_default(tmp_path):
    loaded = loading.load(write(tmp_path, "name: birds\ndata: {images: photos}\n"))
    assert loaded.backbone.image_size == 299
    assert loaded.head.hidden_units == (1024,)
    assert loaded.data.splits == {"train": 8, "eval": 1, "test": 1}


def test_overrides_win_and_the_last_of_them_most(tmp_path):
    path = write(tmp_path, "name: birds\ndata: {images: photos}\ntraining: {steps: 5}\n")
    loaded = loading.load(
        path, ["training.steps=6", "training.steps=7", "training.learning_rate=1e-4", "head.hidden_units=[8, 4]"]
    )
    assert loaded.training.steps == 7
    assert loaded.training.learning_rate.values == (1e-4,)
    assert loaded.head.hidden_units == (8, 4)


def test_settings_survive_the_way_through_plain_values():
    loaded = loading.load(DIGITS, ["fine_tune.from=mixed9"])
    text = json.dumps(loading.to_dict(loaded))
    assert '"from": "mixed9"' in text
    assert loading.from_dict(json.loads(text)) == loaded


def test_a_search_needs_what_its_trials_can_share():
    assert loading.load(DIGITS, ["tuner.trials=3"]).tuner.trials == 3
    with pytest.raises(InputError, match=r"tuner\.output needs a base that is frozen whole"):
        loading.load(DIGITS, ["tuner.output=[mixed8, mixed9]", "fine_tune.from=mixed9"])
    with pytest.raises(InputError, match="tuner: a trial needs cached features"):
        loading.load(DIGITS, ["tuner.trials=3", "fine_tune.from=conv2d"])


def test_the_limits_of_pictures_reach_the_exported_model():
    loaded = loading.load(DIGITS, ["data.max_megapixels=20", "data.max_file_mb=1.5"])
    assert loaded.trainer.limits == ImageLimits(1.5, 20)
    assert converter.from_dict(converter.to_dict(loaded.trainer)) == loaded.trainer
    assert loading.load(DIGITS).trainer.limits == ImageLimits(64, 64)


def test_settings_cannot_be_changed():
    loaded = loading.load(DIGITS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.name = "other"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.batch_sise=3", "training.batch_sise: there is no such setting; did you mean training.batch_size?"),
        ("trainings={}", "trainings: there is no such setting; did you mean training?"),
        ("training.steps='5'", "training.steps: expected a whole number, found '5'"),
        ("training.steps=2.5", "training.steps: expected a whole number, found 2.5"),
        ("training.steps=0", "steps must be positive"),
        ("data.max_megapixels=200", "max_megapixels is 200; it must be above 0 and at most 178"),
        ("data.max_file_mb=0", "max_file_mb is 0; it must be above 0 and at most 512"),
        ("data.max_file_mb=.nan", "max_file_mb is nan; it must be above 0"),
        ("runtime.cache=1", "runtime.cache: expected true or false, found 1"),
        ("runtime.bfloat16=maybe", "runtime.bfloat16: expected one of auto, on, off, found 'maybe'"),
        ("head.class_weights=some", "head.class_weights: expected one of balanced, found 'some'"),
        ("head.hidden_units=5", "head.hidden_units: expected a list of a whole number"),
        ("head.dropout=1", "dropout is 1.0; it must be in [0, 1)"),
        ("data=3", "data: expected keys and values (images, layout, span"),
        ("backbone.output=mixed11", "it must be one of mixed0, mixed1"),
        ("backbone.image_size=32", "image_size is 32; InceptionV3 needs at least 75 pixels"),
        ("fine_tune={from: mixed9, last_layers: 3}", "give only one of from, last_layers and rules"),
        ("fine_tune.rules=[[mixed9, 1], [mixed]]", "fine_tune.rules[1]"),
        ("training.learning_rate={boundaries: [10], values: [1]}", "1 boundaries need 2 values, not 1"),
        (
            "training.learning_rate={schedule: cosine, decay_rate: 0.5}",
            "decay_rate means nothing to the schedule cosine",
        ),
        ("training.momentum=0.5", "adam takes no momentum"),
        ("training.head_steps=10", "without fine_tune nothing but the head ever trains"),
        (
            "training.head_steps=600",
            "training.head_steps is 600, and training ends after 600 steps (training.steps)",
        ),
        (
            "training.learning_rate={values: [1.0e-3], warmup_steps: 900}",
            "training.learning_rate.warmup_steps is 900, and training ends after",
        ),
        (
            "training={head_steps: 10, distribution: parameter_server}",
            "does not go with distribution: parameter_server",
        ),
        ("fine_tune={decay: 0.5}", "decay needs from or last_layers"),
        ("fine_tune={l2_sp: 0.5}", "l2_sp needs from, last_layers or rules"),
        (
            "training.learning_rate=fast",
            "training.learning_rate: expected a number, or boundaries and values, found 'fast'",
        ),
        ("data.splits={train: 1}", "splits must give a positive number for each of train, eval, test"),
        ("name=My Birds", "name is 'My Birds'; use lower-case letters"),
        ("evaluation.thresholds={accuracy: {mim: 3}}", "did you mean evaluation.thresholds.accuracy.min?"),
        (
            "evaluation.per_slice={acuracy: {min: 1}}",
            "per_slice.acuracy: there is no such metric; did you mean accuracy?",
        ),
        ("evaluation.thresholds={accuracy: {min: 90}}", "thresholds.accuracy: bounds are parts, from 0 to 1"),
        ("evaluation.thresholds={accuracy: {min: .nan}}", "min is nan; it must be a finite number"),
        ("evaluation.thresholds={accuracy: {min: 0.9, max: 0.1}}", "min is 0.9, above max, which is 0.1"),
        ("evaluation.thresholds={accuracy: {max_drop: -1}}", "max_drop is -1.0; it must not be negative"),
        ("evaluation.slices=label", "evaluation.slices: expected a list of text, found 'label'"),
        ("fine_tune.from=mixed12", "fine_tune.from is 'mixed12', which is not a layer"),
        ("serving.timeout_seconds=0", "timeout_seconds must be positive"),
        *(
            (f"serving.{name}={value}", f"{name} is {value.strip('.')}; it must be a positive, finite number, or null")
            for name in ("max_median_latency_ms", "max_latency_ms", "max_load_seconds", "max_memory_mb")
            for value in (".nan", ".inf", "-1.0", "0.0")
        ),
        ("serving.server.request_seconds=.nan", "request_seconds is nan; it must be a positive, finite number"),
        ("serving.server.max_batch=0", "max_batch is 0; it must be a positive, finite number"),
        ("serving.server.max_message_mb=1025", "max_message_mb is 1025; it must be at most 1024"),
        (
            "data.max_file_mb=64.5",
            "serving.server.max_message_mb is 64, below data.max_file_mb, which is 64.5: a picture of that size could "
            "not be sent",
        ),
        ("tuner.trials=0", "trials must be positive"),
        ("tuner.dropout=[]", "dropout must name at least one value"),
        ("tuner.hidden_units=[[8], [8]]", "hidden_units names a value twice"),
        ("tuner.dropout=[0.2, 1]", "dropout is 1.0; it must be in [0, 1)"),
        ("tuner.output=[mixed11]", "it must be one of mixed0, mixed1"),
        ("evaluation.slices=[label, label]", "'label' is given twice"),
        ("training.steps.x=3", "training.steps is 600, it has no keys of its own"),
        ("training.steps", "'training.steps' is not of the form path.of.setting=value"),
        ("data.images='p/{SPAN}/{VERSON}'", "data: '{SPAN}/{VERSON}' is no pattern of spans"),
        ("data.window=2", "data: span and window choose among the folders of a pattern"),
        ("data.span=newest", "data.span: expected a whole number or latest, found 'newest'"),
        ("data.images={", "SET data.images, line 1, column 2: not valid YAML"),
    ],
)
def test_a_mistake_is_told_with_the_path_of_the_setting(override, said):
    with pytest.raises(InputError) as error:
        loading.load(DIGITS, [override])
    assert said in str(error.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(InputError) as error:
        loading.load(DIGITS, ["training.batch_sise=3", "data.imags=x", "head.dropout=no"])
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: {images: x}\n", "name: missing; this setting has no default"),
        ("- a\n", "settings are a mapping of keys to values, found a list"),
        ("", "settings are a mapping of keys to values, found nothing"),
        ("name: a\nname: b\n", "line 2, column 1: not valid YAML: found duplicate key"),
        ("name: [\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_settings_is_refused(tmp_path, text, said):
    with pytest.raises(InputError) as error:
        loading.load(write(tmp_path, text))
    assert said in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the settings .*nothing\.yaml"):
        loading.load(tmp_path / "nothing.yaml")


def test_numbers_are_those_of_yaml_1_2(tmp_path):
    loaded = loading.load(write(tmp_path, "name: birds\ndata: {images: no}\ntraining: {learning_rate: 1e-3}\n"))
    assert loaded.data.images == "no"
    assert loaded.training.learning_rate.values == (0.001,)


@given(st.text(max_size=60))
def test_no_override_ends_in_anything_but_settings_or_a_message(text):
    try:
        loading.load(DIGITS, [text])
    except InputError as error:
        assert str(error)


_KEYS = [field.name for cls in (loading.Settings, DataSettings, DataBounds) for field in dataclasses.fields(cls)]
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


@given(
    values=st.fixed_dictionaries(
        {"name": _VALUES, "data": _VALUES}, optional=dict.fromkeys({*_KEYS} - {"name", "data"}, _VALUES)
    )
)
@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_values_settings_have_they_are_read_or_refused_in_words(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("fuzz") / "s.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    with contextlib.suppress(InputError):
        loading.load(path)


@given(
    text=st.one_of(st.text(max_size=80), st.text(alphabet="{}[]:,-&*!|>'\"%@`#? \n\tab1.", max_size=80)),
    key=st.text(max_size=12),
)
@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_text_settings_are_it_is_read_or_refused_in_words(tmp_path_factory, text, key):
    path = tmp_path_factory.mktemp("fuzz") / "s.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    for overrides in ([], [f"{key}={text}"], [f"data.images={text}"]):
        with contextlib.suppress(InputError):
            loading.load(path, overrides)
        with contextlib.suppress(InputError):
            loading.load(DIGITS, overrides)


@pytest.mark.parametrize(
    ("given", "split"),
    [
        (("a=1 b=2",), ["a=1", "b=2"]),
        (("a=1", "b=2"), ["a=1", "b=2"]),
        (("head.hidden_units=[64, 32] training.steps=5",), ["head.hidden_units=[64, 32]", "training.steps=5"]),
        (("a={x: [1, 2], y: 3} b=4",), ["a={x: [1, 2], y: 3}", "b=4"]),
        (("data.images=my photos name=birds",), ["data.images=my photos", "name=birds"]),
        ((), []),
    ],
)
def test_overrides_stand_apart_by_spaces_and_brackets_hold_together(given, split):
    assert loading.split_overrides(given) == split
