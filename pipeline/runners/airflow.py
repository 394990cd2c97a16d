"""The pipeline as an Airflow DAG: a task for every component, and a last one that says how the run ended.

`write_dag_file` makes the file for Airflow's folder of DAGs, with the settings in it; wherever Airflow reads that file,
it calls `create_dag`. This module runs in the environment `.venv-airflow` (`make airflow-env`).
"""

from __future__ import annotations

import functools
import json
import logging
import pprint
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import atomic_io
from core import settings as pipeline_settings
from core.errors import input_error_behind, message_of
from core.settings import Settings
from pipeline import data_source
from pipeline.runs import history, outcome, push_directory
from pipeline.runs.run_dir import ARTIFACTS, check_pushed, home_of, push_folder, push_nonce
from trainer.weights import sources

if TYPE_CHECKING:
    from airflow import DAG
    from tfx.dsl.components.base.base_node import BaseNode
    from tfx.orchestration.pipeline import Pipeline

LAST_TASK = "Report"

_FILE = '''\
"""The pipeline "{name}" for Airflow, written by `python -m pipeline airflow`: change the settings and write it again.

Airflow reads this file in the environment of `make airflow-env`; see docs/airflow.md.
"""

from airflow import DAG

from pipeline.runners.airflow import create_dag

SETTINGS = {settings}

SCHEMA = """\\
{schema}"""

dag: DAG = create_dag(
    SETTINGS,
    SCHEMA,
    home={home!r},
    images={images!r},
    weights_fingerprint={fingerprint!r},
)
'''

_DOC = """\
Images to a pushed model: [{name}]({home}). A run may be triggered with

- `images`: the folder of class folders, or the folder above the spans;
- `span`: the number of the span to take; the latest without it.

The task `Report` fails if nothing was pushed, and says why; the page is in `{home}/reports`.
"""

# What a run may change, as parts of ImageExampleGen's parameters; all else is in the settings.
_SPAN = '{"static_range": {"start_span_number": {{ params.span }}, "end_span_number": {{ params.span }}}}'
_TEMPLATES = {
    "ImageExampleGen": {
        "input_base": "{{ params.images }}",
        "range_config": f"{{% if params.span is not none %}}{_SPAN}{{% endif %}}",
    }
}


def write_dag_file(settings: Settings, root: Path, path: Path) -> None:
    """Writes the file for Airflow's folder of DAGs.

    Args:
        settings: checked settings.
        root: where the runs keep their files, in a folder of the pipeline's name: all of Airflow's workers see it under
            this path, and no other runner uses it.
        path: the file to write.

    Raises:
        InputError: the images cannot be found, or do not fit the schema's form.
    """
    home = home_of(settings, root)
    push_folder(settings, root)
    home.mkdir(parents=True, exist_ok=True)
    images = data_source.images_folder(settings, home)
    schema, _ = data_source.reviewed_schema(settings, data_source.list_images(settings, images))
    text = _FILE.format(
        name=settings.name,
        settings=pprint.pformat(pipeline_settings.to_dict(settings), width=110, sort_dicts=False),
        schema=schema.replace("\\", "\\\\").replace('"""', '\\"\\"\\"'),
        home=str(home),
        images=images,
        fingerprint=sources.fingerprint(settings.backbone.weights),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_io.write_text(path, text)


def create_dag(settings: dict[str, Any], schema: str, home: str, images: str, weights_fingerprint: str) -> DAG:
    """Builds the DAG; what it needs from elsewhere is looked up when a task runs.

    Args:
        settings: as plain values, `core.settings.to_dict`.
        schema: the reviewed schema, in protobuf's text format.
        home: the pipeline's folder.
        images: the data folder, unless a run is given another.
        weights_fingerprint: says which content `backbone.weights` stands for.
    """
    from airflow.models.param import Param
    from airflow.operators.python import PythonOperator
    from airflow.utils.module_loading import import_string
    from airflow.utils.trigger_rule import TriggerRule
    from tfx.orchestration.airflow.airflow_dag_runner import AirflowDagRunner, AirflowPipelineConfig
    from tfx.orchestration.metadata import sqlite_metadata_connection_config

    from pipeline.deployment import Deployment
    from pipeline.pipeline import create_pipeline
    from pipeline.runners.airflow_launcher import AirflowLauncher

    loaded = pipeline_settings.from_dict(settings, Settings)
    airflow = loaded.airflow
    pushed_to = push_folder(loaded, Path(home).parent)
    deployment = Deployment(
        pipeline_root=str(Path(home) / ARTIFACTS),
        images=images,
        push_directory=str(pushed_to),
        weights_fingerprint=weights_fingerprint,
    )
    connection = sqlite_metadata_connection_config(str(Path(home) / history.METADATA))
    pipeline = create_pipeline(loaded, deployment, schema, connection)
    config = {
        "schedule": airflow.schedule,
        "start_date": _day(airflow.start_date),
        "catchup": False,
        "max_active_runs": 1,
        "max_active_tasks": airflow.max_active_tasks,
        "tags": list(airflow.tags),
        "params": {
            "images": Param(
                _component(pipeline, "ImageExampleGen").exec_properties["input_base"], type="string", minLength=1
            ),
            "span": Param(
                None if loaded.data.span == "latest" else loaded.data.span,
                type=["null", "integer", "string"],
                pattern=r"^\d+$",
            ),
        },
        "doc_md": _DOC.format(name=loaded.name, home=home),
        "on_failure_callback": import_string(airflow.on_failure) if airflow.on_failure else None,
        "default_args": {
            "owner": airflow.owner,
            "retries": airflow.retries,
            "retry_delay": timedelta(minutes=airflow.retry_delay_minutes),
        },
    }
    dag = AirflowDagRunner(
        AirflowPipelineConfig(airflow_dag_config=config, supported_launcher_classes=[AirflowLauncher])
    ).run(pipeline)
    push_config = str(_component(pipeline, "Pusher").exec_properties["custom_config"])
    for task in dag.tasks:
        late: Callable[[], dict[str, Any]] = dict
        if task.task_id == "Pusher":
            late = functools.partial(_push_config, push_config, pushed_to, Path(home))
        task.python_callable = functools.partial(_run_component, task.python_callable, late)
        # TFX has Airflow render every parameter as a Jinja template, which eats any `{{` in a setting.
        task.op_kwargs = {"exec_properties": _TEMPLATES.get(task.task_id, {})}
    leaves = list(dag.leaves)
    report = PythonOperator(
        task_id=LAST_TASK,
        dag=dag,
        python_callable=functools.partial(_report, settings, home, [c.id for c in pipeline.components]),
        trigger_rule=TriggerRule.ALL_DONE,
        retries=0,
    )
    report.set_upstream(leaves)
    return dag


def _day(text: str) -> Any:
    import pendulum  # Airflow's

    return pendulum.parse(text, tz="UTC")


def _component(pipeline: Pipeline, component_id: str) -> BaseNode:
    return next(component for component in pipeline.components if component.id == component_id)


def _run_component(
    launch: Callable[..., None], late: Callable[[], dict[str, Any]], exec_properties: dict[str, Any], **context: Any
) -> None:
    """A component's task: bad input fails at once, whatever else fails is tried again.

    Args:
        launch: TFX's function for the task.
        late: parameters that are known only when the task runs.
        exec_properties: the parameters that the run was given, rendered.
        context: Airflow's.
    """
    from airflow.exceptions import AirflowFailException

    try:
        launch(exec_properties=exec_properties | late(), **context)
    except Exception as error:
        cause = input_error_behind(error)
        if cause is None:
            raise
        raise AirflowFailException(message_of(cause)) from error


def _push_config(wired: str, pushed_to: Path, home: Path) -> dict[str, Any]:
    """Pusher's `custom_config` with the nonce that says whether an earlier push is still there."""
    nonce = push_nonce(pushed_to, home / outcome.RECORD_FILE)
    return {"custom_config": json.dumps({**json.loads(wired), "nonce": nonce})}


def _report(settings: dict[str, Any], home: str, expected: list[str], **context: Any) -> None:
    """The last task: writes `last_run.json` and the report, deletes old versions, and fails if nothing was pushed."""
    from airflow.exceptions import AirflowFailException
    from ml_metadata.metadata_store import MetadataStore
    from tfx.orchestration.metadata import sqlite_metadata_connection_config

    from pipeline.report.make import make_report
    from pipeline.runs.lineage import node_runs

    loaded = pipeline_settings.from_dict(settings, Settings)
    folder = Path(home)
    run = context["dag_run"]
    store = MetadataStore(sqlite_metadata_connection_config(str(folder / history.METADATA)))
    run_id = f"{loaded.name}.{run.run_id}"  # as ML Metadata has it
    nodes = node_runs(store, run_id)
    ended = outcome.from_nodes(nodes, expected, str(folder / ARTIFACTS))
    ended.run_id = run_id
    tasks = {task.task_id: task for task in run.get_task_instances()}
    ended.stages = [
        {"id": name, "seconds": round(tasks[name].duration or 0.0, 1), "cached": nodes[name].state == "cached"}
        for name in expected
        if name in nodes
    ]
    ended.seconds = sum(stage["seconds"] for stage in ended.stages)
    if ended.pushed_model:
        pushed_to = push_folder(loaded, folder.parent)
        push_directory.prune(pushed_to, loaded.push.keep)
        check_pushed(ended, pushed_to)
    ended.write(folder / outcome.RECORD_FILE)
    if nodes:
        history.record(store, loaded.name, run_id, settings, ended)
    ended.report = str(make_report(folder, loaded.name, ended, settings))
    ended.write(folder / outcome.RECORD_FILE)
    logging.getLogger(__name__).info("%s; report: %s", ended.status, ended.report)
    if ended.status != "pushed":
        reasons = "; ".join(entry["message"] for entry in ended.failures)
        raise AirflowFailException(f"{ended.status}: nothing was pushed: {reasons}")
