"""Beam's job servers are built from jars that are pinned; what is missing is said."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from supply_chain import job_server
from tests.conftest import ROOT

MAVEN = """#!/bin/sh
# As Maven: one dependency, and the shaded jar.
for argument; do case $argument in -Doutput=*) made=${argument#-Doutput=};; esac; done
case "$*" in
  *copy-dependencies) mkdir "$made/jars" && printf dependency > "$made/jars/some-1.0.jar";;
  *package) printf shaded > "$made/flink-1.16-job-server-2.56.0.jar";;
esac
"""


def run(*arguments: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "supply_chain" / "job_server.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": path}, check=False)


@pytest.mark.parametrize("present", [(), ("java",)], ids=["neither", "Java alone"])
def test_without_java_or_maven_a_sentence_says_what_to_install(tmp_path: Path, present: tuple[str, ...]) -> None:
    for program in present:
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    ended = run("flink", "--output", str(tmp_path / "made.jar"), path=str(tmp_path))
    assert ended.returncode == 2
    lacking = "mvn" if present else "java"
    assert f'"{lacking}" does not start: install both, with "apt-get install maven' in ended.stderr
    assert not (tmp_path / "made.jar").exists()


@pytest.mark.parametrize("engine", ["", "samza"])
def test_only_flink_and_spark_have_one(engine: str) -> None:
    ended = run(engine)
    assert ended.returncode == 2 and "give ENGINE=flink or ENGINE=spark" in ended.stderr


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Maven that downloads nothing, and a folder with the pins of what it gives; returns the pins."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("mvn", MAVEN), ("java", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    pins = tmp_path / "pins"
    shutil.copytree(job_server.FOLDER, pins)
    monkeypatch.setattr(job_server, "FOLDER", pins)
    return pins / "flink.sha256"


def test_a_jar_is_made_once_and_again_when_its_pins_change(maven: Path, tmp_path: Path) -> None:
    jar = tmp_path / "made" / "flink.jar"
    assert job_server.build("flink", jar, write_checksums=True)
    assert jar.read_text() == "shaded" and maven.read_text().endswith("  some-1.0.jar\n")
    assert not job_server.build("flink", jar)
    os.utime(jar, (0, 0))
    assert job_server.build("flink", jar)
    assert list(jar.parent.iterdir()) == [jar]


def test_a_dependency_that_is_not_what_was_pinned_makes_no_jar(maven: Path, tmp_path: Path) -> None:
    maven.write_text(f"{'0' * 64}  some-1.0.jar\n")
    with pytest.raises(job_server.BuildError, match=r"not the jars that flink\.sha256 pins: some-1\.0\.jar") as error:
        job_server.build("flink", tmp_path / "flink.jar")
    assert error.value.exit_code == 1
    assert not (tmp_path / "flink.jar").exists()


@pytest.mark.parametrize("engine", job_server.ENGINES)
def test_every_jar_is_pinned_once(engine: str) -> None:
    lines = (job_server.FOLDER / f"{engine}.sha256").read_text().splitlines()
    assert len(lines) > 100 and all(re.fullmatch(r"[0-9a-f]{64}  \S+\.jar", line) for line in lines)
    assert len({line.split()[1] for line in lines}) == len(lines)
    assert any("beam-runners-" in line and "-2.56.0.jar" in line for line in lines)
