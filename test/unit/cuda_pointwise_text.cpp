// The text of pointwise programs, compiled as host C++ and held against the programs' meaning.
#include <cmath>
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <limits>
#include <unistd.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "backend/cuda/pointwise_text.hpp"
#include "base/float16.hpp"

namespace tenfold::cuda {
namespace {

/// Compiled text; functions live as long as the object.
class HostModule {
 public:
  explicit HostModule(const std::string& text) {
    directory_ = std::filesystem::temp_directory_path() / fmt::format("tenfold_text_{}_{}", getpid(), count_++);
    std::filesystem::create_directories(directory_);
    std::ofstream(directory_ / "text.cpp") << text;
    const std::string command = fmt::format(
        "c++ -std=c++17 -O1 -ffp-contract=off -w -shared -fPIC -o {0}/text.so {0}/text.cpp", directory_.string());
    is_compiled_ = std::system(command.c_str()) == 0;
    if (is_compiled_) library_ = dlopen((directory_ / "text.so").c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  ~HostModule() {
    if (library_ != nullptr) dlclose(library_);
    std::filesystem::remove_all(directory_);
  }
  HostModule(const HostModule&) = delete;
  HostModule& operator=(const HostModule&) = delete;
  template <typename F>
  F* function(const std::string& name) const {
    return library_ == nullptr ? nullptr : reinterpret_cast<F*>(dlsym(library_, name.c_str()));
  }

 private:
  static inline int count_ = 0;
  std::filesystem::path directory_;
  bool is_compiled_ = false;
  void* library_ = nullptr;
};

bool has_compiler() { return std::system("c++ --version > /dev/null 2>&1") == 0; }

using Function = float(float, float, float);

/// extern "C" float <name>(float a, float b, float c), the program over as many of them as it has inputs.
std::string function_text(const std::string& name, const PointwiseProgram& program, MathMode mode) {
  std::vector<std::string> operands{"a", "b", "c"};
  operands.resize(static_cast<std::size_t>(program.num_inputs));
  const ProgramText text = emit_program(program, operands, "r", mode);
  return fmt::format("extern \"C\" float {}(float a, float b, float c) {{\n{}  return {};\n}}\n", name, text.statements,
                     text.result);
}

constexpr int kNumCodes = 0
#define TENFOLD_CODE(name, operands, formula) +1
    TENFOLD_POINTWISE_CODES(TENFOLD_CODE)
#undef TENFOLD_CODE
    ;

PointwiseProgram program_of(PointwiseCode code, float immediate) {
  PointwiseProgram program;
  program.num_inputs = std::max(1, num_operands(code));
  program.append(code, 0, std::min(1, program.num_inputs - 1), std::min(2, program.num_inputs - 1), immediate);
  return program;
}

TEST(CudaPointwiseText, EveryCodeAgreesWithItsMeaning) {
  if (!has_compiler()) GTEST_SKIP() << "no program c++ in PATH, so the text cannot be compiled";
  constexpr float kImmediate = 0.3F;
  std::string text(device_prelude());
  for (int i = 0; i < kNumCodes; ++i) {
    const PointwiseProgram program = program_of(static_cast<PointwiseCode>(i), kImmediate);
    text += function_text(fmt::format("exact_{}", i), program, MathMode::exact);
    text += function_text(fmt::format("fast_{}", i), program, MathMode::fast);
  }
  const HostModule module(text);
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> points{0.0F,   -0.0F, 1.0F,   -1.0F, 2.5F,     -3.5F,     0.5F, 1e-3F,
                            -1e-5F, 30.0F, -30.0F, 1e4F,  infinity, -infinity, nan};
  for (int i = 0; i < 61; ++i) points.push_back(-6.1F + 0.2F * static_cast<float>(i));
  for (int i = 0; i < kNumCodes; ++i) {
    const auto code = static_cast<PointwiseCode>(i);
    const std::string name(to_string(code));
    auto* exact = module.function<Function>(fmt::format("exact_{}", i));
    auto* fast = module.function<Function>(fmt::format("fast_{}", i));
    ASSERT_TRUE(exact != nullptr && fast != nullptr) << name;
    const PointwiseInstruction instruction = program_of(code, kImmediate).instructions.front();
    for (const float a : points) {
      for (const float b : {0.75F, -2.0F, a}) {
        const float c = 1.25F;
        const double wanted = evaluate(instruction, a, b, c);
        // A formula has at most four roundings and functions exact to 2 units in the last place, at the magnitude of
        // its largest intermediate value; the fast forms are compared at half precision's rounding, 2^-11 (tanh.approx
        // has it).
        // The subtraction in elu is one at magnitude 1.
        const double least = std::isfinite(a) && code != PointwiseCode::elu ? std::min(std::abs(double{a}), 1.0) : 1.0;
        const double scale = std::max(std::abs(wanted), least);
        for (const auto& [got, epsilon] :
             {std::pair(exact(a, b, c), 12 * 0x1p-24), std::pair(fast(a, b, c), 0x1p-10)}) {
          const auto rounded = static_cast<double>(static_cast<float>(wanted));
          if (!std::isfinite(rounded)) {
            EXPECT_TRUE(std::isnan(rounded) ? std::isnan(got) : got == rounded)
                << name << " of " << a << ", " << b << " is " << wanted << ", got " << got;
          } else {
            EXPECT_LE(std::abs(got - wanted), epsilon * scale)
                << name << " of " << a << ", " << b << " is " << wanted << ", got " << got;
          }
        }
      }
    }
  }
}

TEST(CudaPointwiseText, AProgramKeepsOnlyWhatItsResultNeeds) {
  const auto program = PointwiseProgram::parse(2, "mul 0 1; exp 0; add_imm 2 0x1.8p+0");
  const std::vector<std::string> operands{"x", "y"};
  const ProgramText text = emit_program(program, operands, "v", MathMode::exact);
  EXPECT_EQ(text.statements,
            "  const float v2 = tf::code_mul<float>(float(x), float(y), float(0.0f), 0x0p+0f);\n"
            "  const float v4 = tf::code_add_imm<float>(float(v2), float(0.0f), float(0.0f), 0x1.8p+0f);\n");
  EXPECT_EQ(text.result, "v4");
  PointwiseProgram empty;
  EXPECT_EQ(emit_program(empty, std::vector<std::string>{"x"}, "v", MathMode::fast).result, "x");
}

TEST(CudaPointwiseText, LiteralsLoseNothing) {
  EXPECT_EQ(float_literal(0.1F), "0x1.99999ap-4f");
  EXPECT_EQ(float_literal(-std::numeric_limits<float>::infinity()), "tf::float_of(0xff800000u)");
}

TEST(CudaPointwiseText, ElementsConvertLikeTheirTypes) {
  if (!has_compiler()) GTEST_SKIP() << "no program c++ in PATH, so the text cannot be compiled";
  std::string text(device_prelude());
  text += R"(
extern "C" float from_half(unsigned short bits) { return tf::to_float(tf::f16{bits}); }
extern "C" unsigned short to_half(float x) { return tf::from_float<tf::f16>(x).bits; }
extern "C" unsigned short to_bfloat(float x) { return tf::from_float<tf::bf16>(x).bits; }
extern "C" signed char to_int8(float x) { return tf::from_float<signed char>(x); }
extern "C" unsigned char to_uint8(float x) { return tf::from_float<unsigned char>(x); }
)";
  const HostModule module(text);
  auto* from_half = module.function<float(std::uint16_t)>("from_half");
  auto* to_half = module.function<std::uint16_t(float)>("to_half");
  auto* to_bfloat = module.function<std::uint16_t(float)>("to_bfloat");
  ASSERT_TRUE(from_half != nullptr && to_half != nullptr && to_bfloat != nullptr);
  for (int bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = Float16::decode(half);
    if (std::isnan(value)) continue;
    ASSERT_EQ(from_half(half), value) << bits;
    for (const float factor : {1.0F, 1.0002F, 1.00048828125F, 0.9996F}) {
      ASSERT_EQ(to_half(value * factor), Float16::encode(value * factor)) << value * factor;
      ASSERT_EQ(to_bfloat(value * factor), BFloat16::encode(value * factor)) << value * factor;
    }
  }
  auto* to_int8 = module.function<signed char(float)>("to_int8");
  auto* to_uint8 = module.function<unsigned char(float)>("to_uint8");
  ASSERT_TRUE(to_int8 != nullptr && to_uint8 != nullptr);
  EXPECT_EQ(to_int8(2.5F), 2);
  EXPECT_EQ(to_int8(-3.5F), -4);
  EXPECT_EQ(to_int8(1e9F), 127);
  EXPECT_EQ(to_int8(-1e9F), -128);
  EXPECT_EQ(to_uint8(-1.0F), 0);
  EXPECT_EQ(to_uint8(254.6F), 255);
}

}  // namespace
}  // namespace tenfold::cuda
