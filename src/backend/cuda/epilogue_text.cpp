// The text of epilogues, and the binding of their operands.
#include "backend/cuda/epilogue_text.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include <fmt/format.h>

#include "backend/cuda/pointwise_text.hpp"

namespace tenfold::cuda {
namespace {

using Kind = EpilogueSpec::Kind;

/// Axes of rows that a broadcast operand may have strides over.
constexpr int kRowAxes = 3;

constexpr std::string_view kUnitText = R"(
// kUnit neighbouring elements as they lie in memory.
template <typename T>
struct Packed { u32 words[(kUnit * sizeof(T) + 3) / 4]; };
TF_FN float unpack(const Packed<float>& p, int i) { return tf::float_of(p.words[i]); }
TF_FN float unpack(const Packed<int>& p, int i) { return (float)(int)p.words[i]; }
TF_FN float unpack(const Packed<tf::f16>& p, int i) { return tf::to_float(tf::f16{(u16)(p.words[i / 2] >> (16 * (i % 2)))}); }
TF_FN float unpack(const Packed<tf::bf16>& p, int i) { return tf::to_float(tf::bf16{(u16)(p.words[i / 2] >> (16 * (i % 2)))}); }
TF_FN float unpack(const Packed<signed char>& p, int i) { return (float)(signed char)(p.words[i / 4] >> (8 * (i % 4))); }
TF_FN float unpack(const Packed<unsigned char>& p, int i) { return (float)((p.words[i / 4] >> (8 * (i % 4))) & 0xffu); }
TF_FN float unpack(const Packed<bool>& p, int i) { return ((p.words[i / 4] >> (8 * (i % 4))) & 0xffu) != 0u ? 1.0f : 0.0f; }
// float8 is converted in pairs where there are such instructions.
TF_FN float unpack(const Packed<tf::f8>& p, int i) {
#if __CUDA_ARCH__ >= 890
  u32 pair;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"((u16)(p.words[i / 4] >> (16 * (i / 2 % 2)))));
  return tf::to_float(tf::f16{(u16)(pair >> (16 * (i % 2)))});
#else
  return tf::to_float(tf::f8{(unsigned char)(p.words[i / 4] >> (8 * (i % 4)))});
#endif
}
TF_FN void pack(Packed<float>& p, const float (&v)[kUnit]) {
#pragma unroll
  for (int i = 0; i < kUnit; ++i) p.words[i] = tf::bits_of(v[i]);
}
TF_FN void pack(Packed<tf::f16>& p, const float (&v)[kUnit]) {
#pragma unroll
  for (int i = 0; i < kUnit / 2; ++i) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(p.words[i]) : "f"(v[2 * i + 1]), "f"(v[2 * i]));
}
TF_FN void pack(Packed<tf::bf16>& p, const float (&v)[kUnit]) {
#pragma unroll
  for (int i = 0; i < kUnit / 2; ++i) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(p.words[i]) : "f"(v[2 * i + 1]), "f"(v[2 * i]));
}
TF_FN void pack(Packed<tf::f8>& p, const float (&v)[kUnit]) {
#pragma unroll
  for (int i = 0; i < (kUnit + 3) / 4; ++i) p.words[i] = 0;
#pragma unroll
  for (int i = 0; i < kUnit / 2; ++i) {
#if __CUDA_ARCH__ >= 890
    u16 pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(v[2 * i + 1]), "f"(v[2 * i]));
#else
    const u32 pair = tf::from_float<tf::f8>(v[2 * i]).bits | (u32)tf::from_float<tf::f8>(v[2 * i + 1]).bits << 8;
#endif
    p.words[i / 2] |= (u32)pair << (16 * (i % 2));
  }
}
// Rounds to nearest even by adding 1.5 * 2^23, which leaves the integer in the low bits.
template <typename T>
TF_FN void pack_bytes(Packed<T>& p, const float (&v)[kUnit], float low, float high) {
#pragma unroll
  for (int i = 0; i < (kUnit + 3) / 4; ++i) {
    u32 b[4] = {0, 0, 0, 0};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (4 * i + k < kUnit) b[k] = tf::bits_of(fminf(fmaxf(v[4 * i + k], low), high) + 12582912.0f);
    }
    p.words[i] = __byte_perm(__byte_perm(b[0], b[1], 0x0040), __byte_perm(b[2], b[3], 0x0040), 0x5410);
  }
}
TF_FN void pack(Packed<signed char>& p, const float (&v)[kUnit]) { pack_bytes(p, v, -128.0f, 127.0f); }
TF_FN void pack(Packed<unsigned char>& p, const float (&v)[kUnit]) { pack_bytes(p, v, 0.0f, 255.0f); }
template <typename T>
TF_FN void load_vector(const T* from, Packed<T>& p) {
  constexpr int kWords = sizeof(p.words) / 4;
#pragma unroll
  for (int i = 0; i < kWords; i += 4) {
    if constexpr (kWords >= 4) {
      const uint4 w = *(const uint4*)((const u32*)from + i);
      p.words[i] = w.x, p.words[i + 1] = w.y, p.words[i + 2] = w.z, p.words[i + 3] = w.w;
    } else if constexpr (kWords == 2) {
      const uint2 w = *(const uint2*)from;
      p.words[0] = w.x, p.words[1] = w.y;
    } else {
      p.words[0] = *(const u32*)from;
    }
  }
}
// The first `count` of the elements, by themselves; the others become 0.
template <typename T>
TF_FN void load_elements(const T* from, int count, Packed<T>& p) {
#pragma unroll
  for (int i = 0; i < (int)(sizeof(p.words) / 4); ++i) p.words[i] = 0;
  constexpr int kBytes = sizeof(T);
#pragma unroll
  for (int i = 0; i < kUnit; ++i) {
    if (i >= count) continue;
    u32 bits;
    if constexpr (kBytes == 4) bits = ((const u32*)from)[i];
    else if constexpr (kBytes == 2) bits = ((const u16*)from)[i];
    else bits = ((const unsigned char*)from)[i];
    p.words[i * kBytes / 4] |= bits << (8 * (i * kBytes % 4));
  }
}
template <typename T>
TF_FN void load_unit(const T* from, int count, bool aligned, Packed<T>& p) {
  if (sizeof(T) * kUnit >= 4 && aligned && count >= kUnit) load_vector(from, p);
  else load_elements(from, count, p);
}
template <typename T>
TF_FN void store_unit(T* to, int count, bool aligned, const Packed<T>& p) {
  constexpr int kWords = sizeof(p.words) / 4, kBytes = sizeof(T);
  if (aligned && count >= kUnit) {
    if constexpr (kWords >= 4) {
#pragma unroll
      for (int i = 0; i < kWords; i += 4) *(uint4*)((u32*)to + i) = make_uint4(p.words[i], p.words[i + 1], p.words[i + 2], p.words[i + 3]);
    } else if constexpr (kWords == 2) {
      *(uint2*)to = make_uint2(p.words[0], p.words[1]);
    } else {
      *(u32*)to = p.words[0];
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kUnit; ++i) {
    if (i >= count) continue;
    const u32 bits = p.words[i * kBytes / 4] >> (8 * (i * kBytes % 4));
    if constexpr (kBytes == 4) ((u32*)to)[i] = bits;
    else if constexpr (kBytes == 2) ((u16*)to)[i] = (u16)bits;
    else ((unsigned char*)to)[i] = (unsigned char)bits;
  }
}
)";

Kind kind_of(const TensorType& operand, const TensorType& output) {
  const auto is_one = [](const Dim& dim) { return dim == Dim(1); };
  if (std::all_of(operand.dims.begin(), operand.dims.end(), is_one)) return Kind::scalar;
  if (operand.dims == output.dims) return Kind::whole;
  if (std::all_of(operand.dims.begin(), operand.dims.end() - 1, is_one) && operand.dims.back() == output.dims.back()) {
    return Kind::column;
  }
  return Kind::broadcast;
}

bool is_known_operand(DType dtype) {
  switch (dtype) {
    case DType::float32:
    case DType::float16:
    case DType::bfloat16:
    case DType::int8:
    case DType::uint8:
    case DType::float8e4m3:
    case DType::int32:
    case DType::boolean:
      return true;
    default:
      return false;
  }
}

}  // namespace

int EpilogueSpec::stageable(DType output) const {
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (operands[i].kind == Kind::whole && operands[i].dtype == output) return static_cast<int>(i);
  }
  return -1;
}

int EpilogueSpec::num_whole() const {
  return static_cast<int>(std::count_if(operands.begin(), operands.end(), [](const Operand& operand) {
    return operand.kind == Kind::whole || operand.kind == Kind::broadcast;
  }));
}

std::optional<EpilogueSpec> epilogue_spec(const PointwiseProgram& program, std::span<const TensorType> inputs,
                                          int first_input, const TensorType& output, std::string& refusal, bool gated) {
  EpilogueSpec spec;
  spec.gated = gated;
  spec.program = program;
  const int count = program.empty() ? 0 : program.num_inputs - (gated ? 2 : 1);
  if (count > kMaxEpilogueOperands) {
    refusal = fmt::format("the epilogue has {} operands, at most {} are supported", count, kMaxEpilogueOperands);
    return std::nullopt;
  }
  for (int i = 0; i < count; ++i) {
    const std::size_t index = static_cast<std::size_t>(first_input + i);
    if (index >= inputs.size() || !is_known_operand(inputs[index].dtype)) {
      refusal = fmt::format("operand {} of the epilogue has an unsupported type", i);
      return std::nullopt;
    }
    const TensorType& type = inputs[index];
    const EpilogueSpec::Operand operand{.kind = kind_of(type, output),
                                        .dtype = type.dtype,
                                        .has_columns = !type.dims.empty() && type.dims.back() != Dim(1)};
    if (operand.kind == Kind::broadcast && output.rank() > kRowAxes + 1) {
      refusal = fmt::format("operand {} of the epilogue is broadcast over more than {} axes", i, kRowAxes);
      return std::nullopt;
    }
    spec.operands.push_back(operand);
  }
  return spec;
}

std::string emit_epilogue(const EpilogueSpec& spec, DType output, int unit, bool is_staged) {
  const int staged = is_staged ? spec.stageable(output) : -1;
  ensure(!is_staged || staged >= 0, "a schedule stages a residual that does not exist");
  std::string text = fmt::format("constexpr int kUnit = {};\ntypedef {} Out;\n", unit, device_type(output));
  text += kUnitText;

  std::string channels, load_channels, rows, load_rows, finish;
  std::vector<std::string> names{"x"};
  if (spec.gated) names.emplace_back("gate[i]");
  if (spec.has_bias) {
    channels += "  Packed<float> bias;\n";
    load_channels += "  load_vector(args.bias + channel, values.bias);\n";
  }
  bool needs_axes = false;
  std::string broadcasts;
  for (std::size_t i = 0; i < spec.operands.size(); ++i) {
    const EpilogueSpec::Operand& operand = spec.operands[i];
    const std::string_view type = device_type(operand.dtype);
    names.push_back(fmt::format("operand{}", i));
    const auto use = [&](std::string_view from) {
      finish += fmt::format("    const float operand{} = {};\n", i, from);
    };
    switch (operand.kind) {
      case Kind::scalar:
        broadcasts +=
            fmt::format("  const float scalar{0} = tf::to_float(*(const {1}*)args.operands[{0}].data);\n", i, type);
        use(fmt::format("scalar{}", i));
        break;
      case Kind::column:
        channels += fmt::format("  Packed<{}> operand{};\n", type, i);
        load_channels += fmt::format(
            "  load_unit((const {0}*)args.operands[{1}].data + channel, args.n - channel, args.aligned, "
            "values.operand{1});\n",
            type, i);
        use(fmt::format("unpack(columns.operand{}, i)", i));
        break;
      case Kind::whole:
        rows += fmt::format("  Packed<{}> operand{};\n", type, i);
        if (static_cast<int>(i) == staged) {
          load_rows += fmt::format("  load_vector((const {}*)staged, values.operand{});\n", type, i);
        } else {
          load_rows += fmt::format(
              "  load_unit((const {0}*)args.operands[{1}].data + row * args.operands[{1}].stride_q + channel, args.n - "
              "channel, args.aligned, values.operand{1});\n",
              type, i);
        }
        use(fmt::format("unpack(rows.operand{}, i)", i));
        break;
      case Kind::broadcast:
        needs_axes = true;
        broadcasts += fmt::format(
            "  const {0}* const from{1} = (const {0}*)args.operands[{1}].data + n * args.operands[{1}].stride_n + p * "
            "args.operands[{1}].stride_p + q * args.operands[{1}].stride_q;\n",
            type, i);
        if (operand.has_columns) {
          broadcasts += fmt::format(
              "  Packed<{0}> packed{1};\n  load_unit(from{1} + channel, args.n - channel, args.aligned, packed{1});\n",
              type, i);
          use(fmt::format("unpack(packed{}, i)", i));
        } else {
          broadcasts += fmt::format("  const float scalar{0} = tf::to_float(*from{0});\n", i);
          use(fmt::format("scalar{}", i));
        }
        break;
    }
  }
  if (needs_axes) {
    broadcasts =
        "  const u32 image = (u32)row / (u32)(args.out_h * args.out_w), inside = (u32)row - image * (u32)(args.out_h * "
        "args.out_w);\n  const long long n = image, p = inside / (u32)args.out_w, q = inside % (u32)args.out_w;\n" +
        broadcasts;
  }
  std::string start = "v[i]";
  if (spec.has_bias) start += " + unpack(columns.bias, i)";
  const ProgramText program = emit_program(spec.program, names, "r", math_mode_for(output), "    ");

  text += fmt::format(R"(
// What the results of kUnit columns share.
struct ChannelValues {{
{}
}};
// What is read for one unit of a row; loaded early, because it comes from far.
struct RowValues {{
{}
}};
TF_FN void load_channels(const GemmArguments& args, int channel, ChannelValues& values) {{
{}}}
// `staged`: the unit of the residual in shared memory.
TF_FN void load_rows(const GemmArguments& args, long long row, int channel, const char* staged, RowValues& values) {{
{}}}
// Finishes columns channel .. channel + kUnit - 1 of one row. `gate`: of the other columns, where there are such.
TF_FN void complete(const float (&v)[kUnit], const float (&gate)[kUnit], const ChannelValues& columns, const RowValues& rows, const GemmArguments& args, long long row, int channel, Packed<Out>& packed) {{
{}  float y[kUnit];
#pragma unroll
  for (int i = 0; i < kUnit; ++i) {{
    const float x = {};
{}{}    y[i] = {};
  }}
  pack(packed, y);
}}
// The same, and stores them.
TF_FN void finish(const float (&v)[kUnit], const float (&gate)[kUnit], const ChannelValues& columns, const RowValues& rows, const GemmArguments& args, long long row, int channel) {{
  Packed<Out> packed;
  complete(v, gate, columns, rows, args, row, channel, packed);
  store_unit((Out*)args.out + row * args.out_pitch + channel, args.n - channel, args.aligned, packed);
}}
)",
                      channels, rows, load_channels, load_rows, broadcasts, start, finish, program.statements,
                      program.result);
  return text;
}

void bind_output(const TensorView& output, int unit, GemmArguments& arguments) {
  arguments.out = output.data;
  arguments.out_pitch = output.pitch;
  arguments.n = static_cast<int>(output.dims.back());
  const std::uint64_t bytes = size_of(output.dtype) * static_cast<std::uint64_t>(unit);
  arguments.aligned = std::bit_cast<std::uintptr_t>(output.data) % bytes == 0 &&
                      static_cast<std::uint64_t>(output.pitch) % static_cast<std::uint64_t>(unit) == 0;
  // Rows are numbered over the axes [n, p, q] for broadcast operands.
  const int rank = output.rank();
  arguments.out_h = rank >= 3 ? static_cast<int>(output.dim(rank - 3)) : 1;
  arguments.out_w = rank >= 2 ? static_cast<int>(output.dim(rank - 2)) : 1;
}

void bind_operands(const EpilogueSpec& spec, std::span<const TensorView> inputs, int first_input,
                   const TensorView& output, GemmArguments& arguments) {
  const auto unit_bytes = [&](DType dtype) {
    return std::min<std::uint64_t>(16, size_of(dtype) * (16 / size_of(output.dtype)));
  };
  for (std::size_t i = 0; i < spec.operands.size(); ++i) {
    const TensorView& view = inputs[static_cast<std::size_t>(first_input) + i];
    EpilogueOperand& operand = arguments.operands[i];
    operand = {view.data, 0, 0, 0};
    if (std::bit_cast<std::uintptr_t>(view.data) % unit_bytes(view.dtype) != 0) arguments.aligned = 0;
    if (spec.operands[i].kind == Kind::whole) {
      operand.stride_q = view.pitch;
    } else if (spec.operands[i].kind == Kind::broadcast) {
      // Strides of the axes in front of the last one, counted from it; an axis of 1 stands still.
      std::array<long long, kRowAxes> strides{};
      long long step = view.pitch;
      for (int axis = view.rank() - 2, k = kRowAxes - 1; axis >= 0 && k >= 0; --axis, --k) {
        strides[static_cast<std::size_t>(k)] = view.dim(axis) == 1 ? 0 : step;
        step *= view.dim(axis);
      }
      operand.stride_n = strides[0];
      operand.stride_p = strides[1];
      operand.stride_q = strides[2];
    }
    if (view.rank() > 0 && view.dims.back() > 1 &&
        static_cast<std::uint64_t>(view.pitch) * size_of(view.dtype) % unit_bytes(view.dtype) != 0) {
      arguments.aligned = 0;
    }
  }
}

}  // namespace tenfold::cuda
