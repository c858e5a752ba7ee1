// Shapes on the command line.
#include "shapes.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/error.hpp"
#include "npz.hpp"

namespace tenfold::cli {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

// A dimension that suits an example command.
std::int64_t example_dim(const TensorType& type, int axis, int which) {
  const bool is_image = type.rank() == 4;
  const bool is_outer = axis == 0;
  const bool is_channel = is_image && axis == 1;
  if (is_channel) return 3;
  if (is_outer) return which == 2 ? 8 : 1;
  constexpr std::int64_t kImage[] = {32, 224, 640};
  constexpr std::int64_t kOther[] = {1, 128, 512};
  return is_image ? kImage[which] : kOther[which];
}

std::string example(const Graph& graph, const std::vector<ValueId>& inputs, int which) {
  NamedShapes shapes;
  for (const ValueId id : inputs) {
    const TensorType& type = graph.value(id).type;
    Shape shape;
    for (int axis = 0; axis < type.rank(); ++axis) {
      const Dim& dim = type.dims[static_cast<std::size_t>(axis)];
      shape.push_back(dim.is_constant() ? dim.constant() : example_dim(type, axis, which));
    }
    shapes[graph.value(id).name] = shape;
  }
  return format_shapes(shapes);
}

std::string quoted_if_needed(const std::string& text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_-.,:/").find(c) != std::string_view::npos;
  });
  return plain ? text : "'" + text + "'";
}

[[noreturn]] void throw_missing(const Graph& graph, const std::vector<ValueId>& missing, const std::string& command,
                                bool ranges) {
  std::string text = "the model's input shapes are dynamic, and these have no shape yet:\n";
  for (const ValueId id : missing) {
    text += fmt::format("  {}: {}\n", graph.value(id).name, to_string(graph.value(id).type));
  }
  if (ranges) {
    text += fmt::format(
        "say which shapes the engine shall accept and which it shall be fastest at, for instance:\n"
        "  {} \\\n    --min-shapes {} \\\n    --opt-shapes {} \\\n    --max-shapes {}",
        command, quoted_if_needed(example(graph, missing, 0)), quoted_if_needed(example(graph, missing, 1)),
        quoted_if_needed(example(graph, missing, 2)));
  } else {
    text += fmt::format("give them, for instance:\n  {} --shapes {}", command,
                        quoted_if_needed(example(graph, missing, 1)));
  }
  throw Error(Code::invalid_argument, text);
}

Tensor parse_constant(std::string_view text) {
  if (text.ends_with(".npy")) return read_npy(std::string(text));
  const std::vector<std::string_view> parts = split(text, ',');
  const Shape shape = parts.size() == 1 ? Shape{} : Shape{std::ssize(parts)};
  std::vector<std::int64_t> integers;
  std::vector<float> floats;
  for (const std::string_view part : parts) {
    std::int64_t integer = 0;
    float number = 0;
    const char* const end = part.data() + part.size();
    if (const auto [stop, problem] = std::from_chars(part.data(), end, integer);
        problem == std::errc{} && stop == end) {
      integers.push_back(integer);
    }
    const auto [stop, problem] = std::from_chars(part.data(), end, number);
    require(problem == std::errc{} && stop == end, Code::invalid_argument, "'{}' is no number", part);
    floats.push_back(number);
  }
  if (integers.size() == parts.size()) return Tensor::of_int64(shape, integers);
  return Tensor::from<float>(DType::float32, shape, floats);
}

}  // namespace

void add_shape_options(CLI::App& command, ShapeOptions& options) {
  command.add_option("--min-shapes,--minShapes", options.min, "Smallest shapes, NAME:1x3x32x32,... (one per profile)")
      ->allow_extra_args(false)
      ->group("Shapes");
  command.add_option("--opt-shapes,--optShapes", options.opt, "Shapes that tactics are timed at (one per profile)")
      ->allow_extra_args(false)
      ->group("Shapes");
  command.add_option("--max-shapes,--maxShapes", options.max, "Largest shapes (one per profile)")
      ->allow_extra_args(false)
      ->group("Shapes");
  command.add_option("--shapes", options.exact, "One profile with exactly these shapes")->group("Shapes");
  add_import_options(command, options);
}

void add_import_options(CLI::App& command, ShapeOptions& options) {
  command
      .add_option("--fix-shapes", options.fixed,
                  "Replace the shapes that the model declares before it is read; -1 keeps an axis dynamic")
      ->group("Shapes");
  command
      .add_option("--fix-input", options.values,
                  "Make an input a constant: NAME=16000, NAME=0,2 or NAME=FILE.npy (repeatable)")
      ->allow_extra_args(false)
      ->group("Shapes");
}

ImportOptions import_options(const ShapeOptions& options) {
  ImportOptions result;
  if (!options.fixed.empty()) result.input_shapes = parse_shapes(options.fixed, true);
  for (const std::string& text : options.values) {
    const std::size_t equals = text.find('=');
    require(equals != std::string::npos && equals > 0, Code::invalid_argument,
            "--fix-input {}: expected NAME=16000, NAME=0,2 or NAME=FILE.npy", text);
    require(result.input_values.emplace(text.substr(0, equals), parse_constant(text.substr(equals + 1))).second,
            Code::invalid_argument, "--fix-input {}: the input is given twice", text);
  }
  return result;
}

NamedShapes parse_shapes(std::string_view text, bool allow_unknown) {
  NamedShapes shapes;
  for (std::string_view part : split(text, ',')) {
    const std::size_t colon = part.rfind(':');
    require(colon != std::string_view::npos && colon > 0, Code::invalid_argument,
            "'{}' is no shape: expected NAME:1x3x224x224", part);
    std::string_view name = part.substr(0, colon);
    if (name.size() > 2 && name.front() == '\'' && name.back() == '\'') name = name.substr(1, name.size() - 2);
    const std::string_view dims = part.substr(colon + 1);
    Shape shape;
    if (!dims.empty() && dims != "scalar") {
      for (const std::string_view dim : split(dims, 'x')) {
        std::int64_t value = 0;
        const auto [end, problem] = std::from_chars(dim.data(), dim.data() + dim.size(), value);
        require(problem == std::errc{} && end == dim.data() + dim.size() && value >= (allow_unknown ? -1 : 0) &&
                    value < (std::int64_t{1} << 31),
                Code::invalid_argument, "'{}': '{}' is no dimension", part, dim);
        shape.push_back(value);
      }
    }
    require(shape.size() <= static_cast<std::size_t>(kMaxRank), Code::invalid_argument,
            "'{}': {} dimensions, at most {} are possible", part, shape.size(), kMaxRank);
    require(shapes.emplace(name, std::move(shape)).second, Code::invalid_argument, "'{}': input '{}' is given twice",
            text, name);
  }
  return shapes;
}

NamedShapes parse_shapes_or_none(std::string_view text) { return text.empty() ? NamedShapes{} : parse_shapes(text); }

std::string format_shape(const Shape& shape) {
  return shape.empty() ? "scalar" : fmt::format("{}", fmt::join(shape, "x"));
}

std::string format_shapes(const NamedShapes& shapes) {
  std::string text;
  for (const auto& [name, shape] : shapes) {
    if (!text.empty()) text += ',';
    text += fmt::format("{}:{}", name, fmt::join(shape, "x"));
  }
  return text;
}

NamedShapes complete_shapes(const Graph& graph, const NamedShapes& given) {
  std::vector<std::string> names;
  for (const ValueId id : graph.inputs()) names.push_back(graph.value(id).name);
  for (const auto& [name, shape] : given) {
    require(std::find(names.begin(), names.end(), name) != names.end(), Code::invalid_argument,
            "the model has no input '{}'; its inputs are {}", name, fmt::join(names, ", "));
  }

  std::map<std::string, std::pair<std::int64_t, std::string>> symbols;  // value, and the input that says so
  for (const ValueId id : graph.inputs()) {
    const Value& value = graph.value(id);
    const auto found = given.find(value.name);
    if (found == given.end()) continue;
    const Shape& shape = found->second;
    require(shape.size() == value.type.dims.size(), Code::invalid_argument,
            "input '{}': shape {} has {} dimensions, the model's {} has {}", value.name, format_shape(shape),
            shape.size(), to_string(value.type), value.type.dims.size());
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
      const Dim& dim = value.type.dims[axis];
      require(!dim.is_constant() || dim.constant() == shape[axis], Code::invalid_argument,
              "input '{}', axis {}: the model fixes it at {}, got {}", value.name, axis,
              dim.is_constant() ? dim.constant() : 0, shape[axis]);
      if (const auto symbol = dim.as_symbol()) {
        const auto [entry, is_new] = symbols.try_emplace(*symbol, shape[axis], value.name);
        require(is_new || entry->second.first == shape[axis], Code::invalid_argument,
                "input '{}', axis {}: '{}' is {} here but {} in input '{}'", value.name, axis, *symbol, shape[axis],
                entry->second.first, entry->second.second);
      }
    }
  }

  NamedShapes all = given;
  for (const ValueId id : graph.inputs()) {
    const Value& value = graph.value(id);
    if (given.contains(value.name)) continue;
    Shape shape;
    for (const Dim& dim : value.type.dims) {
      const auto symbol = dim.as_symbol();
      if (dim.is_constant()) {
        shape.push_back(dim.constant());
      } else if (symbol && symbols.contains(*symbol)) {
        shape.push_back(symbols[*symbol].first);
      }
    }
    if (shape.size() == value.type.dims.size()) all[value.name] = shape;
  }
  return all;
}

std::vector<ProfileSpec> make_profiles(const Graph& graph, const ShapeOptions& options, const std::string& command,
                                       bool ranges) {
  std::vector<ValueId> dynamic;
  for (const ValueId id : graph.inputs()) {
    if (!graph.value(id).type.is_static()) dynamic.push_back(id);
  }
  const std::size_t count = std::max({options.min.size(), options.opt.size(), options.max.size()});
  for (const auto* list : {&options.min, &options.opt, &options.max}) {
    require(list->empty() || list->size() == count, Code::invalid_argument,
            "--min-shapes is given {} times, --opt-shapes {} and --max-shapes {}: each profile needs one of each",
            options.min.size(), options.opt.size(), options.max.size());
  }
  require(options.exact.empty() || count == 0, Code::invalid_argument,
          "--shapes stands for a profile of its own: give either it or --min-shapes, --opt-shapes and --max-shapes");
  if (options.exact.empty() && count == 0) {
    if (!dynamic.empty()) throw_missing(graph, dynamic, command, ranges);
    return {};
  }

  std::vector<ProfileSpec> profiles;
  for (std::size_t i = 0; i < std::max<std::size_t>(count, 1); ++i) {
    const auto pick = [&](std::initializer_list<const std::vector<std::string>*> order) {
      for (const auto* list : order) {
        if (!list->empty()) return complete_shapes(graph, parse_shapes((*list)[i]));
      }
      return complete_shapes(graph, parse_shapes(options.exact));
    };
    const NamedShapes min = pick({&options.min, &options.opt, &options.max});
    const NamedShapes opt = pick({&options.opt, &options.max, &options.min});
    const NamedShapes max = pick({&options.max, &options.opt, &options.min});
    std::vector<ValueId> missing;
    ProfileSpec profile;
    for (const ValueId id : graph.inputs()) {
      const std::string& name = graph.value(id).name;
      if (!min.contains(name) || !opt.contains(name) || !max.contains(name)) {
        missing.push_back(id);
        continue;
      }
      const PlanRange range{min.at(name), opt.at(name), max.at(name)};
      for (std::size_t axis = 0; axis < range.min.size(); ++axis) {
        require(range.min[axis] <= range.opt[axis] && range.opt[axis] <= range.max[axis], Code::invalid_argument,
                "profile {}, input '{}', axis {}: min {}, opt {}, max {} are not in order", i, name, axis,
                range.min[axis], range.opt[axis], range.max[axis]);
      }
      profile[name] = range;
    }
    if (!missing.empty()) throw_missing(graph, missing, command, ranges);
    profiles.push_back(std::move(profile));
  }
  return profiles;
}

}  // namespace tenfold::cli
