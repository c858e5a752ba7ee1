#!/usr/bin/env python3
"""The regression gate for speed: a few models, in under three minutes, against the peers and against recorded ratios.

Usage: quick.py MODEL... [--record FILE] [--update]

A ratio is the time of the faster one of ONNX Runtime and OpenVINO over Tenfold's, so a busy or slow machine changes it
little. A model fails if it is slower than the faster peer, or if its ratio is more than 8 % below the recorded one; it is
then measured once more, and the better measurement counts. Recorded ratios hold for one kind of processor: on
another one only the comparison with the peers is made. --update records what was measured. Exit code 1 on any failure.
"""

import argparse
import json
import os
import pathlib
import sys

import compare_runtimes
import measuring
from runtimes import ROOT

ALLOWED_DROP = 0.92


def judge(row, recorded):
    """:returns: complaints about one row."""
    if "problem" in row:
        return [f"not measured: {row['problem']}"]
    complaints = [f"wrong answer: {entry['difference']}" for name, entry in row["runtimes"].items() if name == "tenfold" and not entry.get("answer_is_right", False)]
    if recorded is not None and row["ratio"] < ALLOWED_DROP * recorded:
        complaints.append(f"DROP: the ratio is {row['ratio']:.2f}, recorded was {recorded:.2f}")
    elif recorded is None and row["ratio"] < 1:
        complaints.append(f"slower than the faster peer: the ratio is {row['ratio']:.2f}")
    return complaints


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--record", type=pathlib.Path, default=ROOT / "bench/results/quick.json")
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()

    here = compare_runtimes.facts()
    processor = compare_runtimes.processor_of(here)
    records = json.loads(arguments.record.read_text()) if arguments.record.exists() else {}
    if records and processor not in records and not arguments.update:
        print(f"no ratios of this processor are recorded, {processor}: only the peers are compared")
    ratios = records.get(processor, {}).get("ratios", {}) if not arguments.update else {}
    threads = len(os.sched_getaffinity(0))
    failures, measured = [], {}
    for path in arguments.models:
        row = measuring.measure(path, threads, 1, 1.0, None, with_roofline=False)
        complaints = judge(row, ratios.get(path.stem))
        if complaints and "ratio" in row:
            again = measuring.measure(path, threads, 1, 2.0, None, with_roofline=False)
            if again.get("ratio", 0) > row["ratio"]:
                row = again
                complaints = judge(row, ratios.get(path.stem))
        recorded = f"  recorded {ratios[path.stem]:.2f}" if path.stem in ratios else ""
        print(compare_runtimes.line_of(row) + recorded, flush=True)
        for complaint in complaints:
            print(f"    !!! {path.stem}: {complaint}", flush=True)
        failures += complaints
        if "ratio" in row:
            measured[path.stem] = round(row["ratio"], 3)
    if arguments.update:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        records[processor] = {"versions": here["versions"], "commit": measuring.run_models.commit(), "threads": threads, "ratios": measured}
        arguments.record.write_text(json.dumps(records, indent=1) + "\n")
        return
    if failures:
        sys.exit(f"{len(failures)} of {len(arguments.models)} models have become slower or wrong")
    print(f"{len(arguments.models)} models: none slower than recorded")


if __name__ == "__main__":
    main()
