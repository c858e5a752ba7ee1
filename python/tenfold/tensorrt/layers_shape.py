"""Layers that move, select or describe elements: shuffle, slice, concatenation, gather, resize, constants, casts."""

import numpy as np

from .enums import (
    DataType,
    FillOperation,
    GatherMode,
    InterpolationMode,
    ResizeCoordinateTransformation,
    ResizeRoundMode,
    ResizeSelector,
    SampleMode,
    ScatterMode,
)
from .errors import argument_error, unsupported
from .layer import Attribute, ILayer, layer_class, member
from .layers_math import _number, default_axis
from .values import Dims, Permutation, Weights, as_dims, as_int, as_weights, core_dtype, volume


def _input(low, index):
    return low.inputs[index] if len(low.inputs) > index else None


def _flag(value, what):
    return bool(value)


def _order(value, what):
    return value if isinstance(value, Permutation) else Permutation(value)


@layer_class("SHUFFLE")
class IShuffleLayer(ILayer):
    """Transpose, reshape, transpose; each of them only if it is set. Input 1, if set, gives the shape."""

    first_transpose = Attribute(_order, Permutation())
    second_transpose = Attribute(_order, Permutation())
    zero_is_placeholder = Attribute(_flag, True)

    @property
    def reshape_dims(self):
        return self._values.get("reshape_dims") or Dims(self._inputs[0].shape)

    @reshape_dims.setter
    def reshape_dims(self, value):
        self._set("reshape_dims", as_dims(value, f"layer '{self.name}': reshape_dims"))

    def _transposed(self, low, tensor, name):
        order = self._values.get(name)
        if order is None:
            return tensor
        rank = low.rank(tensor)
        axes = list(order)[:rank]
        if sorted(axes) != list(range(rank)):
            raise argument_error(f"layer '{self.name}': {name} {tuple(order)} is no order of the {rank} axes")
        return low.transpose(tensor, axes)

    def _lower(self, low):
        x = self._transposed(low, low.inputs[0], "first_transpose")
        allow_zero = int(not self.zero_is_placeholder)
        shape = _input(low, 1)
        if shape is not None:
            x = low.op("Reshape", [x, low.cast(shape, "int64")], allowzero=allow_zero)
        elif self._values.get("reshape_dims") is not None:
            x = low.op("Reshape", [x, low.ints(self._values["reshape_dims"])], allowzero=allow_zero)
        x = self._transposed(low, x, "second_transpose")
        return [low.op("Identity", [x]) if x == low.inputs[0] else x]


@layer_class("SLICE")
class ISliceLayer(ILayer):
    """`shape` elements from `start` on, every `stride`-th. Inputs 1, 2 and 3, if set, take the place of start, shape
    and stride; input 4 is the value that SampleMode.FILL fills with; input 5 are the axes, if not all."""

    start, shape, stride = Attribute(as_dims), Attribute(as_dims), Attribute(as_dims)
    axes = Attribute(as_dims)
    mode = Attribute(member(SampleMode), SampleMode.STRICT_BOUNDS)

    def _lower(self, low):
        x = low.inputs[0]
        axes = self._values.get("axes")
        if _input(low, 5) is not None:
            axes = low.known(low.inputs[5])
            if axes is None:
                raise unsupported(f"layer '{self.name}': axes that are computed at run time", "constant axes")
        axes = list(range(low.rank(x))) if axes is None else [low.axis(int(a), low.rank(x)) for a in axes]
        parts = [
            low.known(_input(low, i)) if _input(low, i) is not None else self._values.get(name)
            for i, name in ((1, "start"), (2, "shape"), (3, "stride"))
        ]
        if any(part is None for part in parts):
            return [self._lower_dynamic(low, x, axes)]
        start, size, stride = ([int(v) for v in part] for part in parts)
        if not len(start) == len(size) == len(stride) == len(axes):
            raise argument_error(
                f"layer '{self.name}': start, shape and stride need one number for each of {len(axes)} axes, "
                f"got {start}, {size} and {stride}"
            )
        if self.mode is SampleMode.STRICT_BOUNDS:
            return [self._strict(low, x, axes, start, size, stride)]
        return [self._beyond_bounds(low, x, axes, start, size, stride)]

    def _strict(self, low, x, axes, start, size, stride):
        dims, ends = low.dims(x), []
        for axis, first, count, step in zip(axes, start, size, stride):
            last = first + (count - 1) * step
            if count < 0 or step == 0 or first < 0 or (count > 0 and (last < 0 or 0 <= dims[axis] <= max(first, last))):
                raise argument_error(
                    f"layer '{self.name}': {count} elements from {first} in steps of {step} do not lie "
                    f"inside axis {axis} of size {dims[axis]}"
                )
            end = first + count * step
            ends.append(end if end >= 0 else np.iinfo(np.int64).min)  # -1 would mean the last element
        return low.op("Slice", [x, low.ints(start), low.ints(ends), low.ints(axes), low.ints(stride)])

    def _beyond_bounds(self, low, x, axes, start, size, stride):
        dims = low.static_dims(x, f"{self.mode!s}")
        inside = None
        for axis, first, count, step in zip(axes, start, size, stride):
            at, n = first + step * np.arange(count, dtype=np.int64), dims[axis]
            if n == 0:
                raise argument_error(f"layer '{self.name}': axis {axis} has no elements to take")
            if self.mode is SampleMode.WRAP:
                index = at % n
            elif self.mode is SampleMode.REFLECT:
                period = max(2 * (n - 1), 1)
                index = np.minimum(at % period, period - at % period) if n > 1 else np.zeros_like(at)
            else:
                index = np.clip(at, 0, n - 1)
            x = low.op("Gather", [x, low.const(index)], axis=axis)
            if self.mode is SampleMode.FILL and (index != at).any():
                mask = (index == at).reshape([-1] + [1] * (len(dims) - axis - 1))
                inside = mask if inside is None else np.logical_and(inside, mask)
        if inside is None:
            return x
        fill = _input(low, 4)
        return low.op("Where", [low.const(inside), x, low.like(0, x) if fill is None else low.cast(fill, low.dtype(x))])

    def _lower_dynamic(self, low, x, axes):
        if self.mode is not SampleMode.STRICT_BOUNDS:
            raise unsupported(
                f"layer '{self.name}': {self.mode!s} with positions that are computed at run time",
                "SampleMode.STRICT_BOUNDS, or constant start, shape and stride",
            )

        def part(index, name):
            tensor = _input(low, index)
            return low.cast(tensor, "int64") if tensor is not None else low.ints(self._values[name])

        start, size, stride = part(1, "start"), part(2, "shape"), part(3, "stride")
        steps = low.known(stride)
        if steps is None or (np.asarray(steps) <= 0).any():
            raise unsupported(
                f"layer '{self.name}': computed start or shape together with a stride that is not known to be positive",
                "a constant positive stride",
            )
        ends = low.op("Add", [start, low.op("Mul", [size, stride])])
        return low.op("Slice", [x, start, ends, low.ints(axes), stride])


@layer_class("CONCATENATION")
class IConcatenationLayer(ILayer):
    @property
    def axis(self):
        return self._values.get("axis", default_axis(len(self._inputs[0].shape)))

    @axis.setter
    def axis(self, value):
        self._set("axis", as_int(value, "axis"))

    def _lower(self, low):
        axis = self._values.get("axis", default_axis(low.rank(low.inputs[0])))
        return [low.op("Concat", low.inputs, axis=axis)]


@layer_class("GATHER")
class IGatherLayer(ILayer):
    axis = Attribute(as_int, 0)
    num_elementwise_dims = Attribute(as_int, 0)
    mode = Attribute(member(GatherMode), GatherMode.DEFAULT)

    def _lower(self, low):
        data, indices = low.inputs[:2]
        if self.mode is GatherMode.ELEMENT:
            return [low.op("GatherElements", [data, indices], axis=self.axis)]
        batch = self.num_elementwise_dims
        if self.mode is GatherMode.ND:
            return [low.op("GatherND", [data, low.cast(indices, "int64")], batch_dims=batch)]
        if batch == 0:
            return [low.op("Gather", [data, indices], axis=self.axis)]
        if low.axis(self.axis, low.rank(data)) != batch:
            raise unsupported(
                f"layer '{self.name}': num_elementwise_dims {batch} with axis {self.axis}",
                f"axis {batch}, or GatherMode.ND",
            )
        last = low.op("Unsqueeze", [low.cast(indices, "int64"), low.ints([-1])])
        return [low.op("GatherND", [data, last], batch_dims=batch)]


@layer_class("SCATTER")
class IScatterLayer(ILayer):
    axis = Attribute(as_int, 0)
    mode = Attribute(member(ScatterMode), ScatterMode.ELEMENT)

    def _lower(self, low):
        data, indices, updates = low.inputs[:3]
        if self.mode is ScatterMode.ND:
            return [low.op("ScatterND", [data, low.cast(indices, "int64"), updates])]
        return [low.op("ScatterElements", [data, indices, updates], axis=self.axis)]


@layer_class("SHAPE")
class IShapeLayer(ILayer):
    def _lower(self, low):
        from . import version

        shape = low.op("Shape", [low.inputs[0]])
        return [shape if version.MAJOR >= 10 else low.cast(shape, "int32")]


@layer_class("CONSTANT")
class IConstantLayer(ILayer):
    @property
    def shape(self):
        return self._values["shape"]

    @shape.setter
    def shape(self, value):
        self._set("shape", as_dims(value, f"layer '{self.name}': shape"))

    @property
    def weights(self):
        return self._values["weights"].flat()

    @weights.setter
    def weights(self, value):
        self._set("weights", as_weights(value, f"layer '{self.name}': weights") or Weights(value))

    def _lower(self, low):
        weights, shape = self._values["weights"], self.shape
        if weights.size != volume(shape):
            raise argument_error(
                f"layer '{self.name}': shape {shape} holds {volume(shape)} elements, got {weights.size} weights"
            )
        constant = low.const(weights.numpy().reshape(tuple(shape)))
        return [self._network._layer_weights(self, "constant", constant)]


@layer_class("IDENTITY")
class IIdentityLayer(ILayer):
    def _lower(self, low):
        return [low.op("Identity", [low.inputs[0]])]


@layer_class("CAST")
class ICastLayer(ILayer):
    to_type = Attribute(member(DataType), DataType.FLOAT)

    def _lower(self, low):
        to = core_dtype(self.to_type, f"layer '{self.name}': to_type")
        same = low.dtype(low.inputs[0]) == to
        return [low.op("Identity", [low.inputs[0]]) if same else low.cast(low.inputs[0], to)]


@layer_class("SELECT")
class ISelectLayer(ILayer):
    def _lower(self, low):
        return [low.op("Where", low.inputs[:3])]


@layer_class("RESIZE")
class IResizeLayer(ILayer):
    """To a shape, by scales, or to the shape that input 1 gives."""

    resize_mode = Attribute(member(InterpolationMode), InterpolationMode.NEAREST)
    coordinate_transformation = Attribute(
        member(ResizeCoordinateTransformation), ResizeCoordinateTransformation.ASYMMETRIC
    )
    selector_for_single_pixel = Attribute(member(ResizeSelector), ResizeSelector.FORMULA)
    nearest_rounding = Attribute(member(ResizeRoundMode), ResizeRoundMode.FLOOR)
    exclude_outside = Attribute(_flag, False)
    cubic_coeff = Attribute(_number, -0.75)

    @property
    def shape(self):
        return self._values.get("shape", Dims())

    @shape.setter
    def shape(self, value):
        self._values.pop("scales", None)
        self._set("shape", as_dims(value, f"layer '{self.name}': shape"))

    @property
    def scales(self):
        return list(self._values.get("scales", []))

    @scales.setter
    def scales(self, value):
        self._values.pop("shape", None)
        self._set("scales", [_number(v, "a scale") for v in value])

    def _lower(self, low):
        x, shape, scales = low.inputs[0], _input(low, 1), self._values.get("scales")
        sizes = None
        if shape is not None:
            sizes, scales = low.cast(shape, "int64"), None
        elif self._values.get("shape") is not None:
            sizes = low.ints(self._values["shape"])
        elif scales is None:
            raise argument_error(f"layer '{self.name}': set shape, scales, or input 1")
        transform = self.coordinate_transformation.name.lower()
        if transform == "half_pixel" and self.selector_for_single_pixel is ResizeSelector.UPPER:
            transform = "pytorch_half_pixel"  # the same, but the first pixel where only one is wanted
        rounding = {"HALF_UP": "round_prefer_ceil", "HALF_DOWN": "round_prefer_floor"}
        return [
            low.op(
                "Resize",
                [x, None, None if scales is None else low.const(scales, np.float32), sizes],
                mode=self.resize_mode.name.lower(),
                coordinate_transformation_mode=transform,
                nearest_mode=rounding.get(self.nearest_rounding.name, self.nearest_rounding.name.lower()),
                exclude_outside=int(self.exclude_outside),
                cubic_coeff_a=self.cubic_coeff,
            )
        ]


@layer_class("FILL")
class IFillLayer(ILayer):
    """Numbers in steps: alpha + sum of beta[i] * index[i]. Input 0, if set, gives the shape; inputs 1 and 2 alpha, beta."""

    shape = Attribute(as_dims)
    operation = Attribute(member(FillOperation), FillOperation.LINSPACE)
    to_type = Attribute(member(DataType), DataType.FLOAT)
    alpha = Attribute(lambda value, what: value if isinstance(value, int) else _number(value, what), 0)
    beta = Attribute(lambda value, what: value if isinstance(value, int) else _number(value, what), 1)

    def is_alpha_beta_int64(self):
        return isinstance(self.alpha, int) and isinstance(self.beta, int)

    def _lower(self, low):
        if self.operation is not FillOperation.LINSPACE:
            raise unsupported(
                f"layer '{self.name}': {self.operation!s}, as an engine gives the same result for the same input",
                "an input of the network for random numbers",
            )
        dtype = core_dtype(self.to_type, f"layer '{self.name}': to_type")
        shape = _input(low, 0)
        alpha = (
            _input(low, 1)
            if _input(low, 1) is not None
            else low.const(self.alpha, np.float64 if dtype.startswith("float") else np.int64)
        )
        alpha = low.cast(alpha, dtype)
        if shape is None:
            dims = list(self._values.get("shape") or [])
        else:
            dims = low.dims(shape) and [-1] * low.dims(shape)[0]
        sizes = (
            [low.const(np.int64(d)) for d in dims]
            if shape is None
            else [
                low.op("Gather", [low.cast(shape, "int64"), low.const(np.int64(i))], axis=0) for i in range(len(dims))
            ]
        )
        beta = _input(low, 2)
        if beta is None and len(dims) > 1:
            raise argument_error(
                f"layer '{self.name}': LINSPACE over {len(dims)} axes needs beta as input 2, one step for each"
            )
        total = alpha
        for i, size in enumerate(sizes):
            index = low.op("Range", [low.const(np.int64(0)), size, low.const(np.int64(1))])
            index = low.cast(low.reshape(index, [-1] + [1] * (len(dims) - i - 1)), dtype)
            if beta is None:
                step = low.cast(low.const(self.beta, np.float64 if dtype.startswith("float") else np.int64), dtype)
            else:
                flat = low.reshape(low.cast(beta, dtype), [-1])
                step = low.op("Gather", [flat, low.const(np.int64(i))], axis=0)
            total = low.op("Add", [total, low.op("Mul", [index, step])])
        return [total]


@layer_class("SQUEEZE")
class ISqueezeLayer(ILayer):
    def _lower(self, low):
        return [low.op("Squeeze", [low.inputs[0], low.cast(low.inputs[1], "int64")])]


@layer_class("UNSQUEEZE")
class IUnsqueezeLayer(ILayer):
    def _lower(self, low):
        return [low.op("Unsqueeze", [low.inputs[0], low.cast(low.inputs[1], "int64")])]


@layer_class("ONE_HOT")
class IOneHotLayer(ILayer):
    axis = Attribute(as_int, -1)

    def _lower(self, low):
        indices, values, depth = low.inputs[:3]
        return [low.op("OneHot", [indices, depth, values], axis=self.axis)]


@layer_class("NON_ZERO")
class INonZeroLayer(ILayer):
    indices_type = Attribute(member(DataType), DataType.INT32)

    def _lower(self, low):
        return [low.cast(low.op("NonZero", [low.inputs[0]]), core_dtype(self.indices_type, "indices_type"))]


@layer_class("REVERSE_SEQUENCE")
class IReverseSequenceLayer(ILayer):
    batch_axis, sequence_axis = Attribute(as_int, 1), Attribute(as_int, 0)

    def _lower(self, low):
        return [
            low.op(
                "ReverseSequence",
                [low.inputs[0], low.cast(low.inputs[1], "int64")],
                batch_axis=self.batch_axis,
                time_axis=self.sequence_axis,
            )
        ]
