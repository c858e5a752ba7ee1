// Sections of a network that run sample by sample, as nodes Samples. The builder decides which (build/sections.cpp).
#pragma once

#include <span>
#include <vector>

#include "graph/graph.hpp"

namespace tenfold {

/// Nodes, in order, that treat the batch, axis 0 of the network's first input, as independent samples: every operand is
/// constant and the same for all samples, or has the batch as its axis 0, and sample n of the results depends on sample
/// n of these alone. What is not known to do so is left out, as are values whose sizes only a run knows.
std::vector<NodeId> per_sample_nodes(const Graph& graph);

/// Moves nodes out of `nodes`, which per_sample_nodes must have listed, into one node Samples: all of them but those
/// that read what others, outside, make of the section's results. Returns how many; 0: the graph is as it was, because
/// fewer than two that compute are left, or the types of a single sample do not follow.
int make_section(Graph& graph, std::span<const NodeId> nodes);

/// The same network without sections: their nodes stand where they stood, under their names.
void dissolve_sections(Graph& graph);

}  // namespace tenfold
