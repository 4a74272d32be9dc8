"""One table in every format, whatever the names in it."""

import math
import re

from studies import study

from analysis.comparison.compare import compare
from analysis.table import Column, Table, count, figure, words

HOSTILE = "a|b`c`<img src=x>[l](javascript:1)\x1b[31m\u202e$x$ {y} ~^#%&_\\end{tabular}"


def test_a_table_has_one_content_in_all_formats():
    table = Table(
        "t", "T", [Column("arm", numeric=False), Column("loss")],
        [[words("a_b|c"), figure(1.23456, 2)], [words("d"), figure(None, 2)]], ("100% & more",),
    )  # fmt: skip
    assert r"a_b\|c" in table.to_markdown()
    assert table.to_csv() == "arm,loss\na_b|c,1.23456\nd,–\n"
    assert r"a\_b\textbar{}c & 1.23 \\" in table.to_latex()


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
    names = ["日本語の名前", "e\u0301te\u0301", "plain"]
    rows = [[words(name), figure(i, 0)] for i, name in enumerate(names)]
    table = Table("t", "T", [Column("arm", numeric=False), Column("n")], rows).to_text()
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
