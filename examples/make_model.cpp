// Writes the small ONNX model that the examples compile: y = softmax(x * w), x float32 [batch, 4], w float32 [4, 3].
//
//   make_model MODEL.onnx
#include <cstdio>
#include <fstream>

#include "onnx.pb.h"

namespace {

void describe(tenfold::onnx::ValueInfoProto& value, const char* name, int columns) {
  value.set_name(name);
  tenfold::onnx::TypeProto_Tensor& type = *value.mutable_type()->mutable_tensor_type();
  type.set_elem_type(tenfold::onnx::TensorProto::FLOAT);
  type.mutable_shape()->add_dim()->set_dim_param("batch");
  type.mutable_shape()->add_dim()->set_dim_value(columns);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s MODEL.onnx\n", argv[0]);
    return 2;
  }
  tenfold::onnx::ModelProto model;
  model.set_ir_version(8);
  model.add_opset_import()->set_version(17);
  tenfold::onnx::GraphProto& graph = *model.mutable_graph();
  graph.set_name("classify");
  describe(*graph.add_input(), "x", 4);
  describe(*graph.add_output(), "y", 3);
  tenfold::onnx::TensorProto& w = *graph.add_initializer();
  w.set_name("w");
  w.set_data_type(tenfold::onnx::TensorProto::FLOAT);
  w.add_dims(4);
  w.add_dims(3);
  for (int i = 0; i < 12; ++i) w.add_float_data(0.25F * static_cast<float>(i % 5) - 0.5F);
  tenfold::onnx::NodeProto& product = *graph.add_node();
  product.set_op_type("MatMul");
  product.set_name("product");
  product.add_input("x");
  product.add_input("w");
  product.add_output("scores");
  tenfold::onnx::NodeProto& softmax = *graph.add_node();
  softmax.set_op_type("Softmax");
  softmax.set_name("softmax");
  softmax.add_input("scores");
  softmax.add_output("y");
  std::ofstream file(argv[1], std::ios::binary);
  return model.SerializeToOstream(&file) && file.flush() ? 0 : 1;
}
