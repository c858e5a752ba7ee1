// Networks made by hand or read from a model.
#include "bindings.hpp"

namespace tenfold::python {
namespace {

std::vector<NetworkDim> to_network_dims(nb::handle dims, const std::string& what) {
  std::vector<NetworkDim> result;
  if (!nb::isinstance<nb::tuple>(dims) && !nb::isinstance<nb::list>(dims)) {
    for (const std::int64_t dim : to_dims(dims, what)) result.emplace_back(dim);
    return result;
  }
  for (nb::handle dim : dims) {
    if (nb::isinstance<nb::str>(dim)) {
      result.emplace_back(nb::cast<std::string>(dim));
    } else {
      result.emplace_back(to_dims(nb::make_tuple(dim), what)[0]);
    }
  }
  return result;
}

NodeAttribute to_list_attribute(nb::handle value, const std::string& what) {
  std::vector<std::int64_t> integers;
  std::vector<double> numbers;
  std::vector<std::string> texts;
  for (nb::handle item : value) {
    if (nb::isinstance<nb::str>(item)) {
      texts.push_back(nb::cast<std::string>(item));
    } else if (nb::isinstance<nb::bytes>(item)) {
      texts.emplace_back(nb::borrow<nb::bytes>(item).c_str(), nb::borrow<nb::bytes>(item).size());
    } else if (PyIndex_Check(item.ptr()) != 0) {
      integers.push_back(to_dims(nb::make_tuple(item), what)[0]);
      numbers.push_back(static_cast<double>(integers.back()));
    } else {
      const double number = PyFloat_AsDouble(item.ptr());
      if (PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        fail(Code::invalid_argument, what, ": a list holds integers, floats or strings");
      }
      numbers.push_back(number);
    }
  }
  const std::size_t count = nb::len(value);
  if (integers.size() == count) return integers;  // also an empty list
  if (numbers.size() == count) return numbers;
  if (texts.size() == count) return texts;
  fail(Code::invalid_argument, what, ": a list holds either numbers or strings");
}

NodeAttribute to_attribute(nb::handle value, const std::string& what) {
  if (PyLong_Check(value.ptr()) != 0) return to_dims(nb::make_tuple(value), what)[0];  // bool, too
  if (PyFloat_Check(value.ptr()) != 0) return PyFloat_AS_DOUBLE(value.ptr());
  if (nb::isinstance<nb::str>(value)) return nb::cast<std::string>(value);
  if (nb::isinstance<nb::bytes>(value)) {
    const auto bytes = nb::borrow<nb::bytes>(value);
    return std::string(bytes.c_str(), bytes.size());
  }
  if (nb::isinstance<nb::list>(value) || nb::isinstance<nb::tuple>(value)) return to_list_attribute(value, what);
  // A NumPy scalar counts as a number.
  static PyObject* const generic = nb::object(nb::module_::import_("numpy").attr("generic")).release().ptr();
  if (PyObject_IsInstance(value.ptr(), generic) == 1) {
    return to_attribute(value.attr("item")(), what);
  }
  return to_host_tensor(value, what);
}

nb::object from_attribute(const NodeAttribute& attribute) {
  return std::visit(
      [](const auto& value) -> nb::object {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, HostTensor>) {
          return from_host_tensor(value);
        } else if constexpr (std::is_same_v<T, std::string>) {
          nb::object text =
              nb::steal(PyUnicode_DecodeUTF8(value.data(), static_cast<Py_ssize_t>(value.size()), nullptr));
          if (text.is_valid()) return text;
          PyErr_Clear();
          return nb::bytes(value.data(), value.size());
        } else {
          return nb::cast(value);
        }
      },
      attribute);
}

nb::dict attributes_of(const NetworkNode& node) {
  nb::dict result;
  for (const auto& [name, value] : node.attributes) result[name.c_str()] = from_attribute(value);
  return result;
}

std::vector<std::int32_t> add_node(Network& network, const std::string& op_type,
                                   const std::vector<std::int32_t>& inputs, const nb::object& attributes,
                                   int num_outputs, const std::string& name, const std::string& domain, int opset,
                                   const std::map<std::string, Network>& blocks,
                                   const std::vector<std::int32_t>& captured) {
  NodeAttributes converted;
  if (!attributes.is_none()) {
    if (!nb::isinstance<nb::dict>(attributes)) {
      fail(Code::invalid_argument, "node '", name, "' (", op_type, "): attributes are a dict");
    }
    for (const auto [key, value] : nb::borrow<nb::dict>(attributes)) {
      const std::string attribute = nb::cast<std::string>(nb::str(key));
      converted.emplace(attribute,
                        to_attribute(value, "node '" + name + "' (" + op_type + "): attribute '" + attribute + "'"));
    }
  }
  return network.add_node(op_type, inputs, converted, num_outputs, name, domain, opset, blocks, captured);
}

nb::tuple from_onnx(const nb::object& model, const nb::object& path) {
  std::vector<ModelProblem> problems;
  const std::string from = path.is_none() ? "" : to_path(path, "path");
  const bool is_file = is_path(model);
  const std::string file = is_file ? to_path(model, "model") : "";
  const Array bytes = is_file ? Array() : Array(model, "model", DType::undefined, false);
  std::optional<Network> network;
  try {
    const ReleasedGil release;
    const std::span<const std::byte> view(static_cast<const std::byte*>(bytes.data()), bytes.size_bytes());
    network = is_file ? Network::from_onnx(file, problems) : Network::from_onnx(view, from, problems);
  } catch (const Error& error) {
    ModelProblem problem;
    problem.where = "model";
    problem.code = error.code();
    problem.message = error.message();
    return nb::make_tuple(nb::none(), nb::make_tuple(std::move(problem)));
  }
  return nb::make_tuple(std::move(*network), std::move(problems));
}

/// Runs of supported nodes in the model's order, and between them runs of the others.
std::vector<std::pair<std::vector<int>, bool>> support_groups(const Network& network) {
  std::vector<std::pair<std::vector<int>, bool>> groups;
  const std::vector<bool> supported = network.model_nodes_supported();
  for (std::size_t i = 0; i < supported.size(); ++i) {
    if (groups.empty() || groups.back().second != supported[i]) groups.emplace_back(std::vector<int>{}, supported[i]);
    groups.back().first.push_back(static_cast<int>(i));
  }
  return groups;
}

}  // namespace

void bind_network(nb::module_& module) {
  nb::class_<ModelProblem>(module, "ModelProblem", "One reason why a model cannot be compiled.")
      .def_ro("where", &ModelProblem::where)
      .def_ro("node", &ModelProblem::node, "The node's name; empty for the model as a whole.")
      .def_ro("op_type", &ModelProblem::op_type)
      .def_ro("node_index", &ModelProblem::node_index, "Of the main graph's node that it is in; -1: none.")
      .def_prop_ro("code", [](const ModelProblem& p) { return std::string(to_string(p.code)); })
      .def_ro("message", &ModelProblem::message)
      .def("__repr__", [](const ModelProblem& p) { return p.where + ": " + p.message; });

  nb::class_<NetworkNode>(module, "NodeInfo", "A node of a network, as it was added or read.")
      .def_ro("name", &NetworkNode::name)
      .def_ro("op_type", &NetworkNode::op_type)
      .def_ro("domain", &NetworkNode::domain, "'' is ai.onnx.")
      .def_ro("opset", &NetworkNode::opset)
      .def_ro("model_index", &NetworkNode::model_index, "Position in the model file; -1: added by hand.")
      .def_ro("inputs", &NetworkNode::inputs, "Value ids; -1: omitted.")
      .def_ro("outputs", &NetworkNode::outputs, "Value ids; -1: not wanted.")
      .def_prop_ro("attributes", &attributes_of)
      .def_ro("subgraphs", &NetworkNode::subgraphs, "Names of the attributes that hold a subgraph.")
      .def("__repr__", [](const NetworkNode& n) { return "NodeInfo('" + n.name + "', " + n.op_type + ")"; });

  nb::class_<Network>(module, "Network", "A network under construction, in the terms of ONNX. Values are known by ids.")
      .def(nb::init<>())
      .def(
          "add_input",
          [](Network& self, const std::string& name, nb::handle dtype, nb::handle dims) {
            return self.add_input(name, to_dtype(dtype, "input '" + name + "'"),
                                  to_network_dims(dims, "input '" + name + "'"));
          },
          nb::arg("name"), nb::arg("dtype"), nb::arg("dims"),
          nb::sig("def add_input(self, name: str, dtype: object, dims: Sequence[int | str]) -> int"),
          "A size is a number, a name shared by all axes of that size, or -1 for one that is decided later.")
      .def(
          "add_constant",
          [](Network& self, nb::handle array, const std::string& name) {
            return self.add_constant(to_host_tensor(array, "constant '" + name + "'"), name);
          },
          nb::arg("array"), nb::arg("name") = "", "A copy of the array.")
      .def("add_node", &add_node, nb::arg("op_type"), nb::arg("inputs"), nb::arg("attributes").none() = nb::none(),
           nb::arg("num_outputs") = 1, nb::arg("name") = "", nb::arg("domain") = "", nb::arg("opset") = 0,
           nb::arg("blocks") = std::map<std::string, Network>(), nb::arg("captured") = std::vector<std::int32_t>(),
           "Adds an operator and infers the types of its results; returns their ids. An input of -1 is omitted. "
           "``opset`` 0: the newest known. ``blocks``: networks for the attributes of If, Loop and Scan that hold "
           "subgraphs; after their own inputs they have one for each of ``captured``, values of this network. On an "
           "error "
           "the network is as before.")
      .def_static(
          "from_engine",
          [](nb::handle engine) {
            const Array bytes(engine, "engine", DType::undefined, false);
            const ReleasedGil release;
            return Network::from_engine({static_cast<const std::byte*>(bytes.data()), bytes.size_bytes()});
          },
          nb::arg("engine"), "The model inside an engine that was built with ``portable``.")
      .def("truncate", &Network::truncate, nb::arg("num_nodes"), "Forgets all later nodes and their values.")
      .def_prop_ro("num_nodes", &Network::num_nodes)
      .def(
          "node", [](const Network& self, int index) { return self.node(index); }, nb::arg("index"))
      .def("nodes",
           [](const Network& self) {
             std::vector<NetworkNode> nodes;
             for (int i = 0; i < self.num_nodes(); ++i) nodes.push_back(self.node(i));
             return nodes;
           })
      .def_prop_ro("inputs", &Network::inputs)
      .def_prop_ro("outputs", &Network::outputs)
      .def("value_info", &Network::value, nb::arg("id"))
      .def("has_value", &Network::has_value, nb::arg("id"))
      .def(
          "find_value", [](const Network& self, const std::string& name) { return self.find_value(name); },
          nb::arg("name"))
      .def("known_elements", &Network::known_elements, nb::arg("id"),
           "Elements of an integer value that are known as expressions, as text; None if they are not.")
      .def(
          "constant_value",
          [](const Network& self, std::int32_t id) -> nb::object {
            const std::optional<HostTensor> tensor = self.constant(id);
            return tensor ? from_host_tensor(*tensor) : nb::none();
          },
          nb::arg("id"), nb::sig("def constant_value(self, id: int) -> numpy.ndarray | None"))
      .def(
          "set_constant",
          [](Network& self, std::int32_t id, nb::handle array) {
            self.set_constant(id, to_host_tensor(array, "constant"));
          },
          nb::arg("id"), nb::arg("array"), "Other data of the same dtype and shape.")
      .def("set_value_name", &Network::set_value_name, nb::arg("id"), nb::arg("name"))
      .def("mark_output", &Network::mark_output, nb::arg("id"), nb::arg("name") = "")
      .def("unmark_output", &Network::unmark_output, nb::arg("id"))
      .def("copy", [](const Network& self) { return Network(self); })
      .def("support_groups", &support_groups,
           "Of a network read from a model: (indices of consecutive nodes, can they be compiled).")
      .def_static("from_onnx", &from_onnx, nb::arg("model"), nb::arg("path").none() = nb::none(),
                  nb::sig("def from_onnx(model: object, path: object | None = None) -> "
                          "tuple[Network | None, Sequence[ModelProblem]]"),
                  "Reads a path or bytes. The network holds what could be understood; None if nothing could be read. "
                  "``path``: where tensors in other files are looked for.")
      .def_prop_ro_static("newest_opset", [](nb::handle) { return Network::newest_opset(); });

  module.def("supports_operator", &supports_operator, nb::arg("op_type"), nb::arg("domain") = "");
}

}  // namespace tenfold::python
