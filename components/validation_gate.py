"""ValidationGate: stops the run where the data do not fit the schema; ExampleValidator only writes that down.

It has no outputs: what comes after it names it as an upstream node.
"""

import logging

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies, ExampleStatistics

from components import data_problems
from trainer.errors import InputError

# As in tfx/components/example_validator/executor.py and statistics_gen/stats_artifact_utils.py, which import TFDV.
_ANOMALIES_FILE, _STATISTICS_FILE = "SchemaDiff.pb", "FeatureStats.pb"


@component
def ValidationGate(  # noqa: N802 - a component is a class to its users
    anomalies: InputArtifact[ExampleAnomalies],
    statistics: InputArtifact[ExampleStatistics],
    schema_file: Parameter[str] = "the schema",
    code: Parameter[str] = "",
) -> None:
    """Passes data that can be trained on, and logs warnings about them.

    Args:
        anomalies: what ExampleValidator found.
        statistics: what it looked at.
        schema_file: the schema's path, for the message.
        code: hash of this component's source, so that TFX's cache notices when it changes.

    Raises:
        InputError: all problems, one a line: anomalies of severity ERROR in any split, a split without images, a class
            of the schema without images to train on.
    """
    del code
    splits = [
        data_problems.SplitFindings(
            name,
            anomalies_pb2.Anomalies.FromString(_read(anomalies, name, _ANOMALIES_FILE)),
            statistics_pb2.DatasetFeatureStatisticsList.FromString(_read(statistics, name, _STATISTICS_FILE)),
        )
        for name in artifact_utils.decode_split_names(anomalies.split_names)
    ]
    for warning in data_problems.warnings(splits, schema_file):
        logging.getLogger(__name__).warning("%s", warning)
    found = data_problems.problems(splits, schema_file)
    if found:
        lines = "".join(f"\n- {problem}" for problem in found)
        raise InputError(f"the images do not fit {schema_file}:{lines}")


def _read(artifact: ExampleAnomalies | ExampleStatistics, split: str, name: str) -> bytes:
    with fileio.open(f"{artifact_utils.get_split_uri([artifact], split)}/{name}", "rb") as file:
        return file.read()
