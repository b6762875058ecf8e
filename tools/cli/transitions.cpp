#include "tools/cli/transitions.h"

#include <algorithm>
#include <deque>
#include <tuple>

namespace vedette {
namespace {

const char* word_of(Transition::Kind kind) {
  switch (kind) {
    case Transition::Kind::kBegins:
      return " begins";
    case Transition::Kind::kWorsens:
      return " is worse";
    case Transition::Kind::kEnds:
      return " is over";
    case Transition::Kind::kTaints:
      return "taint ";
    case Transition::Kind::kLifts:
      return "lift ";
    case Transition::Kind::kHoldsBack:
      return "hold back ";
  }
  return "";
}

}  // namespace

std::string Transition::text() const {
  const bool acts = kind == Kind::kTaints || kind == Kind::kLifts || kind == Kind::kHoldsBack;
  return (acts ? word_of(kind) + what : what + word_of(kind)) + (detail.empty() ? "" : ": " + detail);
}

void Transitions::tick(WallNs now, const RecordedVerdict& verdict, const std::vector<EntityPtr>& entities) {
  const auto add = [&](Transition::Kind kind, std::string what, std::string detail) {
    list_.push_back({now, kind, std::move(what), std::move(detail)});
  };
  for (const RecordedVerdict::ConditionVerdict& condition : verdict.conditions) {
    const auto [place, fresh] = conditions_.try_emplace({condition.reason, condition.entity});
    Known& known = place->second;
    known.seen = true;
    if (fresh) {
      const auto entity =
          std::ranges::find_if(entities, [&](const EntityPtr& each) { return each->id == condition.entity; });
      known.what =
          condition.reason + " of " +
          (entity == entities.end() ? "entity " + std::to_string(condition.entity) : (*entity)->name);
    }
    if (fresh || condition.severity > known.severity) {
      add(fresh ? Transition::Kind::kBegins : Transition::Kind::kWorsens, known.what,
          std::string(to_string(condition.severity)));
    }
    known.severity = condition.severity;
  }
  for (auto entry = conditions_.begin(); entry != conditions_.end();) {
    if (std::exchange(entry->second.seen, false)) {
      ++entry;
      continue;
    }
    add(Transition::Kind::kEnds, entry->second.what, "");
    entry = conditions_.erase(entry);
  }
  const std::string taint = verdict.taint ? verdict.reason + ":" + verdict.effect : "";
  if (taint != taint_) {
    if (taint.empty()) add(Transition::Kind::kLifts, taint_, "");
    if (!taint.empty()) add(Transition::Kind::kTaints, taint, "");
    taint_ = taint;
  }
  // "REASON: why, with numbers"
  const std::string reason = substance_of(verdict.held_back);
  if (reason != held_back_ && !reason.empty()) {
    const std::size_t why = std::min(verdict.held_back.size(), reason.size() + 2);
    add(Transition::Kind::kHoldsBack, reason, verdict.held_back.substr(why));
  }
  held_back_ = reason;
}

std::vector<TransitionPair> side_by_side(const std::vector<Transition>& then,
                                         const std::vector<Transition>& now) {
  using Key = std::tuple<Transition::Kind, std::string, std::string>;
  const auto key_of = [](const Transition& transition) {
    const bool numbers = transition.kind == Transition::Kind::kHoldsBack;
    return Key(transition.kind, transition.what, numbers ? "" : transition.detail);
  };
  std::vector<TransitionPair> pairs;
  std::map<Key, std::deque<std::size_t>> waiting;  // places in `pairs`
  for (const Transition& transition : then) {
    waiting[key_of(transition)].push_back(pairs.size());
    pairs.push_back({transition, std::nullopt});
  }
  for (const Transition& transition : now) {
    std::deque<std::size_t>& places = waiting[key_of(transition)];
    if (places.empty()) {
      pairs.push_back({std::nullopt, transition});
    } else {
      pairs[places.front()].now = transition;
      places.pop_front();
    }
  }
  std::ranges::stable_sort(pairs, [](const TransitionPair& a, const TransitionPair& b) {
    const auto when = [](const TransitionPair& pair) {
      return pair.then ? pair.then->wall_ns : pair.now->wall_ns;
    };
    return when(a) < when(b);
  });
  return pairs;
}

}  // namespace vedette
