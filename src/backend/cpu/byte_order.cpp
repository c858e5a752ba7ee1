#include "backend/cpu/byte_order.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <tuple>

#include "backend/cpu/gemm_support.hpp"
#include "backend/cpu/kernels/byte_product.hpp"

namespace tenfold::cpu {
namespace {

/// The numbers of a quad, [column][4], of at most 16 columns; the rest is 0.
using QuadNumbers = std::array<int, 64>;

/// A quad's weights for a version of rows.
QuadNumbers weights_of(std::span<const std::byte> quad, const QuadVersion& version) {
  QuadNumbers weights{};
  for (std::size_t i = 0; i < quad.size(); ++i) {
    const int weight = static_cast<std::int8_t>(quad[i / 4 * 4 + static_cast<std::size_t>(version.order[i % 4])]);
    weights[i] = version.flips[i % 4] ? -weight : weight;
  }
  return weights;
}

/// What a 16-bit sum holds whatever the input: its positive weights, and its negative ones, add up to so much.
constexpr int kMostInWord = 128;

/// The quads of a panel's segment, whose weights are looked at in some versions of the rows.
class QuadOrder {
 public:
  /// Cycles that a register tile of eight rows takes for a quad of each way (Zen 3, measured), and for one loop more.
  static constexpr double kFours = 6.0, kPaired = 7.1, kSingle = 8.6, kWide = 13.8, kLoop = 100;

  explicit QuadOrder(std::span<const std::byte> panel, std::int64_t depth)
      : panel_(panel), count_(static_cast<std::size_t>(depth + 3) / 4), quad_bytes_(panel.size() / count_) {
    for (std::size_t q = 0; q < count_; ++q) {
      for (std::size_t version = 0; version < std::size(kQuadVersions); ++version) {
        quads_.push_back(measured(q, version));
      }
    }
  }

  /// Puts them in order, each in that one of the first `versions` whose sums are the smallest, and gives the cost.
  double arrange(std::size_t versions) {
    // As many together as possible is not always best: who fits to nobody's three might have been a second one.
    const Groups pairs = group(versions, 2), fours = group(versions, 4);
    chosen_ = fours.cost() < pairs.cost() ? fours : pairs;
    return chosen_.cost();
  }

  /// Appends them as arranged; adds to where the panel's sums `start` what flipped products leave there.
  void append_to(OrderedPanels& out, std::int64_t depth, std::span<std::int32_t> start) const {
    const auto row_quads = static_cast<std::size_t>(version_quads(depth));
    const auto size = [](const auto& quads) { return static_cast<std::uint16_t>(quads.size()); };
    unsigned versions = chosen_.wide.empty() ? 0 : 1;
    std::vector<std::uint16_t> order;
    std::array<std::uint32_t, 16> left{};  // of flipped products, of each column
    for (const auto* part : {&chosen_.fours, &chosen_.paired, &chosen_.single}) {
      for (const Quad* quad : *part) {
        const QuadVersion& version = kQuadVersions[quad->version];
        order.push_back(static_cast<std::uint16_t>(quad->version * row_quads + quad->quad));
        versions |= 1U << quad->version;
        const QuadNumbers weights = weights_of(quad_at(quad->quad), version);
        for (std::size_t i = 0; i < quad_bytes_; ++i) {
          out.panels.push_back(static_cast<std::byte>(weights[i]));
          if (version.flips[i % 4]) left[i / 4] -= 255U * static_cast<std::uint32_t>(weights[i]);
        }
      }
    }
    // Sums wrap around on the way.
    for (std::size_t j = 0; j < start.size(); ++j) {
      start[j] = static_cast<std::int32_t>(static_cast<std::uint32_t>(start[j]) + left[j]);
    }
    for (const Quad* quad : chosen_.wide) {
      order.push_back(static_cast<std::uint16_t>(quad->quad));
      std::vector<std::int16_t> words;
      words.reserve(quad_bytes_);
      for (const std::size_t odd : {0, 1}) {
        for (std::size_t i = odd; i < quad_bytes_; i += 2) {
          words.push_back(static_cast<std::int8_t>(quad_at(quad->quad)[i]));
        }
      }
      const auto bytes = std::as_bytes(std::span(words));
      out.panels.insert(out.panels.end(), bytes.begin(), bytes.end());
    }
    out.orders.insert(out.orders.end(), {size(chosen_.fours), size(chosen_.paired), size(chosen_.single),
                                         static_cast<std::uint16_t>(versions)});
    out.orders.insert(out.orders.end(), order.begin(), order.end());
  }

 private:
  /// Of each 16-bit sum of a quad or of several: what its positive and its negative weights add up to.
  using Sums = std::array<std::uint8_t, 64>;
  struct Quad {
    std::size_t quad = 0, version = 0;
    Sums sums{};
    int most = 0;  ///< of the sums; more than kMostInWord: not possible
  };
  struct Groups {
    std::vector<const Quad*> fours, paired, single, wide;
    double cost() const {
      const auto n = [](const auto& quads) { return static_cast<double>(quads.size()); };
      return kFours * n(fours) + kPaired * n(paired) + kSingle * n(single) + kWide * n(wide) +
             (fours.empty() ? 0 : kLoop);
    }
    void take(const std::vector<const Quad*>& together) {
      const std::size_t in_pairs = together.size() == 4 ? 0 : together.size() / 2 * 2;
      for (std::size_t i = 0; i < together.size(); ++i) {
        (together.size() == 4 ? fours : i < in_pairs ? paired : single).push_back(together[i]);
      }
    }
  };

  std::span<const std::byte> quad_at(std::size_t q) const { return panel_.subspan(q * quad_bytes_, quad_bytes_); }

  Quad measured(std::size_t q, std::size_t version) const {
    const QuadNumbers weights = weights_of(quad_at(q), kQuadVersions[version]);
    Quad quad{.quad = q, .version = version};
    for (std::size_t i = 0; i < quad_bytes_; ++i) {
      std::uint8_t& sum = quad.sums[i / 2 * 2 + (weights[i] < 0 ? 1 : 0)];
      const int more = sum + std::abs(weights[i]);  // at most 128 + 128
      sum = static_cast<std::uint8_t>(std::min(more, kMostInWord + 1));
      quad.most = std::max({quad.most, more, weights[i] > 127 ? kMostInWord + 1 : 0});  // -128 has no other sign
    }
    return quad;
  }

  /// At most `together` in a 16-bit sum.
  Groups group(std::size_t versions, std::size_t together) const {
    struct Open {
      std::vector<const Quad*> quads;
      Sums sums;
    };
    Groups groups;
    std::vector<Open> open;
    for (std::size_t q = 0; q < count_; ++q) {
      const Quad* first = &quads_[q * std::size(kQuadVersions)];
      const Quad* best =
          std::min_element(first, first + versions, [](const Quad& a, const Quad& b) { return a.most < b.most; });
      if (best->most > kMostInWord) {
        groups.wide.push_back(best);
        continue;
      }
      // The first of the last few that it fits together with.
      const auto partner = std::find_if(open.begin(), open.end(), [&](const Open& other) {
        int most = 0;
        for (std::size_t i = 0; i < other.sums.size(); ++i) most = std::max(most, best->sums[i] + other.sums[i]);
        return most <= kMostInWord;
      });
      if (partner != open.end()) {
        partner->quads.push_back(best);
        for (std::size_t i = 0; i < best->sums.size(); ++i) {
          partner->sums[i] = static_cast<std::uint8_t>(partner->sums[i] + best->sums[i]);
        }
        if (partner->quads.size() == together) {
          groups.take(partner->quads);
          open.erase(partner);
        }
        continue;
      }
      constexpr std::size_t kOpen = 16;
      if (open.size() == kOpen) {
        groups.take(open.front().quads);
        open.erase(open.begin());
      }
      open.push_back({{best}, best->sums});
    }
    for (const Open& rest : open) groups.take(rest.quads);
    return groups;
  }

  std::span<const std::byte> panel_;
  std::size_t count_, quad_bytes_;
  std::vector<Quad> quads_;  ///< [quad][version]
  Groups chosen_;
};

}  // namespace

void append_ordered_panels(std::span<const std::byte> panels, std::int64_t depth, std::int64_t columns,
                           std::int64_t segment, std::span<std::int32_t> start, OrderedPanels& out) {
  const std::int64_t width = vector_floats(tier()), quads = (depth + 3) / 4;
  for (std::int64_t begin = 0; begin < depth; begin += segment) {
    const std::int64_t part = std::min(segment, depth - begin);
    std::vector<QuadOrder> orders;
    for (std::int64_t n = 0; n < padded_columns(columns); n += width) {
      orders.emplace_back(panels.subspan(static_cast<std::size_t>((n * quads + width * (begin / 4)) * 4),
                                         static_cast<std::size_t>(width * ((part + 3) / 4) * 4)),
                          part);
    }
    // Every version of the rows is copied for all panels: few columns want few versions.
    constexpr double kVersionCost = 0.8;  // of a quad, like QuadOrder's
    const auto cost = [&](std::size_t versions) {
      double sum = kVersionCost * static_cast<double>(versions) * static_cast<double>(version_quads(part));
      for (QuadOrder& order : orders) sum += order.arrange(versions);
      return sum;
    };
    std::size_t best = 0;
    double least = 0;
    for (const std::size_t versions : kVersionSets) {
      if (const double sum = cost(versions); best == 0 || sum < least)
        std::tie(best, least) = std::tuple(versions, sum);
    }
    cost(best);
    for (std::size_t p = 0; p < orders.size(); ++p) {
      orders[p].append_to(out, part,
                          start.subspan(p * static_cast<std::size_t>(width), static_cast<std::size_t>(width)));
    }
  }
}

}  // namespace tenfold::cpu
