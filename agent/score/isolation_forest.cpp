#include "agent/score/isolation_forest.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace vedette {
namespace {

// Most signals of a calm node do not move at all; this many draws find one that does, or the node is a leaf.
constexpr int kColumnDraws = 24;

std::size_t ceil_log2(std::size_t value) {
  std::size_t depth = 0;
  while ((std::size_t{1} << depth) < value) ++depth;
  return depth;
}

}  // namespace

IsolationForest::IsolationForest(std::size_t columns, ForestOptions options)
    : columns_(columns), options_(options), random_(options.seed) {
  options_.sample = std::clamp<std::size_t>(options_.sample, 2, 4096);  // node indices are 16 bits wide
  options_.reservoir = std::max(options_.reservoir, options_.sample);
  options_.trees = std::max<std::size_t>(options_.trees, 1);
  max_depth_ = ceil_log2(options_.sample);
  nodes_per_tree_ = 2 * options_.sample - 1;
  reservoir_.resize(options_.reservoir * columns_);
  nodes_.resize(options_.trees * nodes_per_tree_);
  depth_.resize(nodes_.size());
  order_.resize(options_.reservoir);
  // c(n) = 2 H(n-1) - 2 (n-1) / n: the mean depth of an unsuccessful search in a binary tree of n keys.
  expected_depth_.assign(options_.sample + 1, 0);
  double harmonic = 0;
  for (std::size_t n = 2; n <= options_.sample; ++n) {
    const auto keys = static_cast<double>(n);
    harmonic += 1 / (keys - 1);
    expected_depth_[n] = static_cast<float>(2 * harmonic - 2 * (keys - 1) / keys);
  }
}

void IsolationForest::remember(std::span<const float> row) {
  const std::size_t place =
      rows_ < options_.reservoir ? rows_++ : random_.below(static_cast<std::uint32_t>(options_.reservoir));
  std::copy_n(row.begin(), columns_, reservoir_.begin() + static_cast<std::ptrdiff_t>(place * columns_));
}

void IsolationForest::grow() {
  if (rows_ < options_.sample) return;
  std::iota(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(rows_), 0U);
  for (std::size_t i = 0; i < options_.sample; ++i) {
    std::swap(order_[i], order_[i + random_.below(static_cast<std::uint32_t>(rows_ - i))]);
  }
  tree_ = &nodes_[next_tree_ * nodes_per_tree_];
  tree_depth_ = &depth_[next_tree_ * nodes_per_tree_];
  used_ = 1;
  build(0, 0, options_.sample, 0);
  next_tree_ = (next_tree_ + 1) % options_.trees;
  built_ = std::min(built_ + 1, options_.trees);
}

void IsolationForest::build(std::uint16_t index, std::size_t begin, std::size_t end, std::size_t depth) {
  const std::size_t rows = end - begin;
  const auto value = [&](std::size_t i, std::uint32_t column) {
    return reservoir_[order_[i] * columns_ + column];
  };
  for (int draw = 0; draw < kColumnDraws && rows > 1 && depth < max_depth_; ++draw) {
    const std::uint32_t column = random_.below(static_cast<std::uint32_t>(columns_));
    float low = value(begin, column);
    float high = low;
    for (std::size_t i = begin + 1; i < end; ++i) {
      low = std::min(low, value(i, column));
      high = std::max(high, value(i, column));
    }
    const float split = low + (high - low) * random_.uniform();
    if (!(split > low)) continue;  // constant, or the draw fell on its lower end
    const auto middle =
        std::partition(order_.begin() + static_cast<std::ptrdiff_t>(begin),
                       order_.begin() + static_cast<std::ptrdiff_t>(end),
                       [&](std::uint32_t row) { return reservoir_[row * columns_ + column] < split; });
    const std::uint16_t left = used_;
    used_ = static_cast<std::uint16_t>(used_ + 2);
    tree_[index] = {split, static_cast<std::uint16_t>(column), left};
    const auto cut = static_cast<std::size_t>(middle - order_.begin());
    build(left, begin, cut, depth + 1);
    build(static_cast<std::uint16_t>(left + 1), cut, end, depth + 1);
    return;
  }
  tree_[index] = {std::numeric_limits<float>::infinity(), 0, index};
  tree_depth_[index] = static_cast<float>(depth) + expected_depth(rows);
}

float IsolationForest::score(std::span<const float> row) const {
  if (!ready()) return 0.5F;
  // Four walks at once: each step waits for its own load only.
  constexpr std::size_t kLanes = 4;
  float sum = 0;
  std::size_t tree = 0;
  for (; tree + kLanes <= options_.trees; tree += kLanes) {
    std::array<std::size_t, kLanes> at{};
    for (std::size_t step = 0; step < max_depth_; ++step) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const Node& node = nodes_[(tree + lane) * nodes_per_tree_ + at[lane]];
        at[lane] = node.left + static_cast<std::size_t>(row[node.column] >= node.split);
      }
    }
    for (std::size_t lane = 0; lane < kLanes; ++lane)
      sum += depth_[(tree + lane) * nodes_per_tree_ + at[lane]];
  }
  for (; tree < options_.trees; ++tree) {
    std::size_t at = 0;
    for (std::size_t step = 0; step < max_depth_; ++step) {
      const Node& node = nodes_[tree * nodes_per_tree_ + at];
      at = node.left + static_cast<std::size_t>(row[node.column] >= node.split);
    }
    sum += depth_[tree * nodes_per_tree_ + at];
  }
  const float mean = sum / static_cast<float>(options_.trees);
  return exact_exp2(-mean / expected_depth(options_.sample));
}

std::size_t IsolationForest::bytes() const {
  return reservoir_.size() * sizeof(float) + nodes_.size() * (sizeof(Node) + sizeof(float)) +
         order_.size() * sizeof(std::uint32_t);
}

}  // namespace vedette
