#include "agent/assess/cause_finder.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>

namespace vedette {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
// As long as a tick, which may come a little early.
constexpr double kStepS = 0.5;
constexpr double kNearlyAStep = 0.8;
// Whatever began longer than this before an incident opened is what is usual: 15 s.
constexpr std::uint64_t kOnsetSteps = 30;
// Long enough for two readings of the cgroups' files, which the CPU time comes from: 5 s.
constexpr std::uint64_t kWindowSteps = 10;
// An anomaly shows within a second and is told with the next tick: an incident that opens has begun so long
// ago, and nobody waits for the rest of the window.
constexpr std::uint64_t kBegunSteps = 3;
// With less than this nobody knows what is usual.
constexpr std::uint64_t kUsualSteps = 16;
// All that wait together wait so much longer, in seconds a second; less is the noise of a calm node.
constexpr double kLeastWait = 0.05;
// Together, to be felt; and how long ago the waiting must have been less: what grows for 5 s is one trouble.
constexpr double kLeastFelt = 0.25;
constexpr std::uint64_t kFeltAfterSteps = 10;
// What is usual for an entity is reckoned anew once in so many steps, each in its turn.
constexpr std::uint64_t kTurns = 16;
// Who began so long after the waiting did, did not cause it; the CPU time is known two seconds late.
constexpr std::uint64_t kLateSteps = 8;
constexpr double kLateShare = 0.25;
// A second that a server waits here is one for its client too: both are silent.
constexpr double kStallOfWait = 2;
// Packets a second from which on silence means something.
constexpr double kTalks = 5;
// More of the time than before: the quota, not the neighbours.
constexpr double kThrottledShare = 0.05;
// Of a memory limit: from here on whoever allocates must first free.
constexpr double kNearlyFull = 0.95;
// What kernel threads do for an owner they do not name is for those who do at least so much of it themselves.
constexpr double kOwnPart = 0.1;
// A normal distribution's standard deviation over the distance of its upper quartile.
constexpr double kQuartileToDeviation = 1.48;
// Of all waiting; who explains less is not named.
constexpr double kLeastShare = 0.05;
constexpr std::size_t kSuspects = 3;
// Of who talks to whom. A node of 110 pods that each talk to forty others has as many.
constexpr std::size_t kMaxTalks = 4096;
// More peers that fail at once than a sentence has room for.
constexpr std::size_t kMaxPeers = 16;

// A segment that was lost is sent again after 200 ms at the earliest (TCP_RTO_MIN); a SYN after 1 s (RFC
// 6298), and whoever was refused or asks a name server asks again about as late.
constexpr double kRetransmitS = 0.2;
constexpr double kUnansweredS = 1;
// A request costs a disk about what so many bytes do.
constexpr double kRequestBytes = 65536;
constexpr double kPageBytes = 4096;
// Buffers that overflow delay nobody by themselves; what is lost is asked for again, or missed.
constexpr double kOverrunS = 0.001;

struct MeasureInfo {
  std::string_view origins[2];  // probes or sources it is from
};

double count(const Sample& sample, vedette_counter counter) {
  return static_cast<double>(sample.counters[counter]);
}

// Missing for one entity alone: it has no such file, no limit, or is new.
double gauge(const Sample& sample, vedette_gauge gauge) {
  const double value = sample.gauges[gauge];
  return std::isnan(value) ? 0 : value;
}

double observed(const Sample& sample, vedette_histogram histogram) {
  const Buckets& buckets = sample.histograms[histogram];
  return static_cast<double>(std::accumulate(buckets.begin(), buckets.end(), std::uint64_t{0}));
}

std::string amount(double value) {
  if (value < 0.005) return "0";
  char text[32];
  std::snprintf(text, sizeof text, value < 99.5 ? "%.2g" : "%.0f", value);
  return text;
}

// Reorders them. Of an even number the lower middle is the median.
float quantile(std::span<float> values, double share) {
  const auto place = static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + place, values.end());
  return values[static_cast<std::size_t>(place)];
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
  static constexpr std::array<MeasureInfo, kMeasures> kInfo{{{{"cgroup", "cgroup"}},
                                                             {{"disk", "disk"}},
                                                             {{"cgroup", "disk"}},
                                                             {{"packets", "packets"}},
                                                             {{"sched", "sched"}},
                                                             {{"sched", "sched"}},
                                                             {{"memory", "memory"}},
                                                             {{"tcp", "sockets"}},
                                                             {{"sched", "sched"}},
                                                             {{"tcp", "packets"}},
                                                             {{"cgroup", "cgroup"}},
                                                             {{"cgroup", "cgroup"}},
                                                             {{"disk", "disk"}}}};
  for (const ProbeHealth& probe : observation.probes) {
    if (probe.state == ProbeState::kAttached) continue;
    for (std::size_t m = 0; m < kMeasures; ++m) {
      if (kInfo[m].origins[0] == probe.name || kInfo[m].origins[1] == probe.name) unwatched_.set(m);
    }
  }
  step_s_ += observation.interval_s;
  const std::size_t rows = std::min(observation.entities.size(), observation.samples.size());
  for (std::size_t i = 0; i < rows; ++i) {
    const Sample& sample = observation.samples[i];
    History& history = histories_[observation.entities[i]->id];
    if (history.name.empty()) {
      history.id = observation.entities[i]->id;
      history.name = observation.entities[i]->name;
      history.first_step = step_;
    }
    history.last_step = step_;
    const double read = count(sample, COUNTER_disk_read_bytes);
    const double asked = count(sample, COUNTER_dns_queries) - observed(sample, HISTOGRAM_dns_latency);
    history.sum[kCpuUse] += gauge(sample, GAUGE_cpu_cores) * observation.interval_s;
    history.sum[kThrottled] += gauge(sample, GAUGE_cpu_throttled) * observation.interval_s;
    history.sum[kMemoryFull] += gauge(sample, GAUGE_memory_use) * observation.interval_s;
    history.sum[kDiskUse] +=
        read + count(sample, COUNTER_disk_written_bytes) +
        kRequestBytes * (count(sample, COUNTER_disk_reads) + count(sample, COUNTER_disk_writes));
    history.sum[kUnowned] += count(sample, COUNTER_disk_unowned_bytes) +
                             kRequestBytes * count(sample, COUNTER_disk_unowned_requests);
    history.sum[kMemoryUse] += read + kPageBytes * count(sample, COUNTER_page_faults);
    history.sum[kNetworkUse] += count(sample, COUNTER_packets_sent);
    history.sum[kCpuWait] += count(sample, COUNTER_runqueue_wait_ns) / kNsPerSecond;
    history.sum[kDiskWait] += count(sample, COUNTER_blocked_disk_ns) / kNsPerSecond;
    history.sum[kMemoryWait] +=
        (count(sample, COUNTER_direct_reclaim_ns) + count(sample, COUNTER_compaction_ns)) / kNsPerSecond;
    history.sum[kNetworkWait] +=
        kRetransmitS * count(sample, COUNTER_tcp_retransmits) +
        kOverrunS * (count(sample, COUNTER_socket_overruns) + count(sample, COUNTER_udp_receive_errors));
    history.sum[kLockWait] += count(sample, COUNTER_blocked_lock_ns) / kNsPerSecond;
    // Questions whose answer has not come yet are answered in the next tick: the mean of a step is none.
    history.sum[kAnswerWait] += kUnansweredS * (count(sample, COUNTER_tcp_connect_failures) + asked);
  }
  for (const Connections& made : observation.connections) {
    if (talks_.size() < kMaxTalks && histories_.contains(made.client) && histories_.contains(made.server))
      talks_.emplace(made.client, made.server);
  }
  for (const KernelEvent& event : observation.events) note_peer(event);
  if (step_s_ >= kNearlyAStep * kStepS) close_step(observation.time.monotonic_ns);
}

void CauseFinder::close_step(MonotonicNs now) {
  // Ticks may be longer than a step.
  const double steps = std::clamp(std::round(step_s_ / kStepS), 1.0, static_cast<double>(kSteps));
  const std::uint64_t end = step_ + static_cast<std::uint64_t>(steps);
  for (auto entry = histories_.begin(); entry != histories_.end();) {
    History& history = entry->second;
    Values values;
    for (std::size_t m = 0; m < kMeasures; ++m) {
      values[m] = unwatched_.test(m) ? kNan : static_cast<float>(std::exchange(history.sum[m], 0) / step_s_);
    }
    for (std::uint64_t step = step_; step < end; ++step) history.steps[step % kSteps] = values;
    // Whoever did it may be gone when it is asked who did.
    if (step_ - history.last_step > kOnsetSteps) {
      std::erase_if(talks_,
                    [&](const auto& talk) { return talk.first == history.id || talk.second == history.id; });
      entry = histories_.erase(entry);
    } else {
      ++entry;
    }
  }
  bool watched = true;
  for (std::size_t m = kFelt; is_felt(m); ++m) watched = watched && !unwatched_.test(m);
  unwatched_.reset();
  step_s_ = 0;
  step_end_ns_ = now;
  step_ = end;
  weigh_waiting(now, static_cast<std::uint64_t>(steps), watched);
}

std::optional<std::uint64_t> CauseFinder::onset_of(std::uint64_t age) const {
  const auto node = histories_.find(kNodeEntity);
  if (node == histories_.end()) return std::nullopt;
  const std::uint64_t since = std::max(node->second.first_step, oldest_step());
  if (step_ < since + kUsualSteps + kOnsetSteps + age) return std::nullopt;
  return step_ - age - kOnsetSteps;
}

void CauseFinder::weigh_waiting(MonotonicNs now, std::uint64_t steps, bool watched) {
  waits_longer_.reset();
  const std::optional<std::uint64_t> onset = watched ? onset_of(0) : std::nullopt;
  double longer = onset ? 0 : static_cast<double>(kNan);
  // By the clock, so that a recording that begins later gives the same.
  const std::uint64_t turn = now / static_cast<MonotonicNs>(kStepS * kNsPerSecond);
  for (auto& [id, history] : histories_) {
    if (!onset) break;
    if (id == kNodeEntity) continue;
    if (!history.usuals || (turn + id) % kTurns == 0) {
      Usuals usuals;
      for (std::size_t m = kFelt; is_felt(m); ++m) usuals[m] = usual(history, m, *onset);
      history.usuals = usuals;
    }
    longer += longer_wait(history, *history.usuals, {step_ - kBegunSteps, step_});
  }
  for (std::uint64_t step = step_ - steps; step < step_; ++step)
    waits_[step % kSteps] = static_cast<float>(longer);
  if (!onset) return;
  double most = 0;
  std::size_t known = 0;
  for (std::uint64_t step = oldest_step(); step + kFeltAfterSteps < step_; ++step) {
    const float before = waits_[step % kSteps];
    if (std::isnan(before)) continue;
    most = std::max(most, static_cast<double>(before));
    ++known;
  }
  if (known >= kUsualSteps) waits_longer_ = longer >= kLeastFelt && longer > most ? longer : 0;
}

double CauseFinder::longer_wait(const History& history, const Usuals& usuals, Span window) const {
  double longer = silence(growth(history, kNetworkUse, usuals[kNetworkUse], window));
  for (std::size_t m = kCpuWait; is_wait(m); ++m) {
    const double more = growth(history, m, usuals[m], window).more;
    longer += m == kLockWait ? std::min(1.0, more) : more;
  }
  return longer;
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
  const auto known = std::ranges::find(peers_, name, &Peer::name);
  if (known != peers_.end()) {
    known->count = step_ - known->step > kSteps ? 1 : known->count + 1;
    known->step = step_;
    return;
  }
  if (peers_.size() == kMaxPeers) peers_.erase(std::ranges::min_element(peers_, {}, &Peer::step));
  peers_.push_back({std::move(name), step_, 1});
}

std::string CauseFinder::worst_peer(std::uint64_t since) const {
  const Peer* worst = nullptr;
  for (const Peer& peer : peers_) {
    if (peer.step >= since && (worst == nullptr || peer.count > worst->count)) worst = &peer;
  }
  return worst == nullptr ? "" : worst->name;
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

// An entity that was not there used nothing and waited for nothing.
float CauseFinder::value(const History& history, std::size_t measure, std::uint64_t step) const {
  return step < history.first_step ? 0 : history.steps[step % kSteps][measure];
}

CauseFinder::Usual CauseFinder::usual(const History& history, std::size_t measure,
                                      std::uint64_t onset) const {
  std::array<float, kSteps> values;
  const Span before{std::max(history.first_step, oldest_step()), onset};
  const std::span<float> seen = watched(history, measure, before, values);
  if (seen.empty()) return {};
  Usual out;
  if (is_wait(measure)) {
    out.mean = static_cast<double>(quantile(seen, 0.5));
    out.strays = kQuartileToDeviation * (static_cast<double>(quantile(seen, 0.75)) - out.mean);
    return out;
  }
  double square = 0;
  for (const float each : seen) {
    const auto v = static_cast<double>(each);
    out.mean += v;
    square += v * v;
  }
  const auto n = static_cast<double>(seen.size());
  out.mean /= n;
  out.strays = std::sqrt(std::max(0.0, square / n - out.mean * out.mean));
  return out;
}

std::span<float> CauseFinder::watched(const History& history, std::size_t measure, Span span,
                                      std::array<float, kSteps>& values) const {
  std::size_t n = 0;
  for (std::uint64_t s = span.begin; s < span.end; ++s) {
    const float v = value(history, measure, s);
    if (!std::isnan(v)) values[n++] = v;
  }
  return std::span(values).first(n);
}

// Whoever exchanges less than half of the usual packets waits for all the time that the rest would have
// taken.
double CauseFinder::silence(const Growth& sent) {
  if (!sent.watched || sent.usual < kTalks || sent.now > sent.usual / 2) return 0;
  return 1 - sent.now / sent.usual;
}

CauseFinder::Growth CauseFinder::growth(const History& history, std::size_t measure, const Usual& usual,
                                        Span window) const {
  Growth out;
  out.usual = usual.mean;
  std::array<float, kSteps> values;
  const std::span<float> seen = watched(history, measure, window, values);
  if (seen.empty()) return out;
  out.watched = true;
  out.now = is_wait(measure)
                ? static_cast<double>(quantile(seen, 0.5))
                : std::accumulate(seen.begin(), seen.end(), 0.0) / static_cast<double>(seen.size());
  out.more = std::max(0.0, out.now - usual.mean - usual.strays);
  return out;
}

std::uint64_t CauseFinder::began(const History& history, std::size_t measure, const Growth& grown,
                                 Span span) const {
  if (!grown.watched) return 0;
  const double half = (grown.usual + grown.now) / 2;
  std::uint64_t step = span.begin;
  while (step + 1 < span.end && !(static_cast<double>(value(history, measure, step)) >= half)) ++step;
  return step;
}

// What is explained so far, and by whom.
struct CauseFinder::Case {
  struct Part {
    double waited = 0;  // seconds a second it explains
    double most = -1;   // of them, those of `why`
    std::string why;
  };
  const std::vector<const History*>& who;
  const std::vector<Growths>& grown;
  const Growths& node;
  std::vector<Part> parts;  // the entities, then the rest of the node, then what is outside
  double all = 0;           // the growth of all waiting

  Case(const std::vector<const History*>& entities, const std::vector<Growths>& of_them,
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

// The growth of one kind of wait, among those who used more of that resource.
void CauseFinder::share_out(Case& found, std::size_t resource) {
  const std::size_t wait = kCpuWait + resource;
  const Growth& node_use = found.node[resource];
  const std::uint64_t began = found.node[wait].began;
  double waited = 0;
  double waited_now = 0;
  double used = 0;
  double rest_more = node_use.more;
  for (std::size_t i = 0; i < found.who.size(); ++i) {
    const Growth& use = found.grown[i][resource];
    const Growth& mine = found.grown[i][wait];
    used += use.more;
    rest_more -= use.now - use.usual;
    if (mine.more <= 0) continue;
    found.all += mine.more;
    const std::string limit = own_limit(found.grown[i], resource);
    if (!limit.empty()) {
      found.add(i, mine.more, limit + ", and its tasks waited " + amount(mine.now) + " s a second");
      continue;
    }
    waited += mine.more;
    waited_now += mine.now;
  }
  if (waited <= 0) return;
  // Writeback, and the journal's: of pages that somebody dirtied.
  const double unowned = resource == kDiskUse ? found.node[kUnowned].more : 0;
  if (used >= kOwnPart * unowned) rest_more -= unowned;
  rest_more = std::max(0.0, rest_more);
  used += rest_more;
  // Lost segments of which nobody here sent more were lost elsewhere.
  if (resource == kNetworkUse && node_use.now < 2 * node_use.usual) {
    found.add(found.outside(), waited,
              "segments were lost and sent again, and nobody here sent more than usual");
    return;
  }
  const ResourceWords& words = kWords[resource];
  const std::string waiting = " of the growth), while all waited " + amount(waited_now) + " s a second for " +
                              words.wait + ", " + amount(waited) + " more than usual";
  for (std::size_t i = 0; i < found.who.size(); ++i) {
    const Growth& use = found.grown[i][resource];
    if (use.more <= 0) continue;
    std::string why = std::string(words.use) + " " + amount(use.now * words.scale) + " " + words.unit +
                      ", usually " + amount(use.usual * words.scale) + " (" + percent(use.more / used) +
                      waiting;
    if (use.began < began)
      why +=
          "; it began " + amount(static_cast<double>(began - use.began) * kStepS) + " s before they waited";
    const bool late = use.began > began + kLateSteps;
    found.add(i, waited * use.more / used * (late ? kLateShare : 1), std::move(why));
  }
  if (rest_more > 0)
    found.add(found.rest(), waited * rest_more / used,
              std::string("what runs outside all pods ") + words.use + " " + amount(rest_more * words.scale) +
                  " " + words.unit + " more than usual (" + percent(rest_more / used) + waiting);
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
        if (quiet[i] <= 0 || met[i] || !talks_.contains({found.who[at]->id, found.who[i]->id})) continue;
        if (next != kNone) return "";
        next = i;
      }
    }
    if (at == kNone || at == from) continue;
    if (last != kNone && last != at) return "";
    last = at;
  }
  return last == kNone ? "" : found.who[last]->name;
}

void CauseFinder::blame_silent(Case& found) const {
  // Of silence the cause is outside only where all that could slow somebody here was looked at.
  if (!std::ranges::all_of(std::span(found.node).first(kLockWait), &Growth::watched)) return;
  std::vector<double> quiet;
  double stalled = 0;
  std::size_t silent = 0;
  for (const Growths& each : found.grown) {
    const double now = quiet.emplace_back(silence(each[kNetworkUse]));
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
  const auto age = static_cast<std::uint64_t>(seconds_between(began_ns, step_end_ns_) / kStepS);
  const std::optional<std::uint64_t> known = onset_of(age);
  if (!known) return {};
  const std::uint64_t onset = *known;

  std::vector<const History*> who;
  std::vector<Usuals> usuals;
  for (const auto& entry : histories_) {
    who.push_back(&entry.second);
    Usuals& all = usuals.emplace_back();
    for (std::size_t m = 0; m < kMeasures; ++m) all[m] = usual(entry.second, m, onset);
  }

  // The window in which waiting grew most: the trouble at its clearest, whenever it was found.
  Span window{onset, onset + std::min(kWindowSteps, age + kBegunSteps)};
  double most = -1;
  for (Span each = window; each.end <= step_; ++each.begin, ++each.end) {
    double grown = 0;
    for (std::size_t i = 1; i < who.size(); ++i) grown += longer_wait(*who[i], usuals[i], each);
    if (grown < most) continue;
    most = grown;
    window = each;
  }

  std::vector<Growths> grown(who.size());
  for (std::size_t i = 0; i < who.size(); ++i) {
    for (std::size_t m = 0; m < kMeasures; ++m) {
      grown[i][m] = growth(*who[i], m, usuals[i][m], window);
      grown[i][m].began = began(*who[i], m, grown[i][m], {onset, window.end});
    }
  }
  // The node is the first: it has the smallest id.
  const Growths of_node = grown.front();
  who.erase(who.begin());
  grown.erase(grown.begin());
  Case found(who, grown, of_node);
  for (std::size_t r = 0; r < kResources; ++r) share_out(found, r);
  blame_own_locks(found);
  blame_unanswered(found, worst_peer(onset));
  blame_silent(found);
  if (found.all < kLeastWait) return {};
  std::vector<Suspect> suspects;
  for (std::size_t i = 0; i < found.parts.size(); ++i) {
    const Case::Part& part = found.parts[i];
    if (part.waited < kLeastShare * found.all) continue;
    const std::string name = i == found.outside() ? kOutside : i == found.rest() ? "node" : who[i]->name;
    suspects.push_back({name, part.waited / found.all, part.why});
  }
  std::ranges::stable_sort(suspects, std::ranges::greater{}, &Suspect::score);
  if (suspects.size() > kSuspects) suspects.resize(kSuspects);
  return suspects;
}

std::size_t CauseFinder::bytes() const {
  constexpr std::size_t kTalkBytes = 48;  // a node of the set
  return histories_.size() * sizeof(History) + talks_.size() * kTalkBytes;
}

}  // namespace vedette
