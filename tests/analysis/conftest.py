import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def r_numbers():
    return json.loads((Path(__file__).parent / "fixtures" / "r_numbers.json").read_text())
