#include "engine/bytes.hpp"

#include <cstring>

#include "base/checked.hpp"
#include "base/error.hpp"
#include "engine/limits.hpp"

namespace tenfold {
namespace {

enum class AttributeKind : std::uint8_t {
  integer = 0,
  number = 1,
  string = 2,
  integers = 3,
  numbers = 4,
  strings = 5,
  tensor = 6,
};

}  // namespace

// --- Writing --------------------------------------------------------------------------------------------------------

void RecordWriter::raw(const void* data, std::size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  records_.insert(records_.end(), bytes, bytes + size);
}

void RecordWriter::count(std::size_t value, std::size_t most, std::string_view what) {
  require(value <= most, Code::unsupported, "an engine holds at most {} {}, not {}", most, what, value);
  u32(static_cast<std::uint32_t>(value));
}

void RecordWriter::string(std::string_view text) {
  require(text.size() <= limits::kMaxStringBytes, Code::unsupported,
          "an engine holds texts of at most {} bytes, not of {}: '{}...'", limits::kMaxStringBytes, text.size(),
          text.substr(0, 40));
  const auto [entry, is_new] = strings_.try_emplace(std::string(text), static_cast<std::uint32_t>(strings_.size()));
  if (is_new) {
    require(strings_.size() <= limits::kMaxStrings, Code::unsupported, "an engine holds at most {} texts",
            limits::kMaxStrings);
    const auto size = static_cast<std::uint32_t>(text.size());
    const auto* size_bytes = reinterpret_cast<const std::byte*>(&size);
    const auto* text_bytes = reinterpret_cast<const std::byte*>(text.data());
    table_.insert(table_.end(), size_bytes, size_bytes + sizeof size);
    table_.insert(table_.end(), text_bytes, text_bytes + text.size());
  }
  u32(entry->second);
}

void RecordWriter::dim(const Dim& dim) {
  const std::string text = dim.to_string();
  if (!dim.is_constant() && !strings_.contains(text)) {
    try {
      (void)Dim::parse(text);
    } catch (const Error& error) {
      throw Error(Code::unsupported, fmt::format("an engine cannot hold a dimension so complex: {}", error.message()));
    }
  }
  string(text);
}

void RecordWriter::dims(const std::vector<Dim>& dims) {
  count(dims.size(), kMaxRank, "axes");
  for (const Dim& d : dims) dim(d);
}

void RecordWriter::attributes(const Attributes& attributes) {
  count(attributes.entries().size(), limits::kMaxAttributes, "attributes of a step");
  const auto list = [this](const auto& values, const auto& write) {
    count(values.size(), UINT32_MAX, "elements of an attribute");
    for (const auto& value : values) write(value);
  };
  for (const auto& [name, attribute] : attributes.entries()) {
    string(name);
    u8(static_cast<std::uint8_t>(attribute.index()));
    switch (static_cast<AttributeKind>(attribute.index())) {
      case AttributeKind::integer:
        i64(std::get<std::int64_t>(attribute));
        break;
      case AttributeKind::number:
        f64(std::get<double>(attribute));
        break;
      case AttributeKind::string:
        string(std::get<std::string>(attribute));
        break;
      case AttributeKind::integers:
        list(std::get<std::vector<std::int64_t>>(attribute), [this](std::int64_t value) { i64(value); });
        break;
      case AttributeKind::numbers:
        list(std::get<std::vector<double>>(attribute), [this](double value) { f64(value); });
        break;
      case AttributeKind::strings:
        list(std::get<std::vector<std::string>>(attribute), [this](const std::string& value) { string(value); });
        break;
      case AttributeKind::tensor: {
        const Tensor& tensor = std::get<Tensor>(attribute);
        u8(static_cast<std::uint8_t>(tensor.dtype()));
        list(tensor.shape(), [this](std::int64_t value) { i64(value); });
        bytes({tensor.data(), tensor.size_bytes()});
        break;
      }
    }
  }
}

void RecordWriter::align(std::size_t alignment) {
  records_.resize(checked_align_up(records_.size(), alignment).value(), std::byte{0});
}

std::vector<std::byte> RecordWriter::finish() const {
  // The records begin at a multiple of 64, so that what is aligned within them is aligned in the file.
  constexpr std::size_t kAlignment = 64;
  const auto num_strings = static_cast<std::uint32_t>(strings_.size());
  const auto* number = reinterpret_cast<const std::byte*>(&num_strings);
  std::vector<std::byte> section(number, number + sizeof num_strings);
  section.insert(section.end(), table_.begin(), table_.end());
  section.resize(checked_align_up(section.size(), kAlignment).value(), std::byte{0});
  section.insert(section.end(), records_.begin(), records_.end());
  return section;
}

// --- Reading --------------------------------------------------------------------------------------------------------

RecordReader::RecordReader(std::string_view section, std::span<const std::byte> bytes)
    : section_(section), bytes_(bytes), text_budget_(limits::kMaxTextBytes + 8 * bytes.size()) {
  const std::size_t num_strings = count(limits::kMaxStrings, sizeof(std::uint32_t), "texts");
  strings_.reserve(num_strings);
  for (std::size_t i = 0; i < num_strings; ++i) {
    const std::size_t size = count(limits::kMaxStringBytes, 1, "bytes of a text");
    const std::span<const std::byte> text = this->bytes(size);
    strings_.emplace_back(reinterpret_cast<const char*>(text.data()), size);
  }
  align(64);
  records_begin_ = at_;
}

void RecordReader::fail(std::string_view rule) const {
  throw Error(Code::incompatible_engine, fmt::format("section '{}', offset {}: {}", section_, at_, rule));
}

std::span<const std::byte> RecordReader::bytes(std::uint64_t size) {
  if (size > bytes_.size() - at_) fail(fmt::format("{} bytes are expected, {} are left", size, bytes_.size() - at_));
  const std::span<const std::byte> result = bytes_.subspan(at_, static_cast<std::size_t>(size));
  at_ += static_cast<std::size_t>(size);
  return result;
}

std::size_t RecordReader::count(std::size_t most, std::size_t element_bytes, std::string_view what) {
  const std::size_t value = u32();
  if (value > most) fail(fmt::format("{} {}, at most {} are accepted", value, what, most));
  if (value > (bytes_.size() - at_) / element_bytes) {
    fail(fmt::format("{} {} do not fit in the {} bytes left", value, what, bytes_.size() - at_));
  }
  return value;
}

std::uint32_t RecordReader::string_index() {
  const std::uint32_t index = u32();
  if (index >= strings_.size()) fail(fmt::format("text {} of {}", index, strings_.size()));
  return index;
}

const std::string& RecordReader::string() {
  const std::string& text = strings_[string_index()];
  if (text.size() > text_budget_) fail("long texts are referred to too often");
  text_budget_ -= text.size();
  return text;
}

Dim RecordReader::dim() {
  const std::uint32_t index = string_index();
  if (const auto known = dims_.find(index); known != dims_.end()) return known->second;
  const std::string& text = strings_[index];
  if (dims_.size() >= limits::kMaxDims) fail(fmt::format("more than {} different dimensions", limits::kMaxDims));
  try {
    Dim dim = Dim::parse(text);
    if (dim.to_string() != text) fail(fmt::format("dimension '{}' is not in canonical form", text));
    return dims_.emplace(index, std::move(dim)).first->second;
  } catch (const Error& error) {
    if (error.code() == Code::incompatible_engine) throw;
    fail(error.message());
  }
}

std::vector<Dim> RecordReader::dims() {
  std::vector<Dim> result(count(kMaxRank, sizeof(std::uint32_t), "axes"));
  for (Dim& d : result) d = dim();
  return result;
}

DType RecordReader::dtype(bool may_be_undefined) {
  const std::uint8_t value = u8();
  if (value >= kNumDTypes || (value == 0 && !may_be_undefined)) fail(fmt::format("element type {} is unknown", value));
  return static_cast<DType>(value);
}

Attributes RecordReader::attributes() {
  Attributes result;
  const std::size_t num = count(limits::kMaxAttributes, 5, "attributes of a step");
  const auto list = [this](std::size_t element_bytes, auto& values, const auto& read) {
    values.resize(count(UINT32_MAX, element_bytes, "elements of an attribute"));
    for (auto& value : values) value = read();
  };
  std::string_view previous;
  for (std::size_t i = 0; i < num; ++i) {
    const std::string& name = string();
    if (i > 0 && name <= previous) fail("attributes are not sorted by name");
    previous = name;
    const std::uint8_t kind = u8();
    switch (static_cast<AttributeKind>(kind)) {
      case AttributeKind::integer:
        result.set(name, i64());
        break;
      case AttributeKind::number:
        result.set(name, f64());
        break;
      case AttributeKind::string:
        result.set(name, string());
        break;
      case AttributeKind::integers: {
        std::vector<std::int64_t> values;
        list(sizeof(std::int64_t), values, [this] { return i64(); });
        result.set(name, std::move(values));
        break;
      }
      case AttributeKind::numbers: {
        std::vector<double> values;
        list(sizeof(double), values, [this] { return f64(); });
        result.set(name, std::move(values));
        break;
      }
      case AttributeKind::strings: {
        std::vector<std::string> values;
        list(sizeof(std::uint32_t), values, [this] { return string(); });
        result.set(name, std::move(values));
        break;
      }
      case AttributeKind::tensor: {
        const DType type = dtype();
        Shape shape(count(kMaxRank, sizeof(std::int64_t), "axes"));
        for (std::int64_t& axis : shape) axis = i64();
        std::uint64_t size = size_of(type);
        for (const std::int64_t axis : shape) {
          const auto product = checked_mul(size, static_cast<std::uint64_t>(axis));
          if (axis < 0 || !product) fail("a tensor's shape is impossible");
          size = *product;
        }
        const std::span<const std::byte> data = bytes(size);
        Tensor tensor(type, shape);
        if (!data.empty()) std::memcpy(tensor.mutable_data(), data.data(), data.size());
        result.set(name, std::move(tensor));
        break;
      }
      default:
        fail(fmt::format("attribute '{}' is of unknown kind {}", name, kind));
    }
  }
  return result;
}

void RecordReader::align(std::size_t alignment) {
  const std::size_t end = checked_align_up(at_, alignment).value();
  for (const std::byte byte : bytes(end - at_)) {
    if (byte != std::byte{0}) fail("padding is not zero");
  }
}

bool RecordReader::flag() {
  const std::uint8_t value = u8();
  if (value > 1) fail(fmt::format("{} where 0 or 1 is expected", value));
  return value == 1;
}

void RecordReader::finish() {
  if (at_ != bytes_.size()) fail(fmt::format("{} bytes after the last record", bytes_.size() - at_));
}

}  // namespace tenfold
