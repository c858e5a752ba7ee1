// Shapes on the command line: "x:1x3x224x224,mask:1x128", and profiles made of them.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "build/builder.hpp"
#include "import/import.hpp"
#include "session.hpp"

namespace tenfold::cli {

using NamedShapes = std::map<std::string, Shape>;

/// The options that give shapes, as written. Each occurrence of --min/--opt/--max-shapes belongs to the next profile.
struct ShapeOptions {
  std::vector<std::string> min, opt, max;
  std::string exact;                ///< --shapes: min = opt = max
  std::string fixed;                ///< --fix-shapes: decided before the import; -1 keeps an axis symbolic
  std::vector<std::string> values;  ///< --fix-input NAME=VALUE: inputs that become constants
  /// Is no profile described?
  bool is_empty() const { return min.empty() && opt.empty() && max.empty() && exact.empty(); }
};
void add_shape_options(CLI::App& command, ShapeOptions& options);
/// --fix-shapes and --fix-input alone, for commands that read a model without building it.
void add_import_options(CLI::App& command, ShapeOptions& options);
/// What --fix-shapes and --fix-input say. "rate=16000" is an int64 scalar, "scale=0.5" a float32 one, "axes=0,2" a
/// list, "x=FILE.npy" an array. Throws Error(invalid_argument).
ImportOptions import_options(const ShapeOptions& options);

/// "name:1x3x224x224,other:8"; the name ends at the last colon, "name:" is a scalar. Throws Error(invalid_argument).
/// `allow_unknown`: -1 is a legal dimension.
NamedShapes parse_shapes(std::string_view text, bool allow_unknown = false);
/// The same, and none for an empty text.
NamedShapes parse_shapes_or_none(std::string_view text);
/// The inverse of parse_shapes.
std::string format_shapes(const NamedShapes& shapes);
/// "1x3x224x224", "scalar"
std::string format_shape(const Shape& shape);

/// Shapes of all inputs of `graph`: those given, those that are static, and those whose dimensions follow from the
/// given ones because they share symbols. Inputs that stay unknown are left out. Throws Error(invalid_argument) for an
/// unknown name, a wrong rank, or a dimension that contradicts the model.
NamedShapes complete_shapes(const Graph& graph, const NamedShapes& given);
/// The profiles that the options describe. Empty if the model has no dynamic dimension and none is given.
/// Throws Error(invalid_argument) when a dynamic input gets no shape; the message lists them and what to write.
/// `command`: how the program was called, for that message; `ranges`: it suggests min, opt and max.
std::vector<ProfileSpec> make_profiles(const Graph& graph, const ShapeOptions& options, const std::string& command,
                                       bool ranges);

}  // namespace tenfold::cli
