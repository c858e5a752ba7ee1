// What the files of this folder offer to pipeline.cpp.
#pragma once

#include <span>

#include "passes/pass.hpp"

namespace tenfold {

extern const std::span<const Rewrite> kFoldingRewrites;          // folding.cpp
extern const std::span<const Rewrite> kSimplifyRewrites;         // simplify.cpp
extern const std::span<const Rewrite> kMovementRewrites;         // movement.cpp
extern const std::span<const Rewrite> kAffineRewrites;           // fold_affine.cpp
extern const std::span<const Rewrite> kRecogniseRewrites;        // recognise.cpp
extern const std::span<const Rewrite> kAttentionRewrites;        // attention.cpp
extern const std::span<const Rewrite> kFusionRewrites;           // fusion.cpp
extern const std::span<const Rewrite> kPlanarImageRewrites;      // planar_images.cpp
extern const std::span<const Rewrite> kConvChainRewrites;        // conv_chain.cpp
extern const std::span<const Rewrite> kQuantisedFormRewrites;    // quantised.cpp
extern const std::span<const Rewrite> kConvMaxPoolRewrites;      // conv_max_pool.cpp
extern const std::span<const Rewrite> kConvPairRewrites;         // conv_pair.cpp
extern const std::span<const Rewrite> kIntegerProductRewrites;   // quantised.cpp
extern const std::span<const Rewrite> kZeroPointRewrites;        // quantised.cpp
extern const std::span<const Rewrite> kIntegerEpilogueRewrites;  // quantised.cpp
extern const std::span<const Rewrite> kFloat8FormRewrites;       // quantised.cpp
extern const std::span<const Rewrite> kFloat8ProductRewrites;    // quantised.cpp
extern const std::span<const Rewrite> kFloat8EpilogueRewrites;   // quantised.cpp
extern const std::span<const Rewrite> kNormFusionRewrites;       // fusion.cpp
extern const std::span<const Rewrite> kMergeRewrites;            // merge_products.cpp
extern const std::span<const Rewrite> kGateRewrites;             // merge_products.cpp

int remove_dead_code(Graph& graph);             // cse.cpp
int merge_common_subexpressions(Graph& graph);  // cse.cpp
int simplify_control_flow(Graph& graph);        // control_flow.cpp
int assign_layouts(Graph& graph);               // layout.cpp
int widen_float16(Graph& graph);                // half.cpp
int narrow_float32(Graph& graph);               // half.cpp

}  // namespace tenfold
