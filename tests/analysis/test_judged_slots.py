"""What the last slot gains over the first, where calls are missing."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.judged.effects import slot_effect


def test_a_missing_call_does_not_mix_an_instructions_difficulty_into_the_slot_effect() -> None:
    rows = [
        {
            "judge": "j",
            "kind": "model",
            "model": "m",
            "instruction_id": i,
            "order": order,
            "slot": (slot := (i + 2 * order) % 4),
            "score": 10.0 * (i * i % 7) + slot,
        }
        for i in range(12)
        for order in range(2)
        if (i, order) != (3, 1)
    ]
    found = slot_effect(pd.DataFrame(rows))
    assert found is not None
    assert found.estimate == pytest.approx(3.0)
    assert found.se == pytest.approx(0.0, abs=1e-9)
