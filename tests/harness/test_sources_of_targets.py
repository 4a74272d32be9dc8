"""What a ``_target_`` points to, found as an import would find it, without one."""

import ast
import hashlib
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cell import sources
from harness.cell.sources import (
    identity,
    keep_sources,
    kept_sources,
    origin,
    source_hashes,
    use_kept_sources,
    version,
)
from harness.config import ConfigError, scientific
from harness.records import RecordError
from harness.records.files import canonical_hash
from harness.records.sources import _imports, closure, hash_of, kept_files, parsed, prefixes
from tests.configs import load


def write(folder: Path, texts: dict[str, str]) -> dict[str, Path]:
    files = {name: folder / name for name in texts}
    for name, text in texts.items():
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_text(text)
    return files


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """Return a folder that modules are imported from, with some of one's own."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    write(tmp_path, {
        "own_one.py": "import own_two, json, harness.loop\nclass Kind:\n    pass\n",
        "own_two.py": "X = 1\n",
        "own_pack/__init__.py": "",
        "own_pack/deep/part.py": "from .. import other\ndef f():\n    pass\n",
        "own_pack/other.py": "",
    })  # fmt: skip
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@dataclass
class Group:
    """A group of settings that has a slot."""

    slot: dict | None


def targeting(*targets: str) -> Any:
    """Return what `_targets` reads of a config: a pipeline, and a slot with parts, of these."""
    parts = [{"_target_": target} for target in targets[1:]]
    return SimpleNamespace(
        model=Group({"parts": parts}), optim=Group(None), precision=Group(None), schedule={},
        data=SimpleNamespace(pipeline={"_target_": targets[0]}), interventions={},
    )  # fmt: skip


def test_the_modules_that_a_name_may_be_in_are_told_from_the_innermost() -> None:
    assert prefixes("a.b.c") == ["a.b", "a"]
    assert prefixes("a") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import x.y, z as w", ["x.y", "z"]),
        ("from x import y, z as w", ["x", "x.y", "x.z"]),
        ("from . import y", ["own.in", "own.in.y"]),
        ("from .x import y", ["own.in.x", "own.in.x.y"]),
        ("from ..x import y", ["own.x", "own.x.y"]),
        ("from .. import y", ["own", "own.y"]),
        ("def f():\n    import x", ["x"]),
    ],
)
def test_imports_have_their_full_names_seen_from_the_importer(text: str, found: list[str]) -> None:
    assert _imports(ast.parse(text), "own.in.module") == found


def test_a_modules_hash_is_that_of_its_files_in_the_order_of_their_names(tmp_path) -> None:
    files = write(tmp_path, {"b.py": "B", "a.py": "A"})
    assert hash_of(files) == hashlib.sha256(b"AB").hexdigest()[:16]
    files["b.py"].unlink()
    with pytest.raises(RecordError, match=r"b\.py: No such file or directory$"):
        hash_of(files)


def test_kept_files_are_known_by_their_modules(tmp_path) -> None:
    files = write(tmp_path / "sources", {"own.__init__.py": "", "own.a.py": "", "note.txt": ""})
    assert kept_files(tmp_path) == {"own": files["own.__init__.py"], "own.a": files["own.a.py"]}
    assert all(file.is_absolute() for file in kept_files(Path(tmp_path.name)).values())


def test_nothing_is_looked_for_under_no_name_or_ours(tmp_path) -> None:
    asked = []
    files = write(tmp_path, {"own.py": "from . import x\nimport harness.loop\nimport harnessed"})

    def find(name: str) -> Path | None:
        asked.append(name)
        return files["own.py"] if name in ("own", "harness.loop", "harnessed") else None

    assert closure("own.f", find) == dict.fromkeys(("own", "harnessed"), files["own.py"])
    assert closure("none.f", find) == {}
    assert "" not in asked


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"x = 1\ndef f(:\n", "line 2: invalid syntax"), (b"x = 1\0", ".*null bytes"),
     (b"-" * 100_000 + b"1", ".*")],
)  # fmt: skip
def test_a_source_that_is_no_python_is_refused_with_its_line(tmp_path, content, words) -> None:
    (tmp_path / "a.py").write_bytes(content)
    with pytest.raises(RecordError, match=rf"a\.py: {words}$"):
        parsed(tmp_path / "a.py")


def test_a_target_s_files_are_its_module_and_what_that_imports_beside_it(own: Path) -> None:
    files = sources._files
    assert files("own_one.Kind") == {"own_one": own / "own_one.py", "own_two": own / "own_two.py"}
    assert files("own_one.Kind.method") == files("own_one.Kind")
    assert files("own_pack.deep.part.f") == {
        "own_pack": own / "own_pack" / "__init__.py",
        "own_pack.deep.part": own / "own_pack" / "deep" / "part.py",
        "own_pack.other": own / "own_pack" / "other.py",
    }
    import json.decoder

    import torch
    import yaml

    assert files("json.dumps") == {"json": Path(json.__file__)}
    assert files("json.decoder.JSONDecoder") == {"json.decoder": Path(json.decoder.__file__)}
    assert files("yaml.safe_load") == {"yaml": Path(yaml.__file__)}
    assert files("harness.model.GPT") == {"harness.model": Path(find_spec("harness.model").origin)}
    assert files("torch.nn.GELU") == {"torch.nn": Path(torch.nn.__file__)}
    assert files("math.sqrt") == files("sys.exit") == files("own_pack.deep.f") == {}


def test_each_target_outside_the_harness_has_the_hash_of_its_files(own: Path, tmp_path) -> None:
    config = targeting("own_one.Kind", "math.sqrt", "harness.model.GPT", "json.dumps")
    card = {"_target_": "own_two.X", "deep": {"a": {"_target_": "own_pack.other"}}}
    config.interventions = {"mine": SimpleNamespace(fn=card)}
    write(own, {"own_pack/__init__.py": "other = 1\n"})
    assert sources._targets(config) == {
        *("own_one.Kind", "math.sqrt", "harness.model.GPT", "json.dumps"),
        *("own_two.X", "own_pack.other"),
    }
    found = source_hashes(config)
    one, two = sources._files("own_one.Kind"), sources._files("own_two.X")
    assert found == {
        "json.dumps": hash_of(sources._files("json.dumps")), "math.sqrt": "",
        "own_one.Kind": hash_of(one), "own_pack.other": hash_of(sources._files("own_pack.other")),
        "own_two.X": hash_of(two),
    }  # fmt: skip
    folder = tmp_path / "cell"
    keep_sources(config, folder)
    kept = folder / "sources"
    assert {path.name for path in kept.iterdir()} == {
        "own_one.py",
        "own_two.py",
        "own_pack.__init__.py",
    }
    assert (kept / "own_one.py").read_bytes() == (own / "own_one.py").read_bytes()
    (own / "own_two.py").write_text("X = 2\n")
    assert source_hashes(config, folder) == found
    assert source_hashes(config) != found
    (kept / "stray.py").write_text("")
    assert kept_sources(config, folder) == {
        "own_one": kept / "own_one.py", "own_two": kept / "own_two.py",
        "own_pack": kept / "own_pack.__init__.py",
    }  # fmt: skip


def test_what_was_edited_is_imported_as_it_was_kept_and_all_else_as_it_is(
    own: Path, tmp_path
) -> None:
    config, folder = targeting("own_one.Kind", "own_pack.deep.part.f"), tmp_path / "cell"
    keep_sources(config, folder)
    before = list(sys.meta_path)
    assert use_kept_sources(config, folder) == []
    assert sys.meta_path == before
    import own_two

    write(own, {"own_two.py": "X = 2\n", "own_pack/__init__.py": "edited = True\n"})
    (own / "own_pack" / "other.py").unlink()
    assert use_kept_sources(config, folder) == ["own_pack", "own_pack.other", "own_two"]
    finder = sys.meta_path[0]
    assert sys.meta_path[1:] == before
    assert finder.find_spec("own_one") is None
    spec = finder.find_spec("own_two")
    assert isinstance(spec.loader, SourceFileLoader)
    assert (spec.origin, spec.submodule_search_locations) == (
        str(folder / "sources" / "own_two.py"),
        None,
    )
    assert finder.find_spec("own_pack").submodule_search_locations == [str(own / "own_pack")]
    assert own_two is not sys.modules.get("own_two")
    import own_two as again

    assert again.X == 1
    assert not list((folder / "sources").rglob("*.pyc"))


def test_a_package_that_is_gone_is_imported_from_what_was_kept_alone(own: Path, tmp_path) -> None:
    config, folder = targeting("own_pack.deep.part.f"), tmp_path / "cell"
    keep_sources(config, folder)
    for file in sorted((own / "own_pack").rglob("*.py")):
        file.unlink()
    assert use_kept_sources(config, folder) == ["own_pack", "own_pack.deep.part", "own_pack.other"]
    assert sys.meta_path[0].find_spec("own_pack").submodule_search_locations == [
        str(folder / "sources")
    ]


def test_a_name_that_an_installed_package_lacks_is_refused_with_its_release() -> None:
    with pytest.raises(ConfigError) as caught:
        sources._files("torch.optim.Moun")
    message = str(caught.value)
    assert f"optim/__init__.py (torch {metadata.version('torch')}) defines no 'Moun'" in message
    assert "Muon" in message.partition("it has:")[2]


def test_a_name_that_a_module_does_not_have_is_refused_with_the_eight_closest(own: Path) -> None:
    names = [f"scale{letter}" for letter in "abcdefgh"]
    (own / "own_two.py").write_text("\n".join(f"{name} = 1" for name in [*names, "zz", "yy"]))
    with pytest.raises(ConfigError) as caught:
        sources._files("own_two.scale")
    assert str(caught.value) == (
        f"_target_=own_two.scale: {own / 'own_two.py'} defines no 'scale'; it has: {', '.join(names)}"
    )
    (own / "own_two.py").write_text("zz = 1\n")
    with pytest.raises(ConfigError, match=r"it has: zz$"):
        sources._files("own_two.scale")
    with pytest.raises(ConfigError, match="defines no 'Nothing'"):
        source_hashes(targeting("harness.model.Nothing"))
    (own / "own_two.py").write_text("def f(:\n")
    with pytest.raises(
        ConfigError, match=r"^_target_=own_two\.f: .*own_two\.py, line 1: invalid syntax$"
    ):
        sources._files("own_two.f")
    (own / "own_one.py").write_text("import own_two\nf = 1\n")
    with pytest.raises(
        ConfigError, match=r"^_target_=own_one\.f: .*own_two\.py, line 1: invalid syntax$"
    ):
        sources._files("own_one.f")


@pytest.mark.parametrize(("first", "named"), [("", "this folder"), ("/x", "/x")])
def test_a_module_that_is_nowhere_is_refused_with_where_to_put_it(
    first, named, monkeypatch
) -> None:
    monkeypatch.setattr(sys, "path", [first, *sys.path])
    with pytest.raises(ConfigError) as caught:
        sources._files("own_gone.deep.f")
    assert str(caught.value) == (
        f"_target_=own_gone.deep.f: no module 'own_gone'; put it into {named} or a folder of PYTHONPATH"
    )


def test_a_module_s_source_is_found_without_running_what_is_around_it(own: Path) -> None:
    write(own, {"own_pack/__init__.py": "raise RuntimeError", "own_pack/deep/more/last.py": ""})
    assert origin("own_pack") == own / "own_pack" / "__init__.py"
    assert origin("own_pack.deep.part") == own / "own_pack" / "deep" / "part.py"
    assert origin("own_pack.deep.more.last") == own / "own_pack" / "deep" / "more" / "last.py"
    assert {name: origin(name) for name in ("own_pack.deep", "own_pack.gone", "own_one.inside",
            "sys", "own_gone", "own_gone.inside", "torch._C")} == dict.fromkeys(
        ("own_pack.deep", "own_pack.gone", "own_one.inside", "sys", "own_gone", "own_gone.inside",
         "torch._C"))  # fmt: skip


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def a():\n    x = 1\nasync def b():\n    pass\nclass C:\n    y = 1", {"a", "b", "C"}),
        ("import d.e, f as g\nfrom h import i, j as k", {"d", "g", "i", "k"}),
        ("l = m, n = 1, 2\no: int = 3", {"l", "m", "n", "o", "int"}),
        ("'words'\nprint(1)\np = 1", {"p"}),
        ("if True:\n    q = 1", None),
        ("try:\n    q = 1\nfinally:\n    pass", None),
        ("from h import *", None),
        ("def __getattr__(name):\n    pass", None),
    ],
)
def test_the_names_that_a_module_binds_are_read_from_its_text(text, names) -> None:
    assert sources._top_level(ast.parse(text)) == names


def test_a_cell_is_its_science_its_corpora_and_its_sources_and_a_version_is_without_seeds() -> None:
    config = load(["seed=3"])
    plain = SimpleNamespace(dataset_sha256="d", tests={})
    tested = SimpleNamespace(dataset_sha256="d", tests={"t": SimpleNamespace(dataset_sha256="e")})
    science = scientific(config, "d")
    assert identity(config, plain, {}) == science
    whole = science | {"tests": {"t": "e"}, "sources": {"f": "1"}}
    assert identity(config, tested, {"f": "1"}) == whole
    assert whole.pop("seeds") == {"init": 3, "data": 3, "loop": 3}
    assert version(config, tested, {"f": "1"}) == canonical_hash(whole)
