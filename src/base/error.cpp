#include "base/error.hpp"

namespace tenfold {

std::string_view to_string(Code code) {
  switch (code) {
    case Code::ok: return "ok";
    case Code::invalid_argument: return "invalid_argument";
    case Code::invalid_model: return "invalid_model";
    case Code::unsupported: return "unsupported";
    case Code::out_of_memory: return "out_of_memory";
    case Code::device_failure: return "device_failure";
    case Code::incompatible_engine: return "incompatible_engine";
    case Code::cancelled: return "cancelled";
    case Code::io_failure: return "io_failure";
    case Code::internal: return "internal";
  }
  return "internal";
}

}  // namespace tenfold
