// The passes in the order they run, each with the reason for its place.
#include <array>
#include <initializer_list>
#include <vector>

#include "passes/passes.hpp"

namespace tenfold {

namespace {

/// The rewrites of several files, as one set that runs to a common fixpoint.
std::vector<Rewrite> joined(std::initializer_list<std::span<const Rewrite>> sets) {
  std::vector<Rewrite> all;
  for (const std::span<const Rewrite> set : sets) all.insert(all.end(), set.begin(), set.end());
  return all;
}

}  // namespace

const Pass kWidenPass{
    .name = "widen_float16", .whole = widen_float16, .reason = "Before all others, whose rules speak of float32."};
const Pass kNarrowPass{.name = "narrow_float32",
                       .whole = narrow_float32,
                       .reason = "Behind all others: what they joined is judged as a whole."};

const Pass kQuantisedFormPass{
    .name = "quantised_forms",
    .rewrites = kQuantisedFormRewrites,
    .reason = "First of those before constants are folded: products are found between their dequantised operands."};
const Pass kIntegerProductPass{
    .name = "integer_products",
    .rewrites = kIntegerProductRewrites,
    .reason = "Before constants are folded, which would turn quantised weights into floats."};
const Pass kZeroPointPass{
    .name = "zero_points",
    .rewrites = kZeroPointRewrites,
    .reason = "In its place where a backend has kernels that subtract zero points and round within epilogues."};
const Pass kIntegerEpiloguePass{.name = "integer_epilogues",
                                .rewrites = kIntegerEpilogueRewrites,
                                .reason = "Behind fusion, which makes the programs that take integers."};
const Pass kFloat8FormPass{
    .name = "float8_forms",
    .rewrites = kFloat8FormRewrites,
    .reason = "First of those before constants are folded: products are found between their dequantised operands."};
const Pass kFloat8ProductPass{
    .name = "float8_products",
    .rewrites = kFloat8ProductRewrites,
    .reason = "Before constants are folded, which would turn quantised weights into float32."};
const Pass kFloat8EpiloguePass{.name = "float8_epilogues",
                               .rewrites = kFloat8EpilogueRewrites,
                               .reason = "Behind fusion, which makes the programs that take float8."};
const Pass kNormFusionPass{.name = "norm_fusion",
                           .rewrites = kNormFusionRewrites,
                           .reason = "Only where a backend has such kernels; behind fusion, which makes the programs."};

const Pass kMergePass{
    .name = "merged_products",
    .rewrites = kMergeRewrites,
    .reason = "Only where kernels read parts of rows; behind fusion, which makes the epilogues that are merged too."};

const Pass kGatePass{.name = "gated_products",
                     .rewrites = kGateRewrites,
                     .reason = "Only where kernels compute them, which is in 16-bit floats; so behind narrow_float32."};

const Pass kPlanarImagePass{
    .name = "planar_images",
    .rewrites = kPlanarImageRewrites,
    .reason = "Only where a backend has such kernels; before conv_chain, which takes such a convolution as its first."};

const Pass kConvChainPass{.name = "conv_chain",
                          .rewrites = kConvChainRewrites,
                          .reason = "Only where a backend has such kernels; behind fusion, which makes the epilogues."};

const Pass kConvMaxPoolPass{
    .name = "conv_max_pool",
    .rewrites = kConvMaxPoolRewrites,
    .reason = "Only where a backend has such kernels; behind all others, when types are final."};
const Pass kConvPairPass{.name = "conv_pair",
                         .rewrites = kConvPairRewrites,
                         .reason = "Only where a backend has such kernels; behind all others, when types are final."};

std::span<const Pass* const> optional_passes() {
  static constexpr std::array<const Pass*, 17> kPasses = {
      &kWidenPass,         &kQuantisedFormPass, &kIntegerProductPass,  &kZeroPointPass,      &kFloat8FormPass,
      &kFloat8ProductPass, &kNormFusionPass,    &kIntegerEpiloguePass, &kFloat8EpiloguePass, &kMergePass,
      &kPlanarImagePass,   &kConvChainPass,     &kNarrowPass,          &kGatePass,           &kConvMaxPoolPass,
      &kConvPairPass,      &kSamplesPass};
  return kPasses;
}

std::span<const Pass> pipeline() {
  static const std::vector<Rewrite> simplify = joined({kFoldingRewrites, kSimplifyRewrites, kMovementRewrites});
  static const std::vector<Rewrite> recognise = joined({kRecogniseRewrites, kFoldingRewrites});
  static const std::vector<Rewrite> attention =
      joined({kAttentionRewrites, kSimplifyRewrites, kMovementRewrites, kFoldingRewrites});
  static const std::vector<Rewrite> affine =
      joined({kAffineRewrites, kFoldingRewrites, kSimplifyRewrites, kMovementRewrites});
  static const std::array passes{
      Pass{.name = "dead_code",
           .whole = remove_dead_code,
           .reason = "First, so that nothing is spent on what nobody reads."},
      Pass{.name = "simplify",
           .rewrites = simplify,
           .reason = "Shapes and scalars become plain constants, which all later rules look for."},
      Pass{.name = "control_flow",
           .whole = simplify_control_flow,
           .reason = "Behind simplify, which computes conditions; what it moves into blocks is simplified next."},
      Pass{.name = "common_subexpressions",
           .whole = merge_common_subexpressions,
           .reason = "Patterns such as x - mean(x) are recognised only if their x is one value."},
      Pass{.name = "simplify_blocks",
           .rewrites = simplify,
           .reason = "Folds what control_flow moved into blocks and what is equal only since the merge."},
      Pass{.name = "recognise",
           .rewrites = recognise,
           .reason = "Before scales are folded into weights, which would hide parts of the patterns."},
      Pass{.name = "attention",
           .rewrites = attention,
           .reason = "Before scales are folded into the matrices in front, where the pattern would lose them."},
      Pass{.name = "affine",
           .rewrites = affine,
           .reason = "Behind recognise; before layouts, because scales are then broadcast along one known axis."},
      Pass{.name = "layout",
           .whole = assign_layouts,
           .reason =
               "Behind the rules that look for channels on axis 1; before fusion, which joins across what it moves."},
      Pass{.name = "simplify_layout",
           .rewrites = attention,
           .reason = "Transposes that met their inverse cancel, or become the layout of attention."},
      Pass{.name = "fusion",
           .rewrites = kFusionRewrites,
           .reason = "Last, because a program is opaque to every rule that looks for operators."},
      Pass{.name = "merge_after_fusion",
           .whole = merge_common_subexpressions,
           .reason = "Constants that were copied while they were changed may be equal again."},
  };
  return passes;
}

}  // namespace tenfold
