"""What the parser says about a model that cannot be compiled: every problem at once, with node, operator and reason."""

import tensorrt as trt

import models

logger = trt.Logger(trt.Logger.INTERNAL_ERROR)  # the errors are printed here
builder = trt.Builder(logger)
network = builder.create_network(0)
parser = trt.OnnxParser(network, logger)
assert not parser.parse(models.broken())
for i in range(parser.num_errors):
    error = parser.get_error(i)
    print(f"node {error.node()} '{error.node_name()}' ({error.node_operator()}): {error.code().name}: {error.desc()}")
assert {parser.get_error(i).node_operator() for i in range(parser.num_errors)} == {"FancyActivation", "MatMul"}
assert not parser.supports_operator("FancyActivation") and parser.supports_operator("Conv")

parser.clear_errors()
assert not parser.parse(b"this is no model")
print(parser.get_error(0))

parser.clear_errors()
supported = parser.supports_model_v2(models.broken())
groups = [parser.get_subgraph_nodes(i) for i in range(parser.num_subgraphs)]
print("supported as a whole:", supported, "nodes that are:", groups)
assert groups == [[0]]
