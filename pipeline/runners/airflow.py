"""The pipeline as an Airflow DAG: a task for every component, and a final one that says how the run ended.

`write_dag_file` writes the file for Airflow's DAG folder, which contains the settings and calls `create_dag` wherever
Airflow reads it. This module runs in the environment `.venv-airflow` (`make airflow-env`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import pprint
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from core import atomic_io, secrets
from core import settings as pipeline_settings
from core.artifacts.last_run import Stage
from core.errors import Cause, cause_of, some
from core.loopback import bypass_proxy
from core.settings import Settings
from core.uris import split_pattern
from pipeline import data_source
from pipeline.runners.ending import Execution, end_run
from pipeline.runs import integrity, metadata
from pipeline.runs.monitor import Monitor
from pipeline.runs.run_dir import ARTIFACTS, check_root, push_folder, run_dir
from pipeline.runs.run_lock import part_of_run
from pipeline.runs.run_summary import run_summary
from trainer.weights import sources

if TYPE_CHECKING:
    from airflow import DAG
    from tfx.orchestration.pipeline import Pipeline

LAST_TASK = "Report"
_CAUSE = "cause"  # XCom of a task that failed by bad input or its machine: the `Cause`

_FILE = '''\
"""The pipeline "{name}" for Airflow, written by `python -m pipeline airflow`: change the settings and write it again.

Airflow reads this file in the environment of `make airflow-env`; see docs/airflow.md.
"""

from airflow import DAG

from pipeline.runners.airflow import Definition, create_dag

DEFINITION = {definition}

dag: DAG = create_dag(DEFINITION)
'''

_DOC = """\
Images to a pushed model: [{name}]({folder}). A run may be triggered with

- `images`: the folder of class folders, or the folder above the spans;
- `span`: the number of the span to take; the latest without it.

The task `Report` fails if nothing was pushed, unless a model waits for approval, and says why; the page is in
`{folder}/reports`.
"""


@dataclasses.dataclass(frozen=True)
class Definition:
    """The pipeline as described in the DAG file.

    Attributes:
        schema: the reviewed schema, in protobuf's text format.
        root: the parent of the run folder.
        images: the data folder, unless a run is given another.
        weights_fingerprint: as in `Deployment`.
    """

    settings: dict[str, Any]
    schema: str
    root: str
    images: str
    weights_fingerprint: str

    def pipeline(self, settings: Settings, images: str) -> Pipeline:
        """The pipeline of one run."""
        from pipeline.pipeline import local_pipeline

        return local_pipeline(settings, Path(self.root), self.schema, images, self.weights_fingerprint)


def write_dag_file(settings: Settings, root: Path, path: Path) -> None:
    """Writes the file for Airflow's DAG folder.

    All of Airflow's workers must see `root` at this path, and no other runner may use it.

    Raises:
        InputError: the images cannot be found, or there is no usable schema yet.
    """
    check_root(str(root.resolve()))
    push_folder(settings, root)
    folder = run_dir(settings, root)
    folder.mkdir(parents=True, exist_ok=True)
    images = data_source.images_folder(settings, folder)
    schema = data_source.reviewed_schema(settings, None).text
    if past := data_source.list_regressions(settings):
        data_source.check_regressions(past, schema)
    definition = Definition(
        settings=pipeline_settings.to_dict(settings),
        schema=schema,
        root=str(root.resolve()),
        images=images,
        weights_fingerprint=sources.fingerprint(settings.backbone),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    source = pprint.pformat(definition, width=110, sort_dicts=False)
    atomic_io.write_text(path, _FILE.format(name=settings.name, definition=source))


def create_dag(definition: Definition) -> DAG:
    """The DAG: a task for each node, and `LAST_TASK`."""
    import pendulum  # Airflow's
    from airflow import DAG
    from airflow.models.param import Param
    from airflow.operators.python import PythonOperator
    from airflow.utils.module_loading import import_string
    from airflow.utils.trigger_rule import TriggerRule

    settings = pipeline_settings.from_dict(definition.settings, Settings)
    airflow = settings.airflow
    span = None if settings.data.span == "latest" else settings.data.span
    dag = DAG(
        settings.name,
        schedule=airflow.schedule,
        start_date=pendulum.parse(airflow.start_date, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        max_active_tasks=airflow.max_active_tasks,
        tags=list(airflow.tags),
        params={
            "images": Param(split_pattern(definition.images)[0], type="string", minLength=1),
            "span": Param(span, type=["null", "integer", "string"], pattern=r"^\d+$"),
        },
        doc_md=_DOC.format(name=settings.name, folder=run_dir(settings, Path(definition.root))),
        on_failure_callback=import_string(airflow.on_failure) if airflow.on_failure else None,
        default_args={
            "owner": airflow.owner,
            "retries": airflow.retries,
            "retry_delay": timedelta(minutes=airflow.retry_delay_minutes),
        },
    )
    tasks: dict[str, PythonOperator] = {}
    for node in definition.pipeline(settings, definition.images).components:
        run_node = functools.partial(_run_node, definition, node.id)
        tasks[node.id] = PythonOperator(task_id=node.id, dag=dag, python_callable=run_node)
        tasks[node.id].set_upstream([tasks[upstream.id] for upstream in node.upstream_nodes])
    leaves = list(dag.leaves)
    report = PythonOperator(
        task_id=LAST_TASK,
        dag=dag,
        python_callable=functools.partial(_report, settings, Path(definition.root), list(tasks)),
        trigger_rule=TriggerRule.ALL_DONE,
        retries=0,
    )
    report.set_upstream(leaves)
    return dag


def _run_node(definition: Definition, node_id: str, **context: Any) -> None:
    """A node's task: bad input and damaged artifacts fail immediately, other failures are retried."""
    from airflow.exceptions import AirflowFailException
    from airflow.utils.log.secrets_masker import mask_secret

    from pipeline.runners.single_node import SingleNodeRunner

    bypass_proxy()
    settings = pipeline_settings.from_dict(definition.settings, Settings)
    params = context["params"]
    span: int | Literal["latest"] = "latest" if params["span"] is None else int(params["span"])
    settings = msgspec.structs.replace(settings, data=dataclasses.replace(settings.data, span=span))
    images = "/".join(filter(None, (params["images"].rstrip("/"), split_pattern(definition.images)[1])))
    folder, run_id = run_dir(settings, Path(definition.root)), _run_id(settings, context)
    warn = logging.getLogger(__name__).warning
    variables = secrets.variables(definition.settings)
    for name in variables:
        mask_secret(os.environ.get(name))  # in this task's log
    store, damaged = None, list[str]()
    try:
        secrets.require_set(variables)
        with part_of_run(folder, warn):
            store = metadata.connect(folder, settings.runtime.metadata)
            for note in integrity.discard_damaged(store, folder / ARTIFACTS):
                warn("%s", note)
            with Monitor(settings.name, folder, run_id, settings.runtime.metrics_directory).watching(node_id):
                SingleNodeRunner(node_id, run_id).run(definition.pipeline(settings, images))
    except Exception as error:
        cause = cause_of(error)
        cause = cause._replace(message=secrets.mask(cause.message, variables))
        if store and cause.blame != "input":
            with contextlib.suppress(Exception):  # whatever it is, it must not hide why the task failed
                damaged = integrity.discard_damaged_inputs(store, run_id, node_id, folder / ARTIFACTS)
        if damaged:
            cause = Cause(f"{'; '.join(damaged)}: run the DAG again", "machine")
        if cause.blame != "code":
            context["ti"].xcom_push(_CAUSE, [*cause])
        if cause.blame == "input" or damaged:  # another try would fail in the same way
            raise AirflowFailException(cause.message) from error
        raise


def _run_id(settings: Settings, context: Mapping[str, Any]) -> str:
    """ML Metadata's name of the run."""
    return f"{settings.name}.{context['dag_run'].run_id}"


def _report(settings: Settings, root: Path, nodes: list[str], **context: Any) -> None:
    """The last task: ends the run, and fails if nothing was pushed."""
    from airflow.exceptions import AirflowFailException

    tasks = {task.task_id: task for task in context["dag_run"].get_task_instances()}
    ran = [name for state in ("success", "failed") for name in nodes if tasks[name].state == state]
    blamed = [(name, context["ti"].xcom_pull(task_ids=name, key=_CAUSE)) for name in ran]
    stages = [Stage(name, round(tasks[name].duration or 0.0, 1), None, cached=False) for name in ran]
    seconds = sum(stage.seconds for stage in stages)
    run_id = _run_id(settings, context)
    monitor = Monitor(settings.name, run_dir(settings, root), run_id, settings.runtime.metrics_directory)
    execution = Execution(lambda: (seconds, 0), monitor, run_id=run_id, nodes=nodes, stages=stages)
    for name, cause in blamed:
        if cause:
            execution.failed_stage, execution.cause = name, Cause(*cause)
    with part_of_run(run_dir(settings, root), logging.getLogger(__name__).warning):
        outcome = end_run(settings, root, execution)
    lines = run_summary(outcome, run_dir(settings, root))
    logging.getLogger(__name__).info("%s", "\n".join(f"{line.head}{line.text}" for line in lines))
    if outcome.status not in ("pushed", "waiting"):
        pushed = f"the model in service is {outcome.pushed_model}" if outcome.pushed_model else "nothing was pushed"
        reasons = some([failure.message for failure in outcome.failures])
        raise AirflowFailException(f"{outcome.status}: {pushed}: {reasons}")
