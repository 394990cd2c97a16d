"""A hash of our own code that a stage runs, so that TFX's cache notices when it changes.

TFX keys its cache on inputs and parameters; editing the code behind a dotted path does not invalidate it.
"""

import ast
import hashlib
import importlib.metadata
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("core", "pipeline", "components", "trainer")
_STACK = (
    "apache-beam",
    "numpy",
    "pillow",
    "tensorflow",
    "tensorflow-data-validation",
    "tensorflow-estimator",
    "tensorflow-model-analysis",
    "tensorflow-transform",
    "tfx",
)


def code_hash(module: str) -> str:
    """Hashes a module of this project, all modules of the project that it imports, and the stack's versions.

    Args:
        module: dotted name, e.g. `"trainer.run"`; it is read, not imported.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(_closure(module)):
        for path in _files(name):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for package in _STACK:
        digest.update(f"{package}=={importlib.metadata.version(package)}\0".encode())
    return digest.hexdigest()[:16]


def _source(module: str) -> Path:
    path = _ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _files(module: str) -> list[Path]:
    """The module's source, and data files of the same name beside it."""
    source = _source(module)
    return sorted(path for path in source.parent.glob(f"{source.stem}.*") if path.is_file())


def _closure(module: str) -> set[str]:
    """The module and every module of ours it imports, directly or not."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_imports(_source(name)))
    return found


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in names if name.split(".")[0] in _PACKAGES and _source(name).is_file()}
