#!/usr/bin/env python3
"""Runs an engine in a process of its own: runner.py ENGINE FOLDER answers every FOLDER/N.in.npz with FOLDER/N.out.npz.

A case that fails gets FOLDER/N.error with the message instead.
"""

import pathlib
import sys

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "demo"))
from tenfold_ctypes import Engine, Error  # noqa: E402


def main():
    engine, folder = Engine(sys.argv[1]), pathlib.Path(sys.argv[2])
    for path in sorted(folder.glob("*.in.npz")):
        stem = path.name.removesuffix(".in.npz")
        try:
            with numpy.load(path) as inputs:
                outputs = engine.run({name: inputs[name] for name in inputs.files})
        except Error as error:
            (folder / f"{stem}.error").write_text(str(error))
            continue
        with open(folder / f"{stem}.out.npz", "wb") as file:
            numpy.savez(file, **outputs)


if __name__ == "__main__":
    main()
