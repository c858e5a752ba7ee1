"""The command ``tenfold``: the program that is part of this package takes the place of this process."""

from __future__ import annotations

import os
import pathlib
import sys


def main() -> None:
    """Run the program with this process's arguments; its exit status becomes ours."""
    program = pathlib.Path(__file__).parent / "bin" / "tenfold"
    if not program.is_file():
        sys.exit(f"tenfold: {program} is missing; install the package again")
    # Backends for other devices lie beside the package's own library.
    os.environ.setdefault("TENFOLD_BACKEND_PATH", str(program.parents[1]))
    os.execv(program, [str(program), *sys.argv[1:]])


if __name__ == "__main__":
    main()
