"""What ran: code with its uncommitted changes, packages, machine and command, without secrets."""

from __future__ import annotations

import hashlib
import logging
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from harness.records import Provenance
from harness.records.files import canonical_hash, printable, write_atomic
from harness.records.secrets import masked

log = logging.getLogger(__name__)

PACKAGES = ("torch", "numpy", "tiktoken", "datasets", "hydra-core", "omegaconf", "wandb")
PATCHES = "patches"
"""In the study's folder: uncommitted changes, once for all cells that ran with them."""
MOST_BYTES = 5_000_000
"""Of a patch; code is smaller, and what is larger is no code."""
GIT_SECONDS = 20
_SOURCE = Path(__file__).resolve().parents[2]
_CODE = ("harness", "interventions", "hydra_plugins", "conf", "pyproject.toml", ":(glob)*.py")
"""What can move the numbers of a run; the rest of the folder, runs and corpora, may be large."""


@dataclass(frozen=True, slots=True)
class Code:
    """The harness's own code, as far as git can say."""

    sha: str | None = None
    patch: bytes = b""
    """What tracked files differ in."""
    untracked: dict[str, str] = field(default_factory=dict)
    """Name -> hash: they are named, not kept, since they may hold anything."""
    files_sha256: str | None = None
    """Of all files of the packages, where there is no checkout."""
    error: str | None = None
    """Why git could not be asked."""

    @property
    def changes(self) -> str:
        """Return a hash of what is not committed."""
        return canonical_hash([self.patch.decode(errors="replace"), self.untracked])


def collect(folder: Path, *, device: str, config_sha256: str) -> Provenance:
    """Describe this process; uncommitted changes are kept in the study's folder."""
    code = code_state()
    if code.error:
        log.warning("the record names no commit: %s", code.error)
    return Provenance(
        git_sha=code.sha,
        git_dirty=None if code.sha is None else bool(code.patch or code.untracked),
        dirty_patch=_keep(code.patch, folder) if code.patch else None,
        untracked=code.untracked,
        git_error=code.error,
        code_sha256=code.files_sha256,
        config_sha256=config_sha256,
        packages=versions(),
        python=platform.python_version(),
        platform=platform.platform(),
        device=device,
        command=masked(sys.orig_argv),
    )


def _keep(patch: bytes, folder: Path) -> str | None:
    """Write the patch into the study, once; return its path as seen from the cell."""
    if len(patch) > MOST_BYTES:
        log.warning("uncommitted changes of %d bytes are not kept: commit them", len(patch))
        return None
    name = f"{hashlib.sha256(patch).hexdigest()[:16]}.patch"
    kept = folder.absolute().parents[1] / PATCHES / name
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, patch)
    return f"../../{PATCHES}/{name}"


@lru_cache(maxsize=1)
def code_state() -> Code:
    """Return the commit and the difference to it; the files' hash where nothing is checked out."""
    try:
        if _git("ls-files", "--error-unmatch", __file__) is None:
            return Code(files_sha256=_hash_of_files())  # perhaps in somebody else's repository
        sha = _git("rev-parse", "HEAD") or b""
        patch = _git("diff", "HEAD", "--binary", "--", *_CODE) or b""
        new = _git("ls-files", "-z", "--others", "--exclude-standard", "--", *_CODE) or b""
    except (OSError, subprocess.TimeoutExpired) as error:
        return Code(files_sha256=_hash_of_files(), error=str(error))
    names = [name for name in new.decode(errors="surrogateescape").split("\0") if name]
    untracked = {printable(name): _hash(_SOURCE / name) for name in names}
    return Code(sha.decode().strip() or None, patch, untracked)


def _git(*arguments: str) -> bytes | None:
    """Return what git prints; None where it answers no. Raises where it refuses to answer."""
    done = subprocess.run(
        ["git", "-C", str(_SOURCE), *arguments],
        capture_output=True,
        check=False,
        timeout=GIT_SECONDS,
    )
    if done.returncode == 128 and (_SOURCE / ".git").exists():  # another user's, or damaged
        said = done.stderr.decode(errors="replace").splitlines()
        raise OSError(f"git: {said[0] if said else 'refused'}")
    return done.stdout if done.returncode == 0 else None


def _hash_of_files() -> str:
    digest = hashlib.sha256()
    for package in ("conf", "harness", "hydra_plugins", "interventions"):
        for file in sorted((_SOURCE / package).rglob("*")):
            if file.suffix in (".py", ".yaml"):
                digest.update(str(file.relative_to(_SOURCE)).encode() + file.read_bytes())
    return digest.hexdigest()


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no file"


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
