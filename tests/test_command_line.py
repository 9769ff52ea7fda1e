"""How tools end: exit codes, one line for what the user can put right, a traceback for faults of ours."""

import subprocess
import sys

import pytest

from cellseg_d2.command_line import run_tool
from cellseg_d2.engine.errors import UserError

WORDY = """
import sys
from cellseg_d2.command_line import run_tool
def work():
    for number in range(100_000):
        print(number)
sys.exit(run_tool(work))
"""


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(("code", "expected"), [(None, 0), (0, 0), (1, 1)])
def test_the_code_of_the_work(code, expected):
    assert run_tool(lambda: code) == expected


@pytest.mark.parametrize("error", [ValueError("wrong size"), FileNotFoundError("wrong size"), UserError("wrong size")])
def test_errors_of_the_user_are_one_line(error, capsys):
    assert run_tool(raising(error), UserError, program="tool.py") == 2
    assert capsys.readouterr().err == "tool.py: wrong size\n"


def test_faults_of_ours_are_no_finding_and_say_where(capsys, monkeypatch):
    assert run_tool(raising(KeyError("x")), UserError) == 2
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("CELLSEG_DEBUG", "1")
    assert run_tool(raising(ValueError("x"))) == 2
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c(capsys):
    assert run_tool(raising(KeyboardInterrupt()), program="tool.py", stopped="stopped, go on") == 130
    assert capsys.readouterr().err == "tool.py: stopped, go on\n"


def test_a_reader_who_has_seen_enough():
    tool = subprocess.Popen([sys.executable, "-c", WORDY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert tool.stdout.readline() == "0\n"
    tool.stdout.close()
    assert (tool.wait(), tool.stderr.read()) == (141, "")
