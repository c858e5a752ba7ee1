"""tenfold-tensorrt: what it adds, and that it never stands in front of another package called tensorrt."""

import ast
import graphlib
import shutil
import subprocess
import sys

from tensorrt_environment import REPOSITORY, environment


def python(code, folder, **extra):
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment(folder, **extra),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_import_tensorrt_is_the_module_of_tenfold(tmp_path):
    assert python("import tensorrt, tenfold.tensorrt; print(tensorrt is tenfold.tensorrt)", tmp_path) == "True"


def test_an_installed_tensorrt_is_found_first(tmp_path):
    other = tmp_path / "tensorrt"
    other.mkdir()
    (other / "__init__.py").write_text("__version__ = 'of somebody else'")
    assert python("import tensorrt; print(tensorrt.__version__)", tmp_path) == "of somebody else"


def test_the_finder_imports_nothing_when_python_starts(tmp_path):
    assert python("import sys; print('tenfold' in sys.modules, 'numpy' in sys.modules)", tmp_path) == "False False"


def test_the_distribution_holds_the_module_and_the_pth_file(tmp_path):
    source = shutil.copytree(REPOSITORY / "python" / "tensorrt", tmp_path / "source")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build", "--build-lib", str(tmp_path / "lib")],
        cwd=source,
        check=True,
        timeout=300,
        capture_output=True,
    )
    files = sorted(path.name for path in (tmp_path / "lib").iterdir())
    assert files == ["tenfold_tensorrt_alias.pth", "tenfold_tensorrt_alias.py"]


def test_versions_can_be_chosen(tmp_path):
    code = "import tensorrt as t; print(t.__version__)"
    assert python(code, tmp_path).startswith("10.16")
    assert python(code, tmp_path, TENFOLD_TENSORRT_VERSION="8.6") == "8.6.1"
    assert python(code, tmp_path, TENFOLD_TENSORRT_VERSION="11").startswith("11.")


def test_no_two_files_of_the_module_import_each_other():
    files = {path.stem: path for path in (REPOSITORY / "python" / "tenfold" / "tensorrt").glob("*.py")}
    imports = {}
    for name, path in files.items():
        nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.level == 1]
        imports[name] = {m for n in nodes for m in ([n.module] if n.module else [a.name for a in n.names]) if m in files}
    ordered = list(graphlib.TopologicalSorter(imports).static_order())  # raises CycleError, which names the circle
    assert len(ordered) == len(files)
