"""The project's own rules, held by its tests."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from benchmarks.structure import circles, graph, modules

ROOT = Path(__file__).parent.parent
PACKAGES = ("harness", "interventions", "analysis", "hydra_plugins")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
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
RECORDS = (
    *("", ".benchmarks", ".cell", ".evaluation", ".files", ".numbers", ".reading", ".responses"),
    *(".sources", ".study", ".terminal", ".versions"),
)
ALLOWED = {
    "analysis": {f"harness.records{part}" for part in RECORDS},
    "interventions": {"harness.model", "harness.records.files", "harness.records.terminal"},
}
COMPOSES = "interventions/__main__.py"
"""The one place among the interventions that composes configs: to show a diff to the baseline."""
LAZY_WANDB = "tables.py"
"""The one place where the analysis may ask W&B for runs, inside a function."""

COMMANDS = {
    "bill",
    "config_page",
    "entry",
    "evaluate",
    "export",
    "finetune",
    "judge",
    "label",
    "sample",
}
"""A folder may have any number of them."""

FLOORS = {
    "harness": [
        {"records"},
        {"config", "extras"},
        {"data", "engine"},
        {"modules", "model", "optim", "schedule", "events"},
        {"evaluation"},
        {"loop"},
        {"hub"},
        {"tracking"},
        {"cell"},
        {"evals"},
        {"study"},
        {"prepare", "status", "sync", "throughput", *COMMANDS},
        {"__main__"},
    ],
    "analysis": [
        {"errors", "text", "check"},
        {"table", "stats"},
        {"runs"},
        {"comparison"},
        {"questions", "judged", "benchmarks"},
        {"audit", "report"},
        {"cli"},
        {"__main__"},
    ],
}
"""From the ground up: a room imports its own floor at most, or what lies below."""

MOST_MODULES = 13
"""In one folder, `__init__` aside."""


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def offences(rule: Callable[[Path], Iterable[str]], paths: Iterable[Path]) -> list[str]:
    """Return what breaks a rule, each with its file; a test per file would cost more than its rule."""
    return [f"{named(path)}: {what}" for path in paths for what in rule(path)]


def test_imports_point_one_way() -> None:
    assert offences(imports_of_another_package, SOURCES) == []


def imports_of_another_package(path: Path) -> Iterator[str]:
    package = path.relative_to(ROOT).parts[0]
    names = {n for n in imports(path) if n not in ALLOWED.get(package, set())}
    wrong = {n for n in names if n.split(".")[0] in FORBIDDEN.get(package, set())}
    if named(path) == COMPOSES:
        wrong.discard("harness.config.compose")
    if path.name == LAZY_WANDB:
        wrong.discard("wandb")
    yield from wrong


@cache
def imported(package: str) -> dict[str, set[str]]:
    """Return each module of a package with the modules of it that it imports."""
    return graph(ROOT, package)


@pytest.mark.parametrize("package", FLOORS)
def test_no_modules_import_each_other_not_even_for_types(package: str) -> None:
    assert circles(imported(package)) == []


@pytest.mark.parametrize("package", FLOORS)
def test_no_room_imports_from_a_floor_above(package: str) -> None:
    floor = {room: i for i, rooms in enumerate(FLOORS[package]) for room in rooms}
    rooms = {name.split(".")[1] for name in modules(ROOT, package) if "." in name}
    assert rooms <= set(floor), "a new room needs its floor here"
    up = [
        f"{name} imports {other}"
        for name, others in imported(package).items()
        for other in others
        if "." in name and "." in other
        and floor[name.split(".")[1]] < floor[other.split(".")[1]]
    ]  # fmt: skip
    assert up == []


def test_folders_hold_about_a_dozen_modules() -> None:
    folders = {path.parent for path in SOURCES if path.parent.name not in ("interventions", "cli")}
    sizes = {
        named(f): len([p for p in f.glob("*.py") if p.stem not in {"__init__", *COMMANDS}])
        for f in folders
    }
    assert {name: n for name, n in sizes.items() if n > MOST_MODULES} == {}


def test_records_need_the_standard_library_and_msgspec_only() -> None:
    files = (ROOT / "harness" / "records").glob("*.py")
    names = {name for file in files for name in imports(file)}
    roots = {n.split(".")[0] for n in names if not n.startswith("harness.records")}
    assert roots <= {*sys.stdlib_module_names, "msgspec"}


def test_the_harness_names_no_intervention() -> None:
    names = [
        p.stem for p in (ROOT / "conf" / "intervention").glob("*.yaml") if p.stem != "baseline"
    ]
    for path in (ROOT / "harness").rglob("*.py"):
        strings = {
            node.value
            for node in nodes_of(path)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        # also a schedule, a setting of the model, and a study's region of practical equivalence
        shared = {"warmup_cosine", "qkv_bias", "rope"}
        assert not (set(names) - shared) & strings, path


def test_modules_are_short() -> None:
    lengths = {named(path): lines_of_code(path) for path in [*SOURCES, *TESTS]}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def lines_of_code(path: Path) -> int:
    """Lines that are neither empty, nor a comment alone, nor of a docstring."""
    code = {
        i for i, line in enumerate(path.read_text().splitlines(), 1)
        if line.strip() and not line.strip().startswith("#")
    }  # fmt: skip
    for node in nodes_of(path):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            code -= set(range(node.lineno, node.end_lineno + 1))
    return len(code)


def test_modules_are_free_of_assertions() -> None:
    assert [named(p) for p in SOURCES if any(isinstance(n, ast.Assert) for n in nodes_of(p))] == []


def test_functions_are_short() -> None:
    assert offences(long_functions, [*SOURCES, *TESTS]) == []


def long_functions(path: Path) -> Iterator[str]:
    for node in functions(path):
        length = node.end_lineno - node.lineno + 1
        if length > 40:  # perhaps by its docstring
            length -= len((ast.get_docstring(node) or "").splitlines())
        if length > 40:
            yield f"{node.name}: {length} lines"


def test_functions_take_few_arguments_and_no_parcels_of_them() -> None:
    assert offences(crowded_signatures, SOURCES) == []


def crowded_signatures(path: Path) -> Iterator[str]:
    for node in functions(path):
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        arguments = [a for a in given if a.arg not in ("self", "cls")]
        if len(arguments) > 5:
            yield f"{node.name}: {len(arguments)} arguments"
        for argument in arguments:
            if parcel_size(argument.annotation) > 2:
                yield f"{node.name}: {argument.arg}"


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Return a module's whole tree, walked once for all rules."""
    return tuple(ast.walk(tree_of(path)))


@cache
def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in nodes_of(path) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def parcel_size(annotation: ast.expr | None) -> int:
    """How many values a parameter annotated as a tuple of fixed length carries."""
    if not isinstance(annotation, ast.Subscript) or ast.unparse(annotation.value) != "tuple":
        return 0
    parts = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else []
    variadic = any(isinstance(p, ast.Constant) and p.value is Ellipsis for p in parts)
    return 0 if variadic else len(parts)


ASKED = {"startswith", "endswith", "match", "search", "fullmatch", "contains"}
SAID = {"verdict", "verdicts", "warning", "message", "note", "why", "reason", "error", "sentence"}


def test_nothing_is_read_out_of_what_was_said() -> None:
    """A verdict, a warning or a reason is a value before it is a sentence."""
    assert offences(readings_of_words, [p for p in SOURCES if "analysis" in p.parts]) == []


def readings_of_words(path: Path) -> Iterator[str]:
    for node in nodes_of(path):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ASKED:
            words = {
                getattr(n, "id", getattr(n, "attr", getattr(n, "value", None)))
                for n in ast.walk(node)
                if isinstance(n, ast.Name | ast.Attribute | ast.Constant)
            }
            if words & SAID:
                yield f"line {node.lineno}"


CHECKING = {"pytest.raises", "pytest.warns", "pytest.fail"}
"""What fails a test beside an `assert`, and beside whatever has `assert` in its name."""


def test_every_test_asserts_something() -> None:
    assert offences(idle_tests, [p for p in TESTS if p.name.startswith("test_")]) == []


def idle_tests(path: Path) -> Iterator[str]:
    tests = (node for node in functions(path) if node.name.startswith("test_"))
    yield from (test.name for test in tests if not checks(test, helpers()))


@cache
def helpers() -> frozenset[str]:
    """Return the functions beside the tests that assert something by themselves."""
    others = [f for path in TESTS for f in functions(path) if not f.name.startswith("test_")]
    return frozenset(f.name for f in others if checks(f, frozenset()))


def checks(function: ast.AST, asserting: frozenset[str]) -> bool:
    if any(isinstance(node, ast.Assert) for node in ast.walk(function)):
        return True
    calls = [ast.unparse(n.func) for n in ast.walk(function) if isinstance(n, ast.Call)]
    return any(name in CHECKING or "assert" in name for name in calls) or not asserting.isdisjoint(
        calls
    )


GENERATORS = {"np.random.default_rng", "torch.Generator", "torch.Generator().manual_seed"}


def test_no_two_tests_draw_from_one_generator() -> None:
    shared = [
        f"{named(path)}: {ast.unparse(node)}"
        for path in TESTS
        for node in tree_of(path).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) in GENERATORS
    ]  # fmt: skip
    assert shared == []


SEEDED = {"np.random.default_rng", "np.random.Generator", "np.random.Philox", "random.Random"}


def test_every_draw_of_a_test_has_a_seed() -> None:
    """A generator of a test's own, with a seed: what all share depends on who drew before."""
    calls = [
        (path, node, name)
        for path in TESTS
        for node in nodes_of(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        and "random" in (name := ast.unparse(node.func)).lower()
    ]  # fmt: skip
    unseeded = [
        f"{named(path)}: {ast.unparse(node)}"
        for path, node, name in calls
        if (name in SEEDED and not (node.args or node.keywords))
        or (name.startswith(("np.random.", "random.")) and name.split("(")[0] not in SEEDED)
    ]
    assert unseeded == []


def test_an_assertion_leaves_no_second_way_to_hold() -> None:
    """``assert a or b`` holds by whichever is true, and ``.get(key, wanted)`` without the key."""
    assert offences(loose_assertions, TESTS) == []


def loose_assertions(path: Path) -> Iterator[str]:
    for node in nodes_of(path):
        if isinstance(node, ast.Assert):
            either = isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.Or)
            gets = [
                n for n in ast.walk(node.test)
                if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == "get"
                and len(n.args) == 2
            ]  # fmt: skip
            if either or gets:
                yield f"line {node.lineno}"


def test_importing_the_analysis_loads_nothing_of_the_engine() -> None:
    heavy = ("torch", "hydra", "wandb", "omegaconf", "vl_convert", "jinja2", "scipy.stats")
    code = f"import sys, analysis; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_readme_stays_under_two_hundred_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 200
