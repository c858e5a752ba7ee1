"""Which inputs of a layer decide shapes by their values."""

from .enums import LayerType

# By operator of ONNX, and by type of a layer made by hand: positions of such inputs.
_BY_OPERATOR = {
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
    "Slice": (1, 2, 3, 4),
    "Pad": (1,),
    "Resize": (2, 3),
    "Upsample": (1,),
    "TopK": (1,),
    "OneHot": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "Split": (1,),
}
_BY_TYPE = {
    LayerType.SHUFFLE: (1,),
    LayerType.SLICE: (1, 2, 3),
    LayerType.RESIZE: (1,),
    LayerType.FILL: (0,),
    LayerType.TOPK: (1,),
    LayerType.ONE_HOT: (2,),
    LayerType.SQUEEZE: (1,),
    LayerType.UNSQUEEZE: (1,),
}


def shape_operands(layer):
    if layer._node is not None:
        positions = _BY_OPERATOR.get(layer._node.op_type, ())
    else:
        positions = _BY_TYPE.get(layer._layer_type, ())
    operands = layer._operands()
    return [operands[i] for i in positions if i < len(operands) and operands[i] is not None]
