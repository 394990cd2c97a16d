"""What is generated is up to date, and the settings' schema accepts what the loader accepts."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from core import schemas
from core.settings import load, to_dict
from core.settings.messages import mistakes
from core.settings.schema import schema
from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SETTINGS = jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize(("path", "text"), schemas.generated().items())
def test_what_is_generated_is_up_to_date(path: str, text: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == text, "run `make schemas`"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configs_fit_the_schema_and_name_it_for_editors(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    SETTINGS.validate(YAML(typ="safe").load(text))
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert named and (path.parent / named[1]).resolve() == ROOT / "schemas" / "settings.schema.json"


@pytest.mark.parametrize(
    "override",
    [
        "training.learning_rate=1e-4",
        "training.learning_rate={schedule: cosine, values: [0.1], end: 0.01}",
        "fine_tune.from=mixed9",
        'fine_tune.rules=[[mixed9, 1], [".*", 0]]',
        "data={images: 'p/{SPAN}', span: 3}",
        "data={images: photos, near_duplicates: null}",
        "runtime.beam=local-parallel",
        "runtime.beam={workers: 2, engine: local-parallel}",
        "runtime.beam={options: [--runner=MyRunner]}",
        "runtime.beam=[--runner=MyRunner]",
        "runtime.beam={engine: dataflow, project: p, region: r, temp_location: 'gs://b/t', image: i}",
        "training.augmentation={flip: true, color: 0.1, views: 4}",
        "tuner.output=[mixed8, mixed9]",
        "evaluation.per_slice={macro_f1: {min: 0.5}}",
        "kubeflow={volume: {claim: c}, resources: {Trainer: {gpus: 1}}, environment: {Trainer: {A: b}}}",
    ],
)
def test_every_form_of_a_setting_fits_the_schema(override: str) -> None:
    loaded = load(ROOT / "configs" / "digits.yaml", [override])
    key, _, text = override.partition("=")
    given = YAML(typ="safe", pure=True).load(text)
    for part in reversed(key.split(".")):
        given = {part: given}
    SETTINGS.validate({"name": "birds", "data": {"images": "photos"}, **given})
    SETTINGS.validate(json.loads(json.dumps(to_dict(loaded))))


@pytest.mark.parametrize(
    "given",
    [
        {"name": "birds"},
        {"data": {"images": "photos", "bounds": {"leaked": 2}}},
        {"trainings": {}},
        {"training": {"steps": "5"}},
        {"training": {"learning_rate": "fast"}},
        {"backbone": {"output": "mixed11"}},
        {"fine_tune": {"from_layer": "mixed9"}},
        {"evaluation": {"thresholds": {"acuracy": {"min": 0.5}}}},
        {"runtime": {"beam": "dataflow"}},
        {"runtime": {"beam": {"engine": "flink", "paralelism": 4}}},
    ],
)
def test_editors_are_told_what_the_loader_refuses(given: dict) -> None:
    least = {} if given.keys() == {"name"} else {"name": "birds", "data": {"images": "photos"}}
    assert SETTINGS.is_valid(least) == bool(least) and not SETTINGS.is_valid({**least, **given})


CASES = sorted((ROOT / "tests" / "core" / "settings" / "cases").glob("*.txt"))
GIVEN = [case.split("----\n")[0] for file in CASES for case in file.read_text(encoding="utf-8").split("====\n")]


@pytest.mark.parametrize("given", [one for one in GIVEN if not re.search(r"\.nan|\.inf|name: [\[b]|\t", one)])
def test_the_loader_and_a_validator_of_json_schema_agree(given: str) -> None:
    values = YAML(typ="safe", pure=True).load(given)
    if isinstance(values, dict):
        values = {"name": "birds", "data": {"images": "photos"}, **values}
    assert SETTINGS.is_valid(values) == (not list(mistakes(schema(), values)))
