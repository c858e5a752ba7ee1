"""The scripts in examples/tensorrt run, each in a process and a folder of its own."""

import subprocess
import sys

import pytest
from tensorrt_environment import REPOSITORY, environment

EXAMPLES = sorted((REPOSITORY / "examples" / "tensorrt").glob("[0-9]*.py"))


def test_there_are_ten():
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(script, tmp_path):
    run = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout
