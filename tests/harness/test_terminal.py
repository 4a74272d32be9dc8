"""The ways out of a command, stream by stream."""

import argparse
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.records.terminal import Parser, printing, source, text

STREAMS = """
import json, os, sys
from harness.records.terminal import complain, open_streams
open_streams()
kinds = []
for number in range(4):
    try:
        kinds.append(os.readlink(f"/proc/self/fd/{number}"))
    except OSError:
        kinds.append(None)
print("said \\udcff")
complain("wrong")
sys.stdout.flush()
numbers = [sys.stdout.fileno(), sys.stderr.fileno()]
with open(sys.argv[1], "w") as file:
    json.dump([numbers, [kind == "/dev/null" for kind in kinds], kinds[3]], file)
"""


@pytest.mark.parametrize(
    ("closed", "null"),
    [("", [False, False, False]), ("<&-", [True, False, False]), (">&-", [False, True, False]),
     ("2>&-", [False, False, True]), ("<&- >&- 2>&-", [True, True, True])],
)  # fmt: skip
def test_a_closed_stream_is_an_empty_one_under_its_own_number(tmp_path, closed, null) -> None:
    import json

    told = tmp_path / "told"
    (tmp_path / "in").touch()
    words = [sys.executable, "-c", STREAMS, str(told)]
    with (tmp_path / "in").open() as empty:
        done = subprocess.run(
            ["bash", "-c", f'exec "$@" {closed}', "bash", *words],
            stdin=empty, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
    numbers, found, beyond = json.loads(told.read_text())
    assert (numbers, found[:3], beyond) == ([1, 2], null, None)
    assert done.stdout == ("" if null[1] else "said ?\n")
    assert done.stderr == ("" if null[2] else "error: wrong\n")


def test_a_command_line_is_refused_in_one_line(capsys) -> None:
    parser = Parser(prog="it")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--word")
    assert parser.parse_args(["--file", "a", "--word", "b"]) == argparse.Namespace(
        file=Path("a"), word="b"
    )
    for words, said in (
        (["--file", ""], "argument --file: empty: give a value"),
        (["--word", ""], "argument --word: empty: give a value"),
        (["--word", "\udcff"], "argument --word: '\\udcff' is not UTF-8"),
        (["a\nb\x1b"], "unrecognized arguments: a b\\x1b"),
    ):
        with pytest.raises(SystemExit) as left:
            parser.parse_args(words)
        assert left.value.code == 2
        assert capsys.readouterr().err == f"error: {said}; see: it --help\n"


def test_an_options_text_is_told_from_other_bytes_at_their_ends() -> None:
    assert [text(given) for given in ("é", "\ud7ff", "\ue000")] == ["é", "\ud7ff", "\ue000"]
    assert source("\udcff") == "\udcff"
    for given in ("\ud800", "\udfff", "ok\udcff"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"is not UTF-8$"):
            text(given)
    for read in (text, source):
        with pytest.raises(argparse.ArgumentTypeError, match=r"^empty: give a value$"):
            read("")


ENDED = """
import errno, os, sys
from harness.records.terminal import printing
with printing():
    print("said")
    raise OSError(*eval(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("error", "code", "out", "err"),
    [
        ("errno.EPIPE, 'gone'", 0, "said\n", ""),
        ("errno.ENOSPC, 'full'", 1, "said\n", "error: cannot print: full\n"),
        ("errno.ENOSPC, 'full', 'a.md'", 1, "said\n", "error: a.md: full\n"),
        ("errno.EACCES, 'closed', 'a.md'", 2, "said\n", "error: a.md: closed\n"),
        ("errno.EIO, 'broken'", 1, "said\n", "OSError: [Errno 5] broken"),
    ],
)
def test_an_error_while_printing_ends_in_its_own_way(error, code, out, err) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDED, error], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (code, out)
    assert done.stderr.endswith(err if err.endswith("\n") or not err else err + "\n")
    assert ("Traceback" in done.stderr) == ("EIO" in error)


def test_what_was_printed_is_out_when_the_command_ends(capfd) -> None:
    with printing():
        sys.stdout.write("a")
    with pytest.raises(OSError, match="broken") as caught, printing():
        raise OSError(errno.EIO, "broken")
    assert caught.value.errno == errno.EIO
    assert capfd.readouterr().out == "a"
