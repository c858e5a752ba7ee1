#include "build/libraries.hpp"

#include <algorithm>
#include <array>

#include "base/error.hpp"

namespace tenfold {
namespace {

struct Source {
  std::string_view name;
  bool LibraryTactics::*library;  ///< nullptr: always there
};
constexpr std::array kSources{Source{"cublas_lt", &LibraryTactics::cublas_lt}, Source{"cudnn", &LibraryTactics::cudnn},
                              Source{"cublas", &LibraryTactics::cublas_lt}, Source{"edge_mask_convolutions", nullptr},
                              Source{"jit_convolutions", nullptr}};

std::string lower_case(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

}  // namespace

void read_tactic_sources(std::string_view list, LibraryTactics& libraries) {
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    std::string_view item = list.substr(begin, end - begin);
    begin = end + 1;
    if (item.empty()) continue;
    const bool is_removed = item.front() == '-';
    if (is_removed || item.front() == '+') item.remove_prefix(1);
    const std::string name = lower_case(item);
    const auto* const source =
        std::find_if(kSources.begin(), kSources.end(), [&](const Source& known) { return known.name == name; });
    require(source != kSources.end(), Code::invalid_argument,
            "there is no tactic source '{}'; known are cublas_lt and cudnn", item);
    if (source->library != nullptr) libraries.*source->library = !is_removed;
  }
}

LibraryTactics read_tactic_sources(std::span<const std::string> lists) {
  LibraryTactics libraries;
  for (const std::string& list : lists) read_tactic_sources(list, libraries);
  return libraries;
}

std::string to_string(const LibraryTactics& libraries) {
  std::string text;
  for (const Source& source : std::span(kSources).first(2)) {
    if (!(libraries.*source.library)) continue;
    if (!text.empty()) text += ',';
    text += source.name;
  }
  return text;
}

}  // namespace tenfold
