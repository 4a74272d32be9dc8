"""A/A controls: what a study that includes them says of its noise."""

import pytest
from full_study import evidence_of, full_study

from analysis.comparison.compare import compare
from analysis.report.page import render
from harness.records import read_record, write_record


def controlled(folder, effect: float, *, twin: bool = False):
    """Return a study with a control that differs by `effect`, or repeats the baseline."""
    study = full_study(folder / "s", {"baseline": 0.0, "good": -0.08, "again": effect}, 4)
    for place in (study / "again").iterdir():
        record = read_record(place)
        record.cards["again"]["control"] = True
        if twin:
            (base,) = (
                r
                for r in map(read_record, (study / "baseline").iterdir())
                if r.seeds == record.seeds
            )
            record.losses, record.fingerprints = base.losses, base.fingerprints
        write_record(place, record)
    return study


def test_a_control_within_the_noise_confirms_it(tmp_path) -> None:
    result = compare(str(controlled(tmp_path, 0.009)))
    (said,) = result.confirmations
    assert said.startswith("again, an A/A control: ")
    assert said.endswith("which the noise explains")
    assert f"**Holds:** {said}" in result.to_markdown()
    assert not any("A/A" in warning for warning in result.warnings)


def test_a_control_beyond_the_noise_is_the_first_thing_to_explain(tmp_path) -> None:
    result = compare(str(controlled(tmp_path, 0.2)))
    (said,) = (warning for warning in result.warnings if "A/A" in warning)
    assert "trust no verdict here" in said
    assert result.confirmations == ()


@pytest.mark.thorough
def test_a_control_that_repeats_the_baseline_stands_in_no_figure(tmp_path) -> None:
    study = controlled(tmp_path, 0.0, twin=True)
    result = compare(str(study))
    assert list(result.table["arm"]) == ["good", "baseline"]
    assert result.confirmations == (
        "again, an A/A control: 4 of 4 runs end with the baseline's weights, to the last bit; they "
        "are not counted",
    )
    assert "4 identical control" in result.to_markdown()
    alone = compare(str(study / "baseline"), metric="test_loss")
    assert alone.table["mean_loss"].iloc[0] == result.table["mean_loss"].iloc[1]
    assert "4 of 4 runs end with" in render(evidence_of(study))


def test_an_arm_that_is_no_control_and_repeats_the_baseline_is_a_warning(tmp_path) -> None:
    study = controlled(tmp_path, 0.0, twin=True)
    for place in (study / "again").iterdir():
        record = read_record(place)
        record.cards["again"]["control"] = False
        write_record(place, record)
    result = compare(str(study))
    assert "again" in set(result.table["arm"])
    assert any("same losses as the baseline" in warning for warning in result.warnings)
