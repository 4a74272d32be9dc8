"""The project's own rules, held by its tests."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("harness", "interventions", "analysis", "hydra_plugins")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FORBIDDEN = {
    "analysis": {
        "torch",
        "hydra",
        "wandb",
        "omegaconf",
        "harness",
        "interventions",
        "transformers",
    },
    "interventions": {"harness", "analysis", "hydra", "wandb"},
    "harness": {"analysis", "interventions", "hydra_plugins"},
}
RECORDS = ("", ".files", ".study", ".versions")
ALLOWED = {"analysis": {f"harness.records{part}" for part in RECORDS}}
LAZY_WANDB = "tables.py"
"""The one place where the analysis may ask W&B for runs, inside a function."""


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    names = {n for n in imports(path) if n not in ALLOWED.get(package, set())}
    wrong = {n for n in names if n.split(".")[0] in FORBIDDEN.get(package, set())}
    if path.name == LAZY_WANDB:
        wrong.discard("wandb")
    assert not wrong


def test_records_need_the_standard_library_only() -> None:
    files = (ROOT / "harness" / "records").glob("*.py")
    names = {name for file in files for name in imports(file)}
    roots = {n.split(".")[0] for n in names if not n.startswith("harness.records")}
    assert roots <= set(sys.stdlib_module_names)


def test_the_harness_names_no_intervention() -> None:
    names = [
        p.stem for p in (ROOT / "conf" / "intervention").glob("*.yaml") if p.stem != "baseline"
    ]
    for path in (ROOT / "harness").rglob("*.py"):
        strings = {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        shared = {"warmup_cosine", "qkv_bias"}  # also a schedule and a model setting
        assert not (set(names) - shared) & strings, path


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_short_and_free_of_assertions(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    checks = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Assert)]
    assert not checks


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_are_short_and_take_few_arguments(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = ast.get_docstring(node) or ""
        length = node.end_lineno - node.lineno + 1 - len(docstring.splitlines())
        arguments = [
            a for a in node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")
        ]
        assert length <= 45, f"{node.name}: {length} lines"
        assert len(arguments) <= 6, f"{node.name}: {len(arguments)} arguments"


def test_importing_the_analysis_loads_nothing_of_the_engine() -> None:
    heavy = ("torch", "hydra", "wandb", "omegaconf", "matplotlib", "scipy.stats")
    code = f"import sys, analysis; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_readme_stays_under_two_hundred_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 200
