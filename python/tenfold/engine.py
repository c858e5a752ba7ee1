"""Engines: load, run, look inside."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from typing import Any

from tenfold import _core


@dataclass(frozen=True)
class ProfiledStep:
    """What one step of an engine takes; times are medians over the runs of a profile."""

    name: str
    #: the kernel
    tactic: str
    op_type: str
    #: names of the model's nodes that it computes
    origins: tuple[str, ...]
    #: microseconds
    duration_us: float
    #: arithmetic operations a run (a multiply-add is 2); 0 if it only moves data
    flops: float
    #: bytes that it must read and write at least
    bytes: float


@dataclass(frozen=True)
class Profile:
    """What the steps of an engine take, from :meth:`Engine.profile`. As text it is a table, slowest step first."""

    steps: tuple[ProfiledStep, ...]
    runs: int

    @property
    def total_us(self) -> float:
        """Microseconds that all steps take together."""
        return sum(step.duration_us for step in self.steps)

    def __str__(self) -> str:
        lines = [f"{self.total_us:.1f} us in {len(self.steps)} steps, medians of {self.runs} runs"]
        total = self.total_us or 1.0
        for step in sorted(self.steps, key=lambda step: -step.duration_us):
            rate = f"{step.flops / step.duration_us / 1e3:8.1f} GFLOP/s" if step.duration_us > 0 else ""
            lines.append(f"{step.duration_us:10.1f} us {100 * step.duration_us / total:5.1f} % {rate}  {step.op_type:20} "
                         f"{step.tactic:28} {step.name}")
        return "\n".join(lines)


class Engine:
    """A compiled network, ready to run. Made by :func:`tenfold.compile` or :meth:`Engine.load`.

    It may be used by several threads at once: each call runs in a context of its own, which is kept for later calls.
    """

    __slots__ = ("_core", "_call")

    def __init__(self, core: _core.Engine):
        self._core = core
        self._call = core.call

    @classmethod
    def load(
        cls,
        source: str | os.PathLike | bytes,
        *,
        verify: bool = True,
        threads: int = 0,
        device: str = "",
        portable: bool = False,
    ) -> Engine:
        """Load an engine from a file or from bytes, and make the memory and threads that a call needs.

        :param source: path of an engine file, which is mapped, or its bytes, which are copied.
        :param verify: check the hash of every section first.
        :param threads: threads to run with; 0: as many as the engine was built for, at most those of this process.
        :param device: where to run an engine for a GPU: "cuda:1"; empty: on the first one that it fits.
        :param portable: if the engine was built for another processor, run the model that ``compile(portable=True)``
            put beside it, slowly, instead of failing.
        :raises tenfold.Error: ``code`` is ``incompatible_engine`` for a file that is damaged, or was made by another
            version or for another processor, ``io_failure`` for one that cannot be read.
        """
        core = _core.Engine.load(source, verify=verify, num_threads=threads, portable=portable, device=device)
        core.prepare()
        return cls(core)

    def save(self, path: str | os.PathLike) -> None:
        """Write the engine to a file, which holds either what it held before or the whole engine.

        :raises tenfold.Error: ``code`` is ``io_failure``.
        """
        self._core.save(path)

    def serialize(self) -> bytes:
        """The bytes of the engine file."""
        return self._core.serialize()

    def __call__(self, *inputs: Any, out: Any = None) -> Any:
        """Run once.

        Arrays are NumPy arrays or tensors of any library that speaks the buffer protocol or DLPack (PyTorch, JAX, CuPy),
        in the host's memory, of exactly the input's dtype. They are read where they lie; one whose elements do not lie
        one after the other is copied first. Results are new NumPy arrays, which ``torch.from_dlpack`` and the like take
        over without a copy. Other Python threads go on meanwhile. The profile is chosen by the shapes.

        :param inputs: one array for each input, in the order of :attr:`inputs`; or one dict of arrays by name.
        :param out: arrays to write the results to, without a copy: one array, a tuple or list in the order of
            :attr:`outputs` (None: make a new one), or a dict by name.
        :returns: what goes in by position comes out by position: an array, or a tuple if the engine has several outputs.
            A dict of inputs gives a dict of outputs.
        :raises tenfold.Error: ``code`` is ``invalid_argument`` for an array of another dtype, a shape that no profile
            accepts, a missing or unknown name.
        """
        return self._call(inputs, out)

    @property
    def inputs(self) -> tuple[_core.TensorInfo, ...]:
        """Name, dtype and shape of each input."""
        return tuple(self._core.inputs)

    @property
    def outputs(self) -> tuple[_core.TensorInfo, ...]:
        """Name, dtype and shape of each output."""
        return tuple(self._core.outputs)

    @property
    def profiles(self) -> tuple[dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]], ...]:
        """The shapes that are accepted: for each profile (min, opt, max) by input name."""
        names = [info.name for info in self._core.inputs]
        return tuple(
            {name: (r.min, r.opt, r.max) for name, r in zip(names, self._core.profile(i))}
            for i in range(self._core.num_profiles)
        )

    @property
    def metadata(self) -> dict[str, str]:
        """The model's own key-value pairs."""
        return dict(self._core.metadata)

    def make_context(self, profile: int = 0) -> _core.Context:
        """A place to run with memory of its own, for one thread at a time, when a call's convenience is not wanted.

        Inputs and outputs are bound once and stay: ``context.set_input(name, array)``, ``context.run()``,
        ``context.output(name)``.

        :param profile: index into :attr:`profiles`.
        """
        return self._core.make_context(profile)

    def profile(self, *inputs: Any, runs: int = 20) -> Profile:
        """Time each step.

        :param inputs: as for a call; without any, zeros at the best shape of the first profile.
        :param runs: how often it runs; times are medians, in microseconds.
        """
        if runs < 1:
            error = _core.Error(f"runs is {runs}; at least one is needed")
            error.code = "invalid_argument"
            raise error
        context = self._context_for(inputs)
        context.warm_up()
        context.set_profiling(True)
        records = []
        for _ in range(runs):
            if inputs:
                context.run()
            else:
                context.warm_up()
            records.append(context.step_times())
        steps = []
        for times in zip(*records):
            first = times[0]
            steps.append(
                ProfiledStep(
                    first.name,
                    first.tactic,
                    first.op_type,
                    tuple(first.origins),
                    statistics.median(time.duration_us for time in times),
                    first.flops,
                    first.bytes,
                )
            )
        return Profile(tuple(steps), runs)

    def inspect(self) -> dict[str, Any]:
        """What is in the engine and why: inputs, outputs, profiles, memory, where it comes from, and for each step the
        model's nodes that it computes, its kernel, and the kernels that were not chosen with their times and reasons.

        :returns: dicts, lists, texts and numbers only, so that ``json.dumps`` takes it. Times are microseconds.
        """
        core = self._core
        info = core.info

        def tensors(infos: Any) -> list[dict[str, Any]]:
            return [{"name": i.name, "dtype": i.dtype, "shape": list(i.shape)} for i in infos]

        return {
            "inputs": tensors(core.inputs),
            "outputs": tensors(core.outputs),
            "profiles": [
                {
                    "inputs": {name: {"min": list(r[0]), "opt": list(r[1]), "max": list(r[2])} for name, r in p.items()},
                    "activation_bytes": core.arena_bytes(i),
                }
                for i, p in enumerate(self.profiles)
            ],
            "weight_bytes": core.weight_bytes,
            "backend": info.backend,
            "target": info.target,
            "threads": info.num_threads,
            "is_portable": info.is_portable,
            "model": {
                "name": info.model_name,
                "producer": info.model_producer,
                "xxh3_128": info.model_hash,
                "nodes": info.model_nodes,
            },
            "options": info.options,
            "passes": list(info.passes),
            "metadata": self.metadata,
            "steps": [
                {
                    "name": step.name,
                    "op_type": step.op_type,
                    "attributes": step.attributes,
                    "origins": list(step.origins),
                    "inputs": tensors(step.inputs),
                    "outputs": tensors(step.outputs),
                    "tactics": list(step.tactics),
                    "workspace_bytes": list(step.workspace_bytes),
                    "candidates": [
                        {
                            "profile": c.profile,
                            "tactic": c.tactic,
                            "parameters": list(c.parameters),
                            "refusal": c.refusal,
                            "time_us": c.time_us,
                            "chosen": c.chosen,
                        }
                        for c in step.candidates
                    ],
                }
                for step in core.steps()
            ],
        }

    def __repr__(self) -> str:
        def text(infos: Any) -> str:
            return ", ".join(f"{i.name}: {i.dtype}[{', '.join(map(str, i.shape))}]" for i in infos)

        return f"Engine({text(self._core.inputs)} -> {text(self._core.outputs)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Engine.load, (self.serialize(),)

    def _context_for(self, inputs: tuple[Any, ...]) -> _core.Context:
        """A context with these inputs set, in the first profile that accepts them."""
        if not inputs:
            return self._core.make_context(0)
        self(*inputs)  # says precisely what is wrong with them
        given = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], dict) else None
        names = [info.name for info in self._core.inputs]
        for profile in range(self._core.num_profiles):
            context = self._core.make_context(profile)
            try:
                for i, name in enumerate(names):
                    array = given[name] if given is not None else inputs[i]
                    context.set_input(name, _contiguous(array))
            except _core.Error:
                if profile + 1 == self._core.num_profiles:
                    raise
                continue
            return context
        raise AssertionError("an engine has at least one profile")


def _contiguous(array: Any) -> Any:
    if hasattr(array, "contiguous"):
        return array.contiguous()
    import numpy

    return numpy.require(array, requirements="CA") if isinstance(array, numpy.ndarray) else array
