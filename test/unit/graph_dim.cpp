#include <gtest/gtest.h>

#include "graph/dim.hpp"
#include "tenfold/types.hpp"

namespace tenfold {
namespace {

const Dim& n() {
  static const Dim kDim = Dim::symbol("n");
  return kDim;
}
const Dim& h() {
  static const Dim kDim = Dim::symbol("h");
  return kDim;
}

TEST(Dim, EqualExpressionsCompareEqual) {
  EXPECT_EQ(n() * Dim(2) + h(), h() + n() + n());
  EXPECT_EQ((n() + Dim(1)) * (n() - Dim(1)), n() * n() - Dim(1));
  EXPECT_EQ(n() - n(), Dim(0));
  EXPECT_FALSE(n() == h());
}

TEST(Dim, DivisionTakesOutWhatDivides) {
  EXPECT_EQ(Dim::floordiv(n() * Dim(6) + Dim(4), Dim(2)), n() * Dim(3) + Dim(2));
  EXPECT_EQ(Dim::floordiv(n() * h() * Dim(4), n() * Dim(2)), h() * Dim(2));
  EXPECT_EQ(Dim::floordiv((h() + Dim(1)) * n(), h() + Dim(1)), n());
  // Two ways to write the output size of a stride-2 convolution.
  EXPECT_EQ(Dim::floordiv(h() - Dim(1), Dim(2)) + Dim(1), Dim::floordiv(h() + Dim(1), Dim(2)));
  EXPECT_EQ(Dim::floordiv(Dim::floordiv(h(), Dim(2)), Dim(3)), Dim::floordiv(h(), Dim(6)));
  EXPECT_EQ(Dim::floordiv(Dim(-3), Dim(2)), Dim(-2));
}

TEST(Dim, DivisionByZeroIsRefused) { EXPECT_THROW(Dim::floordiv(n(), Dim(0)), Error); }

TEST(Dim, MaxAndMinDecideWhereTheSignIsKnown) {
  EXPECT_EQ(Dim::max(n(), n() + Dim(3)), n() + Dim(3));
  EXPECT_EQ(Dim::min(n(), Dim(0)), Dim(0));
  EXPECT_EQ(Dim::max(n(), h()), Dim::max(h(), n()));
}

TEST(Dim, DivisionCancelsCommonFactors) {
  EXPECT_EQ(Dim::floordiv(n() * Dim(2) + Dim(1), Dim(4)), Dim::floordiv(n(), Dim(2)));
  EXPECT_EQ(Dim::floordiv(n() * Dim(6), Dim(4)), n() + Dim::floordiv(n(), Dim(2)));
  // Halving twice, rounded up, is a quarter rounded up.
  const Dim half = Dim::floordiv(h() + Dim(1), Dim(2));
  EXPECT_EQ(Dim::floordiv(half + Dim(1), Dim(2)), Dim::floordiv(h() + Dim(3), Dim(4)));
}

TEST(Dim, MaxAndMinAbsorbEachOther) {
  const Dim limited = Dim::min(n(), Dim(512));
  EXPECT_EQ(Dim::max(limited, n()), n());
  EXPECT_EQ(Dim::min(n(), Dim::max(n(), h())), n());
  EXPECT_EQ(Dim::max(Dim::max(n(), h()), h()), Dim::max(n(), h()));
  EXPECT_EQ(Dim::max(n() - limited, Dim(0)), n() - limited);
  EXPECT_EQ(Dim::max(n() * h() - Dim::floordiv(n(), Dim(2)) * h(), Dim(0)),
            n() * h() - Dim::floordiv(n(), Dim(2)) * h());
  EXPECT_FALSE(Dim::max(n() - h(), Dim(0)) == n() - h());
}

TEST(Dim, TextRoundTrips) {
  const Dim odd = Dim::symbol("x:0 \"quoted\"");
  for (const Dim& dim : {Dim(0), Dim(-7), n(), n() * Dim(-2) + Dim(3), Dim::floordiv(n() + Dim(1), h()) * odd,
                         Dim::max(n(), h() * Dim(2)) - Dim::min(n(), Dim(5))}) {
    EXPECT_EQ(Dim::parse(dim.to_string()), dim) << dim.to_string();
  }
}

TEST(Dim, BrokenTextIsRefusedWithItsPosition) {
  for (const char* text : {"", "2*", "floordiv(n)", "floordiv(n, 0)", "n n", "\"open", "max(n, h"}) {
    EXPECT_THROW(Dim::parse(text), Error) << text;
  }
  EXPECT_THROW(Dim::parse(std::string(100000, '(')), Error);
}

TEST(Dim, EvaluatesAndBounds) {
  const Dim dim = Dim::floordiv(n() + Dim(3), Dim(4)) * h() - Dim(1);
  const auto value = [](const std::string& name) -> std::int64_t { return name == "n" ? 10 : 7; };
  EXPECT_EQ(dim.evaluate(value), 20);
  const Interval bounds = dim.bounds([](const std::string& name) {
    return name == "n" ? Interval{1, 16} : Interval{2, 8};
  });
  EXPECT_EQ(bounds, (Interval{1, 31}));
}

TEST(Dim, SaturatesInsteadOfOverflowing) {
  const Dim big(std::int64_t{1} << 50);
  EXPECT_EQ((big * big).constant(), kUnbounded);
  EXPECT_EQ((big * big * Dim(-1)).constant(), -kUnbounded);
}

TEST(Dim, SubstituteReplacesSymbols) {
  const Dim dim = Dim::floordiv(n(), Dim(2)) + h();
  const Dim result = dim.substitute([](const std::string& name) -> std::optional<Dim> {
    if (name == "n") return Dim(9);
    return std::nullopt;
  });
  EXPECT_EQ(result, h() + Dim(4));
}

}  // namespace
}  // namespace tenfold
