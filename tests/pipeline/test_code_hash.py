"""What a stage's key in the cache depends on, and that this is no more than what decides its output."""

import importlib.metadata
import json
import re
from pathlib import Path

import pytest

from pipeline import code_hash
from tests.conftest import ROOT

CLOSURES = Path(__file__).with_name("closures.json")
WIRING = ("pipeline/pipeline.py", "pipeline/serving_validator.py")


def stages() -> list[str]:
    """The modules whose hash is in the key of a stage."""
    calls = [re.findall(r'code_hash\("([\w.]+)"\)', (ROOT / path).read_text()) for path in WIRING]
    return sorted({module for found in calls for module in found})


def closures() -> str:
    return json.dumps({stage: code_hash.closure(stage) for stage in stages()}, indent=1) + "\n"


def test_what_each_stage_depends_on_is_known() -> None:
    assert closures() == CLOSURES.read_text(), (
        "A stage imports other modules than it did. An edit to any of them runs it again, with all that follows it. If "
        "that is meant, run `.venv/bin/python -m tests.pipeline.test_code_hash` and commit closures.json; if not, move "
        "what it needs into a smaller module."
    )


@pytest.mark.parametrize(
    "stage", ["trainer.run", "trainer.tuning", "trainer.preprocessing", "components.warm_start", "components.predictor"]
)
def test_a_sentence_of_the_gate_trains_nothing(stage: str) -> None:
    assert stage in stages()
    judging = {"components.model_gate", "components.evaluation.messages", "components.evaluation.verdict"}
    assert not judging & set(code_hash.closure(stage))
    if stage != "components.predictor":
        assert not [module for module in code_hash.closure(stage) if module.startswith("components.evaluation")]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Modules a, b, c and d of a package; a imports b, and for type checkers c."""
    package = tmp_path / "trainer"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text(
        "from typing import TYPE_CHECKING\nfrom trainer import b\nif TYPE_CHECKING:\n    from trainer import c\n"
    )
    for name in ("b", "c", "d"):
        (package / f"{name}.py").write_text("x = 1\n")
    monkeypatch.setattr(code_hash, "_ROOT", tmp_path)
    return package


def test_the_hash_covers_what_a_module_imports_when_it_runs(package: Path) -> None:
    assert code_hash.closure("trainer.a") == ["trainer.a", "trainer.b"]
    before = code_hash.code_hash("trainer.a")
    for name in ("c", "d"):
        (package / f"{name}.py").write_text("x = 2\n")
    assert code_hash.code_hash("trainer.a") == before
    (package / "b.py").write_text("x = 2\n")
    assert code_hash.code_hash("trainer.a") != before


def test_data_files_of_the_same_name_count(package: Path) -> None:
    hashes = [code_hash.code_hash("trainer.a")]
    (package / "b.json").write_text("{}")
    hashes.append(code_hash.code_hash("trainer.a"))
    (package / "b.json").write_text("[]")
    hashes.append(code_hash.code_hash("trainer.a"))
    assert len(set(hashes)) == 3


def test_a_package_counts_where_a_name_is_taken_from_it(package: Path) -> None:
    (package / "__init__.py").write_text("from trainer.d import x\n")
    assert code_hash.closure("trainer.a") == ["trainer.a", "trainer.b"]
    (package / "b.py").write_text("from trainer import x\n")
    assert code_hash.closure("trainer.a") == ["trainer", "trainer.a", "trainer.b", "trainer.d"]


def test_comments_docstrings_and_layout_do_not_count(package: Path) -> None:
    (package / "b.py").write_text("def f(x):\n    return x + 1\n\n\nclass A:\n    y = 1\n")
    before = code_hash.code_hash("trainer.a")
    (package / "b.py").write_text(
        '"""B."""\n# why\ndef f(x):\n    """Adds."""\n    return (\n        x + 1  # one\n    )\nclass A:\n'
        '    """An A."""\n    y = 1\n    """Of A."""\n'
    )
    assert code_hash.code_hash("trainer.a") == before
    (package / "b.py").write_text("def f(x):\n    return x + 2\n\n\nclass A:\n    y = 1\n")
    assert code_hash.code_hash("trainer.a") != before


def test_what_a_stage_says_of_itself_does_not_count() -> None:
    for stage in stages():
        assert not {"core.progress", "core.errors"} & set(code_hash.closure(stage))


def test_versions_of_the_libraries_that_it_imports_count(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = importlib.metadata.version
    later = {"tensorflow": "99"}
    (package / "b.py").write_text("import tensorflow as tf\n")
    before = {name: code_hash.code_hash(name) for name in ("trainer.a", "trainer.c")}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: later.get(name) or original(name))
    assert code_hash.code_hash("trainer.a") != before["trainer.a"]
    assert code_hash.code_hash("trainer.c") == before["trainer.c"]


if __name__ == "__main__":
    CLOSURES.write_text(closures())
