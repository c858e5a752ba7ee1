#!/usr/bin/env python3
"""Markdown from a result of run_all.py:  bench/gpu/table.py RESULT.json > RESULT.md"""
import json
import sys

# Milliseconds that the device's arithmetic, or its memory, needs at least (H100: 989 TFLOP/s float16, 3.35 TB/s).
FLOORS = {("resnet50", 1): 0.02, ("resnet50", 128): 1.4, ("bert_base", 1): 0.057, ("bert_base", 32): 1.0,
          ("sd15_unet", 2): 2.1, ("sd15_unet", 8): 8.6}


def main():
    data = json.load(open(sys.argv[1]))
    print(f"# {data['device']}, float16, {data['date']}\n")
    print(f"PyTorch {data['torch']}, random weights; Tenfold {data.get('commit', '')}. Command: `{data['command']}`. Medians of")
    print("15 rounds in which all take turns, events on the device; torch.compile runs as a CUDA graph. Error: relative, by norm,")
    print("against PyTorch in float32 with the same float16 weights and inputs. Floor: what the device's peaks allow.\n")
    print("| network | batch | Tenfold ms | eager ms | torch.compile ms | over eager | over compile | floor ms | error | eager's error | build s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for r in data["results"]:
        if "error" in r:
            print(f"| {r['network']} | {r['batch']} | {r['error'][:80]} |")
            continue
        if "images_per_s" in r:
            print(f"| {r['network']} | {r['batch']} | **{r['times']['tenfold']['ms']:.3f}** ({r['images_per_s']:.0f} images/s) | "
                  f"- | - | - | - | - | {r['relative_error']['tenfold']:.1e} | - | {r['seconds']['build_s']:.0f} |")
            continue
        t = {k: v["ms"] for k, v in r["times"].items()}
        compiled = t.get("torch_compile")
        shown = f"{compiled:.3f}" if compiled else "-"
        over = f"{compiled / t['tenfold']:.2f}" if compiled else "-"
        floor = FLOORS.get((r["network"], r["batch"]))
        e = r["relative_error"]
        print(f"| {r['network']} | {r['batch']} | **{t['tenfold']:.3f}** | {t['eager']:.3f} | "
              f"{shown} | {t['eager'] / t['tenfold']:.2f} | "
              f"{over} | {floor or '-'} | {e['tenfold']:.1e} | "
              f"{e['pytorch_fp16']:.1e} | {r['seconds']['build_s']:.0f} |")
    if data.get("note"):
        print(f"\n{data['note']}")
    for r in data["results"]:
        groups = {}
        for s in r.get("steps", []):
            g = groups.setdefault((s["op_type"], s["tactic"]), [0, 0.0, 0.0, 0.0])
            g[0] += 1
            g[1] += s["duration_us"]
            g[2] += s["flops"]
            g[3] += s["bytes"]
        if not groups:
            continue
        print(f"\n## {r['network']}, batch {r['batch']}: kernel families\n")
        print("Each step alone, in replays of a recording; operands may lie in the cache.\n")
        print("| operator | tactic | steps | us | TFLOP/s | GB/s |\n|---|---|---|---|---|---|")
        for (op, tactic), (n, us, flops, size) in sorted(groups.items(), key=lambda g: -g[1][1]):
            print(f"| {op} | {tactic} | {n} | {us:.1f} | {flops / us * 1e-6:.1f} | {size / us * 1e-3:.0f} |")


if __name__ == "__main__":
    main()
