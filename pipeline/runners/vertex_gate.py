"""ModelGate's executor for Vertex AI, where only an Evaluator's blessing is given the model's resource name.

The service finds the last blessed model by the name that its blessing carries. TFX identifies artifacts by number, and
its entry point for Vertex AI (tfx/orchestration/kubeflow/v2/container/kubeflow_v2_run_executor.py) replaces the number
by the name only if the executor is an Evaluator's.
"""

from tfx.components.evaluator import executor

from components.model_gate import ModelGate


class Executor(ModelGate.EXECUTOR_SPEC.executor_class, executor.Executor):  # type: ignore[name-defined, misc]
    """ModelGate's executor, and an Evaluator's by type."""
