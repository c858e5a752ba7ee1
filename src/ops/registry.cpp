// The table of all operators, built from list.inc.
#include "ops/registry.hpp"

#include <algorithm>
#include <map>

#include "graph/text.hpp"

namespace tenfold {
namespace {

const std::vector<const OpDef*>& table() {
  // A function-local static: the definitions it refers to live in other files, and are constants.
  static const std::vector<const OpDef*> ops = {
#define TENFOLD_OP(name) &k##name##Def,
#include "ops/list.inc"
#undef TENFOLD_OP
  };
  return ops;
}

const std::map<std::string_view, const OpDef*>& by_name() {
  static const std::map<std::string_view, const OpDef*> index = [] {
    std::map<std::string_view, const OpDef*> names;
    for (const OpDef* op : table()) {
      ensure(names.emplace(op->type, op).second, "operator '{}' is listed twice", op->type);
    }
    return names;
  }();
  return index;
}

}  // namespace

const OpDef* find_op(std::string_view type) {
  const auto found = by_name().find(type);
  return found == by_name().end() ? nullptr : found->second;
}

const OpDef* find_imported_op(std::string_view domain, std::string_view type) {
  // A name with a dot is no operator of ONNX's.
  const bool is_plain = type.find('.') == std::string_view::npos;
  const OpDef* op = !is_plain ? nullptr : domain.empty() ? find_op(type) : find_op(fmt::format("{}.{}", domain, type));
  return op == nullptr || op->import_onnx == nullptr ? nullptr : op;
}

std::span<const OpDef* const> all_ops() { return table(); }

OpPtr make_op(std::string_view type, const Attributes& attributes) {
  const OpDef* def = find_op(type);
  require(def != nullptr && def->make != nullptr, Code::unsupported, "operator '{}' is not known to this version",
          type);
  return def->make(attributes);
}

Graph parse_graph(std::string_view text) { return parse_graph(text, &make_op); }

void import_plain(ImportNode& node) {
  const ValueId first = node.add(make_op(node.op_type(), node.attributes()), node.inputs(), node.num_outputs());
  for (int i = 0; i < node.num_outputs(); ++i) {
    if (node.wants_output(i)) node.set_output(i, first + i);
  }
}

const Tensor& ImportNode::constant_input(int index, std::string_view what) const {
  require(has_input(index), Code::invalid_model, "input {} ({}) is missing", index, what);
  const Tensor* tensor = graph().constant(input(index));
  require(tensor != nullptr, Code::unsupported,
          "input {} ({}) is computed by the network; it must be a constant. Fold it with a model simplifier", index,
          what);
  return *tensor;
}

void ImportNode::pad_captures(Graph& block, int num_formals, std::span<const ValueId> captured) const {
  for (std::size_t i = block.inputs().size() - static_cast<std::size_t>(num_formals); i < captured.size(); ++i) {
    const Value& outer = graph().value(captured[i]);
    const ValueId inner = block.add_input(outer.name, outer.type);
    block.value(inner).integers = outer.integers;
  }
}

}  // namespace tenfold
