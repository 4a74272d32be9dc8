import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def r_numbers():
    return json.loads((Path(__file__).parent / "fixtures" / "r_numbers.json").read_text())


@pytest.fixture
def traced(tmp_path):
    """Return a study as the harness leaves it: config, test losses, records, plan, results."""
    from studies import put, record, study

    from analysis.__main__ import main
    from harness.records import StudyPlan, write_plan

    root = tmp_path / "runs" / "synthetic"
    cells = []
    rng = np.random.default_rng(0)
    for row in study({"a": -0.03, "b": 0.0}, n=3).to_dict("records"):
        losses = (row["test_loss"] + rng.normal(0, 0.1, 64)).astype(np.float32)
        text = f"seed: {row['init_seed']}\narm: {row['arm']}\n"
        item = record(row["arm"], row["init_seed"], float(losses.mean(dtype=np.float64)))
        item.provenance.config_sha256 = hashlib.sha256(text.encode()).hexdigest()
        home = put(root, item)
        (home / "config.yaml").write_text(text)
        np.save(home / "test_losses.npy", losses)
        cells.append({"arm": item.arm, "seeds": {}, "cell": item.cell})
    write_plan(root, StudyPlan(study="synthetic", rope=0.01, cells=cells))
    assert main([str(root), "--reference", "GPT-2=3.5"]) == 0
    return root
