"""Find what the ``_target_``s of a config point to, and which source that is.

Read as text, never imported: a typo is refused before anything heavy is loaded, and an edited
function is another cell. A frozen cell keeps the sources that it was planned with, and trains with
them whatever is edited later.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib import metadata
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

from harness.config import Config, ConfigError, scientific
from harness.data.corpus import Corpus
from harness.extras import EXTRAS, installation
from harness.records import SOURCES_FOLDER, RecordError
from harness.records.files import canonical_hash, write_atomic
from harness.records.sources import (
    OURS,
    PACKAGE_FILE,
    closure,
    hash_of,
    kept_files,
    parsed,
    prefixes,
)


def identity(config: Config, corpus: Corpus, sources: dict[str, str]) -> dict[str, Any]:
    """Return all that makes a cell another one: its science, its corpora, its `source_hashes`."""
    found = scientific(config, corpus.dataset_sha256)
    if corpus.tests:
        found["tests"] = {name: test.dataset_sha256 for name, test in corpus.tests.items()}
    return found | {"sources": sources} if sources else found


def version(config: Config, corpus: Corpus, sources: dict[str, str]) -> str:
    """Return the hash of the cell's science without its seeds."""
    parts = identity(config, corpus, sources)
    return canonical_hash({key: part for key, part in parts.items() if key != "seeds"})


def source_hashes(config: Config, folder: Path | None = None) -> dict[str, str]:
    """Return target -> hash of the files that define it, for every target outside the harness.

    The files are the target's module and, of code that is not installed, the modules beside it
    that it imports; with a cell's `folder`, as that keeps them. `ConfigError` where no module of
    that name can be found, or it does not define the name.
    """
    found = {}
    for target in sorted(_targets(config)):
        if target.startswith(OURS):
            _check_ours(target)
            continue
        kept = _closure(target, kept_files(folder).get) if folder else {}
        files = kept or _files(target)
        found[target] = hash_of(files) if files else ""  # built in or compiled
    return found


def keep_sources(config: Config, folder: Path) -> None:
    """Copy the files behind the cell's own targets into its folder; what is installed stays."""
    for target in _targets(config):
        if not target.startswith(OURS):
            for name, path in _files(target).items():
                if not _installed(path):
                    kept = f"{name}.__init__.py" if path.name == PACKAGE_FILE else f"{name}.py"
                    write_atomic(folder / SOURCES_FOLDER / kept, path.read_bytes())


def kept_sources(config: Config, folder: Path) -> dict[str, Path]:
    """Return module -> file that the cell keeps, of those that its targets are made of."""
    files: dict[str, Path] = {}
    for target in _targets(config):
        if not target.startswith(OURS):
            files |= _closure(target, kept_files(folder).get)
    return files


def use_kept_sources(config: Config, folder: Path) -> list[str]:
    """Import the cell's own modules as they were frozen; return the names of those edited since.

    Only what its targets are made of, and so stands in its identity: another file in ``sources/``
    takes no module's place.
    """
    kept = _Kept()
    sys.meta_path.insert(0, kept)
    files = kept_sources(config, folder)
    for name, file in sorted(files.items()):  # a package before its modules
        live = origin(name)
        if live is None or live.read_bytes() != file.read_bytes():
            package = file.name.endswith(PACKAGE_FILE)
            inside = ([str(live.parent)] if live else []) if package else None
            kept.specs[name] = spec_from_file_location(
                name, loader=_Source(name, str(file)), submodule_search_locations=inside
            )
    if not kept.specs:
        sys.meta_path.remove(kept)
    for name in files if kept.specs else ():  # they may have imported each other
        sys.modules.pop(name, None)
    return sorted(kept.specs)


class _Source(SourceFileLoader):
    """A loader that leaves no bytecode beside the file."""

    def set_data(self, path: str, data: object, **_: object) -> None:
        """Write nothing."""


class _Kept:
    """An importer of the files that a cell keeps."""

    def __init__(self) -> None:
        self.specs: dict[str, ModuleSpec | None] = {}

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """Return where the module is kept, None for all others."""
        return self.specs.get(name)


def _targets(config: Config) -> set[str]:
    cards = [card.fn for card in config.interventions.values()]
    groups = [config.model, config.optim, config.precision, config.schedule, config.data.pipeline]
    return set(_walk([*groups, *cards]))


def _walk(node: Any) -> Iterator[str]:
    """Yield every ``_target_`` of nested groups, mappings and lists."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    elif is_dataclass(node):
        node = [getattr(node, item.name) for item in fields(node)]
    if isinstance(node, list):
        for value in node:
            yield from _walk(value)


@lru_cache
def _check_ours(target: str) -> None:
    """Refuse a name that the harness does not define; what it defines stays while it runs."""
    _files(target)


def _files(target: str) -> dict[str, Path]:
    """Return module -> file of what a target is made of; nothing for what is built in."""
    module, name = _locate(target)
    path = origin(module)
    if path is None:
        return {}
    names = _top_level(parse(path, target))
    if names is not None and name not in names:
        close = ", ".join(sorted(get_close_matches(name, sorted(names), n=8, cutoff=0)))
        where = f"{path}{_release(module)}" if _installed(path) else path
        raise ConfigError(f"_target_={target}: {where} defines no {name!r}; it has: {close}")
    if target.startswith(OURS) or _installed(path):
        return {module: path}
    root = path.parents[module.count(".") + (path.name == PACKAGE_FILE)]

    def beside(module: str) -> Path | None:
        place = root / module.replace(".", "/")
        places = (place / PACKAGE_FILE, place.with_name(f"{place.name}.py"))
        return next((place for place in places if place.is_file()), None)

    return _closure(target, beside)


def _closure(target: str, find: Callable[[str], Path | None]) -> dict[str, Path]:
    """Return what a target is made of, as `closure` does, or refuse it."""
    try:
        return closure(target, find)
    except RecordError as error:
        raise _refused(target, error) from error


def _refused(target: str, error: RecordError) -> ConfigError:
    return ConfigError(f"_target_={target}: {error.file}, {error.reason}")


def _installed(path: Path) -> bool:
    """Tell an installed file, in whichever environment that this one looks into, from one's own."""
    in_packages = {"site-packages", "dist-packages"} & set(path.parts)
    return bool(in_packages) or path.is_relative_to(sysconfig.get_path("stdlib"))


def _release(module: str) -> str:
    """Return which release of its package an installed module is of, in brackets."""
    package = module.split(".")[0]
    try:
        return f" ({package} {metadata.version(package)})"
    except metadata.PackageNotFoundError:  # of a distribution with another name
        return ""


def _locate(target: str) -> tuple[str, str]:
    """Return the innermost module of a target, and the name that is wanted of it."""
    for module in prefixes(target):
        if _spec(module) is not None:
            return module, target.removeprefix(f"{module}.").split(".")[0]
    package = target.split(".")[0]
    place = f"put it into {sys.path[0] or 'this folder'} or a folder of PYTHONPATH"
    advice = installation(package) if package in EXTRAS else place
    raise ConfigError(f"_target_={target}: no module {package!r}; {advice}")


def _spec(module: str) -> ModuleSpec | None:
    """Find a module as an import would, without running the package that it is in."""
    package, _, name = module.rpartition(".")
    above = _spec(package) if package else None
    inside = above.submodule_search_locations if above else None
    if package and inside is None:
        return None
    finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
    found = (find(module, inside) for find in finders if find)
    try:
        return next((spec for spec in found if spec is not None), None)
    except KeyError:  # a folder without __init__.py asks the package above, which was not run
        folder = ModuleSpec(module, None, is_package=True)
        folder.submodule_search_locations = [str(Path(place, name)) for place in inside or ()]
        return folder


def origin(module: str) -> Path | None:
    """Return a module's source, None if it has none."""
    spec = _spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def parse(path: Path, target: str) -> ast.Module:
    """Return a source's syntax tree, or refuse it: `target` is why it is read."""
    try:
        return parsed(path)
    except RecordError as error:
        raise _refused(target, error) from error


def _top_level(tree: ast.Module) -> set[str] | None:
    """Return the names a module binds, None if that cannot be told from its text."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        elif not isinstance(node, ast.Expr | ast.Delete):  # an if, a try ...: may bind anything
            return None
    return None if "*" in names or "__getattr__" in names else names
