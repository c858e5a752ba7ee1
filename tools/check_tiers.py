#!/usr/bin/env python3
"""Checks that kernel objects of one instruction set tier define nothing that the linker may share with other code.

usage: check_tiers.py NM TIER OBJECT...

An inline function or template outside tenfold::cpu::TIER becomes a weak symbol; the linker keeps one copy for the whole
program, and it could be the one that only newer processors can run.
"""
import subprocess
import sys


def main() -> int:
    nm, tier, objects = sys.argv[1], sys.argv[2], sys.argv[3:]
    own = (f"tenfold::cpu::{tier}::", f"3cpu{len(tier)}{tier}")  # nm leaves some long names mangled
    bad = []
    for path in objects:
        text = subprocess.run([nm, "-C", "--defined-only", path], check=True, capture_output=True, text=True).stdout
        for line in text.splitlines():
            _, kind, name = line.split(maxsplit=2)
            if kind in "WVu" and not any(part in name for part in own) and not name.startswith("DW.ref."):
                bad.append(f"{path}: {name}")
    for line in bad:
        print(f"shared with other tiers: {line}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
