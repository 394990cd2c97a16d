"""What each of our components promises, as tests that each inherits (after TFDS's DatasetBuilderTestCase)."""

from __future__ import annotations

import copy
import dataclasses
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.orchestration import metadata
from tfx.orchestration.portable.cache_utils import get_cache_context
from tfx.proto.orchestration import pipeline_pb2
from tfx.types import Artifact, Channel
from tfx.utils import proto_utils

from tests.components import ram_files


@dataclasses.dataclass
class Case:
    """A component with tiny inputs.

    Attributes:
        component: makes it, from channels and parameters.
        inputs: its artifacts, local; the contract uploads them.
        parameters: those that it runs with.
        other: another value for every parameter for which a longer text or a larger number will not do.
        broken: parameters with which it raises; None if there are none.
        not_run: why it is not run on a file system in memory; None if it is.
    """

    component: Callable[..., BaseComponent]
    inputs: dict[str, Artifact]
    parameters: dict[str, Any]
    other: dict[str, Any] = dataclasses.field(default_factory=dict)
    broken: dict[str, Any] | None = None
    not_run: str | None = None

    def make(self, **parameters: Any) -> BaseComponent:
        channels = {name: Channel(type=type(artifact)) for name, artifact in self.inputs.items()}
        return self.component(**channels, **{**self.parameters, **parameters})


class ComponentContract:
    """A component

    - is cached if nothing changed: made again from the same settings, its key is the same;
    - runs again if anything that it depends on changed: any of its inputs, its parameters, or its code;
    - reads and writes artifacts wherever they are: it runs on a file system that only TensorFlow and Beam know;
    - changes none of its inputs, and leaves nothing but its outputs, whether it succeeds or raises: no temporary file
      on this machine, no scratch folder in an output.

    Subclasses have a fixture `case`.
    """

    @pytest.fixture
    def case(self, tmp_path: Path) -> Case:
        raise NotImplementedError

    def test_it_is_cached_where_nothing_changed(self, case: Case) -> None:
        assert _key(case.make(), case.inputs) == _key(case.make(), copy.deepcopy(case.inputs))

    def test_it_runs_again_where_anything_changed(self, case: Case) -> None:
        component = case.make()
        assert "code" in case.parameters
        before = _key(component, case.inputs)
        for name, value in case.parameters.items():
            changed = {name: case.other[name] if name in case.other else _another(value)}
            assert _key(case.make(**changed), case.inputs) != before, name
        for name, artifact in case.inputs.items():
            another = copy.deepcopy(artifact)
            another.id += 1
            assert _key(component, case.inputs | {name: another}) != before, name

    def test_it_works_on_remote_paths_and_leaves_nothing_but_its_outputs(
        self, case: Case, ram: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if case.not_run:
            pytest.skip(case.not_run)
        run = _Run(case, ram, tmp_path, monkeypatch)
        outputs = run.execute(case.make())
        assert all(ram_files.files(artifact.uri) for artifact in outputs)
        run.check()

    def test_it_leaves_nothing_behind_when_it_raises(
        self, case: Case, ram: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if case.broken is None:
            pytest.skip("nothing makes it raise")
        run = _Run(case, ram, tmp_path, monkeypatch)
        with pytest.raises(Exception):  # noqa: B017 - which one is for the component's own tests
            run.execute(case.make(**case.broken))
        run.check()


class _Run:
    """One execution, on uploaded inputs, from an empty folder."""

    def __init__(self, case: Case, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._inputs = copy.deepcopy(case.inputs)
        for name, artifact in self._inputs.items():
            ram_files.upload(Path(artifact.uri), f"{root}/inputs/{name}")
            artifact.uri = f"{root}/inputs/{name}"
        self._before = self._content()
        self._local = tmp_path / "local"
        (self._local / "temporary").mkdir(parents=True)
        monkeypatch.chdir(self._local)
        monkeypatch.setattr(tempfile, "tempdir", str(self._local / "temporary"))

    def execute(self, component: BaseComponent) -> list[Artifact]:
        outputs = {}
        for name, channel in component.outputs.items():
            artifact = channel.type()
            artifact.uri = f"{self._root}/outputs/{name}"
            tf.io.gfile.makedirs(artifact.uri)
            outputs[name] = [artifact]
        properties = _properties(component)
        driver = component.driver_class(None)
        if hasattr(driver, "resolve_exec_properties"):
            properties = driver.resolve_exec_properties(properties, None, None)
        inputs = {name: [artifact] for name, artifact in self._inputs.items()}
        component.executor_spec.executor_class().Do(inputs, outputs, properties)
        return [artifact for artifacts in outputs.values() for artifact in artifacts]

    def check(self) -> None:
        assert self._content() == self._before, "it changed its inputs"
        local = [path.name for path in self._local.rglob("*") if path.is_file()]
        local = [name for name in local if not name.startswith("__autograph_generated")]  # TensorFlow's, until it exits
        assert not local, f"left on this machine: {local}"
        left = [path.removeprefix(f"{self._root}/") for path in ram_files.files(self._root)]
        outputs = [path for path in left if path.startswith("outputs/")]
        assert not [path for path in left if path not in outputs and not path.startswith("inputs/")], left
        unfinished = [path for path in outputs if re.search(r"/\.|/beam-temp|partial|unfinished", path)]
        assert not unfinished, f"left in the outputs: {unfinished}"

    def _content(self) -> Mapping[str, bytes]:
        return {path: tf.io.gfile.GFile(path, "rb").read() for path in ram_files.files(f"{self._root}/inputs")}


def any_parameters(component: type[BaseComponent]) -> dict[str, Any]:
    """A value for every parameter, for a component that is not run."""
    parameters = component.SPEC_CLASS.PARAMETERS.items()
    return {name: parameter.type(1) for name, parameter in parameters if parameter.type in (str, int, float)}


def _properties(component: BaseComponent) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str | int | float) else proto_utils.proto_to_json(value)
        for name, value in component.exec_properties.items()
        if value is not None
    }


def _another(value: Any) -> Any:
    return value + " " if isinstance(value, str) else value + 1


def _key(component: BaseComponent, inputs: Mapping[str, Artifact]) -> str:
    """The component's key in TFX's cache."""
    config = metadata_store_pb2.ConnectionConfig(sqlite=metadata_store_pb2.SqliteMetadataSourceConfig())
    with metadata.Metadata(config) as store:
        return get_cache_context(
            store,
            pipeline_pb2.PipelineNode(),
            pipeline_pb2.PipelineInfo(),
            component.executor_spec.encode(),
            {name: [artifact] for name, artifact in inputs.items()},
            {name: [channel.type()] for name, channel in component.outputs.items()},
            _properties(component),
        ).name
