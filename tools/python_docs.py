#!/usr/bin/env python3
"""Writes docs/python.md from the docstrings of the package `tenfold`.

Usage: tools/python_docs.py [--check]. With --check nothing is written: exits with 1 if the page is not up to date.
"""
import inspect
import pathlib
import re
import sys

import tenfold
from tenfold import _core

PAGE = pathlib.Path(__file__).resolve().parent.parent / "docs" / "python.md"
# In the order of the page: heading, object, members of a class.
FUNCTIONS = [tenfold.compile]
CLASSES = [
    (tenfold.Engine, ["load", "save", "serialize", "__call__", "inputs", "outputs", "profiles", "metadata",
                      "make_context", "profile", "inspect"]),
    (_core.Context, ["set_input", "set_output", "run", "enqueue", "warm_up", "output", "output_view", "output_dims", "set_profile",
                     "set_profiling", "step_times", "set_observer"]),
    (_core.TensorInfo, ["name", "dtype", "shape", "dims"]),
    (tenfold.Profile, ["steps", "runs", "total_us"]),
    (tenfold.ProfiledStep, []),
]


def body(text):
    """A docstring as Markdown: field lists become lists, roles become code."""
    text = inspect.cleandoc(text or "")
    text = re.sub(r":(?:func|meth|attr|class):`~?([^`]*)`", r"`\1`", text)
    text = text.replace("``", "`")
    lines, fields = [], False
    for line in text.splitlines():
        field = re.match(r":(param|returns|raises)\s*([\w.]*):\s*(.*)", line)
        if field:
            kind, name, rest = field.groups()
            label = {"param": f"`{name}`", "returns": "returns", "raises": f"raises `{name}`"}[kind]
            if not fields and lines and lines[-1]:
                lines.append("")
            fields = True
            lines.append(f"- **{label}**: {rest}" if kind != "param" else f"- {label}: {rest}")
        elif fields and line.startswith("    "):
            lines.append("  " + line.strip())
        else:
            lines.append(line)
    return "\n".join(lines).strip()


def signature(name, function):
    try:
        text = str(inspect.signature(function))
    except (ValueError, TypeError):
        return name
    # Annotations are texts.
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text).replace("_core.", "").replace("Any", "object")
    parts = f"{name}{text}"
    return parts if len(parts) < 110 else re.sub(r", (?=[\w*]+(:|,))", ",\n    ", parts)


def member(cls, name):
    raw = inspect.getattr_static(cls, name, None)
    title = "engine" if cls is tenfold.Engine else cls.__name__.lower()
    if isinstance(raw, (staticmethod, classmethod)):
        function = getattr(cls, name)
        text = signature(f"{cls.__name__}.{name}", function)
        return f"```python\n{text}\n```\n\n{body(function.__doc__)}"
    if callable(raw):
        if cls.__module__.endswith("_core"):
            # nanobind writes the signatures as the first lines of a docstring.
            doc = raw.__doc__ or ""
            signatures = [line for line in doc.splitlines() if re.match(rf"{name}\(", line)]
            rest = "\n".join(line for line in doc.splitlines() if line not in signatures).strip()
            rest = re.sub(r"\n*Overloaded function\.\n*", "\n", rest)
            rest = re.sub(r"^\d+\. ``.*``\n*", "", rest, flags=re.MULTILINE)
            shown = [f"{title}.{re.sub(r'self(, )?', '', line, count=1)}" for line in signatures]
            if not shown:
                shown = [f"{title}.{re.sub(r'self(, )?', '', s, count=1)}" for s in re.findall(r"``(.*?)``", doc)]
            return "```python\n" + "\n".join(shown) + f"\n```\n\n{body(rest)}"
        text = signature(title if name == "__call__" else f"{title}.{name}", raw)
        text = re.sub(r"\(self(, )?", "(", text, count=1)
        return f"```python\n{text}\n```\n\n{body(raw.__doc__)}"
    doc = body(getattr(raw, "__doc__", "") or "") if not cls.__module__.endswith("_core") or raw is not None else ""
    return f"`{title}.{name}`\n\n{doc}" if doc else f"`{title}.{name}`"


def page():
    parts = [
        "# The Python package\n\n<!-- Written by tools/python_docs.py from the docstrings. Do not edit. -->\n",
        re.sub(r"\n\n((?:    .*\n|\n)+)",
               lambda m: "\n\n```python\n" + re.sub(r"^    ", "", m.group(1).strip("\n"), flags=re.M) + "\n```\n\n",
               body(tenfold.__doc__) + "\n").strip(),
        "See the [tutorial](tutorial.md) for a walk through all of it.",
    ]
    for function in FUNCTIONS:
        parts.append(f"## tenfold.{function.__name__}\n\n```python\n{signature('tenfold.' + function.__name__, function)}\n```")
        parts.append(body(function.__doc__))
    for cls, names in CLASSES:
        parts.append(f"## {cls.__name__}\n\n{body(cls.__doc__)}")
        parts += [member(cls, name) for name in names]
    parts.append(f"## tenfold.Error\n\n{body(tenfold.Error.__doc__)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def main():
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            print("docs/python.md is not up to date; run tools/python_docs.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
