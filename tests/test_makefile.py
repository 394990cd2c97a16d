"""The Makefile: values reach the command line as they were given, and the shell's Python stays out."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

PYTHON = """#!/bin/sh
# Stands for the environment's: says what it was given.
printf '%s\\0' "$@" > "$RECORD"
env -0 > "$RECORD.env"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What make looks at, in which an environment seems to be made."""
    folder = tmp_path / "checkout"
    for name in ("uv.lock", ".python-version", "Makefile", "supply_chain/uv.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    for name, text in ((".venv/bin/python", PYTHON), (".venv-uv/bin/uv", "#!/bin/sh\nexit 1\n")):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / ".venv/.locked").touch()
    return folder


def make(cwd: Path, *arguments: str, **environment: str) -> tuple[list[str], dict[str, str]]:
    """What the command was given: its arguments and its environment."""
    record = cwd / "record"
    of_make = {"CONFIG", "ROOT", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}  # what `make test` gives to its commands
    kept = {name: value for name, value in os.environ.items() if name not in of_make}
    subprocess.run(["make", *arguments], cwd=cwd, env={**kept, "RECORD": str(record), **environment}, check=True)
    variables = (cwd / "record.env").read_text().split("\0")[:-1]
    return record.read_text().split("\0")[:-1], dict(variable.split("=", 1) for variable in variables)


HOSTILE = [
    "a$(shell touch made).png",
    "$(touch made) `touch made` ${HOME} $HOME $$ $",
    'it\'s "quoted"; touch made #',
    "a b/[v2]/*?/\\é",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("on_command_line", [True, False], ids=["argument", "environment"])
def test_make_takes_values_literally(value: str, on_command_line: bool, checkout: Path) -> None:
    names = ["CONFIG", "ROOT", "SET", "MODEL", "TOP", "FORMAT", "OUTPUT", "IMAGES"]
    values = dict.fromkeys(names, value)
    if on_command_line:
        given, _ = make(checkout, "predict", "NOBODYS=$(shell touch made)", *(f"{k}={v}" for k, v in values.items()))
    else:
        given, _ = make(checkout, "predict", **values)
    assert given == [
        "-m", "pipeline", "predict", "--config", value, "--root", value, "--set", value, "--model", value,
        "--top", value, "--format", value, "--output", value, "--images", value,
    ]  # fmt: skip
    given, _ = make(checkout, "run-local", f"DATA={value}", f"WEIGHTS={value}", f"ROOT={value}")
    assert given[-4:] == ["--data", value, "--weights", value]
    names = ["IMAGES", "MODEL", "LABELS", "COUNT", "OUTPUT"]
    given, _ = make(checkout, "monitor", *(f"{name}={value}" for name in names))
    assert given[-10:] == [
        "--model", value, "--labels", value, "--count", value, "--output", value, "--", value,
    ]  # fmt: skip
    given, _ = make(checkout, "reject", f"VERSION={value}", f"WHY={value}", f"BY={value}", f"DIRECTORY={value}")
    assert given[-8:] == ["--version", value, "--why", value, "--by", value, "--directory", value]
    given, _ = make(checkout, "bench", f"CASES={value}", f"IMAGES={value}", f"ROUNDS={value}")
    assert given == ["-m", "benchmarks.bench", "--cases", value, "--images", value, "--rounds", value]
    assert not list(checkout.rglob("made"))


def test_the_makefile_works_from_another_folder(checkout: Path, tmp_path: Path) -> None:
    given, _ = make(tmp_path, "-f", "checkout/Makefile", "history")
    assert given[2:] == ["history", "--config", "checkout/configs/digits.yaml", "--root", "checkout/build"]


def test_where_packages_come_from_is_kept_and_where_they_go_is_not(checkout: Path) -> None:
    kept = {
        "http_proxy": "http://p",
        "PIP_INDEX_URL": "http://i",
        "UV_DEFAULT_INDEX": "http://i",
        "SSL_CERT_FILE": "/c",
    }
    dropped = ["PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_REQUIRE_VIRTUALENV", "UV_PROJECT_ENVIRONMENT"]
    dropped += ["UV_PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONSTARTUP", "TF_USE_LEGACY_KERAS"]
    _, variables = make(checkout, "history", **kept, **dict.fromkeys(dropped, "/x"))
    assert kept.items() <= variables.items()
    assert not set(dropped) & set(variables)


def run_setup(checkout: Path, tools: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """`make setup` of a fresh clone where some programs are others."""
    for folder in (".venv", ".venv-uv"):
        for path in sorted((checkout / folder).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (checkout / folder).rmdir()
    tools.mkdir()
    for name, script in programs.items():
        (tools / name.replace("python310", "python3.10")).write_text(f"#!/bin/sh\n{script}\n")
    for path in tools.iterdir():
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.run(["make", "setup"], cwd=checkout, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("machine", ["Linux aarch64", "Darwin arm64", "MINGW64_NT-10.0-19045 x86_64"])
def test_a_machine_without_packages_is_shown_the_container(machine: str, checkout: Path, tmp_path: Path) -> None:
    done = run_setup(checkout, tmp_path / "tools", uname=f"echo '{machine}'")
    assert done.returncode != 0
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error:"))
    assert machine in line and "docker run --rm -it --platform linux/amd64" in line


def test_without_any_python_it_says_what_to_install(checkout: Path, tmp_path: Path) -> None:
    done = run_setup(checkout, tmp_path / "tools", python310="exit 127", python3="exit 127")
    assert done.returncode != 0 and "install Python 3.10 with its module venv" in done.stderr


UV = """case "$2" in find) exit 1;; install) exit {download};; esac
echo "$@" > synced; mkdir -p .venv"""


@pytest.mark.parametrize(("download", "synced"), [(0, True), (1, False)], ids=["uv fetches one", "uv cannot"])
def test_a_python_that_is_missing_is_fetched_where_that_is_possible(
    download: int, synced: bool, checkout: Path, tmp_path: Path
) -> None:
    (tmp_path / "uv").write_text(f"#!/bin/sh\n{UV.format(download=download)}\n")
    (tmp_path / "uv").chmod(0o755)
    venv = f"""mkdir -p .venv-uv/bin; cp {tmp_path}/uv .venv-uv/bin/uv; printf '#!/bin/sh' > .venv-uv/bin/python
chmod +x .venv-uv/bin/python"""
    done = run_setup(checkout, tmp_path / "tools", python310="exit 127", python3=venv)
    assert (done.returncode == 0) is synced
    if synced:
        assert (checkout / "synced").read_text() == "sync --project . --quiet --frozen --python 3.10\n"
    else:
        assert "error: Python 3.10 is needed" in done.stderr and "pyenv install 3.10" in done.stderr
