#!/usr/bin/env python3
"""Prints where NVRTC lies: TENFOLD_NVRTC, or what pip installed here (tools/requirements/nvrtc.txt). Exits with 1 without."""

import importlib.metadata
import os
import sys


def find_nvrtc():
    """:returns: the path of libnvrtc.so, or None."""
    if os.environ.get("TENFOLD_NVRTC"):
        return os.environ["TENFOLD_NVRTC"]
    for package in ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"):
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.name in ("libnvrtc.so.13", "libnvrtc.so.12"):
                return str(file.locate())
    return None


if __name__ == "__main__":
    path = find_nvrtc()
    if path is None:
        sys.exit("NVRTC is not here; tools/setup.sh --cubins installs it")
    print(path)
