"""Parity with the published CenterMask, number by number: features, detections, masks, losses, gradients, units."""

import subprocess
import sys
from pathlib import Path

import pytest

ORACLE = Path(__file__).resolve().parents[1] / "oracle"


@pytest.mark.parametrize("case", ["a_lite_v19_slim_dw", "b_v99_livecell", "c_v39_8cls", "unit"])
def test_fixtures(case):
    command = [sys.executable, str(ORACLE / "check.py"), "--package", "cellseg_d2", "--path", str(ORACLE.parents[1])]
    command += ["--fixtures", str(ORACLE), "--only", case]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    bad = [line for line in lines if line.startswith(("FAIL", "SKIP"))]
    assert done.returncode == 0 and not bad, "\n".join(bad) or done.stderr[-2000:]
    passed = int(lines[-1].split()[0])
    assert passed >= 20, f"only {passed} checks ran"
