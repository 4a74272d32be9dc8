"""Upload a folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from harness.config import ConfigError


def check_name(name: str) -> None:
    """Refuse what is no name of a repository, before anything is written."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(f"--push {name!r}: {' '.join(str(error).split())}") from error


def push(folder: Path, name: str, *, private: bool) -> str:
    """Create the repository if need be, upload the folder, and return its address."""
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        repo = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo.repo_id, folder_path=folder, commit_message="Export")
    except Exception as error:  # huggingface_hub, httpx, OSError
        said = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"cannot push {folder} to {name}: {type(error).__name__}: {said}; log in with "
            "`hf auth login` or set HF_TOKEN, then: hf upload "
            f"{name} {folder} ."
        ) from error
    return str(repo)
