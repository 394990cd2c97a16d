"""Runs the pipeline's Beam components, as create_pipeline wires them, on one engine after the other.

    unshare -n sh -c 'ip link set lo up && python -m tests.ports.beam_components WORK RESULT.json'

The first engine is Beam's in-memory runner; then come processes of this machine, and the `flink` preset with a job
service of Beam's own and a worker pool on 127.0.0.1. All get the same inputs, those that the in-memory run made.
RESULT.json holds for each engine and component what it wrote, in a form that can be compared. Beam's servers listen on
all interfaces: hence the network namespace.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tensorflow as tf
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.orchestration.pipeline import Pipeline
from tfx.types import Artifact

from components.ingestion import image_ingestion
from components.model_gate import read_evaluation
from core.artifacts import ingest_record
from core.artifacts.predictions import CANDIDATE, read_predictions
from core.settings import loading
from core.settings.beam import BeamEngine, FlinkEngine, LocalEngine, LocalParallelEngine
from pipeline import schema
from pipeline.data_source import list_images
from pipeline.deployment import Deployment
from pipeline.inference.batch_predict import batch_predict
from pipeline.pipeline import create_pipeline
from pipeline.runners.beam_engines import SMALL_STEPS, options_for
from pipeline.runners.job_server import kept
from tests.conftest import ROOT
from tests.model_factory import COLORS, image_bytes, save_model
from tests.ports import clusters
from tests.ports.written import BATCH_PREDICT
from trainer import preprocessing

IMAGES_PER_CLASS = 8
NEEDED = ("ImportSchemaGen", "BackboneImporter")
"""Components that are not on Beam, but make what the others read."""

_JOB_PORT, _POOL_PORT = 50001, 50002
_SETTINGS = loading.load(
    ROOT / "configs" / "digits.yaml",
    [
        "backbone.weights=random",
        "data.splits={train: 2, eval: 1, test: 1}",
        "data.max_rejected=0.1",
        "data.near_duplicates=null",
        "evaluation={slices: [label, brightness]}",
        "runtime.bfloat16=off",
        "runtime.feature_batch_size=5",
    ],
)


class Chain:
    """The wired components, and the artifacts that the in-memory run leaves for the other engines."""

    def __init__(self, work: Path) -> None:
        """Makes the images, and the model that the Evaluator is given: any will do."""
        image_ingestion._CHUNK = 5  # so that there is something to do at the same time
        self._work = work
        self._images = write_colors(work / "images")
        listing = list_images(_SETTINGS, str(self._images))
        self._schema, _ = schema.load_or_infer(work / "schema.pbtxt", "colors", listing)
        self._made: dict[tuple[str, str], Artifact] = {}
        trained = create_pipeline(_SETTINGS, self._deployment(), self._schema).components
        (trainer,) = (component for component in trained if component.id == "Trainer")
        model = self._outputs(trainer, "any")["model"][0]
        save_model(Path(model.uri) / "Format-Serving", certainty=2.0)
        self._made["Trainer", "model"] = model

    def run(self, name: str, engine: BeamEngine) -> dict[str, Any]:
        """Runs every Beam component that the engine changes anything for; returns what each wrote, by its id."""
        runtime = dataclasses.replace(_SETTINGS.runtime, beam=engine)
        pipeline = create_pipeline(
            msgspec.structs.replace(_SETTINGS, runtime=runtime), self._deployment(), self._schema
        )
        with kept(options_for(engine, BATCH_PREDICT), self._work / f"{name}.job-server.log"):
            return self._run(name, engine, pipeline)

    def _run(self, name: str, engine: BeamEngine, pipeline: Pipeline) -> dict[str, Any]:
        found = {}
        first = not any(producer in NEEDED for producer, _ in self._made)
        for component in pipeline.components:
            on_beam = isinstance(component, BaseBeamComponent)
            in_this_process = not first and on_beam and isinstance(engine, LocalParallelEngine)
            if in_this_process and component.id not in SMALL_STEPS:
                continue
            if on_beam or (first and component.id in NEEDED):
                began = time.monotonic()
                outputs = self._execute(component, name)
                if first:
                    self._made |= {(component.id, key): artifacts[0] for key, artifacts in outputs.items()}
                if on_beam:
                    uris = {key: artifacts[0].uri for key, artifacts in outputs.items()}
                    examples = self._made["ImageExampleGen", "examples"].uri
                    found[component.id] = read_outputs(component.id, uris, examples)
                    found[component.id]["seconds"] = round(time.monotonic() - began, 1)
                    print(f"{name}: {component.id} {found[component.id]['seconds']} s", flush=True)
        if not isinstance(engine, LocalParallelEngine):
            began = time.monotonic()
            model = f"{self._made['Trainer', 'model'].uri}/Format-Serving"
            found[BATCH_PREDICT] = predict_batch(model, self._images, self._work / f"{name}.jsonl", engine)
            found[BATCH_PREDICT]["seconds"] = round(time.monotonic() - began, 1)
        return found

    def _deployment(self) -> Deployment:
        return Deployment(str(self._work / "root"), str(self._images), str(self._work / "serving"))

    def _outputs(self, component: BaseComponent, engine: str) -> dict[str, list[Artifact]]:
        outputs = {}
        for key, channel in component.outputs.items():
            artifact = channel.type()
            artifact.uri = str(self._work / "artifacts" / engine / component.id / key)
            Path(artifact.uri).mkdir(parents=True)
            outputs[key] = [artifact]
        return outputs

    def _execute(self, component: BaseComponent, engine: str) -> dict[str, list[Artifact]]:
        inputs = {}
        for key, channel in component.inputs.items():
            artifact = self._made.get((channel.producer_component_id, channel.output_key))
            inputs[key] = [artifact] if artifact else []  # there is no baseline yet
        outputs = self._outputs(component, engine)
        properties = component.driver_class(None).resolve_exec_properties(component.exec_properties, None, None)
        context = None
        if isinstance(component, BaseBeamComponent):
            options = list(component.executor_spec.beam_pipeline_args)
            context = BaseBeamExecutor.Context(options, tmp_dir=str(self._work / "tmp"), unique_id=component.id)
        component.executor_spec.executor_class(context).Do(inputs, outputs, properties)
        return outputs


def write_colors(folder: Path) -> Path:
    """Writes some images of each class, and one that cannot be read, into class folders of a new folder."""
    for color, label in enumerate(COLORS):
        (folder / label).mkdir(parents=True)
        for number in range(IMAGES_PER_CLASS):
            (folder / label / f"{number}.jpg").write_bytes(image_bytes(color, seed=10 * color + number))
    (folder / "red" / "broken.jpg").write_text("no image")
    return folder


def predict_batch(model: str, images: Path, output: Path, engine: BeamEngine) -> dict[str, Any]:
    """What batch-predict, which is no component but a Beam job of its own, says of images."""
    counts = batch_predict(model, str(images), str(output), beam_arguments=options_for(engine, BATCH_PREDICT))
    found = sorted(map(json.loads, output.read_text().splitlines()), key=lambda record: record["path"])
    answers = [prediction for record in found for prediction in record.get("top_k", [])]
    return {
        "counts": list(counts),
        "answers": [(record["path"], record.get("error")) for record in found],
        "classes": [prediction["class"] for prediction in answers],
        "numbers": [prediction["probability"] for prediction in answers],
    }


def read_outputs(component_id: str, uris: Mapping[str, str], examples: str) -> dict[str, Any]:
    """What a component wrote, in a form that can be compared: its outputs by their keys, of these examples."""
    if component_id == "Transform":
        return _read_transform(uris["transform_graph"], examples)
    readers: dict[str, Callable[[Mapping[str, str]], dict[str, Any]]] = {
        "ImageExampleGen": _read_examples,
        "StatisticsGen": _read_statistics,
        "FeatureExtractor": _read_features,
        "Predictor": _read_predictions,
        "Evaluator": _read_evaluation,
    }
    return readers[component_id](uris)


def _records(folder: str) -> list[bytes]:
    paths = sorted(str(path) for path in Path(folder).iterdir())
    return list(tf.data.TFRecordDataset(paths).as_numpy_iterator()) if paths else []


def _plain(record: bytes) -> dict[str, Any]:
    features = tf.train.Example.FromString(record).features.feature
    return {name: getattr(value, value.WhichOneof("kind")).value[0] for name, value in features.items()}


def _read_examples(uris: Mapping[str, str]) -> dict[str, Any]:
    splits = {
        split: [repr(sorted(_plain(record).items())) for record in _records(f"{uris['examples']}/Split-{split}")]
        for split in ("train", "eval", "test")
    }
    counts, rejects = ingest_record.COUNTS.read(uris["rejects"]), ingest_record.REJECTS.read(uris["rejects"])
    return {"splits": splits, "rejects": list(map(dataclasses.asdict, rejects)), "counts": counts.splits}


def _read_transform(directory: str, examples: str) -> dict[str, Any]:
    """The classes, and what the graph makes of the images."""
    records = sorted(_records(f"{examples}/Split-train"), key=lambda record: _plain(record)["image/sha256"])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        outputs = preprocessing.transform_examples(directory, tf.constant(records))
        session.run(tf.compat.v1.tables_initializer())
        computed = session.run(outputs)
    return {
        "classes": preprocessing.class_names(directory),
        "labels": computed[preprocessing.LABEL].tolist(),
        "numbers": computed[preprocessing.IMAGE].mean(axis=(1, 2)).ravel().tolist(),
    }


def _read_statistics(uris: Mapping[str, str]) -> dict[str, Any]:
    """Of each split and feature: how many values and which; means apart, since sums depend on the order."""
    exact, numbers = {}, []
    for split in ("train", "eval", "test"):
        path = Path(uris["statistics"], f"Split-{split}", "FeatureStats.pb")
        (dataset,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes()).datasets
        for feature in sorted(dataset.features, key=lambda feature: str(feature.path)):
            values = feature.WhichOneof("stats")
            stats = getattr(feature, values)
            exact[f"{split} {feature.path.step[0]}"] = [
                dataset.num_examples,
                stats.common_stats.num_non_missing,
                stats.common_stats.num_missing,
                [stats.unique, sorted((top.value, top.frequency) for top in stats.top_values)]
                if values in ("string_stats", "bytes_stats")
                else [stats.min, stats.max],
            ]
            numbers.append(stats.avg_length if values == "string_stats" else getattr(stats, "mean", 0.0))
    return {"exact": exact, "numbers": numbers}


def _read_predictions(uris: Mapping[str, str]) -> dict[str, Any]:
    predictions = read_predictions(uris["predictions"])
    return {
        "predicted": [(p.path, p.label, p.predicted, p.rank, p.slices) for p in predictions],
        "numbers": [p.probability for p in predictions],
        "materialized": len(list(_records(f"{uris['materialized_predictions']}/Split-test"))),
    }


def _read_features(uris: Mapping[str, str]) -> dict[str, Any]:
    form = json.loads(Path(uris["features"], "features.json").read_text())
    rows = {}
    for split, of_split in form["splits"].items():
        for record in _records(f"{uris['features']}/Split-{split}"):
            plain = _plain(record)
            values = np.frombuffer(plain["features"], of_split["dtype"]).tolist()
            rows[f"{split} {plain['image/sha256'].decode()} {plain['label_xf']}"] = values
    return {"images": list(rows), "numbers": [value for values in rows.values() for value in values]}


def _read_evaluation(uris: Mapping[str, str]) -> dict[str, Any]:
    measured = sorted(read_evaluation(uris["evaluation"]), key=lambda one: one.slice)
    values = [sorted(one.metrics[CANDIDATE].items()) for one in measured]
    return {
        "slices": [[one.slice, one.examples, sorted(one.metrics)] for one in measured],
        "metrics": [[name for name, _ in one] for one in values],
        "numbers": [value for one in values for _, value in one],
    }


@contextmanager
def _job_service(work: Path) -> Iterator[None]:
    """Beam's own job service and a worker pool of ours."""
    cluster = clusters.Cluster()
    work.mkdir()
    service = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", f"--port={_JOB_PORT}"]
    pool = [sys.executable, "-m", "pipeline", "beam-worker-pool", f"--port={_POOL_PORT}"]
    try:
        cluster.add("job service", work, service, PYTHONPATH=str(ROOT))
        cluster.add("pool", work, pool, PYTHONPATH=str(ROOT))
        cluster.wait_until(lambda: clusters.listens(_JOB_PORT) and clusters.listens(_POOL_PORT))
        yield
    finally:
        for process in cluster.processes.values():
            process.kill()


def main(work: Path, result: Path) -> None:
    """Runs all engines and writes what they made."""
    endpoint, pool = f"127.0.0.1:{_JOB_PORT}", f"127.0.0.1:{_POOL_PORT}"
    engines: dict[str, BeamEngine] = {
        "in memory": LocalEngine(),
        "local-parallel": LocalParallelEngine(workers=2),
        "loopback": FlinkEngine(job_endpoint=endpoint),
        "external": FlinkEngine(job_endpoint=endpoint, worker_pool=pool),
    }
    chain = Chain(work)
    with _job_service(work / "servers"):
        found = {name: chain.run(name, engine) for name, engine in engines.items()}
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
