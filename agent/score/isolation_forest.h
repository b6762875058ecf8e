// An isolation forest (Liu, Ting, Zhou 2008) that is renewed tree by tree from a bounded, ageing sample of
// what it has seen, so that no tick pays for a whole fit. Used by the anomaly scorer, on the tick thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "agent/score/exact_math.h"

namespace vedette {

struct ForestOptions {
  std::size_t trees = 32;         // the mean depth's error falls with the root; 32 keep 111 rows near 50 us
  std::size_t sample = 128;       // rows a tree isolates: the paper finds no gain above 256
  std::size_t reservoir = 512;    // rows remembered: four independent samples
  std::uint64_t seed = 20260101;  // any; the same seed and the same rows give the same trees
};

class IsolationForest {
public:
  IsolationForest(std::size_t columns, ForestOptions options);

  // Remembers a row (columns floats, none NaN). A full reservoir loses a random one for it, so ages fall off
  // exponentially.
  void remember(std::span<const float> row);
  // Builds one tree from the reservoir, in place of the oldest once all are there. Does nothing while the
  // reservoir holds less than one tree's sample.
  void grow();

  bool ready() const { return built_ >= options_.trees; }
  bool full() const { return rows_ == options_.reservoir; }
  // 2^(-mean depth / expected depth), in (0, 1): above .5 the row is easier to isolate than most; .5 while
  // not ready().
  float score(std::span<const float> row) const;
  std::size_t bytes() const;

private:
  // Children are neighbours: below the split left, at or above it left + 1. A leaf points at itself with a
  // split that nothing reaches, so a walk is a fixed number of steps without a branch.
  struct Node {
    float split;
    std::uint16_t column;
    std::uint16_t left;
  };

  void build(std::uint16_t index, std::size_t begin, std::size_t end, std::size_t depth);
  float expected_depth(std::size_t rows) const { return expected_depth_[rows]; }

  std::size_t columns_;
  ForestOptions options_;
  std::size_t max_depth_;
  std::size_t nodes_per_tree_;
  RandomBits random_;
  std::vector<float> reservoir_;
  std::size_t rows_ = 0;
  std::vector<Node> nodes_;   // trees x nodes_per_tree_
  std::vector<float> depth_;  // parallel to nodes_: a leaf's depth, with what its rows would still need
  std::vector<float> expected_depth_;
  std::size_t built_ = 0;
  std::size_t next_tree_ = 0;
  // The tree being built.
  Node* tree_ = nullptr;
  float* tree_depth_ = nullptr;
  std::uint16_t used_ = 0;
  std::vector<std::uint32_t> order_;
};

}  // namespace vedette
