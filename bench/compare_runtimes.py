#!/usr/bin/env python3
"""Tenfold beside ONNX Runtime and OpenVINO, in one run on one machine.

Usage: compare_runtimes.py MODEL... [--threads 1 2] [--batch 1 8] [--seconds 3] [--budget SECONDS] [--out STEM] [--note TEXT] [--again] [--bf16]

Every runtime lives in a process of its own (so that its memory can be seen) and they take turns: a round is one turn of
each, in rotating order, and the median over all rounds counts. Each gets the same input, fixed shapes and the same number
of threads (runtimes.py states the settings); every answer is compared (test/models/agreement.py). The machine's peaks are
measured by `tenfold bench --profile`, with the floor of every step.

Writes STEM.json (everything), STEM.md (the table), STEM.layers.md (per-step roofline) and STEM.svg (the ratios). Rows that
STEM.json has already are kept, so a run can be interrupted, or split with --budget, which begins no row after so many
seconds and then ends with code 3; --again measures them anew. Other models or versions need another STEM. At the end, rows
that something disturbed (measuring.DISTURBED) are measured once more, and the calmer of both measurements stays.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import sys
import time

import measuring
import report as reporting
from runtimes import ROOT, RUNTIMES, TITLES

MORE_TO_DO = 3


def caches():
    sizes = []
    for index in sorted(pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        sizes.append(f"L{level}{'' if kind == 'Unified' else kind[0].lower()} {size}")
    return ", ".join(sizes)


def host_facts():
    flags = pathlib.Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split()
    sets = [flag for flag in ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_tile") if flag in flags]
    memory = int(pathlib.Path("/proc/meminfo").read_text().split(None, 2)[1]) / 2**20
    return f"{' '.join(sets)}; caches {caches()}; {memory:.0f} GiB; Linux {platform.release()}"


def facts():
    versions = {TITLES[name]: importlib.metadata.version(name) for name in RUNTIMES[1:]}
    return {"device": f"{measuring.run_models.device_name('cpu')}, {len(os.sched_getaffinity(0))} cores", "host": host_facts(), "versions": versions}


def processor_of(report):
    """What makes times comparable: name, cores, instruction sets and caches. Different processors may have one name."""
    return "; ".join([report["device"], *report["host"].split("; ")[:2]])


def key_of(row):
    return row["model"], row["threads"], row["batch"]


def line_of(row):
    name = f"{row['model']:28} {row['threads']} threads  batch {row['batch']}"
    if "problem" in row:
        return f"{name}  {row['problem']}"
    times = "  ".join(f"{runtime} {reporting.time_text(entry.get('median_ms', float('nan'))):>8} ms{'' if entry.get('answer_is_right', True) else ' (wrong answer)'}" for runtime, entry in row["runtimes"].items())
    return f"{name}  {times}  ratio {row['ratio']:.2f}"


def load(path, report):
    """Rows of an earlier run on the same machine against the same peers; its commands are joined to this one's."""
    if not path.exists():
        return []
    earlier = json.loads(path.read_text())
    for name, of in (("processor", processor_of), ("versions", lambda r: r["versions"]), ("bf16", lambda r: r.get("bf16", False))):
        if of(earlier) != of(report):
            sys.exit(f"{path}: its rows were measured with {name} {of(earlier)}, this is {of(report)}; give another --out")
    report["command"] = "; ".join(dict.fromkeys([*earlier["command"].split("; "), report["command"]]))
    return earlier["rows"]


def write(stem, report):
    stem.parent.mkdir(parents=True, exist_ok=True)
    for suffix, text in ((".json", json.dumps(report, separators=(",", ":")).replace('{"model"', '\n{"model"') + "\n"), (".md", reporting.markdown(report)), (".layers.md", reporting.layers(report))):
        temporary = stem.with_name(stem.name + suffix + ".part")
        temporary.write_text(text)
        temporary.rename(stem.with_name(stem.name + suffix))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, len(os.sched_getaffinity(0))])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--seconds", type=float, default=3.0, help="for all rounds of one row")
    parser.add_argument("--budget", type=float, default=float("inf"), help="begin no row after so many seconds")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench/results/cpu")
    parser.add_argument("--note", default="", help="a sentence for the table, such as what else the machine was doing")
    parser.add_argument("--again", action="store_true", help="measure rows anew that are there")
    parser.add_argument("--bf16", action="store_true", help="allow bfloat16 where a runtime has it")
    arguments = parser.parse_args()

    report = facts()
    report["bf16"] = arguments.bf16
    report["command"] = f"bench/compare_runtimes.py --threads {' '.join(map(str, arguments.threads))} --batch {' '.join(map(str, arguments.batch))} --seconds {arguments.seconds:g}{' --bf16' if arguments.bf16 else ''}"
    report["note"] = arguments.note
    report["rows"] = load(arguments.out.with_name(arguments.out.name + ".json"), report)
    asked = [(path, threads, batch) for batch in arguments.batch for threads in sorted(set(arguments.threads), reverse=True) for path in arguments.models]
    begin = time.monotonic()

    def earlier(item):
        path, threads, batch = item
        return next((row for row in report["rows"] if key_of(row) == (path.stem, threads, batch)), None)

    def measure_all(wanted, choose):
        for index, (path, threads, batch) in enumerate(wanted):
            if time.monotonic() - begin > arguments.budget:
                print(f"{len(wanted) - index} rows are left", file=sys.stderr)
                sys.exit(MORE_TO_DO)
            row = measuring.measure(path, threads, batch, arguments.seconds, cache=None, bf16=arguments.bf16)
            print(line_of(row), flush=True)
            row = choose(row, earlier((path, threads, batch)))
            report["rows"] = sorted([other for other in report["rows"] if key_of(other) != key_of(row)] + [row], key=lambda r: (r["batch"], -r["threads"], r["model"]))
            write(arguments.out, report)

    measure_all([item for item in asked if arguments.again or earlier(item) is None], lambda row, _: row)
    measure_all([item for item in asked if measuring.is_disturbed(earlier(item))], measuring.calmer)
    if importlib.util.find_spec("matplotlib"):
        reporting.plot(report, arguments.out.with_name(arguments.out.name + ".svg"))
    else:
        print("no picture: matplotlib is not installed", file=sys.stderr)
    for (threads, batch), ratios in reporting.groups(report["rows"]).items():
        print(f"{threads} threads, batch {batch}: {reporting.summary_of(ratios)}")


if __name__ == "__main__":
    main()
