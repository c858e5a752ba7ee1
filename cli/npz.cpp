// NumPy's files, read and written with libzip.
#include "npz.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <zip.h>

#include <fmt/format.h>

namespace tenfold::cli {
namespace {

constexpr std::size_t kMaxHeaderBytes = 64 * 1024;

struct Spelling {
  std::string_view descr;
  DType dtype;
};
constexpr std::array kSpellings = {
    Spelling{"<f4", DType::float32},    Spelling{"<f8", DType::float64},  Spelling{"<f2", DType::float16},
    Spelling{"<V2", DType::bfloat16},   Spelling{"|V2", DType::bfloat16}, Spelling{"|i1", DType::int8},
    Spelling{"|u1", DType::uint8},      Spelling{"<i2", DType::int16},    Spelling{"<u2", DType::uint16},
    Spelling{"<i4", DType::int32},      Spelling{"<u4", DType::uint32},   Spelling{"<i8", DType::int64},
    Spelling{"<u8", DType::uint64},     Spelling{"|b1", DType::boolean},  Spelling{"<V1", DType::float8e4m3},
    Spelling{"|V1", DType::float8e4m3},
};

// The header is a Python dictionary literal with three known keys. This reads just that.
class LiteralReader {
 public:
  LiteralReader(std::string_view text, std::string_view what) : text_(text), what_(what) {}

  void fail(std::string_view expected) const {
    throw Error(Code::invalid_argument,
                fmt::format("{}: its header is not NumPy's: expected {} at byte {}", what_, expected, position_));
  }
  void skip_spaces() {
    while (position_ < text_.size() && (text_[position_] == ' ' || text_[position_] == '\n')) ++position_;
  }
  bool accept(char c) {
    skip_spaces();
    if (position_ >= text_.size() || text_[position_] != c) return false;
    ++position_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(fmt::format("'{}'", c));
  }
  std::string string() {
    skip_spaces();
    if (position_ >= text_.size() || (text_[position_] != '\'' && text_[position_] != '"')) fail("a string");
    const char quote = text_[position_++];
    const std::size_t end = text_.find(quote, position_);
    if (end == std::string_view::npos) fail("the end of a string");
    std::string value(text_.substr(position_, end - position_));
    position_ = end + 1;
    return value;
  }
  bool boolean() {
    skip_spaces();
    for (const std::string_view word : {"True", "False"}) {
      if (text_.substr(position_, word.size()) == word) {
        position_ += word.size();
        return word == "True";
      }
    }
    fail("True or False");
    return false;
  }
  Shape shape() {
    Shape dims;
    expect('(');
    while (!accept(')')) {
      skip_spaces();
      std::int64_t value = 0;
      const std::size_t begin = position_;
      while (position_ < text_.size() && text_[position_] >= '0' && text_[position_] <= '9') {
        if (value > (kUnbounded - 9) / 10) fail("a smaller dimension");
        value = value * 10 + (text_[position_++] - '0');
      }
      if (position_ == begin) fail("a dimension");
      dims.push_back(value);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    if (dims.size() > 32) fail("at most 32 dimensions");
    return dims;
  }

 private:
  std::string_view text_;
  std::string_view what_;
  std::size_t position_ = 0;
};

void require_readable(const ArrayHeader& header, std::string_view what) {
  require(header.dtype != DType::undefined, Code::invalid_argument,
          "{}: NumPy type '{}' is none that a tensor can have here{}", what, header.descr,
          header.descr.starts_with('>') ? "; convert it to little-endian with .astype(a.dtype.newbyteorder('<'))" : "");
  require(header.shape.size() <= static_cast<std::size_t>(kMaxRank), Code::invalid_argument,
          "{}: has {} dimensions, at most {} are possible", what, header.shape.size(), kMaxRank);
}

// Throws unless the data that must follow the header are exactly `available` bytes.
void require_size(const ArrayHeader& header, std::uint64_t available, std::string_view what) {
  const std::int64_t count = num_elements(header.shape);
  const auto width = static_cast<std::int64_t>(size_of(header.dtype));
  require(count <= kUnbounded / 8 && static_cast<std::uint64_t>(count * width) == available, Code::invalid_argument,
          "{}: its header says {}{}, but {} bytes of data follow", what, to_string(header.dtype),
          to_string(header.shape), available);
}

Tensor from_fortran(const Tensor& columns, const ArrayHeader& header) {
  Tensor rows(header.dtype, header.shape);
  const std::size_t width = size_of(header.dtype);
  const auto rank = header.shape.size();
  std::vector<std::int64_t> strides(rank, 1);  // of the column-major source
  for (std::size_t i = 1; i < rank; ++i) strides[i] = strides[i - 1] * header.shape[i - 1];
  std::vector<std::int64_t> index(rank, 0);
  std::byte* out = rows.mutable_data();
  for (std::int64_t n = 0; n < rows.num_elements(); ++n) {
    std::int64_t from = 0;
    for (std::size_t i = 0; i < rank; ++i) from += index[i] * strides[i];
    std::memcpy(out + static_cast<std::size_t>(n) * width, columns.data() + static_cast<std::size_t>(from) * width,
                width);
    for (std::size_t i = rank; i-- > 0;) {
      if (++index[i] < header.shape[i]) break;
      index[i] = 0;
    }
  }
  return rows;
}

// `read(destination, count)` delivers the bytes after the header and throws if it cannot.
template <typename Read>
Tensor read_array(const ArrayHeader& header, std::string_view what, const Read& read) {
  Tensor tensor(header.dtype, header.shape);
  read(tensor.mutable_data(), tensor.size_bytes());
  if (header.dtype == DType::boolean) {
    for (std::size_t i = 0; i < tensor.size_bytes(); ++i) {
      require(static_cast<unsigned char>(tensor.data()[i]) <= 1, Code::invalid_argument,
              "{}: element {} of a bool array is neither 0 nor 1", what, i);
    }
  }
  return header.fortran_order && header.shape.size() > 1 ? from_fortran(tensor, header) : tensor;
}

struct ZipFileCloser {
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};
using ZipFile = std::unique_ptr<zip_file_t, ZipFileCloser>;

std::string zip_open_error(int code) {
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  std::string text = zip_error_strerror(&error);
  zip_error_fini(&error);
  return text;
}

}  // namespace

ArrayHeader parse_npy_header(std::string_view bytes, std::string_view what) {
  require(bytes.size() >= 10 && bytes.substr(0, 6) == std::string_view("\x93NUMPY", 6), Code::invalid_argument,
          "{}: is not a NumPy array (it does not begin with \\x93NUMPY)", what);
  const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i])); };
  const std::size_t version = byte(6);
  require(version >= 1 && version <= 3, Code::invalid_argument, "{}: NumPy format version {} is not known", what,
          version);
  const std::size_t prefix = version == 1 ? 10 : 12;
  require(bytes.size() >= prefix, Code::invalid_argument, "{}: ends inside its header", what);
  const std::size_t length =
      version == 1 ? byte(8) | byte(9) << 8U : byte(8) | byte(9) << 8U | byte(10) << 16U | byte(11) << 24U;
  require(length <= kMaxHeaderBytes && prefix + length <= bytes.size(), Code::invalid_argument,
          "{}: ends inside its header of {} bytes", what, length);

  ArrayHeader header;
  header.data_offset = prefix + length;
  LiteralReader reader(bytes.substr(prefix, length), what);
  bool has_descr = false;
  bool has_shape = false;
  reader.expect('{');
  while (!reader.accept('}')) {
    const std::string key = reader.string();
    reader.expect(':');
    if (key == "descr") {
      header.descr = reader.string();
      has_descr = true;
    } else if (key == "fortran_order") {
      header.fortran_order = reader.boolean();
    } else if (key == "shape") {
      header.shape = reader.shape();
      has_shape = true;
    } else {
      reader.fail("'descr', 'fortran_order' or 'shape'");
    }
    if (!reader.accept(',')) {
      reader.expect('}');
      break;
    }
  }
  if (!has_descr || !has_shape) reader.fail("'descr' and 'shape'");
  for (const Spelling& spelling : kSpellings) {
    if (spelling.descr == header.descr) header.dtype = spelling.dtype;
  }
  return header;
}

struct NpzReader::State {
  std::string path;
  zip_t* archive = nullptr;
  std::map<std::string, zip_uint64_t, std::less<>> entries;
  std::vector<std::string> keys;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (archive) zip_discard(archive);
  }
  std::string describe(const std::string& key) const { return fmt::format("array '{}' in {}", key, path); }
  // The entry, opened, and its uncompressed size.
  std::pair<ZipFile, std::uint64_t> open(const std::string& key) const {
    const auto found = entries.find(key);
    require(found != entries.end(), Code::invalid_argument, "{} has no array '{}'; it has {}", path, key,
            fmt::join(keys, ", "));
    zip_stat_t status;
    zip_stat_init(&status);
    require(zip_stat_index(archive, found->second, 0, &status) == 0 && (status.valid & ZIP_STAT_SIZE) != 0,
            Code::invalid_argument, "{}: the zip directory does not say its size", describe(key));
    ZipFile file(zip_fopen_index(archive, found->second, 0));
    require(file != nullptr, Code::invalid_argument, "{}: {}", describe(key), zip_strerror(archive));
    return {std::move(file), status.size};
  }
  void read(zip_file_t* file, void* destination, std::uint64_t count, const std::string& key) const {
    auto* out = static_cast<char*>(destination);
    while (count > 0) {
      const zip_int64_t got = zip_fread(file, out, std::min<std::uint64_t>(count, 1U << 30U));
      require(got >= 0, Code::invalid_argument, "{}: {}", describe(key), zip_error_strerror(zip_file_get_error(file)));
      require(got > 0, Code::invalid_argument, "{}: ends too early", describe(key));
      out += got;
      count -= static_cast<std::uint64_t>(got);
    }
  }
  // Reads header and nothing else; `file` then stands at the data.
  ArrayHeader header(zip_file_t* file, std::uint64_t size, const std::string& key) const {
    std::string bytes(12, '\0');
    require(size >= bytes.size(), Code::invalid_argument, "{}: is not a NumPy array (only {} bytes)", describe(key),
            size);
    read(file, bytes.data(), bytes.size(), key);
    const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i])); };
    const bool old = byte(6) == 1;
    const std::size_t length =
        old ? byte(8) | byte(9) << 8U : byte(8) | byte(9) << 8U | byte(10) << 16U | byte(11) << 24U;
    const std::size_t total = (old ? 10 : 12) + length;
    require(length <= kMaxHeaderBytes && total <= size && total >= bytes.size(), Code::invalid_argument,
            "{}: its header is broken", describe(key));
    bytes.resize(total);
    read(file, bytes.data() + 12, total - 12, key);
    return parse_npy_header(bytes, describe(key));
  }
};

NpzReader::NpzReader(const std::string& path) : state_(std::make_shared<State>()) {
  state_->path = path;
  int code = 0;
  state_->archive = zip_open(path.c_str(), ZIP_RDONLY, &code);
  if (!state_->archive) {
    const bool is_content = code == ZIP_ER_NOZIP || code == ZIP_ER_INCONS;
    throw Error(
        is_content ? Code::invalid_argument : Code::io_failure,
        fmt::format("{}: {}", path, is_content ? "is not an .npz file (no zip archive)" : zip_open_error(code)));
  }
  const zip_int64_t count = zip_get_num_entries(state_->archive, 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    const char* raw = zip_get_name(state_->archive, static_cast<zip_uint64_t>(i), 0);
    std::string name = raw ? raw : "";
    if (!name.ends_with(".npy")) continue;
    name.resize(name.size() - 4);
    require(state_->entries.emplace(name, static_cast<zip_uint64_t>(i)).second, Code::invalid_argument,
            "{}: has two arrays named '{}'", path, name);
    state_->keys.push_back(name);
  }
}

std::vector<std::string> NpzReader::keys() const { return state_->keys; }
bool NpzReader::has(std::string_view key) const { return state_->entries.contains(key); }

ArrayHeader NpzReader::header(const std::string& key) const {
  auto [file, size] = state_->open(key);
  return state_->header(file.get(), size, key);
}

Tensor NpzReader::read(const std::string& key) const {
  auto [file, size] = state_->open(key);
  const ArrayHeader header = state_->header(file.get(), size, key);
  const std::string what = state_->describe(key);
  require_readable(header, what);
  require_size(header, size - header.data_offset, what);
  return read_array(header, what, [&, &opened = file](std::byte* out, std::size_t count) {
    state_->read(opened.get(), out, count, key);
    // The checksum is verified when the end is reached.
    char extra = 0;
    const zip_int64_t more = zip_fread(opened.get(), &extra, 1);
    require(more == 0, Code::invalid_argument, "{}: {}", what,
            more < 0 ? zip_error_strerror(zip_file_get_error(opened.get())) : "is longer than the zip directory says");
  });
}

Tensor read_npy(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  require(static_cast<bool>(file), Code::io_failure, "{}: {}", path, std::strerror(errno));
  const auto end = static_cast<std::int64_t>(file.tellg());
  require(end >= 0, Code::io_failure, "{}: is not a regular file", path);
  file.seekg(0);
  std::string bytes(static_cast<std::size_t>(std::min<std::int64_t>(end, kMaxHeaderBytes + 12)), '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  require(static_cast<bool>(file), Code::io_failure, "{}: cannot be read", path);
  const ArrayHeader header = parse_npy_header(bytes, path);
  require_readable(header, path);
  require_size(header, static_cast<std::uint64_t>(end) - header.data_offset, path);
  file.seekg(static_cast<std::streamoff>(header.data_offset));
  return read_array(header, path, [&](std::byte* out, std::size_t count) {
    file.read(reinterpret_cast<char*>(out), static_cast<std::streamsize>(count));
    require(static_cast<bool>(file) || count == 0, Code::io_failure, "{}: ends too early", path);
  });
}

std::string npy_header(DType dtype, const Shape& shape) {
  const auto spelling =
      std::find_if(kSpellings.begin(), kSpellings.end(), [&](const Spelling& s) { return s.dtype == dtype; });
  ensure(spelling != kSpellings.end(), "no NumPy type for {}", to_string(dtype));
  const std::string dims = fmt::format("({}{})", fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}", spelling->descr, dims);
  // The data begin at a multiple of 64; the last byte of the header is a newline.
  text.append(63 - (10 + text.size()) % 64, ' ');
  text += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(text.size() & 0xFFU);
  bytes += static_cast<char>(text.size() >> 8U);
  return bytes + text;
}

void write_npz(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& arrays) {
  int code = 0;
  zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
  require(archive != nullptr, Code::io_failure, "{}: {}", path, zip_open_error(code));
  std::unique_ptr<zip_t, void (*)(zip_t*)> guard(archive, [](zip_t* open) { zip_discard(open); });
  std::vector<std::string> contents;  // libzip reads them when the archive is closed
  contents.reserve(arrays.size());
  for (const auto& [name, tensor] : arrays) {
    contents.push_back(npy_header(tensor.dtype(), tensor.shape()) +
                       std::string(reinterpret_cast<const char*>(tensor.data()), tensor.size_bytes()));
    zip_source_t* source = zip_source_buffer(archive, contents.back().data(), contents.back().size(), 0);
    require(source != nullptr, Code::io_failure, "{}: {}", path, zip_strerror(archive));
    const zip_int64_t index =
        zip_file_add(archive, (name + ".npy").c_str(), source, ZIP_FL_OVERWRITE | ZIP_FL_ENC_UTF_8);
    if (index < 0) {
      zip_source_free(source);
      throw Error(Code::io_failure, fmt::format("{}: {}", path, zip_strerror(archive)));
    }
    zip_set_file_compression(archive, static_cast<zip_uint64_t>(index), ZIP_CM_STORE, 0);
    // The same answers give the same file: no time of writing.
    zip_file_set_dostime(archive, static_cast<zip_uint64_t>(index), 0, 0x21, 0);
  }
  // zip_close writes beside the file and renames. The reason is known only after it.
  const bool is_written = zip_close(archive) == 0;
  require(is_written, Code::io_failure, "{} was not written: {}", path, zip_strerror(archive));
  guard.release();
}

}  // namespace tenfold::cli
