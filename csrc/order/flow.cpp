// Primal network simplex: Ahuja, Magnanti and Orlin 1993, Network Flows, chapter 11.
//
// A basis is a spanning tree of the nodes and a root that every node is joined to by an artificial arc, at a
// cost that no solution with other arcs reaches. An arc outside the tree is empty or full. A pivot takes an
// arc whose reduced cost says that its cycle with the tree is worth turning, pushes what fits around it, and
// lets go the arc that is empty or full first.
#include "order/flow.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "errors.h"

namespace pyi::order {
namespace {

constexpr std::int32_t kNone = -1;
constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max() / 2;

enum class State : std::int8_t { kFull = -1, kTree = 0, kEmpty = 1 };

class Simplex {
 public:
  Simplex(const std::vector<Arc>& arcs, const std::vector<std::int64_t>& supply, const std::int64_t* start)
      : arcs_(arcs),
        real_(arcs.size()),
        root_(static_cast<std::int32_t>(supply.size())),
        flow_(start, start + arcs.size()),
        state_(arcs.size(), State::kEmpty),
        nodes_(supply.size() + 1) {
    std::int64_t most = 0;
    for (const Arc& arc : arcs) most = std::max(most, arc.cost);
    const std::int64_t dear = (most + 1) * (root_ + 1);
    arcs_.reserve(arcs.size() + supply.size());
    // What a node still has to send by an artificial arc, and the arcs of the forest at each node.
    std::vector<std::int64_t> rest(supply);
    std::vector<std::vector<std::int32_t>> forest(supply.size());
    std::size_t edges = 0;
    for (std::size_t e = 0; e < real_; ++e) {
      const auto from = static_cast<std::size_t>(arcs[e].from), to = static_cast<std::size_t>(arcs[e].to);
      if (flow_[e] < 0 || flow_[e] > arcs[e].capacity) throw ArgumentError("flow: exceeds an arc's capacity");
      rest[from] -= flow_[e];
      rest[to] += flow_[e];
      if (flow_[e] == 0) continue;
      state_[e] = flow_[e] == arcs[e].capacity ? State::kFull : State::kTree;
      if (state_[e] == State::kFull) continue;
      forest[from].push_back(static_cast<std::int32_t>(e));
      forest[to].push_back(static_cast<std::int32_t>(e));
      ++edges;
    }
    for (const bool balanced :
         {false, true}) {  // trees hang from their node out of balance, or from the first
      for (std::int32_t v = 0; v < root_; ++v) {
        const std::int64_t units = rest[static_cast<std::size_t>(v)];
        if ((units == 0) != balanced || at(v).parent != kNone) continue;
        const bool out = units >= 0;
        arcs_.push_back(out ? Arc{v, root_, kUnlimited, 0} : Arc{root_, v, kUnlimited, dear});
        flow_.push_back(out ? units : -units);
        state_.push_back(State::kTree);
        hang_tree(v, static_cast<std::int32_t>(arcs_.size() - 1), rest, forest);
      }
    }
    if (joined_ != edges) throw ArgumentError("flow: arcs neither empty nor full form a cycle");
  }

  void solve() {
    const auto block = static_cast<std::size_t>(std::max(std::sqrt(static_cast<double>(real_)), 16.0));
    std::size_t next = 0;
    for (std::int32_t enters; (enters = find(block, next)) != kNone;) pivot(enters);
  }

  // The cost of the flows of the caller's arcs, or -1 where artificial ones are still needed.
  std::int64_t result(std::int64_t* flow) const {
    for (std::size_t e = real_; e < arcs_.size(); ++e) {
      if (flow_[e] != 0) return -1;
    }
    std::int64_t cost = 0;
    for (std::size_t e = 0; e < real_; ++e) cost += flow_[e] * arcs_[e].cost;
    std::copy_n(flow_.begin(), real_, flow);
    return cost;
  }

 private:
  struct Node {
    std::int64_t potential = 0;
    std::int32_t parent = kNone, arc = kNone,
                 depth = 0;  // arc: the one to the parent; upward: it leads there
    std::int32_t child = kNone, before = kNone, after = kNone;  // first child; siblings
    bool upward = true;
  };

  // Makes all that the forest joins to `top` a tree below it; `top` itself is joined to the root by `arc`.
  void hang_tree(std::int32_t top, std::int32_t e, const std::vector<std::int64_t>& rest,
                 const std::vector<std::vector<std::int32_t>>& forest) {
    std::vector<std::int32_t> waiting{top};
    place(top, root_, e);
    while (!waiting.empty()) {
      const std::int32_t u = waiting.back();
      waiting.pop_back();
      for (const std::int32_t f : forest[static_cast<std::size_t>(u)]) {
        const std::int32_t v = arc(f).from == u ? arc(f).to : arc(f).from;
        if (f == at(u).arc || at(v).parent != kNone) continue;
        if (rest[static_cast<std::size_t>(v)] != 0) {
          throw ArgumentError("flow: two nodes of a tree are out of balance");
        }
        place(v, u, f);
        waiting.push_back(v);
        ++joined_;
      }
    }
  }

  void place(std::int32_t v, std::int32_t parent, std::int32_t e) {
    Node& node = at(v);
    attach(v, parent);
    node.arc = e;
    node.upward = arc(e).from == v;
    node.potential = at(parent).potential + (node.upward ? -arc(e).cost : arc(e).cost);
    node.depth = at(parent).depth + 1;
  }

  Node& at(std::int32_t v) { return nodes_[static_cast<std::size_t>(v)]; }
  const Arc& arc(std::int32_t e) const { return arcs_[static_cast<std::size_t>(e)]; }
  std::int64_t& flow(std::int32_t e) { return flow_[static_cast<std::size_t>(e)]; }
  State& state(std::int32_t e) { return state_[static_cast<std::size_t>(e)]; }

  void attach(std::int32_t v, std::int32_t parent) {
    Node& node = at(v);
    node.parent = parent;
    node.before = kNone;
    node.after = at(parent).child;
    if (node.after != kNone) at(node.after).before = v;
    at(parent).child = v;
  }

  void detach(std::int32_t v) {
    const Node& node = at(v);
    if (node.before == kNone) {
      at(node.parent).child = node.after;
    } else {
      at(node.before).after = node.after;
    }
    if (node.after != kNone) at(node.after).before = node.before;
  }

  // The arc with the most to gain of the first block, from `next` on, that has any; kNone: the flow is
  // cheapest.
  std::int32_t find(std::size_t block, std::size_t& next) {
    std::int64_t least = 0;
    std::int32_t best = kNone;
    std::size_t left = block;
    for (std::size_t seen = 0; seen < real_; ++seen) {
      const std::size_t e = next;
      next = next + 1 == real_ ? 0 : next + 1;
      const Arc& a = arcs_[e];
      const std::int64_t gain =
          static_cast<std::int64_t>(state_[e]) * (a.cost + at(a.from).potential - at(a.to).potential);
      if (gain < least) {
        least = gain;
        best = static_cast<std::int32_t>(e);
      }
      if (--left == 0) {
        if (best != kNone) return best;
        left = block;
      }
    }
    return best;
  }

  std::int32_t join(std::int32_t u, std::int32_t v) {
    while (u != v) (at(u).depth >= at(v).depth ? u : v) = at(at(u).depth >= at(v).depth ? u : v).parent;
    return u;
  }

  void pivot(std::int32_t enters) {
    const bool fills = state(enters) == State::kEmpty;
    const std::int32_t tail = fills ? arc(enters).from : arc(enters).to;  // as the push goes
    const std::int32_t head = fills ? arc(enters).to : arc(enters).from;
    const std::int32_t top = join(tail, head);
    // The push goes down from the top to the tail, through the arc, and up from the head to the top. Of arcs
    // that stop it at the same time the last one on that way leaves: so the tree stays strongly feasible.
    std::int64_t push = arc(enters).capacity;
    std::int32_t leaves = kNone;
    bool at_head = false;
    for (std::int32_t u = tail; u != top; u = at(u).parent) {
      const std::int64_t room = slack(at(u).arc, !at(u).upward);
      if (room < push) {
        push = room;
        leaves = u;
      }
    }
    for (std::int32_t u = head; u != top; u = at(u).parent) {
      const std::int64_t room = slack(at(u).arc, at(u).upward);
      if (room <= push) {
        push = room;
        leaves = u;
        at_head = true;
      }
    }
    if (push > 0) {
      flow(enters) += fills ? push : -push;
      for (std::int32_t u = tail; u != top; u = at(u).parent) flow(at(u).arc) += at(u).upward ? -push : push;
      for (std::int32_t u = head; u != top; u = at(u).parent) flow(at(u).arc) += at(u).upward ? push : -push;
    }
    if (leaves == kNone) {
      state(enters) = fills ? State::kFull : State::kEmpty;
      return;
    }
    const std::int32_t gone = at(leaves).arc;
    state(gone) = flow(gone) == 0 ? State::kEmpty : State::kFull;
    state(enters) = State::kTree;
    hang(at_head ? head : tail, at_head ? tail : head, leaves, enters);
  }

  std::int64_t slack(std::int32_t e, bool forward) { return forward ? arc(e).capacity - flow(e) : flow(e); }

  // Hangs the subtree of `leaves` under `onto` by `enters`, with `v` of it on top.
  void hang(std::int32_t v, std::int32_t onto, std::int32_t leaves, std::int32_t enters) {
    std::int32_t node = v, parent = onto, through = enters;
    bool upward = arc(enters).from == v;
    for (;;) {  // turns the way from v up to `leaves` over
      const std::int32_t above = at(node).parent, old = at(node).arc;
      const bool was_upward = at(node).upward;
      detach(node);
      attach(node, parent);
      at(node).arc = through;
      at(node).upward = upward;
      if (node == leaves) break;
      parent = node;
      node = above;
      through = old;
      upward = !was_upward;
    }
    const Arc& a = arc(enters);
    const std::int64_t wanted = at(onto).potential + (at(v).upward ? -a.cost : a.cost);
    const std::int64_t change = wanted - at(v).potential;
    for (std::int32_t u = v;;) {  // depth first
      Node& n = at(u);
      n.potential += change;
      n.depth = at(n.parent).depth + 1;
      if (n.child != kNone) {
        u = n.child;
        continue;
      }
      while (u != v && at(u).after == kNone) u = at(u).parent;
      if (u == v) break;
      u = at(u).after;
    }
  }

  std::vector<Arc> arcs_;
  std::size_t real_;
  std::int32_t root_;
  std::size_t joined_ = 0;
  std::vector<std::int64_t> flow_;
  std::vector<State> state_;
  std::vector<Node> nodes_;
};

}  // namespace

std::int64_t cheapest_flow(const std::vector<Arc>& arcs, const std::vector<std::int64_t>& supply,
                           std::int64_t* flow) {
  Simplex simplex(arcs, supply, flow);
  simplex.solve();
  return simplex.result(flow);
}

}  // namespace pyi::order
