"""The ways out of a command, stream by stream."""

import argparse
import errno
import io
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.records import terminal
from harness.records.terminal import Parser, open_streams, printing, source, text

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


def test_what_a_stream_s_encoding_cannot_show_is_replaced(monkeypatch) -> None:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    open_streams()
    for stream in streams:
        stream.write("é")
        stream.flush()
        assert stream.buffer.getvalue() == b"?"
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # which has no encoding
    open_streams()


def test_what_is_missing_is_opened_under_its_own_number(monkeypatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    def stream(number: int, mode: str, encoding: str) -> io.StringIO:
        opened.append((number, mode, encoding))
        return io.StringIO()

    def fstat(number: int) -> None:
        opened.append(number)
        if number != 1:
            raise OSError(errno.EBADF, "closed")

    monkeypatch.setattr(terminal, "open", stream, raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fstat)
        patch.setattr(os, "open", lambda *given: opened.append(given))
        open_streams()
    null = (os.devnull, os.O_RDWR)
    assert opened == [0, null, 1, 2, null, (1, "w", "utf-8"), (2, "w", "utf-8")]


@pytest.mark.parametrize(
    ("error", "code", "said", "dropped"),
    [
        (OSError(errno.EPIPE, "gone"), None, "", 1),
        (OSError(errno.ENOSPC, "full"), 1, "error: cannot print: full\n", 1),
        (OSError(errno.ENOSPC, "full", "a.md"), 1, "error: a.md: full\n", 0),
        (OSError(errno.EACCES, "closed", "a.md"), 2, "error: a.md: closed\n", 0),
    ],
)
def test_what_is_not_printed_yet_is_dropped_where_it_cannot_be(
    error, code, said, dropped, monkeypatch, capsys
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(terminal, "_discard_output", lambda: calls.append(True))
    with nullcontext() if code is None else pytest.raises(SystemExit) as left, printing():
        raise error
    assert (left and left.value.code) == code
    assert (capsys.readouterr().err, len(calls)) == (said, dropped)


def test_a_full_disk_is_noticed_before_the_command_ends(monkeypatch, capsys) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(terminal, "_discard_output", lambda: None)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(flush=full))
    with pytest.raises(SystemExit), printing():
        pass
    assert capsys.readouterr().err == "error: cannot print: full\n"


def test_output_that_is_dropped_goes_nowhere(tmp_path, monkeypatch) -> None:
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        out.write("said")
        terminal._discard_output()
        out.flush()
    assert (tmp_path / "out").read_text() == ""
