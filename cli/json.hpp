// JSON for machines: one document on stdout.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tenfold::cli {

using Json = nlohmann::ordered_json;

/// Names in models may hold any bytes; those that are no UTF-8 are replaced.
inline std::string to_text(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }
void print_json(const Json& json);

}  // namespace tenfold::cli
