// Reading is done in an order in which nothing is used before it was checked: container, version and target, hashes,
// records, meaning.
#include "engine/engine_file.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "base/atomic_file.hpp"
#include "base/error.hpp"
#include "base/machine_key.hpp"
#include "base/mapped_file.hpp"
#include "engine/codec.hpp"
#include "engine/container.hpp"
#include "engine/half_weights.hpp"
#include "engine/limits.hpp"
#include "engine/validate.hpp"

namespace tenfold {
namespace {

/// The code section: a seal, zeros, the code.
constexpr std::size_t kSealedCodeBegin = 64;

/// Sections with the bytes that were made for them.
struct Encoded {
  std::vector<std::vector<std::byte>> own;
  ContainerPieces file;
};

Encoded encode(const Plan& plan, std::span<const std::byte> weights, const EngineWriteOptions& options) {
  Encoded result;
  result.own.reserve(5);  // sections refer to the bytes
  result.own = {encode_plan(plan), encode_provenance(plan.provenance), encode_report(plan.report)};
  std::optional<HalfWeights> halves;
  if (options.half_weights) halves = split_half_weights(plan, weights);
  if (halves) result.own.push_back(std::move(halves->rest));
  std::vector<Section> sections = {{SectionId::plan, result.own[0]},
                                   {SectionId::weights, halves ? std::span<const std::byte>(result.own[3]) : weights},
                                   {SectionId::provenance, result.own[1]},
                                   {SectionId::report, result.own[2]}};
  if (options.portable != nullptr) {
    result.own.push_back(encode_graph(*options.portable));
    sections.push_back({SectionId::portable, result.own.back()});
  }
  if (!options.code.empty()) {
    // The seal covers the plan too: code is only as safe as the sizes and addresses that it is given.
    const Seal seal = seal_here(std::array{std::span<const std::byte>(result.own[0]), options.code});
    std::vector<std::byte> code(kSealedCodeBegin + options.code.size());
    std::copy(seal.begin(), seal.end(), code.begin());
    std::copy(options.code.begin(), options.code.end(), code.begin() + kSealedCodeBegin);
    result.own.push_back(std::move(code));
    sections.push_back({SectionId::code, result.own.back()});
  }
  if (halves) {
    result.own.push_back(std::move(halves->section));
    sections.push_back({SectionId::halves, result.own.back()});
  }
  result.file = write_container(plan.backend, plan.target, std::move(sections));
  return result;
}

/// One sentence with what the engine was built by, what is here, and what to do.
void check_version(const Container& container) {
  require(container.tenfold_version == TENFOLD_VERSION, Code::incompatible_engine,
          "the engine was built by Tenfold {}, this is Tenfold {}; build it anew", container.tenfold_version,
          TENFOLD_VERSION);
  require(container.backend == "cpu" || container.backend == "cuda", Code::incompatible_engine,
          "the engine was built for the backend '{}', which is not known here", container.backend);
}

void check_version_and_target(const Container& container, const Backend& backend) {
  check_version(container);
  require(container.backend == backend.name(), Code::incompatible_engine,
          "the engine was built for the backend '{}', this is '{}'; build it anew", container.backend, backend.name());
  if (const auto refusal = backend.refuses_target(container.target)) throw Error(Code::incompatible_engine, *refusal);
}

void check_hashes(const Container& container, const EngineReadOptions& options) {
  for (const Section& section : container.sections) {
    // The weights are data to whoever reads them; everything else is read as records, and checked in any case.
    const bool is_large =
        section.id == SectionId::weights || section.id == SectionId::portable || section.id == SectionId::halves;
    require((is_large && !options.verify_hashes) || hash128_of_pieces(section.bytes) == section.hash, Code::incompatible_engine,
            "section '{}', offset {}: its hash does not match; the file is damaged", to_string(section.id),
            section.offset);
    require(!options.verify_sha256 || sha256(section.bytes) == section.sha256, Code::incompatible_engine,
            "section '{}', offset {}: its SHA-256 does not match; the file is damaged", to_string(section.id),
            section.offset);
  }
}

const Section& need(const Container& container, SectionId id) {
  const Section* section = container.find(id);
  require(section != nullptr, Code::incompatible_engine, "section '{}' is missing", to_string(id));
  return *section;
}

/// `owner` keeps `bytes` alive.
EngineFile read(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner,
                const EngineReadOptions& options) {
  const Container container = read_container(bytes);
  if (options.backend != nullptr) check_version_and_target(container, *options.backend);
  if (options.find_backend) {
    check_version(container);
    check_version_and_target(container, options.find_backend(container.backend));
  }
  check_hashes(container, options);

  EngineFile file;
  file.bytes = bytes;
  file.format_version = kFormatVersion;
  file.tenfold_version = container.tenfold_version;
  file.plan.backend = container.backend;
  file.plan.target = container.target;
  for (const Section& section : container.sections) {
    file.sections.push_back({std::string(to_string(section.id)), section.offset, section.bytes.size(),
                             section.hash.to_string(), to_string(section.sha256)});
  }
  if (const Section* code = container.find(SectionId::code)) {
    require(code->bytes.size() >= kSealedCodeBegin, Code::incompatible_engine, "section 'code' is too short");
    Seal seal{};
    std::copy_n(code->bytes.begin(), seal.size(), seal.begin());
    for (const std::byte byte : code->bytes.subspan(seal.size(), kSealedCodeBegin - seal.size())) {
      require(byte == std::byte{0}, Code::incompatible_engine, "section 'code': padding is not zero");
    }
    const std::span<const std::byte> machine_code = code->bytes.subspan(kSealedCodeBegin);
    file.code = {machine_code.data(), machine_code.size(), owner};
    file.code_is_trusted =
        options.trust_code || is_sealed_here(std::array{need(container, SectionId::plan).bytes, machine_code}, seal);
  }
  const Section& weights = need(container, SectionId::weights);
  if (const Section* halves = container.find(SectionId::halves)) {
    file.weights = join_half_weights(halves->bytes, weights.bytes);
    // The file's bytes live as long as the weights, too.
    using Owners = std::pair<std::shared_ptr<const void>, std::shared_ptr<const void>>;
    file.weights.owner = std::make_shared<const Owners>(file.weights.owner, owner);
  } else {
    file.weights = {weights.bytes.data(), weights.bytes.size(), owner};
  }
  decode_plan(need(container, SectionId::plan).bytes, file.plan);
  file.plan.provenance = decode_provenance(need(container, SectionId::provenance).bytes);
  file.plan.report = decode_report(need(container, SectionId::report).bytes);
  validate_plan(file.plan, file.weights, file.code.size);
  if (const Section* portable = container.find(SectionId::portable); options.read_portable && portable != nullptr) {
    file.portable = decode_graph(portable->bytes, owner);
  }
  return file;
}

}  // namespace

std::vector<std::byte> serialize_engine(const Plan& plan, std::span<const std::byte> weights,
                                        const EngineWriteOptions& options) {
  const Encoded encoded = encode(plan, weights, options);
  std::vector<std::byte> bytes;
  for (const std::span<const std::byte> piece : encoded.file.pieces) {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
  }
  return bytes;
}

void write_engine(const std::string& path, const Plan& plan, std::span<const std::byte> weights,
                  const EngineWriteOptions& options) {
  write_file_atomically(path, encode(plan, weights, options).file.pieces);
}

EngineFile read_engine(const std::string& path, const EngineReadOptions& options) {
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path, limits::kMaxFileBytes);
  try {
    return read(file->bytes(), file, options);
  } catch (const Error& error) {
    throw error.in_context(fmt::format("'{}'", path));
  }
}

EngineFile read_engine(std::span<const std::byte> bytes, const EngineReadOptions& options) {
  // Aligned like a mapping, so that weights and constants are where kernels want them.
  const std::size_t size = (bytes.size() / kSectionAlignment + 1) * kSectionAlignment;
  const std::shared_ptr<void> copy(std::aligned_alloc(kSectionAlignment, size), [](void* p) { std::free(p); });
  require(copy != nullptr, Code::out_of_memory, "an engine of {} bytes does not fit in memory", bytes.size());
  if (!bytes.empty()) std::memcpy(copy.get(), bytes.data(), bytes.size());
  return read({static_cast<const std::byte*>(copy.get()), bytes.size()}, copy, options);
}

}  // namespace tenfold
