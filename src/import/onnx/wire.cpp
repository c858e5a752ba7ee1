// Protobuf encoding: a message is a list of fields, each a varint key (number << 3 | type) and a value. Type 0 is a
// varint, 1 eight bytes, 2 a length and so many bytes (also a nested message), 5 four bytes. Types 3 and 4 (groups) do
// not occur in ONNX. Source: protobuf "Encoding" documentation.
#include "import/onnx/wire.hpp"

#include <array>
#include <vector>

#include "base/error.hpp"

namespace tenfold::onnx {
namespace {

enum class Kind : std::uint8_t { model, graph, node, attribute, tensor, sparse, value_info, function, leaf };
constexpr std::array<std::string_view, 9> kKindNames{"ModelProto",     "GraphProto",    "NodeProto",
                                                     "AttributeProto", "TensorProto",   "SparseTensorProto",
                                                     "ValueInfoProto", "FunctionProto", "a small message"};

/// Which fields hold nested messages. Those inside a `leaf` are left to the decoder, which limits their depth.
struct Nested {
  Kind in;
  std::uint32_t field;
  Kind is;
};
constexpr std::array kNested{
    Nested{Kind::model, 7, Kind::graph},       Nested{Kind::model, 8, Kind::leaf},
    Nested{Kind::model, 14, Kind::leaf},       Nested{Kind::model, 25, Kind::function},
    Nested{Kind::graph, 1, Kind::node},        Nested{Kind::graph, 5, Kind::tensor},
    Nested{Kind::graph, 11, Kind::value_info}, Nested{Kind::graph, 12, Kind::value_info},
    Nested{Kind::graph, 15, Kind::sparse},     Nested{Kind::node, 5, Kind::attribute},
    Nested{Kind::attribute, 5, Kind::tensor},  Nested{Kind::attribute, 6, Kind::graph},
    Nested{Kind::attribute, 10, Kind::tensor}, Nested{Kind::attribute, 11, Kind::graph},
    Nested{Kind::attribute, 14, Kind::leaf},   Nested{Kind::attribute, 22, Kind::sparse},
    Nested{Kind::tensor, 3, Kind::leaf},       Nested{Kind::tensor, 13, Kind::leaf},
    Nested{Kind::sparse, 1, Kind::tensor},     Nested{Kind::sparse, 2, Kind::tensor},
    Nested{Kind::value_info, 2, Kind::leaf},   Nested{Kind::function, 7, Kind::node},
    Nested{Kind::function, 9, Kind::leaf},     Nested{Kind::function, 11, Kind::attribute},
};

std::string_view name_of(Kind kind) { return kKindNames[static_cast<std::size_t>(kind)]; }

struct Frame {
  Kind kind;
  std::size_t end;
};

class Walker {
 public:
  Walker(std::span<const std::byte> bytes, const WireLimits& limits) : bytes_(bytes), limits_(limits) {}

  std::int64_t run() {
    stack_.push_back({Kind::model, bytes_.size()});
    while (!stack_.empty()) {
      if (at_ == stack_.back().end) {
        stack_.pop_back();
      } else {
        field();
      }
    }
    return nodes_;
  }

 private:
  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error(Code::invalid_model, fmt::format("at byte {}, in {}: {}", at_, name_of(stack_.back().kind),
                                                 fmt::format(format, std::forward<Args>(args)...)));
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ >= stack_.back().end) fail("the message ends inside a number");
      const auto byte = static_cast<std::uint8_t>(bytes_[at_++]);
      value |= std::uint64_t{byte & 0x7fU} << shift;
      if (byte < 0x80) return value;
    }
    fail("a number has more than ten bytes");
  }

  void skip(std::uint64_t count) {
    const std::size_t left = stack_.back().end - at_;
    if (count > left)
      fail("a field of {} bytes does not fit in the {} that are left; the file is cut off", count, left);
    at_ += static_cast<std::size_t>(count);
  }

  void field() {
    const std::uint64_t key = varint();
    const auto number = static_cast<std::uint32_t>(key >> 3);
    if (number == 0 || key >> 32 != 0) fail("field number {} does not exist", key >> 3);
    switch (key & 7U) {
      case 0:
        (void)varint();
        return;
      case 1:
        skip(8);
        return;
      case 5:
        skip(4);
        return;
      case 2:
        break;
      default:
        fail("field {} has encoding {}, which ONNX does not use", number, key & 7U);
    }
    const std::uint64_t length = varint();
    const std::size_t begin = at_;
    skip(length);
    const Kind in = stack_.back().kind;
    for (const Nested& nested : kNested) {
      if (nested.in != in || nested.field != number) continue;
      at_ = begin;
      enter(nested.is, begin + static_cast<std::size_t>(length));
      return;
    }
  }

  void enter(Kind kind, std::size_t end) {
    if (++messages_ > limits_.max_messages) fail("more than {} messages", limits_.max_messages);
    if (kind == Kind::node && ++nodes_ > limits_.max_nodes) fail("more than {} nodes", limits_.max_nodes);
    if (static_cast<int>(stack_.size()) >= limits_.max_depth) fail("messages nest deeper than {}", limits_.max_depth);
    if (kind == Kind::leaf) {
      at_ = end;
      return;
    }
    stack_.push_back({kind, end});
  }

  std::span<const std::byte> bytes_;
  const WireLimits& limits_;
  std::size_t at_ = 0;
  std::int64_t nodes_ = 0;
  std::int64_t messages_ = 0;
  std::vector<Frame> stack_;
};

/// Bytes of the UTF-8 sequence at the start of `text`; 0 if there is none that may be printed.
std::size_t sequence_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t first = byte(0);
  if (first < 0x80) return first < 0x20 || first == 0x7f ? 0 : 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what lies beyond U+10FFFF.
  if ((first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) > 0x9f) || (first == 0xf0 && byte(1) < 0x90) ||
      (first == 0xf4 && byte(1) > 0x8f)) {
    return 0;
  }
  return length;
}

}  // namespace

std::int64_t check_wire(std::span<const std::byte> bytes, const WireLimits& limits) {
  return Walker(bytes, limits).run();
}

std::string printable(std::string_view name, std::size_t max_bytes) {
  std::string result;
  while (!name.empty()) {
    const std::size_t length = sequence_length(name);
    const std::size_t taken = length == 0 ? 1 : length;
    if (result.size() + taken > max_bytes) return result + "...";
    if (length == 0) {
      result += '?';
    } else {
      result += name.substr(0, length);
    }
    name.remove_prefix(taken);
  }
  return result;
}

}  // namespace tenfold::onnx
