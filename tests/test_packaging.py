"""What is installed: pins, and the package itself in an environment of its own."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.records import find_records, read_record
from tests.conftest import REPOSITORY, TINY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = re.findall(r"^([\w.-]+)==([\w.+-]+)$", (REPOSITORY / "constraints.txt").read_text(), re.M)
SHIPPED = ("analysis", "conf", "harness", "hydra_plugins", "interventions")


def requirements(*lists: list[str]) -> dict[str, Requirement]:
    found = [Requirement(text) for names in lists for text in names]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def test_what_is_set_up_is_pinned_once_at_a_version_that_the_project_allows() -> None:
    pins = {canonicalize_name(name): version for name, version in PINS}
    assert len(pins) == len(PINS)
    assert requirements(PROJECT["dependencies"], EXTRAS["dev"]).keys() <= pins.keys()
    asked = requirements(PROJECT["dependencies"], *EXTRAS.values())
    pinned = pins.keys() & asked.keys()
    assert [name for name in pinned if not asked[name].specifier.contains(pins[name])] == []


def test_what_the_packages_import_is_a_requirement() -> None:
    sources = [path for package in SHIPPED for path in (REPOSITORY / package).rglob("*.py")]
    text = "\n".join(path.read_text() for path in sources)
    imported = set(re.findall(r"^\s*(?:from|import) (\w+)", text, re.MULTILINE))
    known = requirements(PROJECT["dependencies"], *EXTRAS.values())
    providers = packages_distributions()
    foreign = imported & providers.keys() - sys.stdlib_module_names - {*SHIPPED}
    assert "torch" in foreign
    lacking = {
        name for name in foreign
        if not {canonicalize_name(provider) for provider in providers[name]} & known.keys()
    }  # fmt: skip
    assert lacking == set()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an environment's programs with the project in it, and no checkout.

    Its dependencies are those of the environment that runs the tests.
    """
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    for name in SHIPPED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    programs = folder / "venv" / "bin"
    pip = [programs / "python", "-m", "pip", "install", "--quiet", "--no-deps", source]
    subprocess.run(pip, check=True)
    shutil.rmtree(source)
    site = sysconfig.get_path("purelib", vars={"base": str(folder / "venv")})
    (Path(site) / "dependencies.pth").write_text("\n".join(p for p in sys.path if "packages" in p))
    return programs


@pytest.mark.proof
def test_an_installed_copy_trains_and_is_analysed_from_another_folder(
    installed: Path, data_dir: Path, tmp_path: Path
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*words: str) -> str:
        done = subprocess.run(
            [str(installed / words[0]), *words[1:]],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("python", "-c", "import harness; print(harness.__path__[0])")
    assert where.startswith(str(installed.parent))
    assert "no_dropout" in run("llm-interventions", "interventions")
    cells = ["-m", "+intervention=baseline,qkv_bias", "seed=range(2)"]
    run("llm-interventions", "harness", *TINY, f"data_dir={data_dir}", *cells)
    found = [read_record(file) for file in find_records(tmp_path / "runs")]
    assert len(found) == 4
    (code,) = {record.provenance.code_sha256 for record in found}
    assert re.fullmatch(r"[0-9a-f]{64}", code)
    assert {record.provenance.git_sha for record in found} == {None}
    assert "| qkv_bias" in run("python", "-m", "analysis", "runs/adhoc")
    assert f"- ok: one code version: {code[:60]}" in run(
        "python", "-m", "analysis", "verify", "runs/adhoc"
    )
    run("python", "-m", "analysis", "report", "runs/adhoc")
    assert (tmp_path / "runs" / "adhoc" / "report.html").exists()
