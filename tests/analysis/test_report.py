import json
import math
import re
import shutil
import subprocess
import sys
import time
from html import unescape

import pytest
from full_study import EVIL, cell_name, full_study
from studies import study

from analysis.__main__ import main
from analysis.comparison.compare import compare
from analysis.comparison.rules import Rules
from analysis.comparison.verdict import JUDGED
from analysis.errors import AnalysisError
from analysis.report import theme as palette
from analysis.report import write_report
from analysis.report.cells import current, read_lines, samples, tail
from analysis.report.chart_curves import curves_chart, tops
from analysis.report.curves import thin
from analysis.report.evidence import gather
from analysis.report.figures import figure_specs
from analysis.report.page import embed, render
from analysis.report.sections import sections, unknowns
from analysis.report.summary import headline
from analysis.runs.frame import Runs
from analysis.runs.tables import read_runs
from analysis.table import Column, Table, count, figure, words
from analysis.text import markdown_table
from harness.records import Status, read_record, write_record

ARMS = {"baseline": 0.0, "good": -0.05, "plain": 0.0, "good+plain": -0.03}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return full_study(tmp_path_factory.mktemp("runs") / "reported", ARMS, 3, completion=EVIL)


@pytest.fixture(scope="module")
def evidence(folder):
    return gather(read_runs([str(folder)]), Rules())


@pytest.fixture(scope="module")
def html(evidence):
    return render(evidence)


@pytest.mark.slow
def test_the_command_writes_one_page_with_tables_and_figures(folder, tmp_path, capsys):
    assert main(["report", str(folder), "--out", str(tmp_path), "--figures"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert {f.suffix for f in (tmp_path / "tables").iterdir()} == {".md", ".csv", ".tex"}
    svg = (tmp_path / "figures" / "noise_band.svg").read_text()
    assert svg.startswith("<svg")
    assert "good+plain" in svg
    assert "$" not in re.sub(r"<text.*?</text>", "", svg), "a colour's name was left"
    assert (tmp_path / "figures" / "noise_band.png").read_bytes()[:4] == b"\x89PNG"


def test_a_figure_of_curves_says_which_line_is_which_arm(evidence):
    import vl_convert

    for name, spec in figure_specs(evidence).items():
        if name.startswith("curves"):
            assert spec["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"
            svg = vl_convert.vegalite_to_svg(spec)
            legend = svg[svg.index("role-legend") :]
            assert all(f">{arm}</text>" in legend for arm in evidence.arms), name
            dashes = re.findall(r'stroke-dasharray="(.*?)"', legend)
            assert len(set(dashes)) == len(evidence.arms), "told apart without colour"


def test_a_figure_of_the_first_curves_alone_says_so(evidence, monkeypatch):
    monkeypatch.setattr("analysis.report.figures.MOST_LINES", 2)
    keys = [spec["title"]["subtitle"] for name, spec in figure_specs(evidence).items()
            if name.startswith("curves")]  # fmt: skip
    assert keys
    assert all(lines[0].endswith("The first 2 of 4 arms.") for lines in keys)


def test_a_tables_report_carries_its_name_and_what_it_cannot_compare_is_said(tmp_path, capsys):
    file = tmp_path / "mine.csv"
    rows = [f"{arm},{seed},{3 + seed / 100}" for arm in ("baseline", "a") for seed in range(4)]
    file.write_text("\n".join(["arm,init_seed,test_loss", *rows]))
    assert main(["report", str(file)]) == 0
    assert (tmp_path / "mine_report.html").exists()
    assert (tmp_path / "mine_tables" / "verdicts.md").exists()
    (tmp_path / "mine_tables" / "notes.md").write_text("somebody else's")
    file.write_text("\n".join(["arm,init_seed,test_loss", *rows[4:]]))
    assert main(["report", str(file)]) == 0
    assert "It compares nothing: no complete run of the baseline" in capsys.readouterr().out
    assert not (tmp_path / "mine_tables" / "verdicts.md").exists()
    assert (tmp_path / "mine_tables" / "notes.md").exists()


def test_a_folder_without_records_is_refused_in_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no record.json")
    assert error.count("\n") == 1


def test_a_place_that_cannot_be_written_to_is_named(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["report", str(folder), "--out", str(tmp_path / "file")]) == 2
    assert "--out" in capsys.readouterr().err


def test_the_page_names_nothing_outside_itself(html):
    page = html.split("<script", 1)[0]
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
    policy = unescape(html)
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy


def test_only_the_scripts_that_the_policy_names_can_run(html):
    import base64
    import hashlib

    scripts = re.findall(r"<script>\n?(.*?)</script>", html, re.DOTALL)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', html)[1]
    found = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert len(found) == 4
    assert all(digest in policy.replace("&#43;", "+") for digest in found)


def test_markup_in_a_completion_never_reaches_the_page_as_markup(html):
    assert EVIL not in html
    assert "window.injected = 1" in html, "the text itself is there"
    assert "<script>window.injected" not in html
    library = html.rindex("<script>")
    assert "<img" not in html[:library], "beside the plotting library's own"


def test_embedded_data_come_back_unchanged():
    value = {"a": EVIL, "b": "\u2028<!--", "c": float("nan")}
    text = embed(value)
    assert "<" not in text
    assert json.loads(text) == {"a": EVIL, "b": "\u2028<!--", "c": None}


def test_every_section_is_there_or_says_why_not(evidence):
    parts = {part.name: part for part in sections(evidence)}
    assert list(parts) == [
        "verdicts", "noise_band", "effects", "curves", "samples", "noise", "stacks", "plan",
        "cost", "ledger",
    ]  # fmt: skip
    assert not any(part.missing for part in parts.values())
    assert parts["stacks"].tables[0].rows[0][0].text == "good+plain"


def test_what_is_not_known_is_said(evidence):
    text = " ".join(unknowns(evidence))
    assert "cannot be told apart" in text


def test_a_study_without_stacks_or_noise_says_so(tmp_path):
    folder = full_study(tmp_path / "small", {"baseline": 0.0, "only": 0.1}, 1)
    evidence = gather(read_runs([str(folder)]), Rules())
    assert "stacks" in evidence.reasons
    html = render(evidence)
    assert "No intervals can be given yet" in html
    assert "No noise band" in html


def test_stacks_whose_parts_did_not_run_have_words_and_no_empty_table(tmp_path):
    folder = full_study(tmp_path / "parts", {"baseline": 0.0, "a": 0.1, "a+b": 0.1}, 3)
    evidence = gather(read_runs([str(folder)]), Rules())
    stacks = next(part for part in sections(evidence) if part.name == "stacks")
    assert "these still have to run alone: b" in stacks.text
    assert all(table.rows for table in stacks.tables)


def test_cells_of_earlier_code_stand_in_the_ledger_and_in_no_curve_or_sample(tmp_path):
    folder = full_study(tmp_path / "edited", {"baseline": 0.0, "mine": 0.1}, 2)
    before = gather(read_runs([str(folder)]), Rules())
    for old in sorted((folder / "mine").iterdir()):
        new = shutil.copytree(old, old.with_name(f"{old.name}2"))
        record = read_record(new)
        record.cell, record.started = new.name, "9999"
        record.provenance.sources = {"mine.f": "1" * 16}
        write_record(new, record)
    (folder / "plan.json").unlink()
    evidence = gather(read_runs([str(folder)]), Rules())
    assert evidence.ledger.counts == {"complete": 4, "superseded": 2}
    ledger = next(t for s in sections(evidence) for t in s.tables if t.name == "ledger")
    assert [row[4].text for row in ledger.rows].count("superseded") == 2
    assert evidence.curves.by_metric == before.curves.by_metric
    assert len(samples(current(evidence.cells))[0]) == len(samples(before.cells)[0]) > 0


def test_a_study_that_has_only_begun_has_a_page(tmp_path):
    folder = full_study(tmp_path / "begun", {"baseline": 0.0, "arm": 0.0}, 1, running=2)
    evidence = gather(read_runs([str(folder)]), Rules())
    assert evidence.comparison is None
    html = render(evidence, live=True)
    assert "No comparison yet" in html
    assert "connect-src 'self'" in unescape(html)


def test_runs_from_a_spreadsheet_have_a_report_without_cells(tmp_path):
    evidence = gather(Runs(study({"good": -0.05}, n=4), home=tmp_path), Rules())
    html = render(evidence)
    assert "No cell has written a sample" in html
    assert "better" in html


def test_planned_cells_that_did_not_start_stand_in_the_ledger(tmp_path):
    import shutil

    folder = full_study(tmp_path / "gap", ARMS, 3)
    shutil.rmtree(folder / "good" / cell_name("good", 2))
    evidence = gather(read_runs([str(folder)]), Rules())
    ledger = sections(evidence)[-1].tables[0]
    assert [row[4].text for row in ledger.rows].count("not started") == 1
    assert any("planned cells have not started" in text for text in unknowns(evidence))


def test_curves_average_the_seeds_and_show_their_range(evidence):
    curves = {curve.arm: curve for curve in evidence.curves.by_metric["train_loss"]}
    assert set(curves) == set(ARMS)
    curve = curves["good"]
    assert curve.n == 3
    assert all(
        low <= mean <= high
        for low, mean, high in zip(curve.low, curve.mean, curve.high, strict=True)
    )
    assert curve.tokens == sorted(curve.tokens)


def test_long_curves_are_thinned_and_the_page_says_so(tmp_path):
    folder = full_study(tmp_path / "long", {"baseline": 0.0}, 2, n_points=900)
    evidence = gather(read_runs([str(folder)]), Rules())
    curve = evidence.curves.by_metric["train_loss"][0]
    assert len(curve.mean) == 200
    assert curve.step[-1] == 9000
    assert "thinned to at most 200 points" in render(evidence)


def test_thinning_keeps_both_ends_and_invents_nothing():
    kept = thin(range(1000), 17)
    assert (len(kept), kept[0], kept[-1]) == (17, 0, 999)
    assert kept == sorted(set(kept))


def test_a_half_written_line_waits_for_the_next_time(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"ste')
    assert read_lines(file) == [{"step": 1}]
    file.write_text('{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(AnalysisError, match="line 2 is not JSON"):
        read_lines(file)


def test_the_tail_of_a_log_is_its_last_lines(tmp_path):
    file = tmp_path / "log.txt"
    file.write_text("\n".join(f"line {i}" for i in range(10_000)))
    assert tail(file, 3) == "line 9997\nline 9998\nline 9999"


def test_a_table_has_one_content_in_all_formats():
    table = Table(
        "t", "T", [Column("arm", numeric=False), Column("loss")],
        [[words("a_b|c"), figure(1.23456, 2)], [words("d"), figure(None, 2)]], ("100% & more",),
    )  # fmt: skip
    assert r"a_b\|c" in table.to_markdown()
    assert table.to_csv() == "arm,loss\na_b|c,1.23456\nd,–\n"
    assert r"a\_b\textbar{}c & 1.23 \\" in table.to_latex()


@pytest.mark.parametrize("theme", palette.THEMES)
def test_every_colour_of_words_and_marks_has_enough_contrast(theme):
    colours = palette.THEMES[theme]
    for name in palette.TEXT:
        for behind in ("card", "page"):
            assert palette.contrast(colours[name], colours[behind]) >= 4.5, (name, behind)
    for name in palette.MARKS:
        assert palette.contrast(colours[name], colours["card"]) >= 3.0, name
    assert palette.contrast(colours["on_accent"], colours["accent"]) >= 4.5


def test_contrast_is_that_of_the_standard():
    assert palette.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert palette.contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)


def test_nothing_is_told_by_colour_alone(html):
    assert len(set(palette.SYMBOLS.values())) == len(palette.SYMBOLS)
    assert len(set(palette.SHAPES.values())) == len(palette.SHAPES)
    assert len({tuple(dash) for dash in palette.DASHES}) == len(palette.DASHES)
    assert set(palette.SYMBOLS) == set(palette.SHAPES) == set(palette.NAMES) == set(JUDGED)
    assert not re.search(r'class="[^"]*(better|worse)[^"]*"[^>]*>\s*</', html)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arms", "seeds", "most_mb", "most_seconds"), [(12, 5, 3, 20), (125, 8, 10, 90)]
)
def test_large_studies_stay_small_and_quick(tmp_path, arms, seeds, most_mb, most_seconds):
    effects = {"baseline": 0.0} | {f"arm_{i:03}": -0.001 * i for i in range(1, arms)}
    folder = full_study(tmp_path / "large", effects, seeds, n_points=200)
    started = time.monotonic()
    report = write_report(folder).report
    assert time.monotonic() - started < most_seconds  # measured well below; see the log
    assert report.stat().st_size < most_mb * 1e6


def test_the_report_imports_neither_the_engine_nor_a_tracker():
    code = (
        "import sys, analysis.report, analysis.report.page, analysis.report.figures;"
        "print([m for m in ('torch', 'hydra', 'wandb', 'vl_convert', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_diverged_failed_and_preempted_cells_are_shown_for_what_they_are(tmp_path):
    folder = full_study(tmp_path / "mixed", ARMS, 3)
    for seed in range(3):
        place = folder / "plain" / cell_name("plain", seed)
        record = read_record(place)
        record.status, record.losses.test, record.error = Status.DIVERGED, float("nan"), EVIL
        write_record(place, record)
    for seed, status in ((1, Status.FAILED), (2, Status.PREEMPTED)):
        place = folder / "good" / cell_name("good", seed)
        record = read_record(place)
        record.status, record.losses.test = status, None
        write_record(place, record)
    evidence = gather(read_runs([str(folder)]), Rules())
    html = render(evidence)
    assert "no complete run (3 diverged)" in html
    assert "1 runs failed and stand in no figure" in html
    ledger = sections(evidence)[-1].tables[0]
    statuses = [row[4].text for row in ledger.rows]
    assert {"complete", "diverged", "failed", "preempted"} == set(statuses)
    assert EVIL not in html
    assert "; 1 arm without a complete run." in headline(evidence)


def test_the_key_names_what_is_drawn_and_nothing_else(tmp_path, html):
    marks = set(re.findall(r'class="key (\w+)"', html))
    assert marks == {"dot", "tick", "ci", "inner", "outer", "rope"}
    alone = gather(Runs(study({}, n=3), home=tmp_path), Rules())
    assert set(re.findall(r'class="key (\w+)"', render(alone))) == {"dot", "tick", "inner", "rope"}
    chart = next(part.chart for part in sections(alone) if part.name == "noise_band")
    assert not any(word in " ".join(chart.key) for word in ("Bar", "lighter"))


def test_a_baseline_whose_arms_all_failed_is_not_called_lonely():
    frame = study({"a": 0.0}, n=3)
    frame.loc[frame["arm"] == "a", "status"] = "diverged"
    found = headline(gather(Runs(frame.fillna({"status": "complete"})), Rules()))
    assert found == (
        "The baseline alone beside 1 arm without a complete run: nothing to compare it with yet."
    )


def test_a_diverged_arm_does_not_stretch_the_loss_axis(tmp_path):
    folder = full_study(tmp_path / "wild", ARMS, 3)
    for seed in range(3):
        place = folder / "plain" / cell_name("plain", seed)
        record = read_record(place)
        record.status, record.losses.test = Status.DIVERGED, None
        write_record(place, record)
    calm = gather(read_runs([str(folder)]), Rules())
    assert all("domainMax" not in layer["encoding"]["y"]["scale"]
               for layer in curves_chart(calm, "train_loss").variants["linear"]["layer"])  # fmt: skip
    file = place / "metrics.jsonl"
    rows = [json.loads(line) | {"train_loss": 2e11} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wild = gather(read_runs([str(folder)]), Rules())
    assert tops(wild)["val_loss"] is None
    for spec in curves_chart(wild, "train_loss").variants.values():
        assert all(layer["encoding"]["y"]["scale"]["domainMax"] < 100 for layer in spec["layer"])
    text = next(part for part in sections(wild) if part.name == "curves").text
    assert "plain went beyond it" in text


def test_a_diverged_run_is_in_no_curve_of_an_arm_with_others(tmp_path):
    folder = full_study(tmp_path / "partly", ARMS, 3)
    place = folder / "plain" / cell_name("plain", 0)
    record = read_record(place)
    record.status, record.losses.test = Status.DIVERGED, None
    write_record(place, record)
    curves = gather(read_runs([str(folder)]), Rules()).curves.by_metric["train_loss"]
    assert {curve.arm: curve.n for curve in curves} == dict.fromkeys(ARMS, 3) | {"plain": 2}


def test_names_in_the_cost_chart_do_not_lie_over_each_other(tmp_path):
    arms = {"baseline": 0.0} | {f"arm_{i}": 0.001 * i for i in range(30)} | {"far": 0.9}
    evidence = gather(read_runs([str(full_study(tmp_path / "many", arms, 2))]), Rules())
    chart = next(part.chart for part in sections(evidence) if part.name == "cost")
    named = [row["label"] for row in chart.datasets["costs"] if row["label"]]
    assert "far" in named
    assert len(named) < 10
    assert chart.key == (f"Names left out for want of room: {len(arms) - len(named)}.",)


def test_the_baseline_has_no_verdict_s_mark_in_the_cost_chart(evidence):
    chart = next(part.chart for part in sections(evidence) if part.name == "cost")
    base = [row["arm"] for row in chart.datasets["costs"] if row["base"]]
    assert base == ["baseline"]
    marks = chart.variants["cost"]["layer"]
    assert marks[0]["transform"] == [{"filter": "datum.base"}]
    assert "shape" not in marks[0]["encoding"]


def test_dashes_and_the_baseline_s_own_row_are_explained(evidence):
    notes = {table.name: " ".join(table.notes) for part in sections(evidence)
             for table in part.tables}  # fmt: skip
    assert "fewer than 4 shared seeds" in notes["pairing"]
    assert "compares its own runs" in notes["evaluation"]


def test_an_order_that_is_not_shuffled_is_no_source_of_noise(tmp_path):
    folder = full_study(tmp_path / "fixed", ARMS, 3)
    told = " ".join(unknowns(gather(read_runs([str(folder)]), Rules())))
    assert "the noise of initialisation, data order and training loop cannot" in told
    for file in folder.rglob("record.json"):
        record = read_record(file)
        record.fingerprints.data_shuffled = False
        write_record(file.parent, record)
    told = " ".join(unknowns(gather(read_runs([str(folder)]), Rules())))
    assert "the noise of initialisation and training loop cannot" in told


@pytest.mark.parametrize(
    "rules",
    [
        Rules(metric="val_loss"),
        Rules(baseline="plain"),
        Rules(higher_is_better=True),
        Rules(variance="squeezed", alpha=0.1, rope=0.5),
        Rules(references=(("published", 2.5),)),
    ],
    ids=["metric", "baseline", "accuracy", "squeezed", "reference"],
)
def test_the_page_follows_the_rules_of_the_comparison(folder, rules):
    evidence = gather(read_runs([str(folder)]), rules)
    html = render(evidence)
    assert evidence.comparison is not None
    assert evidence.arms[0] == rules.baseline
    assert "No comparison yet" not in html


HOSTILE = "a|b`c`<img src=x>[l](javascript:1)\x1b[31m\u202e$x$ {y} ~^#%&_\\end{tabular}"


def test_a_hostile_name_stays_one_cell_of_text_in_every_format():
    table = Table(
        "t", "T", [Column("arm", numeric=False), Column("n")], [[words(HOSTILE), figure(1, 2)]]
    )
    row = table.to_markdown().splitlines()[2]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert not re.search(r"(?<!\\)`|<img|\]\(|[\x1b\u202e]", row)
    latex = table.to_latex()
    assert latex.count("\\end{tabular}") == 1
    assert not re.search(r"(?<!\\)[$%&#_~^]", latex.splitlines()[4].replace(" & ", ""))


def test_a_latex_row_cannot_be_an_argument_of_the_row_before_and_has_minus_signs():
    text = compare(study({"[a]": -0.5, "*b": 0.5}, n=4)).to_latex()
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert not any(row.startswith(("[", "*")) for row in rows)
    assert re.search(r"^\{\}\[a\] & 4 & [\d.]+ & \$-0\.\d+\$ & \$\[-0\.\d+, -0\.\d+\]\$ & \$<0.001\$",
                     text, re.MULTILINE)  # fmt: skip
    assert r"$\infty$" in Table("t", "T", [Column("n")], [[count(math.inf)]]).to_latex()


def test_columns_line_up_with_letters_that_take_two_places():
    table = markdown_table(
        ["arm", "n"], [["日本語の名前", "3"], ["e\u0301te\u0301", "4"], ["plain", "5"]]
    )
    ends = [line.rstrip().endswith("|") for line in table.splitlines()]
    shown = [len(line) for line in table.splitlines()]
    assert all(ends)
    assert shown == [shown[0], shown[0], shown[0] - 6, shown[0] + 2, shown[0]]


def test_hostile_names_stay_text_in_notes_and_titles():
    baseline = HOSTILE.replace("+", "")
    frame = study({"a": -0.05}, n=4).replace({"arm": {"baseline": baseline}})
    text = compare(frame, baseline=baseline).to_markdown()
    assert "against a|b" in text  # a bar is only special in a table
    assert not re.search(r"(?<!\\)`|<img|\]\(|[\x1b\u202e]", text)
    note = Table("t", "T", [Column("n")], [[figure(1, 2)]], notes=("a\n\\input{x} <img>",))
    assert "\n\\input" not in note.to_latex()
    assert "<img" not in note.to_markdown()


def test_an_accuracy_is_given_no_unit_of_a_loss(tmp_path):
    frame = study({"a": 0.05}, n=4).rename(columns={"test_loss": "acc"})
    frame["hours"] = [1.0 if arm == "a" else 2.0 for arm in frame["arm"]]
    frame.to_csv(tmp_path / "mine.csv", index=False)
    runs = read_runs([str(tmp_path / "mine.csv")], {"acc": "acc"})
    found = gather(runs, Rules(metric="acc", higher_is_better=True))
    assert found.title == "mine"
    assert found.plan
    assert found.noise
    page = render(found)
    data = re.search(r"<script[^>]*application/json[^>]*>(.*?)</script>", page, re.DOTALL)
    shown = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL) + data.group(1)
    assert "nats" not in shown
    assert "gain per dollar" in shown
