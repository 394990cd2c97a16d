"""ML Metadata on a real MariaDB: whole runs, their history, what is cached and deleted, and no password anywhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2 as pb

from core.artifacts.pushed_model import DECIDED, WAITS
from core.settings import load
from pipeline.runners.approval import decide
from pipeline.runs.metadata import connect
from tests.conftest import ROOT
from tests.fork_server import ForkServer
from tests.ports.few_digits import write_few_digits
from tests.ports.mariadb import DATABASE, PASSWORD, USER, installed, mariadb
from tests.small_model import write_model

pytestmark = [
    pytest.mark.ports,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not installed(), reason="MariaDB is not installed (apt-get install mariadb-server)"),
]

SMALL = "backbone.weights=random training.steps=60 evaluation.thresholds={accuracy: {min: 0.1, max_drop: 1.0}}"


def test_an_approval_reaches_ml_metadata_on_a_server_without_the_runs_folder(tmp_path: Path) -> None:
    """As of a cluster, whose database and whose bucket can be reached, and nothing else."""
    with mariadb() as port, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLMD", PASSWORD)
        waiting = f"{tmp_path}/models/.waiting/17"
        write_model(Path(waiting))
        settings = load(
            ROOT / "configs" / "digits.yaml",
            [
                f"runtime.metadata={{host: 127.0.0.1, port: {port}, database: {DATABASE}, user: {USER}, "
                'password: "${env:MLMD}"}'
            ],
        )
        store = connect(tmp_path / "nothing", settings.runtime.metadata)
        artifact = pb.Artifact(type_id=store.put_artifact_type(pb.ArtifactType(name="PushedModel")), uri="here")
        artifact.custom_properties[WAITS].string_value = waiting
        contexts = [
            pb.Context(type_id=store.put_context_type(pb.ContextType(name=kind)), name=name)
            for kind, name in (("pipeline", "digits"), ("pipeline_run", "digits-abc"))
        ]
        (artifact_id,), context_ids = store.put_artifacts([artifact]), store.put_contexts(contexts)
        store.put_attributions_and_associations(
            [pb.Attribution(artifact_id=artifact_id, context_id=one) for one in context_ids], []
        )
        store.put_parent_contexts([pb.ParentContext(child_id=context_ids[1], parent_id=context_ids[0])])
        done = decide(settings, tmp_path / "nothing", f"{tmp_path}/models", "17", "approved", "jo", "fine")
        (found,) = store.get_artifacts()
    assert done == [f"now serving {tmp_path}/models/17"]
    properties = found.custom_properties
    assert (properties["pushed"].int_value, properties["pushed_version"].string_value) == (1, "17")
    assert json.loads(properties[DECIDED].string_value)["by"] == "jo" and not properties[WAITS].string_value


def test_runs_are_kept_on_a_server_whose_password_is_nowhere(forks: ForkServer, tmp_path: Path) -> None:
    images, root = write_few_digits(tmp_path / "images", 12), tmp_path / "build"

    def pipeline(*arguments: str, password: str = PASSWORD, port: int, at: Path = root) -> tuple[int, str]:
        server = f'{{host: 127.0.0.1, port: {port}, database: {DATABASE}, user: {USER}, password: "${{env:MLMD}}"}}'
        settings = (SMALL, f"data.images={images}", "runtime.keep_runs=1", f"runtime.metadata={server}")
        command = [*arguments, "--root", str(at), *(part for setting in settings for part in ("--set", setting))]
        screen = tmp_path / "screen.txt"
        code = forks.run("pipeline", command, ROOT, screen, screen, {**os.environ, "MLMD": password})
        said = screen.read_text()
        screen.unlink()
        return code, said

    with mariadb() as port:
        code, said = pipeline("run", port=port)
        assert code == 0, said
        code, said = pipeline("run", port=port)
        assert code == 0 and "nothing has changed" in said, said
        code, said = pipeline("run", "--from", "ModelGate", "--to", "ModelGate", port=port)
        assert code == 0 and "finished" in said, said
        code, said = pipeline("history", "--json", port=port)
        assert code == 0, said
        runs = json.loads(said[said.index("[\n") :])
        assert [run["status"] for run in runs] == ["pushed", "finished"], said
        assert runs[0]["metrics"]["accuracy"]["overall"] > 0.1
        code, said = pipeline("prune", port=port)
        assert code == 0 and "artifacts and" in said, said
        code, said = pipeline("run", port=port, at=tmp_path / "elsewhere")
        assert code == 2 and "holds runs of a pipeline 'digits' whose artifacts are elsewhere" in said, said
        code, said = pipeline("history", password="wrong", port=port)
        assert code == 4 and f"{USER} cannot use the database {DATABASE}" in said and "password" in said, said
    code, said = pipeline("history", port=port)
    assert code == 4 and "is the server up" in said.lower(), said
    assert not (root / "digits" / "metadata.sqlite").exists()
    leaks = [path for path in root.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert leaks == []
