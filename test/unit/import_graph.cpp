// What the importer makes of a model: names, types, functions, subgraphs, and the list of problems.
#include "ops/interpreter.hpp"
#include "unit/onnx_models.hpp"

namespace tenfold::onnx {
namespace {

std::vector<std::string> node_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const NodeId id : graph.order()) names.push_back(graph.node(id).name);
  return names;
}
std::vector<float> run(const Graph& graph, const std::vector<float>& x, Shape shape) {
  const Tensor input = Tensor::from<float>(DType::float32, std::move(shape), x);
  const std::vector<Tensor> outputs = interpret(graph, std::span(&input, 1));
  const auto values = outputs.at(0).as<float>();
  return {values.begin(), values.end()};
}

TEST(ImportOnnx, ValuesAndNodesKeepTheModelsNames) {
  const ImportedModel model = import(small_model());
  EXPECT_EQ(node_names(model.graph), (std::vector<std::string>{"add", "relu"}));
  EXPECT_EQ(model.graph.output_names(), std::vector<std::string>{"y"});
  EXPECT_TRUE(model.graph.find_value("sum").has_value());
  EXPECT_EQ(to_string(model.graph.value(model.graph.outputs()[0]).type), "float32[batch, 3]");
  EXPECT_EQ(model.num_model_nodes, 2);
  EXPECT_EQ(model.producer, "test");
  EXPECT_EQ(model.hash.size(), 32U);
  EXPECT_EQ(run(model.graph, {1, 1, 1}, {1, 3}), (std::vector<float>{2, 0, 4}));
}

TEST(ImportOnnx, UnnamedNodesAreCalledAfterTypeAndPosition) {
  ModelProto model = small_model();
  for (NodeProto& node : *model.mutable_graph()->mutable_node()) node.clear_name();
  EXPECT_EQ(node_names(import(model).graph), (std::vector<std::string>{"Add_0", "Relu_1"}));
}

TEST(ImportOnnx, EqualNodeNamesAreMadeUnique) {
  ModelProto model = small_model();
  for (NodeProto& node : *model.mutable_graph()->mutable_node()) node.set_name("n");
  EXPECT_EQ(node_names(import(model).graph), (std::vector<std::string>{"n", "n_2"}));
}

TEST(ImportOnnx, NodesNeedNotBeSorted) {
  ModelProto model = small_model();
  model.mutable_graph()->mutable_node()->SwapElements(0, 1);
  EXPECT_EQ(node_names(import(model).graph), (std::vector<std::string>{"add", "relu"}));
}

TEST(ImportOnnx, NodesThatNoOutputNeedsAreNotLookedAt) {
  ModelProto model = small_model();
  add_node(model, "NoSuchOperator", {"sum"}, {"unused"});
  EXPECT_EQ(import(model).graph.num_nodes(), 2);
}

TEST(ImportOnnx, UnknownSizesOfInputsBecomeSymbols) {
  ModelProto model = new_model();
  add_input(model, "a", {"n", "?", 0, -1, 4});
  add_input(model, "b", {"n", "?"});
  add_node(model, "Relu", {"a"}, {"y"});
  add_output(model, "y");
  const Graph graph = import(model).graph;
  EXPECT_EQ(to_string(graph.value(graph.inputs()[0]).type), R"(float32[n, "a#1", "a#2", "a#3", 4])");
  EXPECT_EQ(to_string(graph.value(graph.inputs()[1]).type), R"(float32[n, "b#1"])");
}

TEST(ImportOnnx, GivenShapesReplaceUnknownSizes) {
  ImportOptions options;
  options.input_shapes["x"] = {5, -1};
  const Graph graph = import(small_model(), options).graph;
  EXPECT_EQ(to_string(graph.value(graph.inputs()[0]).type), "float32[5, 3]");
}

TEST(ImportOnnx, GivenShapesThatDoNotFitAreRefused) {
  ImportOptions options;
  options.input_shapes["x"] = {5, 4};
  EXPECT_REFUSED(refusal_of(small_model(), options), Code::invalid_argument, "the model fixes at 3");
  options.input_shapes["x"] = {5};
  EXPECT_REFUSED(refusal_of(small_model(), options), Code::invalid_argument, "2 axes");
  options.input_shapes = {{"z", {1}}};
  EXPECT_REFUSED(refusal_of(small_model(), options), Code::invalid_argument, "its inputs are 'x'");
}

TEST(ImportOnnx, AnInitializerThatIsAlsoAnInputIsAConstant) {
  ModelProto model = small_model();
  add_input(model, "w", {3});
  const ImportedModel imported = import(model);
  EXPECT_EQ(imported.graph.inputs().size(), 1U);
  ASSERT_EQ(imported.warnings.size(), 1U);
  EXPECT_NE(imported.warnings[0].find("'w'"), std::string::npos);
  model.set_ir_version(3);
  EXPECT_TRUE(import(model).warnings.empty());
}

TEST(ImportOnnx, OutputsMayBeInputsConstantsAndEachOther) {
  ModelProto model = small_model();
  add_node(model, "Identity", {"y"}, {"again"});
  for (const char* name : {"again", "x", "w"}) add_output(model, name);
  const Graph graph = import(model).graph;
  EXPECT_EQ(graph.output_names(), (std::vector<std::string>{"y", "again", "x", "w"}));
  EXPECT_EQ(graph.outputs()[0], graph.outputs()[1]);
}

TEST(ImportOnnx, AllProblemsAreReportedTogetherAndSorted) {
  ModelProto model = new_model();
  add_input(model, "x", {2});
  add_node(model, "Zebra", {"x"}, {"a"}, "n2");
  add_node(model, "Relu", {"a"}, {"b"}, "depends_on_zebra");
  add_node(model, "Aardvark", {"x"}, {"c"}, "n1");
  add_node(model, "Add", {"b", "c"}, {"d"});
  add_node(model, "Add", {"d", "nowhere"}, {"e"}, "n3");
  add_output(model, "e");
  const Refusal refusal = refusal_of(model);
  EXPECT_REFUSED(refusal, Code::invalid_model, "3 problems");
  const std::size_t first = refusal.message.find("node 'n1' (Aardvark): operator Aardvark of ai.onnx opset 17");
  const std::size_t second = refusal.message.find("node 'n2' (Zebra)");
  const std::size_t third = refusal.message.find("node 'n3' (Add): it reads 'nowhere'");
  EXPECT_TRUE(first < second && second < third && third != std::string::npos) << refusal.message;
  EXPECT_EQ(refusal.message.find("depends_on_zebra"), std::string::npos);
}

TEST(ImportOnnx, TheListOfProblemsIsCutAtFifty) {
  ModelProto model = new_model();
  add_input(model, "x", {2});
  for (int i = 0; i < 60; ++i) {
    add_node(model, "Nope", {"x"}, {"y" + std::to_string(i)});
    add_output(model, "y" + std::to_string(i));
  }
  const Refusal refusal = refusal_of(model);
  EXPECT_REFUSED(refusal, Code::unsupported, "... and 10 more");
  EXPECT_EQ(std::count(refusal.message.begin(), refusal.message.end(), '\n'), 51);
}

TEST(ImportOnnx, CheckListsTheProblemsInsteadOfThrowing) {
  const TemporaryFolder folder;
  ModelProto model = small_model();
  model.mutable_graph()->mutable_node(1)->set_op_type("Nope");
  folder.write("m.onnx", model.SerializeAsString());
  const ImportedModel checked = check_onnx(folder.file("m.onnx"));
  ASSERT_EQ(checked.problems.size(), 1U);
  EXPECT_EQ(checked.problems[0].node, "node 'relu' (Nope)");
  EXPECT_EQ(checked.problems[0].code, Code::unsupported);
}

TEST(ImportOnnx, ACycleIsReportedByName) {
  ModelProto model = new_model();
  add_input(model, "x", {2});
  add_node(model, "Add", {"x", "c"}, {"a"}, "first");
  add_node(model, "Relu", {"a"}, {"b"}, "second");
  add_node(model, "Relu", {"b"}, {"c"}, "third");
  add_output(model, "c");
  const Refusal refusal = refusal_of(model);
  EXPECT_REFUSED(refusal, Code::invalid_model, "1 problem\n");
  EXPECT_REFUSED(refusal, Code::invalid_model, "needs its own result");
  EXPECT_REFUSED(refusal, Code::invalid_model, "'second'");
}

TEST(ImportOnnx, OperatorSetsOutsideTheKnownOnesAreRefused) {
  EXPECT_REFUSED(refusal_of(new_model(6)), Code::unsupported, "opset 6");
  EXPECT_REFUSED(refusal_of(new_model(1000)), Code::unsupported, "opset 1000");
  EXPECT_REFUSED(refusal_of(new_model(-3)), Code::invalid_model, "version -3");
  ModelProto model = small_model();
  model.clear_opset_import();
  EXPECT_REFUSED(refusal_of(model), Code::invalid_model, "opset_import");
}

TEST(ImportOnnx, ForeignDomainsAreNamed) {
  ModelProto model = small_model();
  model.mutable_graph()->mutable_node(1)->set_domain("com.example");
  EXPECT_REFUSED(refusal_of(model), Code::invalid_model, "domain 'com.example'");
  auto* import = model.add_opset_import();
  import->set_domain("com.example");
  import->set_version(3);
  EXPECT_REFUSED(refusal_of(model), Code::unsupported, "operator Relu of com.example opset 3");
}

// --- Functions
// --------------------------------------------------------------------------------------------------------

/// y = Scale(x) with Scale(v) {factor = ...} = LeakyRelu(v) {alpha = factor}.
ModelProto function_model() {
  ModelProto model = new_model();
  auto* import = model.add_opset_import();
  import->set_domain("local");
  import->set_version(1);
  add_input(model, "x", {3});
  NodeProto& call = add_node(model, "Scale", {"x"}, {"y"}, "call");
  call.set_domain("local");
  add_output(model, "y");
  FunctionProto& function = *model.add_functions();
  function.set_domain("local");
  function.set_name("Scale");
  function.add_input("v");
  function.add_input("unused_optional");
  function.add_output("r");
  function.add_attribute("factor");
  function.add_opset_import()->set_version(17);
  NodeProto& leaky = add_node(function.mutable_node(), "LeakyRelu", {"v"}, {"t"}, "leaky");
  AttributeProto& alpha = *leaky.add_attribute();
  alpha.set_name("alpha");
  alpha.set_type(AttributeProto::FLOAT);
  alpha.set_ref_attr_name("factor");
  add_node(function.mutable_node(), "Identity", {"t"}, {"r"});
  return model;
}
void give_factor(NodeProto& call, float factor) {
  AttributeProto& attribute = *call.add_attribute();
  attribute.set_name("factor");
  attribute.set_type(AttributeProto::FLOAT);
  attribute.set_f(factor);
}

TEST(ImportOnnxFunctions, AreInlinedWithTheirArguments) {
  ModelProto model = function_model();
  give_factor(*model.mutable_graph()->mutable_node(0), 0.5F);
  const Graph graph = import(model).graph;
  EXPECT_EQ(node_names(graph), std::vector<std::string>{"call/leaky"});
  EXPECT_EQ(run(graph, {-2, 0, 2}, {3}), (std::vector<float>{-1, 0, 2}));
}

TEST(ImportOnnxFunctions, AnOpenArgumentLeavesTheOperatorsDefault) {
  const Graph graph = import(function_model()).graph;
  EXPECT_FLOAT_EQ(run(graph, {-1, 0, 2}, {3})[0], -0.01F);
}

TEST(ImportOnnxFunctions, DefaultsOfTheFunctionAreUsed) {
  ModelProto model = function_model();
  AttributeProto& standard = *model.mutable_functions(0)->add_attribute_proto();
  standard.set_name("factor");
  standard.set_type(AttributeProto::FLOAT);
  standard.set_f(0.25F);
  EXPECT_FLOAT_EQ(run(import(model).graph, {-1, 0, 2}, {3})[0], -0.25F);
}

TEST(ImportOnnxFunctions, MayCallFunctions) {
  ModelProto model = function_model();
  FunctionProto& outer = *model.add_functions();
  outer.set_domain("local");
  outer.set_name("Outer");
  outer.add_input("p");
  outer.add_output("q");
  outer.add_attribute("f");
  for (int i = 0; i < 2; ++i) {
    NodeProto& inner = add_node(outer.mutable_node(), "Scale", {i == 0 ? "p" : "half"}, {i == 0 ? "half" : "q"});
    inner.set_domain("local");
    AttributeProto& attribute = *inner.add_attribute();
    attribute.set_name("factor");
    attribute.set_type(AttributeProto::FLOAT);
    attribute.set_ref_attr_name("f");
  }
  NodeProto& call = *model.mutable_graph()->mutable_node(0);
  call.set_op_type("Outer");
  give_factor(call, 0.5F);
  call.mutable_attribute(0)->set_name("f");
  const Graph graph = import(model).graph;
  EXPECT_EQ(node_names(graph), (std::vector<std::string>{"call/Scale_0/leaky", "call/Scale_1/leaky"}));
  EXPECT_EQ(run(graph, {-4, 0, 2}, {3}), (std::vector<float>{-1, 0, 2}));
}

TEST(ImportOnnxFunctions, RecursionIsRefused) {
  ModelProto model = function_model();
  NodeProto& node = *model.mutable_functions(0)->mutable_node(1);
  node.set_op_type("Scale");
  node.set_domain("local");
  EXPECT_REFUSED(refusal_of(model), Code::invalid_model, "calls itself");
}

TEST(ImportOnnxFunctions, GrowthBeyondTheLimitIsRefused) {
  // Each function calls the one before twice: 2^20 nodes from 20 functions.
  ModelProto model = function_model();
  for (int i = 0; i < 20; ++i) {
    FunctionProto& function = *model.add_functions();
    function.set_domain("local");
    function.set_name("F" + std::to_string(i));
    function.add_input("p");
    function.add_output("q");
    const std::string inner = i == 0 ? "Scale" : "F" + std::to_string(i - 1);
    add_node(function.mutable_node(), inner, {"p"}, {"h"}).set_domain("local");
    add_node(function.mutable_node(), inner, {"h"}, {"q"}).set_domain("local");
  }
  model.mutable_graph()->mutable_node(0)->set_op_type("F19");
  ImportOptions options;
  options.max_nodes = 100;
  EXPECT_REFUSED(refusal_of(model, options), Code::unsupported, "more than 400 nodes");
}

// --- Subgraphs
// --------------------------------------------------------------------------------------------------------

/// y = If(cond) ? Relu(sum) : Neg(sum), with sum = x + w computed outside.
ModelProto if_model() {
  ModelProto model = new_model();
  add_input(model, "x", {3});
  add_input(model, "cond", {}, TensorProto::BOOL);
  *model.mutable_graph()->add_initializer() = float_tensor("w", {3}, {1, 1, 1});
  add_node(model, "Add", {"x", "w"}, {"sum"});
  NodeProto& node = add_node(model, "If", {"cond"}, {"y"}, "choose");
  for (const auto& [name, type] : {std::pair("then_branch", "Relu"), std::pair("else_branch", "Neg")}) {
    AttributeProto& branch = *node.add_attribute();
    branch.set_name(name);
    branch.set_type(AttributeProto::GRAPH);
    add_node(branch.mutable_g()->mutable_node(), type, {"sum"}, {"r"});
    branch.mutable_g()->add_output()->set_name("r");
  }
  add_output(model, "y");
  return model;
}
std::vector<float> run_if(const Graph& graph, bool condition) {
  std::vector<Tensor> inputs;
  const std::vector<float> x{-3, 0, 3};
  inputs.push_back(Tensor::from<float>(DType::float32, {3}, x));
  Tensor cond(DType::boolean, {});
  cond.as_mutable<bool>()[0] = condition;
  inputs.push_back(std::move(cond));
  const std::vector<Tensor> outputs = interpret(graph, inputs);
  const auto values = outputs.at(0).as<float>();
  return {values.begin(), values.end()};
}

TEST(ImportOnnxSubgraphs, OuterValuesBecomeInputsOfTheBlock) {
  const Graph graph = import(if_model()).graph;
  const Node* node = graph.producer(graph.outputs()[0]);
  ASSERT_EQ(node->blocks.size(), 2U);
  EXPECT_EQ(node->inputs.size(), 2U);
  EXPECT_EQ(node->blocks[0].inputs().size(), 1U);
  EXPECT_EQ(node->blocks[1].inputs().size(), 1U);
  EXPECT_EQ(run_if(graph, true), (std::vector<float>{0, 1, 4}));
  EXPECT_EQ(run_if(graph, false), (std::vector<float>{2, -1, -4}));
}

TEST(ImportOnnxSubgraphs, OuterConstantsBecomeConstantsOfTheBlock) {
  ModelProto model = if_model();
  GraphProto& branch = *model.mutable_graph()->mutable_node(1)->mutable_attribute(0)->mutable_g();
  *branch.mutable_node(0)->mutable_input(0) = "w";
  const Graph graph = import(model).graph;
  EXPECT_EQ(run_if(graph, true), (std::vector<float>{1, 1, 1}));
}

TEST(ImportOnnxSubgraphs, AnInnerNameHidesAnOuterOne) {
  ModelProto model = if_model();
  GraphProto& branch = *model.mutable_graph()->mutable_node(1)->mutable_attribute(0)->mutable_g();
  *branch.add_initializer() = float_tensor("sum", {3}, {5, 6, 7});
  EXPECT_EQ(run_if(import(model).graph, true), (std::vector<float>{5, 6, 7}));
}

TEST(ImportOnnxSubgraphs, ProblemsInsideAreReported) {
  ModelProto model = if_model();
  NodeProto& node = *model.mutable_graph()->mutable_node(1);
  for (int i = 0; i < 2; ++i) node.mutable_attribute(i)->mutable_g()->mutable_node(0)->set_op_type("Nope");
  node.mutable_attribute(0)->mutable_g()->mutable_node(0)->set_name("a");
  node.mutable_attribute(1)->mutable_g()->mutable_node(0)->set_name("b");
  const Refusal refusal = refusal_of(model);
  EXPECT_REFUSED(refusal, Code::unsupported, "2 problems");
  EXPECT_REFUSED(refusal, Code::unsupported, "node 'a' (Nope)");
  EXPECT_REFUSED(refusal, Code::unsupported, "node 'b' (Nope)");
}

TEST(ImportOnnxSubgraphs, DepthIsLimited) {
  ModelProto model = new_model();
  add_input(model, "x", {3});
  add_input(model, "cond", {}, TensorProto::BOOL);
  add_output(model, "y");
  auto* nodes = model.mutable_graph()->mutable_node();
  for (int depth = 0; depth < 18; ++depth) {
    NodeProto& node = add_node(nodes, "If", {"cond"}, {"y"});
    for (const char* name : {"then_branch", "else_branch"}) {
      AttributeProto& branch = *node.add_attribute();
      branch.set_name(name);
      branch.set_type(AttributeProto::GRAPH);
      branch.mutable_g()->add_output()->set_name("y");
      if (name[0] == 'e') add_node(branch.mutable_g()->mutable_node(), "Relu", {"x"}, {"y"});
    }
    nodes = node.mutable_attribute(0)->mutable_g()->mutable_node();
  }
  add_node(nodes, "Relu", {"x"}, {"y"});
  EXPECT_REFUSED(refusal_of(model), Code::unsupported, "deeper than 16");
}

}  // namespace
}  // namespace tenfold::onnx
