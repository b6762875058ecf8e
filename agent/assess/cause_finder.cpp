#include "agent/assess/cause_finder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <span>
#include <string_view>
#include <utility>

namespace vedette {
namespace {

// Long enough for two readings of the cgroups' files, which the CPU time comes from: 5 s.
constexpr std::uint64_t kWindowSteps = 10;
// All that wait together wait so much longer, in seconds a second; less is the noise of a calm node.
constexpr double kLeastWait = 0.05;
// Who began so long after the waiting did, did not cause it; the CPU time is known two seconds late.
constexpr std::uint64_t kLateSteps = 8;
constexpr double kLateShare = 0.25;
// A second that a server waits here is one for its client too: both are silent.
constexpr double kStallOfWait = 2;
// More of the time than before: the quota, not the neighbours.
constexpr double kThrottledShare = 0.05;
// Of a memory limit: from here on whoever allocates must first free.
constexpr double kNearlyFull = 0.95;
// What kernel threads do for an owner they do not name is for those who do at least so much of it themselves.
constexpr double kOwnPart = 0.1;
// Of all waiting; who explains less is not named.
constexpr double kLeastShare = 0.05;
constexpr std::size_t kSuspects = 3;
// Of who talks to whom. A node of 110 pods that each talk to forty others has as many.
constexpr std::size_t kMaxTalks = 4096;
// More peers that fail at once than a sentence has room for.
constexpr std::size_t kMaxPeers = 16;

std::string amount(double value) {
  if (value < 0.005) return "0";
  char text[32];
  std::snprintf(text, sizeof text, value < 99.5 ? "%.2g" : "%.0f", value);
  return text;
}

std::string percent(double share) {
  return amount(std::floor(share * 100 + 0.5)) + " %";
}

struct ResourceWords {
  const char* use;   // the verb
  const char* unit;  // of the use
  double scale;
  const char* wait;  // waited for ...
};
constexpr std::array<ResourceWords, 4> kWords{{
    {"used", "cores", 1, "a CPU"},
    {"moved", "MB/s (a request counting 64 kB)", 1e-6, "disks and locks of the kernel"},
    {"took", "MB/s of memory", 1e-6, "memory"},
    {"sent", "packets/s", 1, "packets that were lost"},
}};

}  // namespace

void CauseFinder::update(const Observation& observation) {
  for (const KernelEvent& event : observation.events) note_peer(event);
  for (const EntityId gone : past_.update(observation))
    std::erase_if(talks_, [&](const auto& talk) { return talk.first == gone || talk.second == gone; });
  for (const Connections& made : observation.connections) {
    if (talks_.size() < kMaxTalks && past_.entities().contains(made.client) &&
        past_.entities().contains(made.server))
      talks_.emplace(made.client, made.server);
  }
}

void CauseFinder::note_peer(const KernelEvent& event) {
  std::string name;
  if (event.entity == kNodeEntity) return;
  if (event.type == EVENT_connect_failed) {
    name = event.text + ":" + std::to_string(event.extra);
  } else if (event.type == EVENT_dns_failed && event.value < 0) {
    name = "the name server (for " + event.text + ")";
  } else {
    return;
  }
  const std::uint64_t now = past_.steps();
  auto peer = std::ranges::find(peers_, name, &Peer::name);
  if (peer == peers_.end()) {
    if (peers_.size() == kMaxPeers) {
      peers_.erase(std::ranges::min_element(
          peers_, {}, [](const Peer& known) { return known.failures.rbegin()->first; }));
    }
    peer = peers_.insert(peers_.end(), {std::move(name), {}});
  }
  ++peer->failures[now];
  while (peer->failures.begin()->first + WaitHistory::kSteps < now)
    peer->failures.erase(peer->failures.begin());
}

std::string CauseFinder::worst_peer(std::uint64_t since) const {
  std::string worst;
  std::uint64_t most = 0;
  for (const Peer& peer : peers_) {
    std::uint64_t count = 0;
    for (auto step = peer.failures.lower_bound(since); step != peer.failures.end(); ++step)
      count += step->second;
    if (count <= most) continue;
    most = count;
    worst = peer.name;
  }
  return worst;
}

// What holds an entity back that nobody else has to do with; empty: nothing.
std::string CauseFinder::own_limit(const Growths& grown, std::size_t resource) {
  const Growth& throttled = grown[kThrottled];
  if (resource == kCpuUse && throttled.more >= kThrottledShare)
    return "its own CPU quota held it back " + percent(throttled.now) + " of the time, usually " +
           percent(throttled.usual);
  if (resource == kMemoryUse && grown[kMemoryFull].now >= kNearlyFull)
    return "it is at " + percent(grown[kMemoryFull].now) + " of its own memory limit";
  return "";
}

// What is explained so far, and by whom.
struct CauseFinder::Case {
  struct Part {
    double waited = 0;  // seconds a second it explains
    double most = -1;   // of them, those of `why`
    std::string why;
  };
  const std::vector<const WaitHistory::Past*>& who;
  const std::vector<Growths>& grown;
  const Growths& node;
  std::vector<Part> parts;  // the entities, then the rest of the node, then what is outside
  double all = 0;           // the growth of all waiting

  Case(const std::vector<const WaitHistory::Past*>& entities, const std::vector<Growths>& of_them,
       const Growths& of_node)
      : who(entities), grown(of_them), node(of_node), parts(entities.size() + 2) {}
  std::size_t rest() const { return who.size(); }
  std::size_t outside() const { return who.size() + 1; }
  void add(std::size_t whom, double waited, std::string why) {
    Part& part = parts[whom];
    part.waited += waited;
    if (waited <= part.most) return;
    part.most = waited;
    part.why = std::move(why);
  }
};

CauseFinder::Contest CauseFinder::contest(Case& found, std::size_t resource) {
  Contest out;
  double rest_more = found.node[resource].more;
  for (std::size_t i = 0; i < found.who.size(); ++i) {
    const Growth& use = found.grown[i][resource];
    const Growth& wait = found.grown[i][kCpuWait + resource];
    out.used += use.more;
    rest_more -= use.now - use.usual;
    if (wait.more <= 0) continue;
    found.all += wait.more;
    const std::string limit = own_limit(found.grown[i], resource);
    if (!limit.empty()) {
      found.add(i, wait.more, limit + ", and its tasks waited " + amount(wait.now) + " s a second");
      continue;
    }
    out.waited += wait.more;
    out.waited_now += wait.now;
  }
  // Writeback, and the journal's: of pages that somebody dirtied.
  const double unowned = resource == kDiskUse ? found.node[kUnowned].more : 0;
  if (out.used >= kOwnPart * unowned) rest_more -= unowned;
  out.by_rest = std::max(0.0, rest_more);
  out.stolen = resource == kCpuUse ? WaitHistory::stolen(found.node[kStolen]) : 0;
  out.used += out.by_rest + out.stolen;
  return out;
}

// The growth of one kind of wait, among those who used more of that resource.
void CauseFinder::share_out(Case& found, std::size_t resource) {
  const Contest all = contest(found, resource);
  if (all.waited <= 0) return;
  const Growth& node_use = found.node[resource];
  // Lost segments of which nobody here sent more were lost elsewhere.
  if (resource == kNetworkUse && node_use.now < 2 * node_use.usual) {
    found.add(found.outside(), all.waited,
              "segments were lost and sent again, and nobody here sent more than usual");
    return;
  }
  const ResourceWords& words = kWords[resource];
  const auto part = [&](double more) {
    return " (" + percent(more / all.used) + " of the growth), while all waited " + amount(all.waited_now) +
           " s a second for " + words.wait + ", " + amount(all.waited) + " more than usual";
  };
  const std::uint64_t began = found.node[kCpuWait + resource].began;
  for (std::size_t i = 0; i < found.who.size(); ++i) {
    const Growth& use = found.grown[i][resource];
    if (use.more <= 0) continue;
    std::string why = std::string(words.use) + " " + amount(use.now * words.scale) + " " + words.unit +
                      ", usually " + amount(use.usual * words.scale) + part(use.more);
    if (use.began < began)
      why += "; it began " + amount(static_cast<double>(began - use.began) * WaitHistory::kStepS) +
             " s before they waited";
    const bool late = use.began > began + kLateSteps;
    found.add(i, all.waited * use.more / all.used * (late ? kLateShare : 1), std::move(why));
  }
  if (all.stolen > 0) {
    const Growth& hypervisor = found.node[kStolen];
    found.add(found.outside(), all.waited * all.stolen / all.used,
              "the hypervisor took " + amount(hypervisor.now) + " cores from this machine, usually " +
                  amount(hypervisor.usual) + part(all.stolen));
  }
  if (all.by_rest > 0)
    found.add(found.rest(), all.waited * all.by_rest / all.used,
              std::string("what runs outside all pods ") + words.use + " " +
                  amount(all.by_rest * words.scale) + " " + words.unit + " more than usual" +
                  part(all.by_rest));
}

// Whoever waits for locks waits for tasks of its own, unless something else makes all of them slow.
void CauseFinder::blame_own_locks(Case& found) {
  double locked = 0;
  for (const Growths& each : found.grown) locked += each[kLockWait].more;
  const double unexplained = locked - found.all;
  if (unexplained <= 0) return;
  found.all += unexplained;
  for (std::size_t i = 0; i < found.who.size(); ++i) {
    const Growth& lock = found.grown[i][kLockWait];
    if (lock.more <= 0) continue;
    found.add(i, unexplained * lock.more / locked,
              "its tasks waited " + amount(lock.now) +
                  " s a second for each other (locks, children), usually " + amount(lock.usual));
  }
}

void CauseFinder::blame_unanswered(Case& found, const std::string& peer) {
  double asked = 0;
  for (const Growths& each : found.grown) asked += each[kAnswerWait].more;
  if (asked <= 0) return;
  found.all += asked;
  found.add(found.outside(), asked,
            amount(asked) + " connects and DNS queries a second failed or had no answer" +
                (peer.empty() ? "" : ", most of them of " + peer));
}

// The one that all silent ones lead to, who connect to each other; empty: none, or more than one. Either they
// wait for it, or it is idle because of them: packets do not tell, so it is named and not accused.
std::string CauseFinder::last_in_line(const Case& found, const std::vector<double>& quiet) const {
  constexpr std::size_t kNone = ~std::size_t{0};
  std::size_t last = kNone;
  for (std::size_t from = 0; from < quiet.size(); ++from) {
    std::vector<bool> met(quiet.size());
    std::size_t at = quiet[from] > 0 ? from : kNone;
    for (std::size_t next = at; next != kNone;) {
      at = std::exchange(next, kNone);
      met[at] = true;
      for (std::size_t i = 0; i < quiet.size(); ++i) {
        if (quiet[i] <= 0 || met[i] || !talks_.contains({found.who[at]->id(), found.who[i]->id()})) continue;
        if (next != kNone) return "";
        next = i;
      }
    }
    if (at == kNone || at == from) continue;
    if (last != kNone && last != at) return "";
    last = at;
  }
  return last == kNone ? "" : found.who[last]->name();
}

void CauseFinder::blame_silent(Case& found) const {
  // Of silence the cause is outside only where all that could slow somebody here was looked at.
  if (!std::ranges::all_of(std::span(found.node).first(kLockWait), &Growth::watched)) return;
  std::vector<double> quiet;
  double stalled = 0;
  std::size_t silent = 0;
  for (const Growths& each : found.grown) {
    const double now = quiet.emplace_back(WaitHistory::silence(each[kNetworkUse]));
    if (now <= 0) continue;
    ++silent;
    double waited = 0;
    for (const std::size_t m : {kCpuWait, kDiskWait, kMemoryWait}) waited += each[m].more;
    stalled += now - kStallOfWait * waited;
  }
  if (stalled <= 0) return;
  found.all += stalled;
  const std::string last = last_in_line(found, quiet);
  found.add(found.outside(), stalled,
            std::to_string(silent) + (silent == 1 ? " entity exchanges" : " entities exchange") +
                " less than half of the usual packets, and no wait here explains it" +
                (last.empty() ? "" : "; those that connect to each other lead to " + last));
}

std::vector<Suspect> CauseFinder::rank(MonotonicNs began_ns) const {
  const auto age =
      static_cast<std::uint64_t>(seconds_between(began_ns, past_.step_end_ns()) / WaitHistory::kStepS);
  const std::optional<std::uint64_t> known = past_.onset_of(age);
  if (!known) return {};
  const std::uint64_t onset = *known;

  std::vector<const WaitHistory::Past*> who;
  std::vector<WaitHistory::Usuals> usuals;
  for (const auto& entry : past_.entities()) {
    who.push_back(&entry.second);
    usuals.push_back(past_.usuals(entry.second, onset));
  }

  // The window in which waiting grew most: the trouble at its clearest, whenever it was found.
  WaitHistory::Span window{onset, onset + std::min(kWindowSteps, age + WaitHistory::kBegunSteps)};
  double most = -1;
  for (WaitHistory::Span each = window; each.end <= past_.steps(); ++each.begin, ++each.end) {
    double grown = 0;
    for (std::size_t i = 1; i < who.size(); ++i) grown += past_.longer_wait(*who[i], usuals[i], each);
    if (grown < most) continue;
    most = grown;
    window = each;
  }

  std::vector<Growths> grown(who.size());
  for (std::size_t i = 0; i < who.size(); ++i) {
    for (std::size_t m = 0; m < WaitHistory::kMeasures; ++m) {
      grown[i][m] = past_.growth(*who[i], m, usuals[i][m], window);
      grown[i][m].began = past_.began(*who[i], m, grown[i][m], {onset, window.end});
    }
  }
  // The node is the first: it has the smallest id.
  const Growths of_node = grown.front();
  who.erase(who.begin());
  grown.erase(grown.begin());
  Case found(who, grown, of_node);
  for (std::size_t r = 0; r < WaitHistory::kResources; ++r) share_out(found, r);
  blame_own_locks(found);
  blame_unanswered(found, worst_peer(onset));
  blame_silent(found);
  if (found.all < kLeastWait) return {};
  std::vector<Suspect> suspects;
  for (std::size_t i = 0; i < found.parts.size(); ++i) {
    const Case::Part& part = found.parts[i];
    if (part.waited < kLeastShare * found.all) continue;
    const std::string name = i == found.outside() ? kOutside : i == found.rest() ? "node" : who[i]->name();
    suspects.push_back({name, part.waited / found.all, part.why});
  }
  std::ranges::stable_sort(suspects, std::ranges::greater{}, &Suspect::score);
  if (suspects.size() > kSuspects) suspects.resize(kSuspects);
  return suspects;
}

std::size_t CauseFinder::bytes() const {
  constexpr std::size_t kTalkBytes = 48;  // a node of the set
  return past_.bytes() + talks_.size() * kTalkBytes;
}

}  // namespace vedette
