"""SchemaImporter: brings the reviewed schema into the pipeline by its text, not by its path.

TFX's own ImportSchemaGen is keyed on the file's path: it neither notices an edit nor runs on another machine.
"""

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import Schema


@component
def SchemaImporter(schema: OutputArtifact[Schema], text: Parameter[str], code: Parameter[str] = "") -> None:  # noqa: N802 - a component is a class to its users
    """Writes `text`, a tensorflow_metadata Schema in protobuf's text format, as `schema.pbtxt`."""
    del code
    fileio.makedirs(schema.uri)
    with fileio.open(f"{schema.uri}/schema.pbtxt", "w") as file:
        file.write(text)
