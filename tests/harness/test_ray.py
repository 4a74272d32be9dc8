"""Cells on a local Ray. Left out where Ray is not installed, as in `make test`: its launcher needs
cloudpickle below 3, the other launchers a newer one. `make test-ray` makes an environment for it.
"""

import json
from importlib.util import find_spec

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("ray") is None,
        reason="Ray is not installed (it conflicts with the pinned cloudpickle): make test-ray",
    ),
]


def records(runs) -> dict[str, tuple]:
    found = [json.loads(path.read_text()) for path in runs.rglob("record.json")]
    return {r["cell"]: (r["status"], r["losses"], r["fingerprints"]) for r in found}


def test_a_local_ray_gives_what_the_study_launcher_gives(command, tmp_path, tiny) -> None:
    study = [*tiny, "+study=demo", "study.arms=[baseline,qkv_bias]", "study.seeds=2"]
    ray = ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"]
    done = command("harness", *study, *ray)
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "runs")
    assert len(found) == 4
    assert {status for status, *_ in found.values()} == {"complete"}
    other = command("harness", *study, f"runs_dir={tmp_path / 'other'}")
    assert other.returncode == 0, other.stderr
    assert records(tmp_path / "other") == found
    again = command("harness", *study)  # launchers can be mixed on one study
    assert again.stderr.count("skipped, already complete") == 4


def test_a_failed_cell_on_ray_is_an_error(command, tiny) -> None:
    done = command("harness", *tiny, "-m", "seed=0,1", "hydra/launcher=ray",
                   "hardware.device=cuda:93")  # fmt: skip
    assert done.returncode == 1
    assert "2 of 2 cells have no result" in done.stderr
