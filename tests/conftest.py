"""Fixtures shared by all suites: a prepared corpus, tiny configs, commands as a user runs them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from harness.records.files import flocked
from tests.processes import Parent

settings.register_profile("same-cases-every-time", derandomize=True, deadline=None)
settings.load_profile("same-cases-every-time")
signal.signal(signal.SIGINT, signal.default_int_handler)
"""A shell makes what it starts in the background ignore Ctrl-C, and so would the tests' commands."""


@pytest.hookimpl(optionalhook=True)  # make test-ray has no xdist
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Let twice as many slow tests run as there are cores: they wait about half of the time."""
    return (os.cpu_count() or 1) * (1 if "not slow" in config.option.markexpr else 2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let `make coverage` note which test reaches a line, its fixtures included."""
    if "coverage" in sys.modules and (counting := sys.modules["coverage"].Coverage.current()):
        counting.switch_context(item.nodeid)
    return (yield)


THOROUGH = {
    *(
        "command",
        "started",
        "compose_all",
        "data_dir",
        "launch",
        "make_training",
        "own_idea",
        "study",
        "tiny",
    ),
    *("trained", "chromium", "page", "report"),
}
"""Fixtures of tests that compose and train cells, start commands or a browser."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out of the fast suite what asks for one of these."""
    for item in items:
        if not THOROUGH.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("thorough")


REPOSITORY = Path(__file__).parent.parent
TINY = [
    "model.n_layer=1",
    "model.n_head=2",
    "model.n_embd=16",
    "model.block_size=16",
    "train.tokens=2560",
    "eval.test_sequences=8",
    "eval.val_sequences=4",
    "eval.n_val=2",
    "log.n_points=5",
    "sample.n_times=2",
    "sample.tokens=3",
    "checkpoint.every_steps=2",
    "hardware=cpu",
]
"""Ten steps of 256 tokens: a cell in well under a second."""


@pytest.fixture(autouse=True)
def _same_draws_alone_and_in_any_order() -> None:
    """Begin each test at one state of PyTorch's global generator, where a test file has loaded it."""
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(0)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that all workers of a run share; the first that needs it makes it."""
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = base / name, base / f"{name}.done"
    with flocked(base / f"{name}.lock"):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the built-in corpus, prepared once for all tests."""

    def make(folder: Path) -> None:
        from harness.data.corpus import ensure_prepared
        from tests.configs import load

        ensure_prepared(load().data, folder)

    return made_once(tmp_path_factory, "data", make)


@pytest.fixture
def tiny(data_dir: Path, tmp_path: Path) -> list[str]:
    """Return overrides for a tiny cell that leaves everything below the test's own folder."""
    return [*TINY, f"data_dir={data_dir}", f"runs_dir={tmp_path / 'runs'}"]


@pytest.fixture
def make_training(data_dir: Path, tmp_path: Path) -> Callable:
    """Return a function from overrides to a `Training` at step 0."""
    from harness.cell.build import Setup, new_record, start_training
    from harness.cell.freeze import freeze
    from harness.cell.lock import NO_LOCK
    from harness.data.corpus import open_corpus
    from harness.engine.devices import choose_device
    from harness.engine.distributed import World
    from tests.configs import load

    def make(overrides: list[str]):
        config = load([*TINY, f"data_dir={data_dir}", f"runs_dir={tmp_path / 'runs'}", *overrides])
        folder = freeze(config)
        corpus = open_corpus(config.data, data_dir)
        device = choose_device(config.hardware.device)
        record = new_record(folder, config, corpus, device)
        return start_training(Setup(folder, config, corpus, record, device, World(), NO_LOCK))

    return make


@pytest.fixture(scope="session")
def parent() -> Iterator[Parent]:
    """Return the process that commands are forked from."""
    parent = Parent()
    yield parent
    parent.end()


@pytest.fixture
def command(tmp_path: Path, parent: Parent) -> Callable[..., subprocess.CompletedProcess]:
    """Return a function that runs ``python -m MODULE ARGUMENTS`` in the test's own folder.

    It is a process of its own that need not import PyTorch again; `started` does without that. A
    ``PYTHONPATH`` comes before the one there is, which may say whose code is tested.
    """

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess:
        return parent.run([*words], tmp_path, _around(environment))

    return run


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Do as `command`, with an interpreter that begins anew."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=_around(environment),
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    return run


def _around(environment: dict[str, str]) -> dict[str, str]:
    paths = [environment.get("PYTHONPATH"), os.environ.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return {**os.environ, **environment}
