import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config import DataConfig
from harness.data.corpus import open_corpus
from harness.data.manifest import corpus_folder
from harness.prepare import Moment, main, progress_text

pytestmark = pytest.mark.thorough

TEXT = ["data=text", "data.name=books", "data.val_frac=0.2", "data.test_frac=0.2"]


@pytest.fixture
def arguments(books: Path, tmp_path: Path) -> list[str]:
    return [*TEXT, f"data.path={books}", f"data_dir={tmp_path / 'data'}"]


def test_the_last_line_gives_the_split_sizes_and_the_folder(
    arguments: list[str], text_config: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(arguments) == 0
    corpus = open_corpus(text_config, tmp_path / "data")
    last = capsys.readouterr().out.splitlines()[-1]
    for split in ("train", "val", "test"):
        assert f"{split} {len(corpus.tokens(split)):,} tokens" in last
    assert last.endswith(str(corpus.folder))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data=txt"], "allowed: fineweb"),
        (["data=text"], "data.path is not set"),
        (["data=text", "data.pth=x"], "data.pth"),
        (["data=stdlib_docs", "data.max_tokens=x"], "max_tokens"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([*arguments, f"data_dir={tmp_path}"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert said in errors


def test_help_shows_examples_and_a_bare_command_is_refused(capsys: pytest.CaptureFixture) -> None:
    assert main(["--help"]) == 0
    assert main([]) == 2
    assert capsys.readouterr().out.count("data=fineweb data.max_tokens=") == 2


def test_progress_counts_from_where_this_run_began() -> None:
    resumed_at = Moment(100.0, 40_000_000, 0.4)
    text = progress_text(resumed_at, Moment(110.0, 60_000_000, 0.6))
    assert text == "60,000,000 tokens, 2.00 Mtok/s, 60.0%, 0:20 left"
    assert progress_text(resumed_at, Moment(3700.0, 60_000_000, 0.5)).endswith("5:00:00 left")
    assert (
        progress_text(resumed_at, Moment(110.0, 60_000_000, None))
        == "60,000,000 tokens, 2.00 Mtok/s"
    )


def test_a_second_process_waits_for_the_first(
    arguments: list[str], text_config: DataConfig, tmp_path: Path
) -> None:
    folder = corpus_folder(text_config, tmp_path / "data")
    folder.parent.mkdir()
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen([sys.executable, "-m", "harness.prepare", *arguments])
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=3)
        assert not list(folder.parent.glob("*books*.partial"))
    assert waiting.wait(timeout=600) == 0
    assert folder.is_dir()


def test_two_processes_at_once_prepare_one_corpus(
    arguments: list[str], text_config: DataConfig, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "harness.prepare", *arguments]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == outputs[1]
    names = [path.name for path in (tmp_path / "data").iterdir() if path.suffix != ".lock"]
    assert names == [open_corpus(text_config, tmp_path / "data").folder.name]


def test_a_full_disk_is_named_and_leaves_nothing_half_written(
    books: Path, arguments: list[str], tmp_path: Path
) -> None:
    # The kernel refuses any write behind 64 kB of a file, as a full disk does behind its last one.
    (books / "long.txt").write_text("long " * 100_000)
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "from harness.prepare import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    uncounted = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=uncounted,  # the counts of make coverage are a file, too
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: cannot write")
    assert "File too large" in done.stderr
    left = [path.name for path in (tmp_path / "data").iterdir() if path.suffix != ".lock"]
    assert left == []


def test_kill_9_leaves_no_corpus_and_the_next_run_starts_clean(
    books: Path, arguments: list[str], text_config: DataConfig, tmp_path: Path
) -> None:
    (books / "long.txt").write_text("long " * 10_000_000)
    process = subprocess.Popen([sys.executable, "-m", "harness.prepare", *arguments])
    wait_for(lambda: any((tmp_path / "data").glob("*.partial/train.bin")), process)
    process.kill()
    process.wait()
    (books / "long.txt").unlink()
    assert not list((tmp_path / "data").glob("books-*"))
    assert main(arguments) == 0
    assert open_corpus(text_config, tmp_path / "data").manifest.made["n_files"] == 200


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    end = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, "the process ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.01)
