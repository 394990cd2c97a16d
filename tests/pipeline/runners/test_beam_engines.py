"""Which of Beam's options an engine gives to which step."""

import json
import re
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
    StandardOptions,
    WorkerOptions,
)
from ruamel.yaml import YAML
from tfx.utils.dependency_utils import make_beam_dependency_flags

from core.settings import Settings, from_dict, load, to_dict
from core.settings.beam import BeamEngine
from pipeline.cli.main import main
from pipeline.runners.beam_engines import notes_on_engine, options_for
from tests.conftest import ROOT

DATAFLOW = "{engine: dataflow, project: p, region: europe-west1, temp_location: 'gs://b/t', image: 'eu.gcr.io/p/i'}"
RUNNER = "pipeline.runners.cluster_runner.ClusterRunner"
PRESETS = ["local-parallel", "flink", "spark", DATAFLOW]


def engine(text: str) -> BeamEngine:
    return load(ROOT / "configs" / "digits.yaml", [f"runtime.beam={text}"]).runtime.beam


def options(text: str, component: str) -> PipelineOptions:
    """As Beam reads them; an option that Beam does not know fails."""
    flags = options_for(engine(text), component)
    parsed = PipelineOptions(flags)
    known = parsed.get_all_options()
    assert {flag.split("=")[0][2:].replace("worker_machine_type", "machine_type") for flag in flags} <= known.keys()
    return parsed


def test_without_a_word_everything_runs_in_this_process() -> None:
    loaded = load(ROOT / "configs" / "digits.yaml")
    assert options_for(loaded.runtime.beam, "ImageExampleGen") == []
    assert options_for(loaded.runtime.beam, "Evaluator") == []


def test_a_list_of_options_is_taken_as_it_is() -> None:
    assert options_for(engine("[--runner=MyRunner, --a=b]"), "Transform") == ["--runner=MyRunner", "--a=b"]


@pytest.mark.parametrize("text", PRESETS)
def test_options_of_ones_own_come_last(text: str) -> None:
    given = engine(text)
    mapping = to_dict(load(ROOT / "configs" / "digits.yaml", [f"runtime.beam={text}"]))
    own = json.dumps({**mapping["runtime"]["beam"], "options": ["--job_name=mine"]})
    assert options_for(engine(own), "Evaluator") == [*options_for(given, "Evaluator"), "--job_name=mine"]


@pytest.mark.parametrize("text", PRESETS)
@pytest.mark.parametrize("component", ["StatisticsGen", "Evaluator"])
def test_tfx_packs_no_source_of_itself_for_the_workers(text: str, component: str) -> None:
    flags = options_for(engine(text), component)
    assert make_beam_dependency_flags(flags) == flags


def test_local_parallel_gives_processes_to_steps_that_read_and_all_cores_to_tensorflow() -> None:
    text = "{engine: local-parallel, workers: 3}"
    reading = options(text, "ImageExampleGen").view_as(DirectOptions)
    assert (reading.direct_running_mode, reading.direct_num_workers) == ("multi_processing", 3)
    network = options(text, "FeatureExtractor").view_as(DirectOptions)
    assert (network.direct_running_mode, network.direct_num_workers) == ("in_memory", 1)


@pytest.mark.parametrize("text", ["local", *PRESETS])
def test_an_engine_whose_servers_strangers_reach_is_said(text: str) -> None:
    notes = [*notes_on_engine(engine(text))]
    assert [note for note in notes if "listen on all interfaces" in note] == notes
    assert len(notes) == (text not in ("local", DATAFLOW))


def test_flink_starts_its_job_server_and_the_image_on_every_node() -> None:
    text = (
        "{engine: flink, flink_master: 'flink:8081', job_server_jar: /opt/js.jar, image: 'r/i:1', parallelism: 8, "
        "tensorflow_parallelism: 2}"
    )
    reading, network = options(text, "StatisticsGen"), options(text, "Transform")
    assert reading.view_as(StandardOptions).runner == RUNNER
    flink = reading.view_as(FlinkRunnerOptions)
    assert (flink.flink_master, flink.flink_job_server_jar) == ("flink:8081", "/opt/js.jar")
    portable = reading.view_as(PortableOptions)
    assert (portable.environment_type, portable.environment_config) == ("DOCKER", "r/i:1")
    assert reading.view_as(WorkerOptions).sdk_container_image == "r/i:1"
    assert [o.view_as(FlinkRunnerOptions).parallelism for o in (reading, network)] == [8, 2]
    assert [o.view_as(PortableOptions).sdk_worker_parallelism for o in (reading, network)] == ["0", "1"]


@pytest.mark.parametrize("name", ["flink", "spark"])
def test_a_job_server_that_runs_already_is_asked_instead(name: str) -> None:
    text = f"{{engine: {name}, job_endpoint: 'js:8099', worker_pool: 'localhost:50000'}}"
    parsed = options(text, "Evaluator")
    assert parsed.view_as(StandardOptions).runner == RUNNER
    portable = parsed.view_as(PortableOptions)
    assert portable.job_endpoint == "js:8099"
    assert (portable.environment_type, portable.environment_config) == ("EXTERNAL", "localhost:50000")


def test_spark_has_its_master() -> None:
    parsed = options("{engine: spark, spark_master_url: 'spark://s:7077', job_server_jar: /opt/js.jar}", "Evaluator")
    assert parsed.view_as(StandardOptions).runner == RUNNER
    assert parsed.view_as(SparkRunnerOptions).spark_master_url == "spark://s:7077"
    assert parsed.view_as(PortableOptions).environment_type == "LOOPBACK"


def test_dataflow_has_large_machines_with_one_process_for_tensorflow() -> None:
    reading, network = options(DATAFLOW, "ImageExampleGen"), options(DATAFLOW, "Evaluator")
    assert reading.view_as(GoogleCloudOptions).temp_location == "gs://b/t"
    assert [o.view_as(WorkerOptions).machine_type for o in (reading, network)] == ["n1-standard-2", "n1-highmem-4"]
    assert "no_use_multiple_sdk_containers" in network.get_all_options()["experiments"]
    assert "no_use_multiple_sdk_containers" not in reading.get_all_options()["experiments"]


@pytest.mark.parametrize(
    "block", re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "beam-engines.md").read_text(), re.DOTALL)
)
def test_the_settings_that_the_page_shows_are_settings(block: str, tmp_path: Path) -> None:
    (tmp_path / "birds.yaml").write_text(f"name: birds\ndata: {{images: photos}}\n{block}")
    given = load(tmp_path / "birds.yaml").runtime.beam
    assert given.__struct_config__.tag in block
    flags = options_for(given, "Evaluator")
    assert "--runner=" in flags[0] and PipelineOptions(flags).get_all_options()["sdk_container_image"]


@pytest.mark.parametrize("text", ["local", "[--runner=MyRunner]", *PRESETS])
def test_an_engine_survives_the_way_through_plain_values(text: str) -> None:
    loaded = load(ROOT / "configs" / "digits.yaml", [f"runtime.beam={text}"])
    plain = json.loads(json.dumps(to_dict(loaded)))
    assert from_dict(plain, Settings) == loaded


def test_the_manifest_for_kubernetes_sets_what_flink_conf_sets_and_starts_our_pool() -> None:
    folder = ROOT / "docs" / "beam-engines"
    yaml = YAML(typ="safe")
    conf = yaml.load(folder / "flink-conf.yaml")
    spec = yaml.load(folder / "flink-deployment.yaml")["spec"]
    of_the_image = {"env.java.opts", "jobmanager.rpc.address"}
    of_the_operator = {f"{process}.memory.process.size" for process in ("jobmanager", "taskmanager")}
    assert spec["flinkConfiguration"] == {
        name: str(value) for name, value in conf.items() if name not in of_the_image | of_the_operator
    }
    assert spec["jobManager"]["resource"]["memory"] == conf["jobmanager.memory.process.size"]
    assert spec["taskManager"]["resource"]["memory"] == conf["taskmanager.memory.process.size"]
    flink, workers = spec["taskManager"]["podTemplate"]["spec"]["containers"]
    assert flink["name"] == "flink-main-container" and flink["volumeMounts"] == workers["volumeMounts"]
    python, module, program, verb, *arguments = workers["command"]
    assert (python, module, program) == ("python", "-m", "pipeline")
    assert main.commands[verb].make_context(verb, arguments).params == {"host": "127.0.0.1", "port": 50000}
