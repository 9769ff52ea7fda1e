"""What make setup runs at its end."""

import subprocess
import sys


def test_the_loops_compile_without_torch_and_detectron2():
    script = (
        "import sys; sys.modules['torch'] = sys.modules['detectron2'] = None\n"
        "import cellseg_d2.evaluation.report.html, cellseg_d2.evaluation.report.console\n"
        "from cellseg_d2.evaluation.warm_up import warm_up; warm_up()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
