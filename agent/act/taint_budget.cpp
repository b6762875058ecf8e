#include "agent/act/taint_budget.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "agent/base/fnv1a.h"

namespace vedette {
namespace {

// Slots that are looked at together: one answer of 40 kB however large the pool.
constexpr unsigned kShard = 64;
// What is free in an answer that is a moment old may be taken; then a newer answer is better than more tries.
constexpr unsigned kRounds = 2;
constexpr unsigned kTries = 3;
constexpr std::size_t kNamedHolders = 3;
constexpr std::size_t kMaxPoolName = 40;  // of 63 for a label, less a prefix and a hash

// The value of a label as a part of an object's name, which has no capitals, '_' or '.'.
std::string pool_name(const std::string& label) {
  if (label.empty()) return "all";
  std::string name;
  for (const char c : label) {
    const auto byte = static_cast<unsigned char>(c);
    name += std::isalnum(byte) != 0 ? static_cast<char>(std::tolower(byte)) : '-';
  }
  if (name == label && name != "all" && name.size() <= kMaxPoolName) return name;
  // With a hash: two labels that look alike then stay apart.
  return "p-" + name.substr(0, kMaxPoolName) + "-" + std::to_string(fnv1a(label) % 100'000'000);
}

std::string slot_name(const std::string& pool, unsigned index) {
  return "vedette-" + pool + "-" + std::to_string(index);
}

std::string holders(const std::vector<SlotLease>& slots) {
  std::string text;
  for (std::size_t i = 0; i < std::min(slots.size(), kNamedHolders); ++i) {
    text += (i == 0 ? "" : ", ") + slots[i].holder;
  }
  if (slots.size() > kNamedHolders) text += " and " + std::to_string(slots.size() - kNamedHolders) + " more";
  return text;
}

}  // namespace

TaintBudget::TaintBudget(KubeClient& client, KubeNodeOptions node, TaintBudgetOptions options)
    : client_(client),
      node_(std::move(node)),
      options_(std::move(options)),
      leases_(client, options_.namespace_name),
      random_(static_cast<std::minstd_rand::result_type>(monotonic_now())) {}

SlotLease TaintBudget::mine(SlotLease slot, const std::string& node_version) const {
  slot.holder = node_.name;
  slot.node_version = node_version;
  slot.renewed_ns = wall_now();
  slot.duration = options_.lease;
  return slot;
}

// One of `pool`, if there are several.
Result<bool> TaintBudget::find_own(const std::string& pool) {
  auto own = leases_.of_holder(node_.name);
  if (!own) return tl::unexpected(own.error());
  looked_ = true;
  slot_.reset();
  spare_ = own->size() > 1;
  if (own->empty()) return false;
  const auto best = std::ranges::find(*own, pool, &SlotLease::pool);
  slot_ = std::move(best == own->end() ? own->front() : *best);
  return true;
}

Result<TaintBudget::Answer> TaintBudget::take(const NodeState& seen, bool newest) {
  released_short_ = false;
  const std::string pool = pool_name(seen.pool);
  if (!looked_ || (doubtful() && !slot_)) {
    const auto found = find_own(pool);
    if (!found) return tl::unexpected(found.error());
    // A version that was read before the lease could be older than the one the lease records, whose patch (of
    // an agent before this one) may still be under way.
    if (*found) return Answer::kReadAgain;
  }
  if (!slot_ || slot_->pool != pool) return acquire(seen);
  if (!newest) return Answer::kReadAgain;
  auto recorded = leases_.update(mine(*slot_, seen.resource_version));
  looked_ = recorded && *recorded;
  if (!recorded) return tl::unexpected(recorded.error());
  if (!*recorded) return Answer::kReadAgain;
  slot_ = std::move(*recorded);
  return Answer::kGranted;
}

Result<TaintBudget::Answer> TaintBudget::acquire(const NodeState& seen) {
  const auto total = count_slots(seen.pool);
  if (!total) return tl::unexpected(total.error());
  const std::string pool = pool_name(seen.pool);
  const unsigned shard = static_cast<unsigned>(random_()) % ((*total + kShard - 1) / kShard);
  const unsigned first = shard * kShard;
  const unsigned end = std::min(*total, first + kShard);
  const auto create = [&](unsigned index) -> Result<bool> {
    SlotLease slot{.name = slot_name(pool, index), .pool = pool, .shard = shard, .acquired_ns = wall_now()};
    auto created = leases_.create(mine(std::move(slot), seen.resource_version));
    if (!created) {
      note_lost();
      return tl::unexpected(created.error());
    }
    const bool is_ours = created->has_value();
    if (is_ours) hold(std::move(**created));
    return is_ours;
  };
  // Most are free most of the time: one request instead of two, when it counts.
  const auto lucky = create(first + static_cast<unsigned>(random_()) % (end - first));
  if (!lucky) return tl::unexpected(lucky.error());
  if (*lucky) return Answer::kGranted;
  std::vector<SlotLease> taken;
  for (unsigned round = 0; round < kRounds; ++round) {
    auto present = leases_.of_shard(pool, shard);
    if (!present) return tl::unexpected(present.error());
    std::map<std::string, SlotLease> by_name;
    for (SlotLease& lease : *present) {
      if (lease.holder == node_.name) {
        // A create of ours whose answer was lost; when the transport sent it twice, the second said "taken".
        looked_ = false;
        return Answer::kReadAgain;
      }
      by_name.emplace(lease.name, std::move(lease));
    }
    taken.clear();
    std::vector<unsigned> free;
    for (unsigned index = first; index < end; ++index) {
      if (const auto found = by_name.find(slot_name(pool, index)); found != by_name.end()) {
        taken.push_back(std::move(found->second));
      } else {
        free.push_back(index);
      }
    }
    std::shuffle(free.begin(), free.end(), random_);
    if (free.size() > kTries) free.resize(kTries);
    for (const unsigned index : free) {
      const auto created = create(index);
      if (!created) return tl::unexpected(created.error());
      if (*created) return Answer::kGranted;
    }
    if (!free.empty()) continue;
    std::shuffle(taken.begin(), taken.end(), random_);
    unsigned tries = 0;
    for (const SlotLease& slot : taken) {
      if (!slot.expired(wall_now())) continue;
      const auto got = take_over(slot, seen);
      if (!got) return tl::unexpected(got.error());
      if (*got) return Answer::kGranted;
      if (++tries == kTries) break;
    }
    break;
  }
  const bool whole = end - first == *total;
  reason_ = "all " + std::to_string(end - first) + " slots" +
            (whole ? "" : " looked at of " + std::to_string(*total)) + " of pool " + pool + " are taken";
  if (taken.size() < end - first) {
    reason_ += " faster by other nodes";
    return Answer::kRefused;
  }
  reason_ += ", by " + holders(taken);
  const WallNs now = wall_now();
  const auto fresh = std::ranges::count_if(
      taken, [&](const SlotLease& slot) { return now < slot.acquired_ns + to_ns(options_.mass_window); });
  const bool mass = 2 * static_cast<std::size_t>(fresh) > taken.size();
  if (mass) {
    reason_ += ", " + std::to_string(fresh) + " of them within " +
               std::to_string(options_.mass_window.count()) +
               " s: what befalls so many at once is no fault of one node";
  }
  return mass ? Answer::kMassEvent : Answer::kRefused;
}

// By the rule: the lease was read before, now its holder's node, and the lease must still be as it was.
Result<bool> TaintBudget::take_over(const SlotLease& slot, const NodeState& seen) {
  KubeNodeOptions other = node_;
  other.name = slot.holder;
  const auto holder = KubeNode(client_, other).find();
  if (!holder) return tl::unexpected(holder.error());
  if (*holder && (!(*holder)->our_taints.empty() || (*holder)->resource_version == slot.node_version)) {
    return false;
  }
  SlotLease wanted = mine(slot, seen.resource_version);
  wanted.acquired_ns = wanted.renewed_ns;
  auto taken = leases_.update(wanted);
  if (!taken) {
    note_lost();
    return tl::unexpected(taken.error());
  }
  const bool is_ours = taken->has_value();
  if (is_ours) hold(std::move(**taken));
  return is_ours;
}

void TaintBudget::hold(SlotLease slot) {
  spare_ = spare_ || slot_.has_value();
  slot_ = std::move(slot);
}

Result<bool> TaintBudget::renew(const NodeState& seen) {
  const std::string pool = pool_name(seen.pool);
  if (!looked_) {
    auto found = find_own(pool);
    if (!found) return found;
  }
  if (!slot_) return false;
  const bool of_its_pool = slot_->pool == pool;
  const WallNs now = wall_now();
  const auto renewal = to_ns(options_.renewal);
  if (slot_->renewed_ns <= now && now < slot_->renewed_ns + renewal) return of_its_pool;
  auto renewed = leases_.update(mine(*slot_, slot_->node_version));
  looked_ = renewed && *renewed;
  if (!renewed) return tl::unexpected(renewed.error());
  if (*renewed) slot_ = std::move(*renewed);
  return of_its_pool;
}

Status TaintBudget::release_spare() {
  if (!spare_) return {};
  const auto own = leases_.of_holder(node_.name);
  if (!own) return tl::unexpected(own.error());
  const auto is_slot = [this](const SlotLease& lease) { return slot_ && lease.name == slot_->name; };
  looked_ = std::ranges::any_of(*own, is_slot);
  if (!looked_) return {};
  const auto seen = KubeNode(client_, node_).find();
  if (!seen) return tl::unexpected(seen.error());
  bool all = true;
  for (const SlotLease& lease : *own) {
    if (is_slot(lease)) continue;
    if (*seen && (*seen)->resource_version == lease.node_version) {
      all = false;
      continue;
    }
    const auto removed = leases_.remove(lease);
    if (!removed) return tl::unexpected(removed.error());
    all = all && *removed;
  }
  spare_ = !all;
  return {};
}

void TaintBudget::note_lost() {
  looked_ = false;
  doubtful_until_ns_ = monotonic_now() + to_ns(options_.late);
}

Status TaintBudget::release() {
  const bool last_look = doubtful() && monotonic_now() >= doubtful_until_ns_;
  if (looked_ && !slot_ && !last_look) return {};
  // All that bear our name: a create whose answer was lost may have left a second one.
  const auto own = leases_.of_holder(node_.name);
  if (!own) return tl::unexpected(own.error());
  if (last_look) doubtful_until_ns_ = 0;
  slot_.reset();
  released_short_ = spare_ = false;
  looked_ = own->empty();
  if (own->empty()) return {};
  const auto seen = KubeNode(client_, node_).find();
  if (!seen) return tl::unexpected(seen.error());
  bool all = true;
  for (const SlotLease& slot : *own) {
    // At the recorded version a patch of ours whose answer was lost may still land: the next look will tell.
    const bool done =
        !*seen || ((*seen)->our_taints.empty() && (*seen)->resource_version != slot.node_version);
    if (!done) {
      all = false;
      continue;
    }
    const auto removed = leases_.remove(slot);
    if (!removed) return tl::unexpected(removed.error());
    all = all && *removed;
  }
  looked_ = all;
  released_short_ = !all;
  return {};
}

Result<unsigned> TaintBudget::count_slots(const std::string& pool) {
  const MonotonicNs now = monotonic_now();
  const auto recount = to_ns(options_.recount);
  if (counted_pool_ == pool && now < counted_ns_ + recount) return slots_;
  const auto nodes = count_nodes(client_, node_.pool_label, pool);
  if (!nodes) return tl::unexpected(nodes.error());
  // A share like .29 of 100 nodes must not lose one to its last binary digit.
  slots_ =
      std::max(1U, static_cast<unsigned>(std::floor(options_.share * static_cast<double>(*nodes) + 1e-9)));
  counted_pool_ = pool;
  counted_ns_ = now;
  return slots_;
}

}  // namespace vedette
