"""Writes the installed packages as CycloneDX, from uv.lock: the same lock gives the same bytes.

    make sbom        # build/sbom/*.cdx.json

One file for each environment: the pipeline's, the container image's, Airflow's. The image's lists the Python packages;
use an image scanner such as syft or trivy for what its base brings.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = {
    "pipeline": ["--no-dev"],
    "image": ["--no-dev", "--extra", "kubeflow"],
    "airflow": ["--no-dev", "--extra", "airflow"],
}
"""What `uv sync` is told for each; of the image, in the Dockerfile."""

_NAMESPACE = uuid.UUID("3ba6bd26-1c31-4fbe-a3a4-7f4d4b2d3c7e")  # of the serial numbers


def sbom(uv: Path, options: list[str]) -> str:
    """The bill of materials of an environment.

    Its serial number follows from its content, and it has no timestamp, so that it is the same each time.

    Raises:
        subprocess.CalledProcessError: uv cannot read the lock, or it does not fit pyproject.toml.
    """
    command = [uv, "export", "--project", ROOT, "--locked", "--format", "cyclonedx1.5", *options]
    made = subprocess.run(
        [*command, "--preview-features", "sbom-export", "--quiet"], stdout=subprocess.PIPE, text=True, check=True
    )
    bill = json.loads(made.stdout)
    del bill["metadata"]["timestamp"]
    bill["serialNumber"] = ""
    bill["serialNumber"] = uuid.uuid5(_NAMESPACE, json.dumps(bill, sort_keys=True)).urn
    return json.dumps(bill, indent=1) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uv", type=Path, default=ROOT / ".venv-uv" / "bin" / "uv")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "sbom", help="folder")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name, told in ENVIRONMENTS.items():
        path = options.output / f"{name}.cdx.json"
        try:
            path.write_text(sbom(options.uv, told))
        except subprocess.CalledProcessError as error:
            sys.exit(f"sbom: uv could not read uv.lock (exit code {error.returncode}; its message is above)")
        print(path)


if __name__ == "__main__":
    main()
