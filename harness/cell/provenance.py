"""What ran: code with its uncommitted changes, packages, machine and command."""

from __future__ import annotations

import logging
import platform
import subprocess
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from harness.records import Provenance
from harness.records.files import write_atomic

PACKAGES = ("torch", "numpy", "tiktoken", "datasets", "hydra-core", "omegaconf", "wandb")
PATCH_FILE = "dirty.patch"
GIT_SECONDS = 30
_SOURCE = Path(__file__).resolve().parents[2]
_CODE = ("harness", "interventions", "hydra_plugins", "conf", "pyproject.toml", ":(glob)*.py")
"""What can move the numbers of a run; the rest of the folder, runs and corpora, may be large."""


log = logging.getLogger(__name__)


def collect(folder: Path, *, device: str, config_sha256: str) -> Provenance:
    """Describe this process; uncommitted changes go into ``dirty.patch`` in `folder`."""
    sha, patch = code_state()
    error = git_error()
    if error:
        log.warning("the record names no commit: %s", error)
    if patch:
        write_atomic(folder / PATCH_FILE, patch)
    return Provenance(
        git_sha=sha,
        git_dirty=None if sha is None else bool(patch),
        git_error=error,
        dirty_patch=PATCH_FILE if patch else None,
        config_sha256=config_sha256,
        packages=versions(),
        python=platform.python_version(),
        platform=platform.platform(),
        device=device,
        command=sys.orig_argv,
    )


@lru_cache(maxsize=1)
def code_state() -> tuple[str | None, str]:
    """Return the commit (None outside a repository) and the difference to it, new files too."""
    tracked = _git("ls-files", "--error-unmatch", __file__)
    sha = _git("rev-parse", "HEAD")
    if sha is None or tracked is None:  # installed, perhaps inside somebody else's repository
        return None, ""
    patch = _git("diff", "HEAD", "--binary", "--", *_CODE) or ""
    new = _git("ls-files", "-z", "--others", "--exclude-standard", "--", *_CODE) or ""
    for name in filter(None, new.split("\0")):
        patch += _git("diff", "--binary", "--no-index", "--", "/dev/null", name, ok=(0, 1)) or ""
    return sha.strip(), patch


@lru_cache(maxsize=1)
def git_error() -> str | None:
    """Return why git says nothing of a checkout, as it does of another user's; None if it does."""
    if not (_SOURCE / ".git").exists():
        return None
    try:
        _run_git("rev-parse", "HEAD").check_returncode()
    except subprocess.CalledProcessError as error:
        return f"git: {(error.stderr.decode(errors='replace').splitlines() or ['refused'])[0]}"
    except FileNotFoundError:
        return "there is no git on this machine"
    except subprocess.TimeoutExpired:
        return f"git gave no answer in {GIT_SECONDS} s"
    return None


def _git(*arguments: str, ok: tuple[int, ...] = (0,)) -> str | None:
    try:
        done = _run_git(*arguments)
    except (FileNotFoundError, subprocess.TimeoutExpired):  # `git_error` says so
        return None
    return done.stdout.decode(errors="replace") if done.returncode in ok else None


def _run_git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = ["git", "-C", str(_SOURCE), *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=GIT_SECONDS)


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return package -> version, of those that matter to the numbers."""
    return {name: _version(name) for name in ("llm-interventions", *PACKAGES)}


def _version(name: str) -> str:
    """Return a package's version; a checkout that is run without being installed has none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
