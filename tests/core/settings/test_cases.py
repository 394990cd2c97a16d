"""Settings that are refused, or have no effect: `cases/*.txt` hold the YAML and, beneath it, what is said.

A case ends with a line `====`; its YAML ends with a line `----`. `name: birds` and `data: {images: photos}` are added
where they are missing, unless the YAML begins with `# as it is`; a line `# SET: …` holds overrides. FILE is the
settings file, FOLDER its folder.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import InputError
from core.settings import ineffective, load, split_overrides

CASES = Path(__file__).parent / "cases"
LEAST = {"name": "name: birds\n", "data": "data: {images: photos}\n"}


def cases() -> Iterator[tuple[str, str, str]]:
    """Name of the file, YAML, and what is said."""
    for file in sorted(CASES.glob("*.txt")):
        for case in file.read_text(encoding="utf-8").split("====\n"):
            given, said = case.split("----\n")
            yield file.stem, given, said.rstrip("\n")


def say(name: str, given: str, folder: Path) -> str:
    file = folder / "birds.yaml"
    missing = [line for key, line in LEAST.items() if not re.search(rf"^{key}:", given, re.MULTILINE)]
    file.write_text(given + "".join([] if given.startswith("# as it is") else missing), encoding="utf-8")
    overrides = split_overrides(re.findall(r"^# SET: (.*)$", given, re.MULTILINE))
    if name == "ineffective":
        return "\n".join(ineffective(load(file, overrides)))
    with pytest.raises(InputError) as error:
        load(file, overrides)
    return str(error.value).replace(str(file), "FILE").replace(str(folder), "FOLDER")


@pytest.mark.parametrize(
    ("name", "given", "said"), [pytest.param(*case, id=f"{case[0]}-{i}") for i, case in enumerate(cases())]
)
def test_each_case_gives_the_recorded_message(name: str, given: str, said: str, tmp_path: Path) -> None:
    assert say(name, given, tmp_path) == said
