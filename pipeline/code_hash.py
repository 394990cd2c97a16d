"""Hashes what our own code does in a stage, so that TFX's cache notices changes.

TFX keys its cache on inputs and parameters; editing the code behind a dotted path does not invalidate it.
"""

import ast
import functools
import hashlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("core", "pipeline", "components", "trainer")
_STACK = {
    "PIL": ("pillow",),
    "apache_beam": ("apache-beam",),
    "h5py": ("h5py",),
    "keras_tuner": ("keras-tuner",),
    "msgspec": ("msgspec",),
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "sklearn": ("scikit-learn",),
    "tensorflow": ("tensorflow", "tensorflow-estimator"),
    "tensorflow_data_validation": ("tensorflow-data-validation",),
    "tensorflow_model_analysis": ("tensorflow-model-analysis",),
    "tensorflow_transform": ("tensorflow-transform",),
    "tfx": ("tfx",),
}
"""Libraries that determine what a stage writes, by their import names."""

_NO_OUTPUT = ("core.errors", "core.progress")
"""Modules that do not affect what a stage writes: progress and errors."""


def code_hash(module: str) -> str:
    """Hashes what a module does, including all project modules and stack libraries that it imports.

    Comments, docstrings, formatting, imports only for type checkers and the modules in `_NO_OUTPUT` do not count; nor
    do packages that a module is imported from, since ours only re-export names. Data files with a module's name beside
    it count byte by byte.

    Args:
        module: dotted name, e.g. `"trainer.run"`; it is read, not imported.
    """
    digest = hashlib.sha256()
    libraries: set[str] = set()
    for name in closure(module):
        behavior = _behavior(name)
        digest.update(f"{name}\0{behavior.dump}\0".encode())
        for path in _data_files(name):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        libraries.update(imported.split(".")[0] for imported in _imports(behavior))
    for package in sorted(package for library in libraries for package in _STACK.get(library, ())):
        digest.update(f"{package}=={importlib.metadata.version(package)}\0".encode())
    return digest.hexdigest()[:16]


@functools.cache
def project_hash() -> str:
    """A hash of all our code, byte by byte, and the stack's versions; equal if the same is installed."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((_ROOT / package).rglob("*.py")):
            digest.update(f"{path.relative_to(_ROOT)}\0".encode() + path.read_bytes() + b"\0")
    for package in sorted(package for packages in _STACK.values() for package in packages):
        digest.update(f"{package}=={importlib.metadata.version(package)}\0".encode())
    return digest.hexdigest()[:16]


def closure(module: str) -> list[str]:
    """The module and all project modules that it imports, directly or indirectly, and that do anything; sorted."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or name in _NO_OUTPUT or not _source(name).is_file():
            continue
        found.add(name)
        waiting += (imported for imported in _imports(_behavior(name)) if imported.split(".")[0] in PACKAGES)
    return sorted(name for name in found if not _behavior(name).empty or _data_files(name))


def _source(module: str) -> Path:
    path = _ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _data_files(module: str) -> list[Path]:
    source = _source(module)
    return sorted(path for path in source.parent.glob(f"{source.stem}.*") if path.is_file() and path != source)


class _Behavior(NamedTuple):
    """A module's syntax tree, as text, without docstrings and code only for type checkers.

    Attributes:
        imports: pairs of a module, and what is imported from it, or "" for the module itself.
    """

    dump: str
    empty: bool
    imports: tuple[tuple[str, str], ...]


def _behavior(module: str) -> _Behavior:
    return _parse(_source(module).read_bytes())


@functools.cache
def _parse(source: bytes) -> _Behavior:
    tree = _Stripper().visit(ast.parse(source))
    imports: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports += ((node.module, alias.name) for alias in node.names)
    return _Behavior(ast.dump(tree), not tree.body, tuple(imports))


class _Stripper(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        docstring = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if docstring else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING") else node


def _imports(behavior: _Behavior) -> Iterator[str]:
    for module, name in behavior.imports:
        yield f"{module}.{name}" if name and _source(f"{module}.{name}").is_file() else module
