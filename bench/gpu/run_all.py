#!/usr/bin/env python3
"""Everything about speed on a GPU in one call: exports the networks with PyTorch, builds engines, compares the answers,
and times Tenfold beside PyTorch (eager and torch.compile), interleaved, by events on the device.

    bench/gpu/run_all.py [--only resnet50:1,bert_base:32] [--no-compile] [--profile] [--out FILE.json]
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import torch

import models
import tenfold_c

FOLDER = pathlib.Path(__file__).resolve().parents[2]


def median(values):
    return sorted(values)[len(values) // 2]


def time_interleaved(runs, rounds=15, target_ms=30):
    """Median milliseconds of one call for each of `runs` (name -> function that enqueues on the current stream)."""
    counts, samples = {}, {name: [] for name in runs}
    for name, run in runs.items():
        for _ in range(3):
            run()
        torch.cuda.synchronize()
        begin = time.perf_counter()
        run()
        torch.cuda.synchronize()
        counts[name] = max(1, min(200, int(target_ms / (1e3 * (time.perf_counter() - begin)))))
    for _ in range(rounds):
        for name, run in runs.items():
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(counts[name]):
                run()
            end.record()
            end.synchronize()
            samples[name].append(start.elapsed_time(end) / counts[name])
    return {name: {"ms": median(times), "min_ms": min(times), "max_ms": max(times)} for name, times in samples.items()}


def build(args, name, batch):
    model, engine = args.work / f"{name}_b{batch}.onnx", args.work / f"{name}_b{batch}.engine"
    begin = time.perf_counter()
    models.export(name, batch, str(model), half=not args.float32_export)
    exported = time.perf_counter()
    command = [args.tenfold, "build", model, "-o", engine, "--device", "cuda", "--quiet", "--json", "--opt-level",
               str(args.opt_level), "--timing-cache", args.work / "timing.json"] + args.build_options.split()
    done = subprocess.run([str(x) for x in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"build failed ({done.returncode}): {(done.stdout + done.stderr)[-3000:]}")
    return engine, {"export_s": exported - begin, "build_s": time.perf_counter() - exported,
                    "build": json.loads(done.stdout).get("seconds")}


def measure(args, lib, name, batch):
    result = {"network": name, "batch": batch}
    engine_path, result["seconds"] = build(args, name, batch)
    _, _, input_names, _, channels_last = models.NETWORKS[name]
    module, inputs = models.make(name, batch)
    module = module.cuda()
    inputs = [x.cuda() for x in inputs]
    with torch.no_grad():
        module_half = module.half()
        halves = [x.half() if x.is_floating_point() else x for x in inputs]
        exact = module_half.float()(*[x.float() if x.is_floating_point() else x for x in halves]).float()
        module = module_half.half()
        if channels_last:
            module = module.to(memory_format=torch.channels_last)
            halves_last = [x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in halves]
        else:
            halves_last = halves
        torch.cuda.synchronize()  # inputs and weights were made on another stream
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            eager = lambda: module(*halves_last)
            reference = eager().float()
            engine = tenfold_c.Engine(lib, engine_path)
            operands = inputs if args.float32_export else halves
            for input_name, tensor in zip(input_names, operands):
                engine.set_input(input_name, tensor.contiguous())
            output = torch.full(exact.shape, float("nan"), device="cuda", dtype=operands[0].dtype
                                if operands[0].is_floating_point() else
                                (torch.float32 if args.float32_export else torch.float16))
            engine.set_output("output", output)
            run = lambda: engine.enqueue(stream.cuda_stream)
            run()
            run()
            torch.cuda.synchronize()
            error = lambda a: ((a.float() - exact).norm() / exact.norm()).item()
            result["relative_error"] = {"tenfold": error(output), "pytorch_fp16": error(reference)}
            runs = {"tenfold": run, "eager": eager}
            if not args.no_compile:
                begin = time.perf_counter()
                compiled = torch.compile(module, mode="max-autotune-no-cudagraphs" if args.autotune else None)
                for _ in range(3):
                    compiled(*halves_last)
                torch.cuda.synchronize()
                graph = torch.cuda.CUDAGraph()  # what mode="reduce-overhead" does, without copies of the inputs
                with torch.cuda.graph(graph, stream=stream):
                    compiled(*halves_last)
                result["seconds"]["torch_compile"] = time.perf_counter() - begin
                runs["torch_compile"] = graph.replay
            result["times"] = time_interleaved(runs)
            if args.profile:
                steps = engine.step_times()
                result["steps"] = [{k: s[k] for k in ("name", "op_type", "tactic", "duration_us", "flops", "bytes")}
                                   for s in steps]
    return result


def measure_int8(args, lib, batch):
    """The whole quantised network on the device; its answer beside float32's, which scales from random data bring near."""
    result = {"network": "resnet50_int8", "batch": batch}
    model, engine_path = args.work / f"resnet50_int8_b{batch}.onnx", args.work / f"resnet50_int8_b{batch}.engine"
    begin = time.perf_counter()
    models.export_int8(batch, str(model))
    exported = time.perf_counter()
    command = [args.tenfold, "build", model, "-o", engine_path, "--device", "cuda", "--fp16", "--quiet", "--opt-level",
               args.opt_level]
    done = subprocess.run([str(x) for x in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"build failed ({done.returncode}): {(done.stdout + done.stderr)[-3000:]}")
    result["seconds"] = {"export_s": exported - begin, "build_s": time.perf_counter() - exported}
    module, inputs = models.make("resnet50", batch)
    with torch.no_grad():
        image = inputs[0].cuda()
        exact = module.cuda()(image)
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            engine = tenfold_c.Engine(lib, engine_path)
            engine.set_input("image", image)
            output = torch.full_like(exact, float("nan"))
            engine.set_output("output", output)
            run = lambda: engine.enqueue(stream.cuda_stream)
            run()
            run()
            torch.cuda.synchronize()
            result["relative_error"] = {"tenfold": ((output - exact).norm() / exact.norm()).item(), "pytorch_fp16": 0.0}
            result["times"] = time_interleaved({"tenfold": run})
            result["images_per_s"] = batch / result["times"]["tenfold"]["ms"] * 1e3
            if args.profile:
                result["steps"] = [{k: s[k] for k in ("name", "op_type", "tactic", "duration_us", "flops", "bytes")}
                                   for s in engine.step_times()]
    return result


def report(result):
    if "error" in result:
        return f"{result['network']} b{result['batch']}: {result['error']}"
    times = result["times"]
    text = f"{result['network']:>10} b{result['batch']:<4} "
    text += "  ".join(f"{name} {t['ms']:.3f} ms" for name, t in times.items())
    for other in ("eager", "torch_compile"):
        if other in times:
            text += f"  {times[other]['ms'] / times['tenfold']['ms']:.2f}x {other}"
    if "images_per_s" in result:
        text += f"  {result['images_per_s']:.0f} images/s"
    errors = result["relative_error"]
    text += f"  error {errors['tenfold']:.1e} (pytorch {errors['pytorch_fp16']:.1e})"
    text += f"  build {result['seconds']['build_s']:.0f} s"
    return text


def top_steps(result, count):
    steps = sorted(result.get("steps", []), key=lambda s: -s["duration_us"])
    total = sum(s["duration_us"] for s in steps)
    lines = [f"    sum {total:.0f} us in {len(steps)} steps"]
    groups = {}
    for s in steps:
        entry = groups.setdefault((s["op_type"], s["tactic"]), [0, 0.0, 0.0])
        entry[0] += 1
        entry[1] += s["duration_us"]
        entry[2] += s["flops"]
    for (op, tactic), (n, us, flops) in sorted(groups.items(), key=lambda g: -g[1][1])[:count]:
        lines.append(f"    {us:9.1f} us {n:4d}x {op:<22} {tactic:<28} {flops / max(us, 1e-9) * 1e-6:7.1f} TFLOP/s")
    for s in steps[:count]:
        lines.append(f"    {s['duration_us']:9.1f} us {s['op_type']:<18} {s['tactic']:<26} "
                     f"{s['flops'] / max(s['duration_us'], 1e-9) * 1e-6:7.1f} TFLOP/s  {s['name'][:60]}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="NETWORK:BATCH,...; all if not given")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes minutes")
    parser.add_argument("--autotune", action="store_true", help="torch.compile in mode max-autotune")
    parser.add_argument("--profile", action="store_true", help="time every step of the engine")
    parser.add_argument("--float32-export", action="store_true", help="export float32 (then: --build-options=--fp16)")
    parser.add_argument("--build-options", default="", help="more options for tenfold build")
    parser.add_argument("--opt-level", type=int, default=3)
    parser.add_argument("--tenfold", default=str(FOLDER / "build/release/bin/tenfold"))
    parser.add_argument("--library", default=None)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("/tmp/tenfold_gpu_bench"))
    parser.add_argument("--out", default="")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    lib = tenfold_c.library(args.library)
    wanted = [w.split(":") for w in args.only.split(",") if w]
    wanted = [(n, int(b)) for n, b in wanted] or [(n, b) for n, v in models.NETWORKS.items() for b in v[3]]
    if not args.only:
        wanted.append(("resnet50_int8", 256))
    results = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "command": " ".join(sys.argv),
               "date": time.strftime("%Y-%m-%d"), "results": []}
    for name, batch in wanted:
        try:
            result = measure_int8(args, lib, batch) if name == "resnet50_int8" else measure(args, lib, name, batch)
        except Exception as failure:  # the others still run
            result = {"network": name, "batch": batch, "error": f"{type(failure).__name__}: {failure}"}
        results["results"].append(result)
        print(report(result), flush=True)
        if args.profile and "error" not in result:
            print(top_steps(result, 14), flush=True)
        torch.cuda.empty_cache()
        if args.out:
            pathlib.Path(args.out).write_text(json.dumps(results, indent=1) + "\n")
    return 1 if any("error" in r for r in results["results"]) else 0


if __name__ == "__main__":
    sys.exit(main())
