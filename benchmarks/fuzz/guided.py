"""Fuzzes by coverage: inputs that reach new lines of Python are kept and changed further, by atheris and libFuzzer.

    .venv-uv/bin/uv sync --inexact --frozen --group fuzz
    .venv/bin/python -m benchmarks.fuzz.guided tables --seconds 600

It pays where Python parses: settings, tables, TFRecords' labels. What it keeps is added to `benchmarks/fuzz/corpus`.
What does harm lies in `build/fuzz`, to be tried with `python -m benchmarks.fuzz tables --case build/fuzz/…`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import atheris

from benchmarks.fuzz import runner

CORPUS = Path(__file__).with_name("corpus")
_MODULES = {
    "settings": "core.settings.loading",
    "tables": "components.ingestion.image_layout",
    "records": "components.ingestion.image_records",
}
_PACKAGES = ["core", "components", "ruamel"]  # whose lines count


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=_MODULES)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--found", type=Path, default=Path("build/fuzz"), help="folder for what does harm")
    options = parser.parse_args()
    with atheris.instrument_imports(include=_PACKAGES):
        importlib.import_module(_MODULES[options.target])
    target = runner.load_target(options.target)
    corpus = CORPUS / options.target
    for folder in (corpus, options.found):
        folder.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        for number, data in enumerate(target.seeds()):
            (corpus / f"seed-{number}").write_bytes(data)
    bounds = [f"-timeout={runner.HANG_SECONDS:.0f}", f"-rss_limit_mb={runner.MOST_MB}", "-max_len=4096"]
    told = [f"-max_total_time={options.seconds}", f"-seed={options.seed}", f"-artifact_prefix={options.found}/"]
    atheris.Setup([sys.argv[0], str(corpus), *bounds, *told], lambda data: target.attempt(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
