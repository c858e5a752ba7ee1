"""Rows as a table (Markdown) and as a picture (SVG)."""

import statistics

from runtimes import PEERS, RUNTIMES, TITLES


def groups(rows):
    """(threads, batch) -> ratios."""
    found = {}
    for row in rows:
        if row.get("ratio", float("nan")) == row.get("ratio"):
            found.setdefault((row["threads"], row["batch"]), []).append(row["ratio"])
    return dict(sorted(found.items()))


def summary_of(ratios):
    return f"geometric mean {statistics.geometric_mean(ratios):.2f}, smallest {min(ratios):.2f}, largest {max(ratios):.2f}, {sum(x < 1 for x in ratios)} of {len(ratios)} below 1"


def table(header, rows):
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *("| " + " | ".join(row) + " |" for row in rows)]


def _cells(row, key, text):
    return [text(entry[key]) if key in (entry := row["runtimes"].get(name, {})) else "-" for name in RUNTIMES]


def time_text(ms):
    """Two decimals, or two digits that count."""
    return f"{ms:.2f}" if ms >= 0.1 else f"{ms:.2g}"


def _medians(row):
    cells = _cells(row, "median_ms", time_text)
    marks = ["" if row["runtimes"].get(name, {}).get("answer_is_right", True) else " !" for name in RUNTIMES]
    return [cell + mark for cell, mark in zip(cells, marks)]


def _ratio(row):
    return f"{row['ratio']:.2f}" + (f" ± {row['ratio'] * row['ratio_error']:.2f}" if "ratio_error" in row else "") + (" *" if row.get("tries", 1) > 1 else "")


def _distances(row, wanted):
    return [" / ".join(f"{row['runtimes'].get(name, {}).get('distance', float('nan')):.0e}" for name in RUNTIMES)] if wanted else []


def _spread(row):
    entry = row["runtimes"]["tenfold"]
    low, high = entry["quartile_ms"]
    return f"{100 * (high - low) / entry['median_ms']:.0f} %"


def _build(row):
    cold = f"{row['build_seconds']:.1f}" if "build_seconds" in row else "-"
    return f"{cold} ({row['build_with_cache_seconds']:.1f})"


def _floor(row):
    if "roofline" not in row:
        return ["-", "-", "-"]
    line, median = row["roofline"], row["runtimes"]["tenfold"]["median_ms"]
    return [f"{1e-6 * line['flops'] / median / line['peak_gflops'] * 100:.0f} %" if line["peak_gflops"] else "-", time_text(line["floor_ms"]), f"{100 * line['floor_ms'] / median:.0f} %"]


def markdown(report):
    rows = report["rows"]
    measured = [row for row in rows if "runtimes" in row]
    lines = ["# Tenfold beside " + ", ".join(f"{name} {version}" for name, version in report["versions"].items()), "",
             f"{report['device']}; {report['host']}. Command: `{report['command']}`. Commits: {', '.join(sorted({row['commit'] for row in rows}))}; "
             f"{min(row['date'] for row in rows)} to {max(row['date'] for row in rows)}.", "",
             "Medians in milliseconds over rounds in which the runtimes take turns; *ratio* is the faster one of the others over Tenfold (above 1: Tenfold is faster): with ±, its standard error, the "
             "median of the rounds' ratios, else the ratio of the medians; *spread* is the distance of the quartiles of Tenfold's rounds. *Of peak*: the model's operations over the time, against the multiply-adds that registers allow on as many threads. *Floor*: the sum "
             "over all steps of the longer one of operations at that peak and bytes at the speed at which as much memory as the engine has can be read; an algorithm that needs fewer operations "
             "(Winograd) can go below. `!` marks an answer outside the tolerance, `*` a row that was disturbed and measured again, of which the calmer one counts. bench/runtimes.py states every runtime's settings.", ""]
    if report.get("bf16"):
        lines += ["bfloat16 was allowed to Tenfold and OpenVINO; ONNX Runtime computes in float32. *Distance*: the largest difference from ONNX Runtime's float32 answer over the largest output.", ""]
    if report.get("note"):
        lines += [report["note"], ""]
    for (threads, batch), ratios in groups(rows).items():
        lines.append(f"- {threads} thread{'s' if threads > 1 else ''}, batch {batch}: {summary_of(ratios)}")
    for (threads, batch) in sorted({(row["threads"], row["batch"]) for row in rows}):
        chosen = [row for row in measured if (row["threads"], row["batch"]) == (threads, batch)]
        lines += ["", f"## {threads} thread{'s' if threads > 1 else ''}, batch {batch}", ""]
        distance = ["distance Tenfold / ORT / OV"] if report.get("bf16") else []
        lines += table(["model", *(TITLES[name] for name in RUNTIMES), "ratio", *distance, "spread", "of peak", "floor ms", "of floor", "build s (cached)", "load Tenfold / ORT / OV", "first run", "memory MiB", "nodes -> steps"],
                       [[row["model"], *_medians(row), _ratio(row), *_distances(row, distance), _spread(row), *_floor(row), _build(row), " / ".join(_cells(row, "load_ms", "{:.0f}".format)),
                         " / ".join(_cells(row, "first_run_ms", "{:.1f}".format)), " / ".join(_cells(row, "memory_bytes", lambda n: f"{n * 2.0**-20:.0f}")), f"{row['nodes']} -> {row['steps']}"] for row in chosen])
        for row in rows:
            if (row["threads"], row["batch"]) == (threads, batch):
                if "problem" in row:
                    lines.append(f"\n{row['model']}: not measured, {row['problem'].splitlines()[0][:200]}")
                for name, entry in row.get("runtimes", {}).items():
                    if "problem" in entry:
                        lines.append(f"\n{row['model']}: {TITLES[name]} cannot: {entry['problem'][:160]}")
    return "\n".join(lines) + "\n"


def layers(report):
    """The operators and steps furthest above their floors, of every model: where time is left."""
    lines = ["# Where time is left: steps above their floors", "",
             f"{report['device']}; {report['host']}. Of each measured model the steps, summed by operator and tactic, that take longest beyond their floors; see the main table for what a floor is.", ""]
    for row in report["rows"]:
        if "roofline" not in row:
            continue
        operators = row["roofline"]["operators"]
        total = sum(entry["us"] for entry in operators) or 1.0
        worst = sorted(operators, key=lambda entry: entry["floor_us"] - entry["us"])[:6]
        lines += [f"## {row['model']}, {row['threads']} threads, batch {row['batch']}", "",
                  f"peak {row['roofline']['peak_gflops']:.0f} GFLOP/s, {row['roofline']['read_gigabytes_per_second']:.0f} GB/s", ""]
        lines += table(["operator", "tactic", "steps", "us", "floor us", "of floor", "share of the model"],
                       [[entry["op"], entry["tactic"], str(entry["steps"]), f"{entry['us']:.0f}", f"{entry['floor_us']:.0f}", f"{100 * entry['floor_us'] / entry['us']:.0f} %" if entry["us"] else "-",
                         f"{100 * entry['us'] / total:.0f} %"] for entry in worst])
        slowest = row["roofline"]["slowest_steps"][:3]
        lines += ["", "Single steps: " + "; ".join(f"`{step['nodes']}` {step['us']:.0f} us, floor {step['floor_us']:.0f}" for step in slowest)]
        lines.append("")
    return "\n".join(lines)


def plot(report, path):
    """Ratios as dots, one row a model, one colour a number of threads and batch."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "tenfold"  # the same rows give the same file
    from matplotlib import pyplot

    rows = [row for row in report["rows"] if row.get("ratio", 0) == row.get("ratio") and "ratio" in row]
    keys = sorted({(row["threads"], row["batch"]) for row in rows})
    best = {}
    for row in rows:
        best.setdefault(row["model"], []).append(row["ratio"])
    models = sorted(best, key=lambda name: statistics.geometric_mean(best[name]))
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.22 * len(models)), layout="constrained")
    for index, (threads, batch) in enumerate(keys):
        chosen = [row for row in rows if (row["threads"], row["batch"]) == (threads, batch)]
        axes.scatter([row["ratio"] for row in chosen], [models.index(row["model"]) for row in chosen], s=26, marker="os^D"[index % 4], alpha=0.8,
                     label=f"{threads} thread{'s' if threads > 1 else ''}, batch {batch}: geometric mean {statistics.geometric_mean([row['ratio'] for row in chosen]):.2f}")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    ticks = [0.5, 0.75, 1, 1.5, 2, 3, 4]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(models)), models, fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    axes.set_xlabel(f"time of the faster one of {' and '.join(TITLES[name] for name in PEERS)} / time of Tenfold (right of 1: Tenfold is faster)")
    axes.set_title(report["device"], fontsize=9)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
