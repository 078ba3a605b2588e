// Minimum-cost flow by the network simplex method, for networks of up to some hundred thousand arcs.
#pragma once

#include <cstdint>
#include <vector>

namespace pyi::order {

// Nodes are 0..nodes-1. An arc's flow lies within [0, capacity] and costs `cost` >= 0 a unit.
struct Arc {
  std::int32_t from, to;
  std::int64_t capacity, cost;
};

// Writes to flow[0..arcs.size()) the flows of least total cost that carry supply[v] units out of every node v
// (negative: into it), and returns that cost, or -1 where no flows do.
//
// On entry `flow` holds flows to start from, the nearer to the answer the faster; all zeros will do. They
// must keep to the capacities; the arcs that are neither empty nor full must form a forest, and in each of
// its trees at most one node may be out of balance. Throws ArgumentError where they are anything else.
//
// supply sums to 0. Integral and exact, while (largest cost + 1) * (nodes + 1) and the sum of all supplies
// stay below 2^62. The same arcs in the same order give the same flows on any machine. Deals with degenerate
// pivots by keeping the tree strongly feasible (Cunningham 1976), so it ends; searches arcs by blocks.
std::int64_t cheapest_flow(const std::vector<Arc>& arcs, const std::vector<std::int64_t>& supply,
                           std::int64_t* flow);

}  // namespace pyi::order
