// float8 on the GPU: conversions, programs, and what moves elements of any type.
#include "cuda_case.hpp"

namespace tenfold::cuda {
namespace {

constexpr DType kFloat8 = DType::float8e4m3;

Tensor all_codes() {
  Tensor codes(kFloat8, {256});
  for (unsigned i = 0; i < 256; ++i) codes.as_mutable<Float8E4M3>()[i].bits = static_cast<std::uint8_t>(i);
  return codes;
}
Attributes to(std::string_view type) { return {{"to", std::string(type)}}; }

TEST(CudaFloat8, ConversionsHaveTheReferencesBits) {
  const Attributes quantise{{"output_dtype", std::string("float8e4m3")}};
  const Tensor scale = numbers(DType::float32, {}, 1, 0.5, 0.9);
  for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
    const Tensor x = numbers(dtype, {5, 333}, 2, -600, 600);
    check_cuda({"Cast", to("float8e4m3"), {x}}, "elementwise.vectors", {});
    check_cuda({"Cast", to(to_string(dtype)), {all_codes()}}, "elementwise.vectors", {});
    check_cuda({"QuantizeLinear", quantise, {x, scale}}, "elementwise.vectors", {});
    check_cuda({"QuantizeLinear",
                {{"axis", std::int64_t{0}}},
                {x, numbers(DType::float32, {5}, 3, 0.5, 2), Tensor(kFloat8, {5})}},
               "elementwise.vectors", {});
  }
  Attributes open = quantise;
  open.set("saturate", std::int64_t{0});
  check_cuda({"QuantizeLinear", open, {numbers(DType::float32, {999}, 4, -600, 600), scale}}, "elementwise.vectors",
             {});
  open = to("float8e4m3");
  open.set("saturate", std::int64_t{0});
  check_cuda({"Cast", open, {numbers(DType::float32, {999}, 5, -600, 600)}}, "elementwise.vectors", {});
  check_cuda({"Cast", open, {numbers(DType::int32, {999}, 6, -600, 600)}}, "elementwise.vectors", {});
  check_cuda({"Cast", to("int32"), {numbers(kFloat8, {40}, 7)}}, "elementwise.vectors", {});
  check_cuda({"DequantizeLinear", {}, {all_codes(), scale}}, "elementwise.vectors", {});
  note_what_is_missing();
}

TEST(CudaFloat8, ProgramsReadAndStoreIt) {
  Attributes program{{"num_inputs", std::int64_t{2}}, {"program", std::string("mul_imm 0 0x1p-1; add 2 1; relu 3")}};
  check_cuda({"Pointwise", program, {numbers(kFloat8, {3, 5, 48}, 1), numbers(DType::float32, {48}, 2)}},
             "elementwise.vectors", {0x1p-20, 0x1p-20});
  program.set("to", std::string("float8e4m3"));
  // A sum close to a tie may become either neighbour.
  check_cuda({"Pointwise", program, {numbers(kFloat8, {3, 5, 48}, 1), numbers(DType::float16, {48}, 2)}},
             "elementwise.vectors", {0x1p-9, 0x1p-3});
  note_what_is_missing();
}

TEST(CudaFloat8, ElementsAreMovedComparedAndChosen) {
  const Tensor x = numbers(kFloat8, {4, 6, 16}, 1), y = numbers(kFloat8, {4, 6, 16}, 2);
  Tensor condition(DType::boolean, {4, 6, 16});
  for (std::size_t i = 0; i < 384; i += 3) condition.as_mutable<bool>()[i] = true;
  check_cuda({"Equal", {}, {x, y}}, "elementwise.vectors", {});
  check_cuda({"Where", {}, {condition, x, y}}, "elementwise.vectors", {});
  check_cuda({"Transpose", {{"perm", Ints{0, 2, 1}}}, {x}}, "copy.strided", {});
  check_cuda({"Concat", {{"axis", std::int64_t{2}}}, {x, y}}, "copy.strided", {});
  check_cuda({"Pad", {{"mode", std::string("constant")}, {"pads", Ints{0, 1, 0, 0, 1, 0}}, {"value", 0.5}}, {x}},
             "pad.elements", {});
  note_what_is_missing();
}

TEST(CudaFloat8, ProductsGoToTheKernelsThatMayTakeThem) {
  Problem problem;
  problem.op = make_op("MatMul", {{"to", std::string("float8e4m3")}});
  const Tensor weights = numbers(kFloat8, {64, 64}, 1);
  problem.inputs = {{kFloat8, {Dim(32), Dim(64)}}, weights.type()};
  problem.outputs = {{kFloat8, {Dim(32), Dim(64)}}};
  problem.input_shapes = {{32, 64}, {64, 64}};
  problem.output_shapes = {{32, 64}};
  problem.constants = {nullptr, &weights};
  const auto takes = [&](const char* device, std::string_view tactic) {
    const auto offers = make_offline_backend(preset_traits(device))->candidates(problem);
    return std::any_of(offers.begin(), offers.end(),
                       [&](const Candidate& c) { return c.tactic == tactic && c.refusal.empty(); });
  };
  EXPECT_TRUE(takes("h100", "gemm.wgmma"));
  EXPECT_TRUE(takes("l4", "gemm.tiles"));
  EXPECT_FALSE(takes("a100", "gemm.tiles"));
  EXPECT_TRUE(takes("a100", "gemm.plain"));
  problem.strict = true;  // wgmma keeps too few bits of the sums, mma.sync keeps float32's
  EXPECT_FALSE(takes("h100", "gemm.wgmma"));
  EXPECT_TRUE(takes("h100", "gemm.tiles"));
  EXPECT_TRUE(make_offline_backend(preset_traits("l4"))->abilities().float8_products);
  EXPECT_FALSE(make_offline_backend(preset_traits("a100"))->abilities().float8_products);
}

}  // namespace
}  // namespace tenfold::cuda
