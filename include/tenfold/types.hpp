// Types shared by the public API and the inside: element types and errors.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace tenfold {

/// The numbers are stored in engine files and are part of the C ABI: append only.
enum class DType : std::uint8_t {
  undefined = 0,
  float32 = 1,
  float64 = 2,
  float16 = 3,
  bfloat16 = 4,
  int8 = 5,
  uint8 = 6,
  int16 = 7,
  uint16 = 8,
  int32 = 9,
  uint32 = 10,
  int64 = 11,
  uint64 = 12,
  boolean = 13,     ///< one byte, 0 or 1
  float8e4m3 = 14,  ///< ONNX's FLOAT8E4M3FN: up to 448, NaN, no infinities; only stored, multiplied and converted
};

/// Bytes of one element; 0 for `undefined`.
std::size_t size_of(DType dtype);
/// "float32", "int64", "bool" ...
std::string_view to_string(DType dtype);
/// The inverse of to_string; nullopt for an unknown name.
std::optional<DType> parse_dtype(std::string_view name);

bool is_float(DType dtype);    ///< float64, float32, float16, bfloat16
bool is_integer(DType dtype);  ///< all int and uint types; not bool
bool is_signed(DType dtype);

/// What the caller can do about a failure. The numbers are part of the C ABI.
enum class Code : int {
  ok = 0,
  invalid_argument = 1,     ///< the call is wrong: a shape, a name, an option, a path
  invalid_model = 2,        ///< the model file is broken or contradicts itself
  unsupported = 3,          ///< the model is valid, but this version cannot compile or run it
  out_of_memory = 4,        ///< memory or a configured memory limit is exhausted
  device_failure = 5,       ///< the device or its driver failed
  incompatible_engine = 6,  ///< the engine is broken or was built for another version or processor
  cancelled = 7,            ///< the caller asked to stop
  io_failure = 8,           ///< a file could not be read or written: permissions, a full disk
  internal = 9,             ///< a broken invariant of Tenfold itself; please report it
};

/// The code's name as users see it, e.g. "invalid_model".
std::string_view to_string(Code code);

/// The one exception type. The message is a sentence that says where, what was expected and what came.
class Error : public std::exception {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}
  Code code() const noexcept { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }
  const std::string& message() const noexcept { return message_; }
  /// The same error with "`where`: " put before its message.
  Error in_context(std::string_view where) const { return {code_, std::string(where) + ": " + message_}; }

 private:
  Code code_;
  std::string message_;
};

enum class LogLevel : int { debug = 0, info = 1, warning = 2, none = 3 };
using LogSink = std::function<void(LogLevel level, std::string_view message)>;
/// Where messages of at least this level go from now on; an empty sink switches them off. The sink is called from any
/// thread, also from several at once.
void set_log_sink(LogSink sink, LogLevel least = LogLevel::info);

}  // namespace tenfold
