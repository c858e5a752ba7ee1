"""The tutorial's code runs, and the page of the API is up to date."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    assert len(blocks) >= 10
    names = {"__name__": "tutorial"}
    for block in blocks:
        # Line numbers of a traceback are those of the page.
        code = "\n" * text[: block.start(1)].count("\n") + block.group(1)
        exec(compile(code, "docs/tutorial.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "100 % done" in printed and "invalid_argument" in printed


def test_the_page_of_the_api_is_up_to_date():
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "python_docs.py", "--check"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_everything_public_is_documented():
    import tenfold

    for name in tenfold.__all__:
        item = getattr(tenfold, name)
        assert name == "__version__" or item.__doc__, name
        for member in vars(item) if isinstance(item, type) else ():
            if not member.startswith("_"):
                assert getattr(getattr(item, member), "__doc__", ""), f"{name}.{member}"


def test_there_are_stubs():
    import tenfold

    folder = pathlib.Path(tenfold.__file__).parent
    stub = (folder / "_core.pyi").read_text(encoding="utf-8")
    assert (folder / "py.typed").exists()
    for text in ("class Engine", "class Context", "class Network", "def compile("):
        assert text in stub


def test_the_command_is_there():
    import tenfold

    program = pathlib.Path(tenfold.__file__).parent / "bin" / "tenfold"
    if not program.exists():
        pytest.skip("run from a build folder: the command is part of the wheel only")
    result = subprocess.run([sys.executable, "-m", "tenfold.cli", "--version"], capture_output=True, text=True)
    assert result.returncode == 0 and tenfold.__version__ in result.stdout
