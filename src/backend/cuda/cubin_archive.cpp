#include "backend/cuda/cubin_archive.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <filesystem>
#include <map>
#include <zlib.h>

#include "base/atomic_file.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "base/mapped_file.hpp"

namespace tenfold::cuda {
namespace {

static_assert(std::endian::native == std::endian::little, "the file's byte order");

constexpr std::array<char, 8> kMagic{'\x89', 'T', 'F', 'C', 'U', 'B', 'I', 'N'};
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kByteOrder = 0x01020304;
/// Far more than any kernel or library of kernels has: keeps what a damaged number can ask for small.
constexpr std::uint64_t kMaxCodeBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kMaxEntries = std::uint64_t{1} << 24;
constexpr int kCompressionLevel = 9;

struct FileHash {
  std::uint64_t low = 0, high = 0;
};
FileHash to_file(const Hash128& hash) { return {hash.low, hash.high}; }
Hash128 from_file(const FileHash& hash) { return {.high = hash.high, .low = hash.low}; }

struct FileHeader {
  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kVersion, byte_order = kByteOrder;
  std::uint64_t file_bytes = 0, count = 0;
  FileHash table;
  std::uint64_t zero = 0;
  std::uint32_t flags = 0, check = 0;  ///< low bits of the hash of what comes before
};
static_assert(sizeof(FileHeader) == 64);

struct FileEntry {
  FileHash key, content;
  std::uint64_t offset = 0, packed_bytes = 0, bytes = 0;
  std::uint32_t compiler = 0, zero = 0;
};
static_assert(sizeof(FileEntry) == 64);

std::uint32_t check_of(const FileHeader& header) {
  const auto bytes = std::as_bytes(std::span(&header, 1)).first(offsetof(FileHeader, check));
  return static_cast<std::uint32_t>(hash128(bytes).low);
}

template <typename T>
T read_at(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::vector<std::byte> pack(std::span<const std::byte> code) {
  uLongf size = compressBound(static_cast<uLong>(code.size()));
  std::vector<std::byte> packed(size);
  const int result =
      compress2(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(code.data()),
                static_cast<uLong>(code.size()), kCompressionLevel);
  require(result == Z_OK, Code::out_of_memory, "no memory to compress {} bytes", code.size());
  packed.resize(size);
  return packed;
}

}  // namespace

CubinArchive CubinArchive::open(const std::string& path) {
  std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  CubinArchive archive = parse(file->bytes(), path);
  archive.owner_ = std::move(file);
  return archive;
}

CubinArchive CubinArchive::parse(std::span<const std::byte> bytes, const std::string& name) {
  const auto must = [&name](bool holds, std::string_view what) {
    require(holds, Code::invalid_argument, "{}: {}", name, what);
  };
  must(bytes.size() >= sizeof(FileHeader), "too short for an archive of kernels");
  const auto header = read_at<FileHeader>(bytes, 0);
  must(header.magic == kMagic, "no archive of kernels");
  must(header.version == kVersion && header.byte_order == kByteOrder,
       fmt::format("an archive of kernels of version {}, this Tenfold reads {}; make it anew", header.version,
                   kVersion));
  must(header.check == check_of(header) && header.zero == 0 && header.flags == 0, "the header is damaged");
  must(header.file_bytes == bytes.size(),
       fmt::format("{} bytes, but the header says {}: cut off", bytes.size(), header.file_bytes));
  must(header.count <= kMaxEntries && header.count * sizeof(FileEntry) <= bytes.size() - sizeof header,
       "the table does not fit");
  CubinArchive archive;
  archive.name_ = name;
  archive.bytes_ = bytes;
  archive.count_ = static_cast<std::size_t>(header.count);
  const auto table = bytes.subspan(sizeof header, archive.count_ * sizeof(FileEntry));
  must(from_file(header.table) == hash128(table), "the table is damaged");
  // Whoever can compute hashes can write any table.
  for (std::size_t i = 0; i < archive.count_; ++i) {
    const Entry entry = archive.entry(i);
    must(i == 0 || archive.entry(i - 1).key < entry.key, "the table is not sorted");
    must(entry.offset >= sizeof header + table.size() && entry.offset <= bytes.size() &&
             entry.packed_bytes <= bytes.size() - entry.offset && entry.bytes <= kMaxCodeBytes,
         "the table points outside of the file");
  }
  return archive;
}

CubinArchive::Entry CubinArchive::entry(std::size_t index) const {
  const auto entry = read_at<FileEntry>(bytes_, sizeof(FileHeader) + index * sizeof(FileEntry));
  return {from_file(entry.key), from_file(entry.content),        entry.offset, entry.packed_bytes,
          entry.bytes,          static_cast<int>(entry.compiler)};
}

int CubinArchive::oldest_compiler() const {
  int oldest = count_ == 0 ? 0 : entry(0).compiler;
  for (std::size_t i = 1; i < count_; ++i) oldest = std::min(oldest, entry(i).compiler);
  return oldest;
}

std::optional<KeyedCode> CubinArchive::unpack(const Entry& entry) const {
  KeyedCode result{entry.key, entry.compiler, std::vector<std::byte>(static_cast<std::size_t>(entry.bytes))};
  const std::span<const std::byte> packed =
      bytes_.subspan(static_cast<std::size_t>(entry.offset), static_cast<std::size_t>(entry.packed_bytes));
  auto size = static_cast<uLongf>(result.code.size());
  const int status = uncompress(reinterpret_cast<Bytef*>(result.code.data()), &size,
                                reinterpret_cast<const Bytef*>(packed.data()), static_cast<uLong>(packed.size()));
  if (status == Z_OK && size == result.code.size() && hash128(result.code) == entry.content) return result;
  log(LogLevel::debug, "{}: the code of kernel {} is damaged", name_, entry.key.to_string());
  return std::nullopt;
}

std::optional<KeyedCode> CubinArchive::find(const Hash128& key, int newest_compiler) const {
  std::size_t begin = 0;
  std::size_t end = count_;
  while (begin < end) {
    const std::size_t middle = begin + (end - begin) / 2;
    if (entry(middle).key < key) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  if (begin == count_) return std::nullopt;
  const Entry found = entry(begin);
  if (found.key != key || found.compiler > newest_compiler) return std::nullopt;
  return unpack(found);
}

CodeArchiveSummary merge_into_archive(const std::string& path, std::span<const KeyedCode> cubins) {
  struct Content {
    FileEntry entry;
    std::span<const std::byte> packed;
  };
  std::map<Hash128, Content> contents;  // in the table's order
  std::optional<CubinArchive> old;
  try {
    if (std::filesystem::exists(path)) old = CubinArchive::open(path);
  } catch (const Error& error) {
    throw Error(error.code(),
                error.message() + "; nothing was changed: name another file to write, or delete this one");
  }
  for (std::size_t i = 0; old && i < old->size(); ++i) {
    const CubinArchive::Entry entry = old->entry(i);
    if (!old->unpack(entry)) continue;  // damaged
    contents[entry.key] = {
        read_at<FileEntry>(old->bytes_, sizeof(FileHeader) + i * sizeof(FileEntry)),
        old->bytes_.subspan(static_cast<std::size_t>(entry.offset), static_cast<std::size_t>(entry.packed_bytes))};
  }
  const std::size_t before = contents.size();
  std::vector<std::vector<std::byte>> packed;
  packed.reserve(cubins.size());
  for (const KeyedCode& cubin : cubins) {
    ensure(cubin.code.size() <= kMaxCodeBytes, "a kernel of {} bytes", cubin.code.size());
    packed.push_back(pack(cubin.code));
    FileEntry entry;
    entry.key = to_file(cubin.key);
    entry.content = to_file(hash128(cubin.code));
    entry.packed_bytes = packed.back().size();
    entry.bytes = cubin.code.size();
    entry.compiler = static_cast<std::uint32_t>(cubin.compiler);
    contents[cubin.key] = {entry, packed.back()};
  }

  std::vector<FileEntry> table;
  std::uint64_t offset = sizeof(FileHeader) + contents.size() * sizeof(FileEntry);
  for (auto& [key, content] : contents) {
    content.entry.offset = offset;
    offset += content.packed.size();
    table.push_back(content.entry);
  }
  FileHeader header;
  header.file_bytes = offset;
  header.count = table.size();
  header.table = to_file(hash128(std::as_bytes(std::span(table))));
  header.check = check_of(header);
  std::vector<std::span<const std::byte>> parts{std::as_bytes(std::span(&header, 1)), std::as_bytes(std::span(table))};
  for (const auto& [key, content] : contents) parts.push_back(content.packed);
  write_file_atomically(path, parts);
  return {contents.size(), contents.size() - before, offset};
}

}  // namespace tenfold::cuda
