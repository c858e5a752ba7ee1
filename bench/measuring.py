"""One model, one number of threads, one batch: builds, checks the answers, and times the runtimes in turns."""

import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

from runtimes import PEERS, ROOT, RUNTIMES, Child

sys.path.insert(0, str(ROOT / "test/models"))
import agreement  # noqa: E402
import run_models  # noqa: E402
import zoo  # noqa: E402

ROUNDS = (9, 120)     # at least, at most
EXACT_ENOUGH = 0.01   # of the ratio, its standard error
MOST_SECONDS = 3      # times the seconds asked for, until the ratio is exact enough
DISTURBED = (0.05, 0.1)  # standard error of the ratio, cores that the host took away: from there on a row is measured again
SHOWN_STEPS = 12      # of the per-step roofline, those furthest above their floors
TURN_SECONDS = 0.03   # a runtime runs for about this long before the next one's turn


class NotPossible(Exception):
    """The model cannot be measured like this, and why."""


class Clock:
    """Processor time that the host took away and that others on this machine had, from now on."""

    def __init__(self, children):
        self._children = children
        self._begin = self._now()

    def _now(self):
        user, nice, system, _, _, irq, softirq, steal = (int(x) for x in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
        tick = os.sysconf("SC_CLK_TCK")
        own = sum(child.processor_seconds() for child in self._children)
        return time.perf_counter(), (user + nice + system + irq + softirq) / tick - own, steal / tick

    def stop(self):
        """:returns: in cores."""
        wall, others, steal = (after - before for before, after in zip(self._begin, self._now()))
        return {"others_cores": round(others / wall, 2), "stolen_cores": round(steal / wall, 3)}


def with_static_batch(path, batch, target):
    """Writes the model with the first axis of every input set to `batch`, where the file says 1."""
    import onnx

    model = onnx.load(str(path))
    initializers = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in initializers:
            continue
        if not dims or dims[0].dim_value != 1:
            raise NotPossible(f"input '{value.name}' has no batch axis of 1")
        dims[0].dim_value = batch
    for value in [*model.graph.output, *model.graph.value_info]:
        value.type.tensor_type.ClearField("shape")
    onnx.save(model, str(target))


def prepare(path, batch, folder):
    """:returns: (model file, its entry of the zoo, sizes of its symbols) for the batch."""
    model = zoo.MODELS.get(path.stem)
    if model is not None and "b" in model.sizes:
        return path, model, {**zoo.optimum(model), "b": batch}
    if batch != 1:
        changed = folder / "batch.onnx"
        with_static_batch(path, batch, changed)
        try:
            reference = agreement.Reference(changed)
            if model is not None:
                model = zoo.Model(model.sizes, {name: ([batch, *shape[1:]], values) for name, (shape, values) in model.inputs.items()}, model.fix_shapes, model.fix_inputs)
                reference.run(zoo.draw_inputs(model, numpy.random.default_rng(0), zoo.optimum(model)))
            else:
                model = zoo.static_model(reference.session)
                reference.run(zoo.draw_inputs(model, numpy.random.default_rng(0), {}))
        except Exception as error:  # whatever ONNX Runtime raises: the file needs its batch
            raise NotPossible("the file is written for batch 1 only") from error
        return changed, model, zoo.optimum(model)
    if model is None:
        model = zoo.static_model(agreement.Reference(path).session)
    if model is None:
        raise NotPossible("its shapes are dynamic and zoo.py does not say which to use")
    return path, model, zoo.optimum(model)


def roofline(engine, threads, inputs):
    """What `tenfold bench --profile` measures: every step, the peaks, and how long the peaks alone would take.

    A step's floor is the longer one of its arithmetic at the peak of multiply-adds and its bytes at the speed at which
    so much memory as the engine uses can be read. Operations are those of the operator's definition: Winograd needs
    fewer, so it can be below the floor.
    """
    command = [run_models.tenfold(), "bench", str(engine), "--json", "--quiet", "--profile", "--threads", str(threads), "--iterations", "1", "--duration", "0", "--warm-up", "0", "--inputs", str(inputs)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise NotPossible(f"bench: {result.stderr.strip()}")
    answer = json.loads(result.stdout)
    flops_per_ms, bytes_per_ms = 1e6 * answer["peak_gflops"], 1e6 * answer["read_gigabytes_per_second"]
    steps, sums = [], {}
    for step in answer["profile"]:
        floor = max(step["flops"] / flops_per_ms, step["bytes"] / bytes_per_ms) if flops_per_ms and bytes_per_ms else 0.0
        us = 1e3 * step["medianMs"]
        steps.append({"nodes": "+".join(step["origins"])[:60], "op": step["op"], "tactic": step["tactic"], "us": round(us, 1), "floor_us": round(1e3 * floor, 1), "flops": step["flops"], "bytes": step["bytes"]})
        sums.setdefault((step["op"], step["tactic"]), []).append((us, 1e3 * floor))
    return {"peak_gflops": round(answer["peak_gflops"], 1), "read_gigabytes_per_second": round(answer["read_gigabytes_per_second"], 1),
            "flops": sum(step["flops"] for step in steps), "floor_ms": round(1e-3 * sum(step["floor_us"] for step in steps), 4),
            "operators": [{"op": op, "tactic": tactic, "steps": len(times), "us": round(sum(us for us, _ in times), 1), "floor_us": round(sum(floor for _, floor in times), 1)}
                          for (op, tactic), times in sums.items()],
            "slowest_steps": sorted(steps, key=lambda step: step["floor_us"] - step["us"])[:SHOWN_STEPS]}


def wait_for_idle(children):
    """Until no thread of the last one spins (ONNX Runtime's did for up to 70 ms), which would be the next one's cost."""
    deadline = time.perf_counter() + 2
    quiet = 0
    while quiet < 5 and time.perf_counter() < deadline:
        time.sleep(0.002)
        quiet = quiet + 1 if all(child.is_idle() for child in children) else 0


def time_in_turns(children, seconds):
    """Rounds in which every runtime has one turn, in rotating order, until `seconds` are over and the ratio is exact enough."""
    turns = {}
    for name, child in children.items():
        child.run(2, keep=False)
        one = statistics.median(child.run(3, keep=False)) * 1e-3
        turns[name] = max(1, min(200, round(TURN_SECONDS / one)))
        child.run(turns[name], keep=False)
    begin = time.perf_counter()
    names = list(children)
    for index in range(ROUNDS[1]):
        spent = time.perf_counter() - begin
        if index >= ROUNDS[0] and (spent > MOST_SECONDS * seconds or (spent > seconds and not ratio_of(medians(children))[1] > EXACT_ENOUGH)):
            break
        for name in names[index % len(names):] + names[:index % len(names)]:
            wait_for_idle(children.values())
            children[name].run(turns[name])


def medians(children):
    """:returns: of every runtime, the median time of each of its turns."""
    return {name: [statistics.median(times) for times in child.rounds] for name, child in children.items()}


def quartiles(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]


def ratio_of(times):
    """Time of the faster one of the peers over ours, above 1 we are faster: the median over the rounds.

    Turns of one round follow each other within a tenth of a second, so that what slows the machine for longer slows both.

    :param times: of every runtime, one time a round.
    :returns: the ratio, and its standard error in parts of it (Gaussian: quartiles lie 1.35 deviations apart, a median's
        variance is pi / 2 of a mean's). Not a number without a peer.
    """
    found = []
    for peer in PEERS:
        if peer in times and "tenfold" in times:
            rounds = [theirs / ours for theirs, ours in zip(times[peer], times["tenfold"])]
            middle, (low, high) = statistics.median(rounds), quartiles(rounds)
            found.append((middle, (high - low) / 1.35 * math.sqrt(math.pi / 2 / len(rounds)) / middle))
    return min(found, default=(math.nan, math.nan))


def is_disturbed(row):
    """Did something else on the machine or its host spoil the row, and was it not yet measured again?"""
    return row.get("tries", 1) == 1 and (row.get("ratio_error", 0) >= DISTURBED[0] or row.get("machine", {}).get("stolen_cores", 0) >= DISTURBED[1])


def calmer(row, earlier):
    """Of two measurements of one row the one with the smaller standard error, whatever its ratio."""
    chosen = row if row.get("ratio_error", 1) <= earlier.get("ratio_error", 1) else earlier
    return {**chosen, "tries": earlier.get("tries", 1) + 1}


def _distance(actual, expected):
    """The largest difference of any output over that output's largest value."""
    return max((float(numpy.abs(actual[name].astype(numpy.float64) - value).max(initial=0.0)) / (float(numpy.abs(value).max(initial=0.0)) or 1.0)
                for name, value in expected.items() if value.dtype.kind == "f" and name in actual and actual[name].shape == value.shape), default=0.0)


def measure(path, threads, batch, seconds, cache, with_roofline=True, bf16=False):
    """:returns: a row: model, threads, batch, and either ``problem`` or what was measured."""
    row = {"model": path.stem, "threads": threads, "batch": batch, "commit": run_models.commit(), "date": time.strftime("%Y-%m-%d %H:%M")}
    try:
        with tempfile.TemporaryDirectory() as folder:
            return {**row, **_measure(path, threads, batch, seconds, cache, with_roofline, pathlib.Path(folder), bf16)}
    except NotPossible as reason:
        return {**row, "problem": str(reason)}


def _measure(path, threads, batch, seconds, cache, with_roofline, folder, bf16):
    file, model, sizes = prepare(path, batch, folder)
    reference = agreement.Reference(file)
    generator = numpy.random.default_rng(7)
    inputs = zoo.draw_inputs(model, generator, sizes)
    expected, moves = reference.answers(inputs, generator)
    reference.session = None  # its threads and memory are not wanted while others are timed
    for name, arrays in (("in.npz", inputs), ("tenfold.in.npz", zoo.engine_inputs(model, inputs))):
        with open(folder / name, "wb") as out:
            numpy.savez(out, **arrays)
    shapes = zoo.shape_text(model, sizes)
    options = [*zoo.import_options(model), "--shapes", shapes, "--threads", str(threads), *(["--bf16"] if bf16 else [])]
    engine = folder / "m.engine"

    def build(cache_file):
        begin = time.perf_counter()
        summary, problem = run_models.build(file, engine, [*options, "--timing-cache", str(cache_file)])
        if summary is None:
            raise NotPossible(f"tenfold build: {problem}")
        return time.perf_counter() - begin, summary

    row = {"shapes": shapes, "runtimes": {}}
    if cache is None:  # cold, then with what that measured
        row["build_seconds"], _ = build(folder / "cache")
        row["build_with_cache_seconds"], summary = build(folder / "cache")
    else:
        row["build_with_cache_seconds"], summary = build(cache)
    row.update(nodes=summary["nodes_in_model"], steps=summary["steps"], engine_bytes=summary["file_bytes"])
    children = {}
    try:
        for runtime in RUNTIMES:
            try:
                children[runtime] = Child(runtime, file, engine, threads, folder / ("tenfold.in.npz" if runtime == "tenfold" else "in.npz"), folder, bf16)
            except RuntimeError as error:
                if runtime == "tenfold":
                    raise NotPossible(f"tenfold: {error}") from error
                row["runtimes"][runtime] = {"problem": str(error)}
        clock = Clock(children.values())
        time_in_turns(children, seconds)
        row["machine"] = clock.stop()
    finally:
        for child in children.values():
            child.stop()
    turns = medians(children)
    for runtime, child in children.items():
        actual = child.outputs()
        if runtime == "openvino":
            actual = dict(zip(expected, actual.values()))
        problems = [f"{name}: {what}" for name, value in expected.items() if name in actual
                    for equal, _, what in [agreement.difference(actual[name], value, moves[name], reference)] if not equal]
        if bf16:  # rounded factors are no error; how far they move the answer is shown
            problems = []
        low, high = quartiles(turns[runtime])
        row["runtimes"][runtime] = {"median_ms": statistics.median(turns[runtime]), "quartile_ms": [low, high], "min_ms": min(min(times) for times in child.rounds), "rounds": len(child.rounds),
                                    "load_ms": child.start["load_ms"], "first_run_ms": child.start["first_run_ms"], "memory_bytes": child.memory,
                                    "distance": _distance(actual, expected), "answer_is_right": not problems, **({"difference": problems[0]} if problems else {})}
    row["ratio"], row["ratio_error"] = ratio_of(turns)
    if with_roofline:
        row["roofline"] = roofline(engine, threads, folder / "tenfold.in.npz")
    return row
