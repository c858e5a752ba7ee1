// A look over the encoded bytes of an ONNX file before anything is built from them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tenfold::onnx {

struct WireLimits {
  std::int64_t max_nodes = 1'000'000;      ///< NodeProto, subgraphs and functions included
  std::int64_t max_messages = 16'000'000;  ///< of any kind: each costs about 100 bytes once decoded
  int max_depth = 64;                      ///< messages inside messages
};

/// Walks the protobuf encoding of a ModelProto: every length lies inside its message, depth and counts are limited.
/// Returns the number of nodes. Throws Error(invalid_model), naming the byte and the message it is in; a file that
/// passes still has to be decoded, but decoding it is bounded. Needs no memory.
std::int64_t check_wire(std::span<const std::byte> bytes, const WireLimits& limits = {});

/// A name from a model as it may appear in messages and in the graph: control characters and bytes that are no UTF-8
/// become '?', and at most `max_bytes` are kept.
std::string printable(std::string_view name, std::size_t max_bytes = 256);

}  // namespace tenfold::onnx
