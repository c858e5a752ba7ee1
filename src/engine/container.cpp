// Header, 64 bytes:
//   0  magic            8   "\x89TENFOLD"
//   8  format version   u32
//  12  endian tag       u32 0x01020304
//  16  file size        u64
//  24  manifest offset  u64 64
//  32  manifest size    u64
//  40  manifest hash    XXH3-128, low u64 then high u64
//  56  flags            u32 0
//  60  header check     u32 low half of the low u64 of XXH3-128 of bytes 0..59
#include "engine/container.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/checked.hpp"
#include "base/error.hpp"
#include "engine/bytes.hpp"
#include "engine/limits.hpp"

namespace tenfold {
namespace {

constexpr std::array<char, 8> kMagic = {'\x89', 'T', 'E', 'N', 'F', 'O', 'L', 'D'};
constexpr std::uint32_t kEndianTag = 0x01020304;
constexpr std::size_t kHeaderBytes = 64;
constexpr std::size_t kEntryBytes = 72;
constexpr std::size_t kMaxManifestBytes = std::size_t{1} << 20;

struct Header {
  std::array<char, 8> magic = kMagic;
  std::uint32_t format_version = kFormatVersion;
  std::uint32_t endian_tag = kEndianTag;
  std::uint64_t file_bytes = 0;
  std::uint64_t manifest_offset = kHeaderBytes;
  std::uint64_t manifest_bytes = 0;
  std::uint64_t manifest_hash_low = 0;
  std::uint64_t manifest_hash_high = 0;
  std::uint32_t flags = 0;
  std::uint32_t check = 0;

  std::uint32_t computed_check() const {
    const auto bytes = std::as_bytes(std::span(this, 1)).first(kHeaderBytes - sizeof check);
    return static_cast<std::uint32_t>(hash128(bytes).low);
  }
};
static_assert(sizeof(Header) == kHeaderBytes && offsetof(Header, check) == 60);

std::uint64_t align(std::uint64_t value) { return checked_align_up<std::uint64_t>(value, kSectionAlignment).value(); }

[[noreturn]] void refuse(std::string_view where, const std::string& rule) {
  throw Error(Code::incompatible_engine, fmt::format("{}: {}", where, rule));
}

Header read_header(std::span<const std::byte> file) {
  Header header;
  if (file.empty()) throw Error(Code::incompatible_engine, "the file is empty");
  const std::size_t compared = std::min(file.size(), kMagic.size());
  if (std::memcmp(file.data(), kMagic.data(), compared) != 0) {
    throw Error(Code::incompatible_engine, "this is no Tenfold engine: the file begins with other bytes");
  }
  if (file.size() < kHeaderBytes) {
    refuse("header", fmt::format("the file is cut off after {} of {} bytes", file.size(), kHeaderBytes));
  }
  std::memcpy(&header, file.data(), kHeaderBytes);
  if (header.endian_tag == __builtin_bswap32(kEndianTag)) {
    refuse("header, offset 12", "the engine was written on a machine with the other byte order");
  }
  if (header.check != header.computed_check()) {
    refuse("header, offset 60", "the check sum does not match; the file is damaged");
  }
  if (header.format_version != kFormatVersion) {
    refuse("header, offset 8", fmt::format("the engine has format version {}, Tenfold {} reads version {}; build the "
                                           "engine anew",
                                           header.format_version, TENFOLD_VERSION, kFormatVersion));
  }
  if (header.endian_tag != kEndianTag) refuse("header, offset 12", "the byte order is unknown");
  if (header.file_bytes != file.size()) {
    refuse("header, offset 16", fmt::format("the file should have {} bytes, but has {}; it was cut off or added to",
                                            header.file_bytes, file.size()));
  }
  if (header.manifest_offset != kHeaderBytes || header.manifest_bytes > kMaxManifestBytes ||
      !fits(header.manifest_offset, header.manifest_bytes, file.size())) {
    refuse("header, offset 24", "the manifest does not lie in the file");
  }
  if (header.flags != 0) refuse("header, offset 56", fmt::format("flags {:#x} are unknown", header.flags));
  return header;
}

SectionId checked_id(const RecordReader& in, std::uint32_t id) {
  if (id < static_cast<std::uint32_t>(SectionId::plan) || id > static_cast<std::uint32_t>(SectionId::halves)) {
    in.fail(fmt::format("section {} is unknown", id));
  }
  return static_cast<SectionId>(id);
}

}  // namespace

std::string_view to_string(SectionId id) {
  switch (id) {
    case SectionId::plan:
      return "plan";
    case SectionId::weights:
      return "weights";
    case SectionId::provenance:
      return "provenance";
    case SectionId::report:
      return "report";
    case SectionId::portable:
      return "portable";
    case SectionId::code:
      return "code";
    case SectionId::halves:
      return "halves";
  }
  return "unknown";
}

const Section* Container::find(SectionId id) const {
  const auto found =
      std::find_if(sections.begin(), sections.end(), [&](const Section& section) { return section.id == id; });
  return found == sections.end() ? nullptr : &*found;
}

ContainerPieces write_container(std::string_view backend, std::string_view target, std::vector<Section> sections) {
  for (Section& section : sections) {
    section.hash = hash128_of_pieces(section.bytes);
    section.sha256 = sha256(section.bytes);
  }
  // The manifest's size does not depend on the offsets it holds, so it is written twice: to know its size, then right.
  const auto manifest = [&] {
    RecordWriter out;
    out.string(TENFOLD_VERSION);
    out.string(backend);
    out.string(target);
    out.count(sections.size(), limits::kMaxSections, "sections");
    for (const Section& section : sections) {
      out.u32(static_cast<std::uint32_t>(section.id));
      out.u32(0);
      out.u64(section.offset);
      out.u64(section.bytes.size());
      out.u64(section.hash.low);
      out.u64(section.hash.high);
      out.bytes(section.sha256);
    }
    return out.finish();
  };
  std::uint64_t end = kHeaderBytes + manifest().size();
  for (Section& section : sections) {
    section.offset = align(end);
    end = section.offset + section.bytes.size();
  }
  require(end <= limits::kMaxFileBytes, Code::unsupported, "the engine would have {} bytes; at most {} are possible",
          end, limits::kMaxFileBytes);

  ContainerPieces result;
  std::vector<std::byte> manifest_bytes = manifest();
  Header header;
  header.file_bytes = end;
  header.manifest_bytes = manifest_bytes.size();
  const Hash128 hash = hash128(manifest_bytes);
  header.manifest_hash_low = hash.low;
  header.manifest_hash_high = hash.high;
  header.check = header.computed_check();
  const auto header_bytes = std::as_bytes(std::span(&header, 1));
  result.own.emplace_back(header_bytes.begin(), header_bytes.end());
  result.own.push_back(std::move(manifest_bytes));
  result.own.emplace_back(kSectionAlignment, std::byte{0});  // padding comes from here
  result.pieces = {result.own[0], result.own[1]};
  std::uint64_t at = kHeaderBytes + result.own[1].size();
  for (const Section& section : sections) {
    result.pieces.push_back(std::span<const std::byte>(result.own[2]).first(section.offset - at));
    result.pieces.push_back(section.bytes);
    at = section.offset + section.bytes.size();
  }
  return result;
}

Container read_container(std::span<const std::byte> file) {
  const Header header = read_header(file);
  const std::span<const std::byte> manifest = file.subspan(header.manifest_offset, header.manifest_bytes);
  if (hash128(manifest) != Hash128{.high = header.manifest_hash_high, .low = header.manifest_hash_low}) {
    refuse("manifest", "its hash does not match; the file is damaged");
  }
  RecordReader in("manifest", manifest);
  Container container;
  container.tenfold_version = in.string();
  container.backend = in.string();
  container.target = in.string();
  container.sections.resize(in.count(limits::kMaxSections, kEntryBytes, "sections"));
  std::uint64_t end = header.manifest_offset + header.manifest_bytes;
  std::uint32_t previous = 0;
  for (Section& section : container.sections) {
    const std::uint32_t id = in.u32();
    section.id = checked_id(in, id);
    if (id <= previous) in.fail("sections are not in the order of their numbers, each once");
    previous = id;
    if (in.u32() != 0) in.fail("flags of a section are unknown");
    section.offset = in.u64();
    const std::uint64_t size = in.u64();
    section.hash.low = in.u64();
    section.hash.high = in.u64();
    const std::span<const std::byte> sha = in.bytes(section.sha256.size());
    std::copy(sha.begin(), sha.end(), section.sha256.begin());
    if (section.offset != align(end))
      in.fail(fmt::format("section '{}' is not where the one before it ends", to_string(section.id)));
    if (!fits(section.offset, size, file.size())) {
      in.fail(fmt::format("section '{}' does not lie in the file", to_string(section.id)));
    }
    for (const std::byte byte : file.subspan(end, section.offset - end)) {
      if (byte != std::byte{0})
        refuse(fmt::format("before section '{}'", to_string(section.id)), "padding is not zero");
    }
    section.bytes = file.subspan(section.offset, size);
    end = section.offset + size;
  }
  in.finish();
  if (end != file.size()) refuse("manifest", fmt::format("{} bytes after the last section", file.size() - end));
  return container;
}

}  // namespace tenfold
