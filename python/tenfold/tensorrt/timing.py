"""The text of a timing cache: {"tenfold_timing_cache": 1, "entries": {problem: {candidate: microseconds}}}."""

import json

from .errors import argument_error

_FORMAT = 1


def _entries(text):
    if not text:
        return {}
    try:
        cache = json.loads(text)
        if cache["tenfold_timing_cache"] != _FORMAT or not isinstance(cache["entries"], dict):
            raise ValueError("another format")
        return cache["entries"]
    except (ValueError, KeyError, TypeError) as error:
        raise argument_error(
            f"this is no timing cache of Tenfold, format {_FORMAT}; pass b'' for an empty one"
        ) from error


def check(text):
    _entries(text)


def merge(first, second):
    entries = _entries(first)
    for problem, candidates in _entries(second).items():
        entries[problem] = {**candidates, **entries.get(problem, {})}
    if not entries:
        return b""
    return (json.dumps({"entries": entries, "tenfold_timing_cache": _FORMAT}, indent=1, sort_keys=True) + "\n").encode()
