// The inputs of a run.
#include "inputs.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include <fmt/format.h>

#include "base/error.hpp"
#include "npz.hpp"

namespace tenfold::cli {
namespace {

// SplitMix64 (Steele, Lea and Flood 2014): a counter run through a mixing function.
class Random {
 public:
  Random(std::uint64_t seed, std::string_view name) : state_(seed) {
    for (const char c : name) state_ = (state_ ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  }
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
  }

 private:
  std::uint64_t state_;
};

std::string expected(const std::vector<TensorInfo>& infos) {
  std::string text;
  for (const TensorInfo& info : infos) text += fmt::format("\n  {}", describe(info));
  return text;
}

const TensorInfo& find_input(const std::vector<TensorInfo>& infos, std::string_view name, std::string_view where) {
  for (const TensorInfo& info : infos) {
    if (info.name == name) return info;
  }
  throw Error(Code::invalid_argument,
              fmt::format("{}: there is no input '{}'; the inputs are{}", where, name, expected(infos)));
}

void require_fits(const TensorInfo& info, DType dtype, std::string_view descr, const Shape& shape,
                  std::string_view where) {
  require(dtype == info.dtype, Code::invalid_argument, "{}: input '{}' expects {}, got {}", where, info.name,
          to_string(info.dtype), dtype == DType::undefined ? descr : to_string(dtype));
  bool fits = shape.size() == info.dims.size();
  for (std::size_t i = 0; fits && i < shape.size(); ++i) fits = info.dims[i] < 0 || info.dims[i] == shape[i];
  require(fits, Code::invalid_argument, "{}: input {} got shape {}", where, describe(info), to_string(shape));
}

// "16000" fills the tensor; "1,2,3" lists its elements.
Tensor parse_literal(const TensorInfo& info, const Shape& known_shape, bool is_shape_known, std::string_view text) {
  std::vector<double> values;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    double value = 0;
    const auto [stop, problem] = std::from_chars(text.data() + begin, text.data() + end, value);
    require(problem == std::errc{} && stop == text.data() + end, Code::invalid_argument,
            "--input {}={}: is neither a .npy file nor a list of numbers", info.name, text);
    values.push_back(value);
    begin = end + 1;
  }
  Shape shape = known_shape;
  if (!is_shape_known && values.size() > 1 && info.dims.size() == 1) shape = {static_cast<std::int64_t>(values.size())};
  const std::int64_t count = num_elements(shape);
  require(values.size() == 1 || static_cast<std::int64_t>(values.size()) == count, Code::invalid_argument,
          "--input {}={}: {} numbers for shape {} with {} elements", info.name, text, values.size(), to_string(shape),
          count);
  Tensor tensor(info.dtype, shape);
  dispatch(info.dtype, [&]<typename T>() {
    auto out = tensor.as_mutable<T>();
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double value = values.size() == 1 ? values[0] : values[i];
      if constexpr (std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16> || std::is_same_v<T, Float8E4M3>) {
        out[i] = T(static_cast<float>(value));
      } else if constexpr (std::is_floating_point_v<T>) {
        out[i] = static_cast<T>(value);
      } else {
        require(value == static_cast<double>(static_cast<std::int64_t>(value)) &&
                    value >= static_cast<double>(std::numeric_limits<T>::min()) &&
                    value <= static_cast<double>(std::numeric_limits<T>::max()),
                Code::invalid_argument, "--input {}: {} is no {}", info.name, value, to_string(info.dtype));
        out[i] = static_cast<T>(value);
      }
    }
  });
  return tensor;
}

}  // namespace

void add_input_options(CLI::App& command, InputOptions& options) {
  command.add_option("--inputs", options.npz, "Input arrays by name, from an .npz file")->group("Inputs");
  command
      .add_option("--input", options.single,
                  "One input: NAME=FILE.npy, or NAME=16000 or NAME=1,2,3 for constants (repeatable)")
      ->allow_extra_args(false)
      ->group("Inputs");
  command
      .add_option("--random", options.seed, "Fill the inputs that nothing else gives with random numbers of this seed")
      ->type_name("SEED")
      ->group("Inputs");
}

Tensor random_tensor(DType dtype, const Shape& shape, std::uint64_t seed, std::string_view name) {
  Tensor tensor(dtype, shape);
  Random random(seed, name);
  dispatch(dtype, [&]<typename T>() {
    for (T& value : tensor.as_mutable<T>()) {
      const std::uint64_t bits = random.next();
      if constexpr (std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16> || std::is_same_v<T, Float8E4M3>) {
        value = T(static_cast<float>(bits >> 40U) * 0x1p-23F - 1);
      } else if constexpr (std::is_floating_point_v<T>) {
        value = static_cast<T>(bits >> 40U) * static_cast<T>(0x1p-23) - 1;
      } else {
        value = static_cast<T>(bits >> 63U);
      }
    }
  });
  return tensor;
}

std::vector<Tensor> gather_inputs(const std::vector<TensorInfo>& infos, const std::vector<ShapeRange>& profile,
                                  const NamedShapes& shapes, const InputOptions& options) {
  std::vector<std::optional<Tensor>> given(infos.size());
  const auto slot = [&](const TensorInfo& info) -> std::optional<Tensor>& {
    return given[static_cast<std::size_t>(&info - infos.data())];
  };
  const auto shape_of = [&](const TensorInfo& info) {
    const auto found = shapes.find(info.name);
    if (found == shapes.end()) return profile[static_cast<std::size_t>(&info - infos.data())].opt;
    return found->second;
  };
  for (const auto& entry : shapes) find_input(infos, entry.first, "--shapes");

  if (!options.npz.empty()) {
    const NpzReader reader(options.npz);
    for (const std::string& key : reader.keys()) {
      const TensorInfo& info = find_input(infos, key, options.npz);
      const ArrayHeader header = reader.header(key);
      require_fits(info, header.dtype, header.descr, header.shape, options.npz);
      slot(info) = reader.read(key);
    }
  }
  for (const std::string& text : options.single) {
    const std::size_t equals = text.find('=');
    require(equals != std::string::npos, Code::invalid_argument, "--input {}: expected NAME=FILE.npy or NAME=NUMBER",
            text);
    const TensorInfo& info = find_input(infos, text.substr(0, equals), "--input");
    const std::string value = text.substr(equals + 1);
    if (value.ends_with(".npy")) {
      Tensor tensor = read_npy(value);
      require_fits(info, tensor.dtype(), {}, tensor.shape(), value);
      slot(info) = std::move(tensor);
    } else {
      slot(info) = parse_literal(info, shape_of(info), shapes.contains(info.name), value);
    }
  }

  std::vector<Tensor> inputs;
  std::vector<TensorInfo> missing;
  for (const TensorInfo& info : infos) {
    if (!slot(info) && options.seed) slot(info) = random_tensor(info.dtype, shape_of(info), *options.seed, info.name);
    if (slot(info)) {
      inputs.push_back(std::move(*slot(info)));
    } else {
      missing.push_back(info);
    }
  }
  require(missing.empty(), Code::invalid_argument,
          "these inputs are not given; use --inputs FILE.npz, --input NAME=FILE.npy or --random SEED:{}",
          expected(missing));
  return inputs;
}

NamedShapes shapes_of_files(const InputOptions& options) {
  NamedShapes shapes;
  if (!options.npz.empty()) {
    const NpzReader reader(options.npz);
    for (const std::string& key : reader.keys()) shapes[key] = reader.header(key).shape;
  }
  for (const std::string& text : options.single) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || !text.ends_with(".npy")) continue;
    shapes[text.substr(0, equals)] = read_npy(text.substr(equals + 1)).shape();
  }
  return shapes;
}

int choose_profile(const Engine& engine, const NamedShapes& shapes) {
  const std::vector<TensorInfo> infos = engine.inputs();
  for (int index = 0; index < engine.num_profiles(); ++index) {
    const std::vector<ShapeRange> ranges = engine.profile(index);
    bool accepts = true;
    for (std::size_t i = 0; i < infos.size(); ++i) {
      const auto found = shapes.find(infos[i].name);
      if (found == shapes.end()) continue;
      const Shape& shape = found->second;
      accepts = accepts && shape.size() == ranges[i].min.size();
      for (std::size_t axis = 0; accepts && axis < shape.size(); ++axis) {
        accepts = ranges[i].min[axis] <= shape[axis] && shape[axis] <= ranges[i].max[axis];
      }
    }
    if (accepts) return index;
  }
  return 0;
}

void bind_inputs(Context& context, const std::vector<TensorInfo>& infos, std::span<const Tensor> tensors) {
  for (std::size_t i = 0; i < infos.size(); ++i) {
    context.set_input(infos[i].name, tensors[i].shape(), tensors[i].data());
  }
}

std::string describe(const TensorInfo& info) {
  std::vector<std::string> dims;
  for (std::size_t i = 0; i < info.dims.size(); ++i) {
    dims.push_back(info.dims[i] >= 0           ? std::to_string(info.dims[i])
                   : i < info.dim_names.size() ? info.dim_names[i]
                                               : "?");
  }
  return fmt::format("{}: {}[{}]", info.name, to_string(info.dtype), fmt::join(dims, ", "));
}

Tensor to_tensor(const OutputView& view) {
  Tensor tensor(view.dtype, view.dims);
  ensure(tensor.size_bytes() == view.size_bytes, "output of {} bytes has a shape of {} bytes", view.size_bytes,
         tensor.size_bytes());
  if (view.size_bytes > 0) std::memcpy(tensor.mutable_data(), view.data, view.size_bytes);
  return tensor;
}

}  // namespace tenfold::cli
