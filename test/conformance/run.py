#!/usr/bin/env python3
"""Runs the operator test cases of the onnx package and writes docs/conformance.md.

Needs the packages onnx and numpy. The package generates its cases in Python; they are written once to CASES.

    test/conformance/run.py --driver build/dev/bin/tenfold_conformance [--cases build/conformance] [--only SUBSTRING]
        [--engine | --device cuda | --check cuda:h100] [--json RESULTS] [--report docs/conformance.md [--device-results RESULTS]]

``--device`` runs engines for that device, ``--check`` only says what has no kernel there; ``--json`` keeps what came
out, which ``--device-results`` puts beside the results of the CPU. Exit code: 1 if a case crashes, fails for another
reason than "unsupported", or gives a wrong answer.
"""

import argparse
import collections
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import warnings

# Cases whose expected answer we do not follow, each with the reason.
ALIGN_CORNERS = ("the case divides by the fractional size scale * length - 1; the specification's text says the length "
                 "of the resized tensor, and ONNX Runtime and PyTorch do so too")
DIFFERENT_ON_PURPOSE = {
    "test_resize_downsample_scales_cubic_align_corners": ALIGN_CORNERS,
    "test_resize_downsample_scales_linear_align_corners": ALIGN_CORNERS,
}
STATUSES = ("pass", "fixed", "host", "refused", "differs", "wrong", "failed", "crashed")
# Cases in one process of the driver: a device takes a while to start.
BATCH = 16


def generate(folder):
    """Writes model.onnx and the data of every case below `folder`, and index.json with what the table needs."""
    warnings.filterwarnings("ignore")
    import onnx
    from onnx import numpy_helper
    from onnx.backend.test.case.node import collect_testcases

    def encode(value, info):
        if info.type.HasField("sequence_type"):
            return numpy_helper.from_list(value, info.name)
        if info.type.HasField("optional_type"):
            return numpy_helper.from_optional(value, info.name)
        return value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(value, info.name)

    index = {}
    for case in collect_testcases(None):
        target = folder / case.name
        target.mkdir(parents=True, exist_ok=True)
        (target / "model.onnx").write_bytes(case.model.SerializeToString())
        for number, (inputs, outputs) in enumerate(case.data_sets or []):
            data = target / f"test_data_set_{number}"
            data.mkdir(exist_ok=True)
            for kind, values, infos in (("input", inputs, case.model.graph.input),
                                        ("output", outputs, case.model.graph.output)):
                for i, (value, info) in enumerate(zip(values, infos)):
                    try:
                        encoded = encode(value, info).SerializeToString()
                    except Exception:  # numpy has no name for some of the small types
                        encoded = b"\xff"
                    (data / f"{kind}_{i}.pb").write_bytes(encoded)
        versions = {entry.domain or "ai.onnx": entry.version for entry in case.model.opset_import}
        index[case.name] = {
            "opset": versions.get("ai.onnx", 0),
            "domains": sorted(versions),
            "ops": sorted({node.op_type for node in case.model.graph.node}),
            "rtol": case.rtol,
            "atol": case.atol,
        }
    index["package"] = onnx.__version__
    (folder / "index.json").write_text(json.dumps(index, indent=1, sort_keys=True))
    return index


def run(driver, folder, index, names, options):
    """Runs cases in one process; what follows a crash, or a failure of the device, in another.

    :returns: name -> (status, detail).
    """
    results = {}
    while len(results) < len(names):
        rest = names[len(results):]
        lines = "".join(f"{name} {index[name]['rtol']} {index[name]['atol']}\n" for name in rest)
        try:
            done = subprocess.run([driver, str(folder), *options], input=lines, capture_output=True, text=True, errors="replace",
                                  timeout=120 + 10 * len(rest))
            output, problem = done.stdout, f"exit code {done.returncode} {done.stderr[-300:]}"
        except subprocess.TimeoutExpired as expired:
            output, problem = (expired.stdout or b"").decode(errors="replace"), "took too long"
        answered = [line.split("\t", 2) for line in output.splitlines() if line.count("\t") >= 2]
        for name, status, detail in answered:
            is_on_purpose = status == "wrong" and name in DIFFERENT_ON_PURPOSE
            results[name] = ("differs", DIFFERENT_ON_PURPOSE[name]) if is_on_purpose else (status, detail)
        if len(answered) < len(rest) and not (answered and answered[-1][1] == "failed"):
            results[rest[len(answered)]] = ("crashed", problem)
    return results


def reason_of(detail):
    """The part of a message that many cases share."""
    detail = re.sub(r"^unsupported: ", "", detail)
    found = re.search(r"operator (\w+) of (\S+) opset \d+ is not supported", detail)
    if found:
        return f"operator {found.group(1)} of {found.group(2)}"
    found = re.search(r"element type (\w+) is not supported", detail)
    if found:
        return f"element type {found.group(1)}"
    detail = re.sub(r"^'.*?model.onnx' cannot be compiled: \d+ problems? *", "", detail)
    detail = re.sub(r"node '[^']*' \((\w+)\): ", r"\1: ", detail)
    return detail[:140]


def write_report(path, index, results, engine, on_device):
    by_opset = collections.defaultdict(collections.Counter)
    for name, (status, _) in results.items():
        by_opset[index[name]["opset"]][status] += 1
    total = collections.Counter(status for status, _ in results.values())
    lines = [
        "# Conformance with ONNX",
        "",
        f"The operator test cases that the onnx package {index['package']} generates, imported with the shapes of their "
        "inputs, run by the reference interpreter" + (" and by a built engine, each" if engine else "") + " and compared with the package's own tolerances. "
        "Regenerate with `test/conformance/run.py`.",
        "",
        "- *passed*: every output agrees in type, shape and value.",
        "- *fixed*: passed once the integer inputs that an operator must know when it is compiled (axes, sizes) are given "
        "as constants, as exported models have them.",
        "- *refused*: the importer says which node is unsupported, and why.",
        "- *differs*: another answer than the case's, on purpose; listed below.",
        "- *wrong*: an output differs. *failed*: another error. *crashed*: the process died. These are defects.",
        "",
    ]
    shown = [status for status in STATUSES if status != "host"]
    titles = ["opset", "cases", *("passed" if status == "pass" else status for status in shown)]
    device_by_opset = collections.defaultdict(collections.Counter)
    for name, (status, _) in on_device.items():
        device_by_opset[index[name]["opset"]][status] += 1
    device_total = collections.Counter(status for status, _ in on_device.values())
    if on_device:
        titles += ["GPU: equal", "no kernel", "not equal"]
        lines[-1:] = [
            "- *GPU*: an engine for the GPU gives the same answers, three times (one by one, recorded, replayed); *no kernel*: "
            "the same, but an operator ran on the host; listed below.",
            "",
        ]
    lines += ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]

    def row(label, counts, device):
        cells = [label, sum(counts.values())] + [counts[status] for status in shown]
        if on_device:
            cells += [device["pass"] + device["fixed"], device["host"], device["wrong"] + device["failed"] + device["crashed"]]
        return "| " + " | ".join(str(cell) for cell in cells) + " |"

    lines += [row(str(opset) if opset else "other domain", by_opset[opset], device_by_opset[opset]) for opset in sorted(by_opset)]
    lines.append(row("**all**", total, device_total))
    for status, title in (("differs", "Different on purpose"), ("wrong", "Wrong"), ("failed", "Failed"), ("crashed", "Crashed")):
        found = {name: detail for name, (kind, detail) in sorted(results.items()) if kind == status}
        if found:
            lines += ["", f"## {title}", ""]
            lines += [f"- `{name}`: {reason_of(detail)}" for name, detail in found.items()]
    without_kernel = collections.defaultdict(set)
    for name, (status, detail) in sorted(on_device.items()):
        if status == "host":
            for reason in detail.split(" | "):
                without_kernel[reason.replace(" has no kernel for cuda", "").replace(";", ":", 1)].add(name)
    if without_kernel:
        lines += ["", "## Without a kernel on the GPU", "", "| operator, and why its tactics refuse | cases |", "|---|---|"]
        for reason, names in sorted(without_kernel.items(), key=lambda item: (-len(item[1]), item[0])):
            first = ", ".join(sorted(names)[:3]) + (" ..." if len(names) > 3 else "")
            lines.append(f"| {reason[:200]} | {len(names)}: {first} |")
    refused = collections.defaultdict(list)
    for name, (status, detail) in sorted(results.items()):
        if status == "refused":
            refused[reason_of(detail)].append(name)
    lines += ["", "## Refused", "", "| reason | cases |", "|---|---|"]
    for reason, names in sorted(refused.items(), key=lambda item: (-len(item[1]), item[0])):
        shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        lines.append(f"| {reason.replace('|', '/')} | {len(names)}: {shown} |")
    path.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", required=True)
    parser.add_argument("--cases", type=pathlib.Path, default=pathlib.Path("build/conformance"))
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    parser.add_argument("--engine", action="store_true", help="also build an engine and compare its answers")
    parser.add_argument("--device", help="build the engine for this device: cuda, cuda:1")
    parser.add_argument("--check", help="only say which cases have operators without a kernel for this device: cuda:h100")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    parser.add_argument("--device-results", type=pathlib.Path, help="results of --device --json, for the report")
    parser.add_argument("--report", type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="print every case that does not pass")
    arguments = parser.parse_args()

    known = arguments.cases / "index.json"
    index = json.loads(known.read_text()) if known.exists() else generate(arguments.cases)
    names = [name for name in sorted(index) if name != "package" and arguments.only in name]
    options = ["--engine"] if arguments.engine else []
    for option in ("device", "check"):
        options += [f"--{option}", getattr(arguments, option)] if getattr(arguments, option) else []
    batches = [names[begin:begin + BATCH] for begin in range(0, len(names), BATCH)]
    results = {}
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for part in pool.map(lambda batch: run(arguments.driver, arguments.cases, index, batch, options), batches):
            results.update(part)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1, sort_keys=True))
    counts = collections.Counter(status for status, _ in results.values())
    for name, (status, detail) in results.items():
        if status in ("wrong", "failed", "crashed") or (arguments.verbose and status not in ("pass", "fixed")):
            print(f"{status}  {name}: {detail[:400]}")
    print(", ".join(f"{counts[status]} {status}" for status in STATUSES), "of", len(results))
    if arguments.report:
        on_device = json.loads(arguments.device_results.read_text()) if arguments.device_results else {}
        write_report(arguments.report, index, results, arguments.engine, on_device)
    return 1 if counts["wrong"] + counts["failed"] + counts["crashed"] else 0


if __name__ == "__main__":
    sys.exit(main())
