"""Builds Beam's job server for Flink or Spark, one jar, with Maven.

    make beam-job-server ENGINE=flink|spark [OUTPUT=file.jar]

`job_servers/pom.xml` pins the versions. Maven checks what it downloads against the repository's checksums; here each
jar is also checked against the SHA-256 in `job_servers/<engine>.sha256`. After a change of versions,
`--write-checksums` rewrites that file: look at the difference, and commit it.

Exit codes: 0; 1, a jar is not what it was when it was pinned; 2, Java, Maven or the repository is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent / "job_servers"
POM = FOLDER / "pom.xml"
ENGINES = ("flink", "spark")
LACKING = (
    'building a job server takes Java 11 or 17 and Maven 3, and "{}" does not start: install both, with '
    '"apt-get install maven openjdk-17-jre-headless" or your system\'s package manager'
)


class BuildError(Exception):
    """The jar cannot be built, because of the user or the repository; `exit_code` is the command's."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def build(engine: str, output: Path, write_checksums: bool = False) -> bool:
    """Builds the jar, unless it is newer than its inputs; returns whether it did.

    Raises:
        BuildError: something is missing, or a dependency is not what was pinned.
    """
    checksums = FOLDER / f"{engine}.sha256"
    inputs = (POM, checksums, Path(__file__))
    if output.exists() and not write_checksums and output.stat().st_mtime >= max(i.stat().st_mtime for i in inputs):
        return False
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise BuildError(LACKING.format(program))
    print(f"making {output} with Maven, which downloads some 200 MB the first time", file=sys.stderr)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as made:
        _maven(engine, made, "dependency:copy-dependencies")
        found = "".join(f"{_sha256(jar)}  {jar.name}\n" for jar in sorted(Path(made, "jars").glob("*.jar")))
        if write_checksums:
            checksums.write_text(found)
        elif different := set(found.splitlines()) ^ set(checksums.read_text().splitlines()):
            names = ", ".join(sorted({line.split()[1] for line in different}))
            raise BuildError(f"not the jars that {checksums.name} pins: {names}", exit_code=1)
        _maven(engine, made, "package")
        (jar,) = Path(made).glob(f"{engine}-*.jar")
        jar.replace(output)
    return True


def _maven(engine: str, output: str, goal: str) -> None:
    command = ["mvn", "-q", "-B", "--strict-checksums", "-f", str(POM), f"-P{engine}", f"-Doutput={output}", goal]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = [line for line in ended.stdout.splitlines() if line.startswith("[ERROR]")] or ended.stderr.splitlines()
        raise BuildError(f"Maven could not make the job server: {said[0].removeprefix('[ERROR] ') if said else goal}")


def _sha256(jar: Path) -> str:
    return hashlib.sha256(jar.read_bytes()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", metavar="ENGINE", help="flink or spark")
    parser.add_argument("--output", type=Path, help="the jar")
    parser.add_argument("--write-checksums", action="store_true")
    given = parser.parse_args(arguments)
    if given.engine not in ENGINES:
        print(f"error: ENGINE is {given.engine!r}: give ENGINE=flink or ENGINE=spark", file=sys.stderr)
        return 2
    output = (given.output or FOLDER.parents[1] / "build" / f"{given.engine}-job-server.jar").resolve()
    try:
        made = build(given.engine, output, given.write_checksums)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{output} {'is made' if made else 'is there already'}: name it in runtime.beam.job_server_jar")
    return 0


if __name__ == "__main__":
    sys.exit(main())
