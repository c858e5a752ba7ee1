#!/usr/bin/env python3
"""Checks that includes go downwards only.

A folder of src may include itself and the folders before it in ORDER; the runtime library (what loads and runs an
engine) must not include importer, passes or builder; third-party headers stay where they belong.
Exits with 1 and one line for each violation.
"""
import pathlib
import re
import sys

ORDER = ["base", "graph", "ops", "import", "passes", "backend", "engine", "runtime", "build", "capi"]
RUNTIME_FORBIDS = {"import", "passes", "build"}
RUNTIME_FOLDERS = {"base", "graph", "ops", "backend", "engine", "runtime"}
# Third-party headers by the only folders that may include them.
ONLY_IN = [
    (re.compile(r"google/protobuf|onnx\.pb\.h|\.pb\.h"), {"import"}),
    (re.compile(r"^cuda|^nvrtc|^cublas|^cudnn"), {"backend"}),
    (re.compile(r"^nanobind"), set()),
]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def violations(root):
    src = root / "src"
    for path in sorted(src.rglob("*")):
        if path.suffix not in {".hpp", ".cpp", ".cuh", ".cu", ".h", ".inc"}:
            continue
        relative = path.relative_to(src)
        folder = relative.parts[0]
        if folder not in ORDER:
            yield f"src/{relative}: folder '{folder}' has no place in the order of folders"
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            quote, header = match.groups()
            where = f"src/{relative}:{number}"
            for pattern, folders in ONLY_IN:
                if pattern.search(header) and folder not in folders:
                    yield f"{where}: {header} may only be included in {', '.join(sorted(folders)) or 'no folder of src'}"
            target = header.split("/")[0]
            if quote == "<" or target == "tenfold" or target not in ORDER:
                continue
            if ORDER.index(target) > ORDER.index(folder):
                yield f"{where}: {folder} must not include {header}, which stands above it"
            elif folder in RUNTIME_FOLDERS and target in RUNTIME_FORBIDS:
                yield f"{where}: the runtime library must not include {header}"
            if not (src / header).exists():
                yield f"{where}: {header} does not exist"
    for folder in ("python", "server", "examples"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in {".hpp", ".cpp", ".h", ".c"}:
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = INCLUDE.match(line)
                if match and match.group(2).split("/")[0] in ORDER:
                    yield f"{path.relative_to(root)}:{number}: {folder} uses include/tenfold only, not {match.group(2)}"


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    found = list(violations(root))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
