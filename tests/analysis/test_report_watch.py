import http.client
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from full_study import full_study

from analysis.__main__ import main
from analysis.comparison.rules import Rules
from analysis.report.watch import Live, server

ARMS = {"baseline": 0.0, "good": -0.05}


@pytest.fixture
def served(tmp_path):
    folder = full_study(tmp_path / "live", ARMS, 3, n_points=6)
    made = server(Live([str(folder)], Rules()), 0)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield folder, made.server_address[1]
    made.shutdown()
    made.server_close()
    thread.join()


def get(port: int, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.mark.thorough
def test_the_report_is_served_and_its_version_changes_with_the_runs(served):
    folder, port = served
    assert "6 planned, 6 complete" in get(port, "/")[1]
    before = json.loads(get(port, "/version")[1])
    assert json.loads(get(port, "/version")[1]) == before
    full_study(folder, ARMS, 3, n_points=6, running=1)
    after = json.loads(get(port, "/version")[1])
    assert after["version"] != before["version"]
    assert "1 running" in after["sentence"]
    assert "1 running" in get(port, "/")[1]


def test_requests_for_another_host_are_refused(served):
    assert get(served[1], "/", host="evil.example")[0] == 403


def test_nothing_but_the_report_is_served(served):
    for path in ("/../plan.json", "/plan.json", "/%2e%2e/etc/passwd"):
        assert get(served[1], path)[0] == 404


def test_a_taken_port_is_refused_in_one_line(served, capsys):
    folder, port = served
    assert main(["watch", str(folder), "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert "choose another --port" in error
    assert error.count("\n") == 1


def test_a_port_that_cannot_be_is_refused_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["watch", str(tmp_path), "--port", "99999"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "--port: '99999' is no whole number at least 0 and at most 65535" in error


@pytest.mark.thorough
def test_the_command_says_its_address_and_stops_with_ctrl_c(tmp_path):
    folder = full_study(tmp_path / "live", ARMS, 2, n_points=4)
    arguments = [sys.executable, "-m", "analysis", "watch", str(folder), "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        port = int(line.split(":")[2].split("/")[0])
        assert get(port, "/")[0] == 200
        os.kill(process.pid, signal.SIGINT)
        assert "Stopped" in process.communicate(timeout=600)[0]
        assert process.returncode == 0
