"""The networks of the GPU benchmark as PyTorch modules with random weights, their inputs, and their ONNX files."""
import math

import torch
from torch import nn
import torch.nn.functional as F


# --- Stable Diffusion 1.5's UNet (Rombach et al. 2022, arXiv:2112.10752): the published configuration, written plainly


class ResBlock(nn.Module):
    def __init__(self, channels_in, channels_out, time_channels):
        super().__init__()
        self.norm1 = nn.GroupNorm(32, channels_in, eps=1e-5)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.time = nn.Linear(time_channels, channels_out)
        self.norm2 = nn.GroupNorm(32, channels_out, eps=1e-5)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else None

    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.skip is None else self.skip(x))


class Attention(nn.Module):
    def __init__(self, channels, context_channels, heads):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels, bias=False)
        self.k = nn.Linear(context_channels, channels, bias=False)
        self.v = nn.Linear(context_channels, channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.plain = False  # spell attention out, for the export

    def forward(self, x, context):
        batch, length, channels = x.shape
        size = channels // self.heads
        split = lambda t: t.view(batch, -1, self.heads, size).transpose(1, 2)
        q, k, v = split(self.q(x)), split(self.k(context)), split(self.v(context))
        if self.plain:
            y = torch.softmax(q @ k.transpose(-1, -2) * (1 / math.sqrt(size)), dim=-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(batch, length, channels))


class Transformer(nn.Module):
    def __init__(self, channels, context_channels, heads):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.self_attention = Attention(channels, channels, heads)
        self.cross_attention = Attention(channels, context_channels, heads)
        self.ff_in = nn.Linear(channels, 8 * channels)  # GEGLU: value and gate
        self.ff_out = nn.Linear(4 * channels, channels)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x, context):
        batch, channels, height, width = x.shape
        h = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        n = self.norm1(h)
        h = h + self.self_attention(n, n)
        h = h + self.cross_attention(self.norm2(h), context)
        value, gate = self.ff_in(self.norm3(h)).chunk(2, dim=-1)
        h = h + self.ff_out(value * F.gelu(gate))
        h = h.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return x + self.proj_out(h)


class UNet(nn.Module):
    def __init__(self, base=320, multipliers=(1, 2, 4, 4), blocks=2, attention=(True, True, True, False), heads=8,
                 context_channels=768):
        super().__init__()
        self.base = base
        time = 4 * base
        self.time = nn.Sequential(nn.Linear(base, time), nn.SiLU(), nn.Linear(time, time))
        self.conv_in = nn.Conv2d(4, base, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, channels = [base], base
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                block = nn.ModuleList([ResBlock(channels, base * multiplier, time)])
                channels = base * multiplier
                if attention[level]:
                    block.append(Transformer(channels, context_channels, heads))
                self.down.append(block)
                skips.append(channels)
            if level + 1 < len(multipliers):
                self.down.append(nn.ModuleList([nn.Conv2d(channels, channels, 3, stride=2, padding=1)]))
                skips.append(channels)
        self.middle = nn.ModuleList([ResBlock(channels, channels, time), Transformer(channels, context_channels, heads),
                                     ResBlock(channels, channels, time)])
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for i in range(blocks + 1):
                block = nn.ModuleList([ResBlock(channels + skips.pop(), base * multiplier, time)])
                channels = base * multiplier
                if attention[level]:
                    block.append(Transformer(channels, context_channels, heads))
                if level > 0 and i == blocks:
                    block.append(nn.Conv2d(channels, channels, 3, padding=1))  # after doubling the size
                self.up.append(block)
        self.norm_out = nn.GroupNorm(32, channels)
        self.conv_out = nn.Conv2d(channels, 4, 3, padding=1)

    def run(self, block, x, time, context):
        for layer in block:
            if isinstance(layer, ResBlock):
                x = layer(x, time)
            elif isinstance(layer, Transformer):
                x = layer(x, context)
            elif layer.stride == (2, 2):
                x = layer(x)
            else:
                x = layer(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x

    def forward(self, latents, timestep, context):
        half = self.base // 2
        frequencies = torch.exp(-math.log(10000.0) / half * torch.arange(half, device=latents.device).float())
        angles = timestep.float()[:, None] * frequencies[None]
        time = self.time(torch.cat([angles.cos(), angles.sin()], dim=-1).to(latents.dtype))
        x = self.conv_in(latents)
        skips = [x]
        for block in self.down:
            x = self.run(block, x, time, context)
            skips.append(x)
        x = self.run(self.middle, x, time, context)
        for block in self.up:
            x = self.run(block, torch.cat([x, skips.pop()], dim=1), time, context)
        return self.conv_out(F.silu(self.norm_out(x)))


class BertFeatures(nn.Module):
    """BERT-base (Devlin et al. 2018, arXiv:1810.04805) from token numbers to the last layer's features."""

    def __init__(self, plain):
        super().__init__()
        from transformers import BertConfig, BertModel

        self.bert = BertModel(BertConfig(attn_implementation="eager" if plain else "sdpa"), add_pooling_layer=False)

    def forward(self, tokens):
        return self.bert(tokens).last_hidden_state


def _resnet50(plain):
    import torchvision

    model = torchvision.models.resnet50(weights=None)
    for module in model.modules():  # statistics of a trained network are not 0 and 1
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.0)
            module.bias.data.normal_(0, 0.1)
    return model


def _unet(plain):
    model = UNet()
    for module in model.modules():
        if isinstance(module, Attention):
            module.plain = plain
    return model


def _image(batch, generator):
    return [torch.randn(batch, 3, 224, 224, generator=generator)]


def _tokens(batch, generator):
    return [torch.randint(0, 30522, (batch, 128), generator=generator)]


def _latents(batch, generator):
    return [torch.randn(batch, 4, 64, 64, generator=generator), torch.full((batch,), 500, dtype=torch.int64),
            torch.randn(batch, 77, 768, generator=generator)]


# name: how to make it (`plain`: with attention spelled out), inputs, names of the inputs, batches, channels-last?
NETWORKS = {
    "resnet50": (_resnet50, _image, ["image"], (1, 128), True),
    "bert_base": (lambda plain: BertFeatures(plain), _tokens, ["tokens"], (1, 32), False),
    "sd15_unet": (_unet, _latents, ["latents", "timestep", "context"], (2, 8), True),
}


def make(name, batch, plain=False, seed=0):
    """-> (module in evaluation mode, float32 on the CPU; list of inputs)"""
    torch.manual_seed(seed)
    build, inputs, _, _, _ = NETWORKS[name]
    generator = torch.Generator().manual_seed(seed + batch)
    return build(plain).eval(), inputs(batch, generator)


def export(name, batch, path, half=True):
    """Writes the ONNX file with fixed shapes; float16 weights and activations when `half`."""
    module, inputs = make(name, batch, plain=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = module.to(device)
    inputs = [x.to(device) for x in inputs]
    if half:
        module = module.half()
        inputs = [x.half() if x.is_floating_point() else x for x in inputs]
    with torch.inference_mode(False), torch.no_grad():
        torch.onnx.export(module, tuple(inputs), path, input_names=NETWORKS[name][2], output_names=["output"],
                          opset_version=17, dynamo=False)


# --- ResNet-50 in int8: Q/DQ around what integers compute, scales from one random batch (enough for speed)


def export_int8(batch, path, calibration_batch=8):
    """Writes ResNet-50 with symmetric QuantizeLinear/DequantizeLinear pairs: per tensor on what convolutions read and on
    both operands of the additions, per output channel on weights."""
    import numpy
    import onnx
    from onnx import helper, numpy_helper

    module, inputs = make("resnet50", batch)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = module.to(device)
    with torch.no_grad():
        torch.onnx.export(module, (inputs[0].to(device),), path, input_names=["image"], output_names=["output"],
                          opset_version=17, dynamo=False)
    model = onnx.load(path)
    graph = model.graph
    weights = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    quantised = []  # values, in order
    for node in graph.node:
        operands = {"Conv": node.input[:1], "Gemm": node.input[:1], "Add": node.input, "GlobalAveragePool": node.input}
        for name in operands.get(node.op_type, ()):
            if name not in quantised and name not in weights:
                quantised.append(name)
    # The convolution in front of an addition adds what it accumulated: only the way around it is stored.
    producers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type != "Add":
            continue
        direct = [i for i in node.input if i in producers and producers[i].op_type == "Conv"]
        if direct and direct[0] in quantised:
            quantised.remove(direct[0])
    ranges = _ranges(model, quantised, inputs[0][:calibration_batch].numpy())
    nodes = []

    def scale_of(name, value):
        graph.initializer.append(numpy_helper.from_array(numpy.asarray(value, numpy.float32), name + "/scale"))
        zeros = numpy.zeros(numpy.shape(value), numpy.int8)
        graph.initializer.append(numpy_helper.from_array(zeros, name + "/zero"))
        return [name + "/scale", name + "/zero"]

    def pair(name):
        parameters = scale_of(name, max(ranges[name], 1e-6) / 127)
        return [helper.make_node("QuantizeLinear", [name, *parameters], [name + "/q"]),
                helper.make_node("DequantizeLinear", [name + "/q", *parameters], [name + "/dq"])]

    if "image" in quantised:
        nodes += pair("image")
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            weight = weights[node.input[1]]
            scale = numpy.maximum(numpy.abs(weight).reshape(len(weight), -1).max(axis=1), 1e-8) / 127
            shaped = scale.reshape(-1, *[1] * (weight.ndim - 1))
            integers = numpy.clip(numpy.rint(weight / shaped), -127, 127).astype(numpy.int8)
            name = node.input[1]
            graph.initializer.append(numpy_helper.from_array(integers, name + "/q"))
            nodes.append(helper.make_node("DequantizeLinear", [name + "/q", *scale_of(name, scale)], [name + "/dq"], axis=0))
            node.input[1] = name + "/dq"
        for i, name in enumerate(node.input):
            if name in quantised:
                node.input[i] = name + "/dq"
        nodes.append(node)
        for output in node.output:
            if output in quantised:
                nodes += pair(output)
    used = {name for node in nodes for name in node.input}
    kept = [w for w in graph.initializer if w.name in used]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    onnx.save(model, path)


def _ranges(model, names, image):
    """Largest magnitude of each value, by ONNX Runtime."""
    import copy

    import onnx
    import onnxruntime

    model = copy.deepcopy(model)
    known = {o.name for o in model.graph.output}
    for name in names:
        if name not in known and name != "image":
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    shape = model.graph.input[0].type.tensor_type.shape
    shape.dim[0].dim_value = len(image)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = [n for n in names if n != "image"]
    values = session.run(wanted, {"image": image})
    ranges = {n: float(abs(v).max()) for n, v in zip(wanted, values)}
    ranges["image"] = float(abs(image).max())
    return ranges
