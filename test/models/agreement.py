"""When an engine's answer counts as equal to ONNX Runtime's.

Both compute in float32 with different orders of summation, so both carry rounding errors of the same kind:

* A chain of n roundings of random sign drifts by about eps * sqrt(n) relative to the largest value on the way. With 64
  roundings a node (sums are blocked, so their length enters by its root) and a factor 8 for the spread between elements
  that gives ``floor = 8 eps sqrt(64 nodes)``, relative to the output's largest value.
* Some networks amplify rounding (a softmax over large scores, a norm over small ones, quantised layers where a value on
  the border of two steps falls to either side). How much is measured, not guessed: ONNX Runtime itself runs on the same
  input changed by one part in 2^22, with other changes each time. That is about what one node's own rounding does to its
  result; n nodes of random sign move the answer by sqrt(n) times as much. So where ONNX Runtime's own answers move, ours
  may be as far away as sqrt(n) times, but at least four times, the largest move of that output. (pose_landmark_full
  amplifies most: against double precision ONNX Runtime's own heatmaps are off by up to 1.6 of 1300, and ours by 2.0.)
  Quantised networks round to steps that are coarser than any drift: there it is four times.

Probabilities come out of functions that are approximated to eps of their range (ONNX Runtime's Sigmoid is a rational
function on [-18, 18]), so small ones have few good digits: outputs within [0, 1] may differ by eps besides. In models
with quantised layers and pixels as inputs the spread is measured with one pixel in 256 changed by 1.

Integers and bools must be equal, except where the model is quantised: its integer outputs may be off by the same spread,
and by one step. Models with quantised layers are compared with ONNX Runtime's float evaluation of them (no graph
optimisation): its own INT8 kernels saturate 16-bit sums on processors without VNNI, which is no rounding error.
"""

import numpy

EPSILON = float(numpy.finfo(numpy.float32).eps)


class Reference:
    """ONNX Runtime on one model."""

    def __init__(self, path, threads=0):
        import onnx
        import onnxruntime

        graph = onnx.load(str(path), load_external_data=False).graph
        self.nodes = len(graph.node)
        self.quantised = any("QuantizeLinear" in node.op_type or "Integer" in node.op_type for node in graph.node)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        if self.quantised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]

    def run(self, inputs):
        return dict(zip(self.names, self.session.run(self.names, inputs)))

    def answers(self, inputs, generator, variations=2):
        """:returns: the answer, and how far each output moves when the input does by its last bits."""
        answer = self.run(inputs)
        moves = {name: 0.0 for name in answer}
        for _ in range(variations):
            changed = {name: _nudge(value, generator, self.quantised) for name, value in inputs.items()}
            for name, other in self.run(changed).items():
                if other.shape == answer[name].shape:
                    moves[name] = max(moves[name], _largest_distance(answer[name], other))
        return answer, moves


def _nudge(value, generator, quantised):
    if quantised and value.dtype == numpy.uint8:
        # Pixels have no last bits below 1: one in 256 changes by 1.
        step = generator.choice([-1, 1], value.shape) * (generator.random(value.shape) < 1 / 256)
        return numpy.clip(value.astype(int) + step, 0, 255).astype(numpy.uint8)
    if value.dtype.kind != "f":
        return value
    return (value * (1 + generator.choice([-1.0, 1.0], value.shape) * 2.0**-22)).astype(value.dtype)


def _largest_distance(a, b):
    if a.size == 0 or a.dtype.kind not in "fiu":
        return 0.0
    distance = numpy.abs(a.astype(numpy.float64) - b.astype(numpy.float64))
    return float(distance[numpy.isfinite(distance)].max(initial=0.0))


def difference(actual, expected, move, reference):
    """:returns: (is equal, largest distance relative to the largest expected value, a sentence if it is not equal).

    For probabilities, outputs within [0, 1], the distance is not divided: they are relative to 1.
    """
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return False, float("inf"), f"got {actual.dtype}{list(actual.shape)}, expected {expected.dtype}{list(expected.shape)}"
    if expected.size == 0:
        return True, 0.0, ""
    a, e = actual.astype(numpy.float64), expected.astype(numpy.float64)
    finite = numpy.isfinite(e)
    if not (numpy.array_equal(numpy.isnan(a), numpy.isnan(e)) and numpy.array_equal(a[~finite & ~numpy.isnan(e)], e[~finite & ~numpy.isnan(e)])):
        return False, float("inf"), "infinities or NaN where the other has numbers"
    distance = numpy.abs(numpy.where(finite, a - e, 0.0))
    scale = float(numpy.abs(numpy.where(finite, e, 0.0)).max())
    largest = float(distance.max())
    allowed, unit = 0.0, scale
    if expected.dtype.kind == "f":
        drift = 4 if reference.quantised else max(4, reference.nodes**0.5)
        allowed = 8 * EPSILON * (64 * reference.nodes) ** 0.5 * scale + drift * move
        if finite.all() and 0 <= e.min() and e.max() <= 1:
            allowed += EPSILON
            unit = 1.0
    elif reference.quantised and expected.dtype.kind in "iu":
        allowed = 1 + 4 * move
    relative = largest / unit if unit > 0 else largest
    if largest <= allowed:
        return True, relative, ""
    index = numpy.unravel_index(int(distance.argmax()), distance.shape)
    return False, relative, (f"{int((distance > allowed).sum())} of {distance.size} elements differ; largest at {list(map(int, index))}: got {a[index]:.9g}, "
                             f"expected {e[index]:.9g}; allowed {allowed:.3g}, largest value {scale:.3g}")
