"""Bills of materials are valid CycloneDX, whole, and the same each time."""

import json
import re

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from supply_chain.sbom import ENVIRONMENTS, sbom
from tests.conftest import ROOT

UV = ROOT / ".venv-uv" / "bin" / "uv"


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_bill_is_valid_and_the_same_each_time(name: str) -> None:
    made = sbom(UV, ENVIRONMENTS[name])
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(made) is None
    assert sbom(UV, ENVIRONMENTS[name]) == made


def test_each_package_has_its_version_and_hashes() -> None:
    bill = json.loads(sbom(UV, ENVIRONMENTS["image"]))
    components = {one["name"]: one for one in bill["components"]}
    lock = (ROOT / "uv.lock").read_text()
    for name in ("tensorflow", "tfx", "kfp"):
        (version,) = re.findall(rf'^name = "{name}"\nversion = "(.*)"', lock, re.MULTILINE)
        one = components[name]
        assert one["purl"] == f"pkg:pypi/{name}@{version}"
        hashes = [h["content"] for reference in one["externalReferences"] for h in reference["hashes"]]
        assert hashes and all(f"sha256:{content}" in lock for content in hashes)
    assert "pytest" not in components, "what only developers install"


def test_another_lock_has_another_serial_number() -> None:
    numbers = {json.loads(sbom(UV, told))["serialNumber"] for told in ENVIRONMENTS.values()}
    assert len(numbers) == len(ENVIRONMENTS)
