#include "graph/dtype.hpp"

#include <array>
#include <utility>

namespace tenfold {
namespace {

struct DTypeInfo {
  std::string_view name;
  std::size_t size;
  bool floating, integer, has_sign;
};
// Indexed by the enumerator.
constexpr std::array<DTypeInfo, kNumDTypes> kInfo{{
    {"undefined", 0, false, false, false},
    {"float32", 4, true, false, true},
    {"float64", 8, true, false, true},
    {"float16", 2, true, false, true},
    {"bfloat16", 2, true, false, true},
    {"int8", 1, false, true, true},
    {"uint8", 1, false, true, false},
    {"int16", 2, false, true, true},
    {"uint16", 2, false, true, false},
    {"int32", 4, false, true, true},
    {"uint32", 4, false, true, false},
    {"int64", 8, false, true, true},
    {"uint64", 8, false, true, false},
    {"bool", 1, false, false, false},
    {"float8e4m3", 1, false, false, true},
}};
const DTypeInfo& info(DType dtype) {
  const auto index = static_cast<std::size_t>(dtype);
  return kInfo[index < kInfo.size() ? index : 0];
}

}  // namespace

std::size_t size_of(DType dtype) { return info(dtype).size; }
std::string_view to_string(DType dtype) { return info(dtype).name; }
std::optional<DType> parse_dtype(std::string_view name) {
  for (std::size_t i = 1; i < kInfo.size(); ++i) {
    if (kInfo[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}
bool is_float(DType dtype) { return info(dtype).floating; }
bool is_integer(DType dtype) { return info(dtype).integer; }
bool is_signed(DType dtype) { return info(dtype).has_sign; }

}  // namespace tenfold
