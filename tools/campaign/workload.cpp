// campaign-workload: one run of the campaign. Uses up a resource of its own along a given course, as a leak,
// a cache or a log does, beside the small chores that any service has, and says on stdout when a system call
// was refused for it. tools/campaign/run draws the courses and starts it.

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

double now_s() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

void sleep_s(double seconds) {
  if (seconds > 0) std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

// What can be used up of the filesystem at `folder`, as those who are not root see it: its journal and tables
// are no part of it.
std::uint64_t free_bytes(const std::string& folder) {
  struct statvfs space {};
  if (::statvfs(folder.c_str(), &space) != 0) return 0;
  return space.f_bavail * space.f_frsize;
}

// What is used up. set() moves to `amount` and answers 0, or the errno of the call that was refused.
class Resource {
public:
  Resource() = default;
  Resource(const Resource&) = delete;
  Resource& operator=(const Resource&) = delete;
  virtual ~Resource() = default;
  virtual int set(std::uint64_t amount) = 0;
};

// Touched heap. It is never refused: the kernel kills instead.
class Memory : public Resource {
public:
  int set(std::uint64_t amount) override {
    while ((blocks_.size() + 1) * kBlock <= amount) {
      blocks_.push_back(std::make_unique<char[]>(kBlock));
      std::memset(blocks_.back().get(), 0x5a, kBlock);
    }
    bool freed = false;
    while (blocks_.size() * kBlock > amount + kBlock) {
      blocks_.pop_back();
      freed = true;
    }
    if (freed) ::malloc_trim(0);
    return 0;
  }

private:
  // Below malloc's threshold for mmap, so that it grows the heap as small objects do.
  static constexpr std::size_t kBlock = 64U << 10;
  std::vector<std::unique_ptr<char[]>> blocks_;
};

class Descriptors : public Resource {
public:
  Descriptors(std::uint64_t limit, unsigned variety) : variety_(variety) {
    const rlimit value{limit, limit};
    ::setrlimit(RLIMIT_NOFILE, &value);
  }
  ~Descriptors() override {
    for (const int fd : open_) ::close(fd);
  }
  int set(std::uint64_t amount) override {
    while (open_.size() < amount) {
      const int fd = open_one();
      if (fd < 0) return errno;
      open_.push_back(fd);
    }
    while (open_.size() > amount) {
      ::close(open_.back());
      open_.pop_back();
    }
    return 0;
  }

private:
  int open_one() const {
    switch (variety_ % 3) {
      case 0:
        return ::open("/etc/hostname", O_RDONLY | O_CLOEXEC);
      case 1:
        return ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      default:
        return ::eventfd(0, EFD_CLOEXEC);
    }
  }
  unsigned variety_;
  std::vector<int> open_;
};

// Files of a few MiB in a folder, written block by block.
class Disk : public Resource {
public:
  explicit Disk(std::string folder) : folder_(std::move(folder)), block_(kBlock, 'x') {}
  int set(std::uint64_t amount) override {
    while (used_ + kBlock <= amount) {
      const std::string path = name(used_ / kFile);
      const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
      if (fd < 0) return errno;
      const ssize_t wrote = ::write(fd, block_.data(), kBlock);
      const int error = errno;
      ::close(fd);
      if (wrote != static_cast<ssize_t>(kBlock)) return wrote < 0 ? error : ENOSPC;
      used_ += kBlock;
    }
    if (used_ > amount + kBlock) {
      // Whole files go, as a rotation removes them; the last one is cut.
      const std::uint64_t left = amount / kBlock * kBlock;
      for (std::uint64_t file = left / kFile + 1; file <= used_ / kFile; ++file) ::unlink(name(file).c_str());
      if (::truncate(name(left / kFile).c_str(), static_cast<off_t>(left % kFile)) != 0) return errno;
      used_ = left;
    }
    return 0;
  }

private:
  static constexpr std::size_t kBlock = 32U << 10;
  static constexpr std::uint64_t kFile = 4U << 20;
  std::string name(std::uint64_t number) const { return folder_ + "/log." + std::to_string(number); }
  std::string folder_;
  std::vector<char> block_;
  std::uint64_t used_ = 0;
};

// The share of the way done when the share `x` of the time has passed; goes on beyond 1.
class Course {
public:
  Course(std::string shape, double parameter, std::uint64_t seed)
      : shape_(std::move(shape)), parameter_(parameter), random_(seed) {}
  double at(double x) {
    if (shape_ == "accelerating") return std::pow(x, parameter_);  // parameter: exponent
    if (shape_ == "saturating") return (1 - std::exp(-parameter_ * x)) / (1 - std::exp(-parameter_));
    if (shape_ == "stepwise") return std::floor(x * parameter_) / parameter_;  // parameter: steps
    if (shape_ == "noisy") {  // parameter: standard deviation of a wandering that dies away
      wander_ = 0.95 * wander_ + parameter_ * std::normal_distribution<double>()(random_);
      return std::max(0.0, x + wander_);
    }
    return x;
  }

private:
  std::string shape_;
  double parameter_;
  std::mt19937_64 random_;
  double wander_ = 0;
};

// What any service does beside its purpose: reads small files, looks for some that are not there, talks over
// pipes and sockets, now and then starts a child.
void do_chores(const std::atomic<bool>& stop, double per_s, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener, 8) != 0 ||
      ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    std::perror("campaign-workload: listen on loopback");
  }
  char buffer[4096];
  while (!stop) {
    const std::uint64_t choice = random() % 100;
    if (choice < 50) {
      const int fd = ::open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
      if (fd >= 0) {
        while (::read(fd, buffer, sizeof buffer) > 0) continue;
        ::close(fd);
      }
    } else if (choice < 70) {
      struct stat status {};
      ::stat(("/etc/absent." + std::to_string(random() % 10)).c_str(), &status);
    } else if (choice < 90) {
      int ends[2];
      if (::pipe2(ends, O_CLOEXEC) == 0) {
        if (::write(ends[1], buffer, 512) > 0 && ::read(ends[0], buffer, 512) > 0) buffer[0] = 0;
        ::close(ends[0]);
        ::close(ends[1]);
      }
    } else if (choice < 98) {
      const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (client >= 0 && ::connect(client, reinterpret_cast<sockaddr*>(&address), length) == 0) {
        const int server = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (server >= 0) ::close(server);
      }
      if (client >= 0) ::close(client);
    } else if (per_s < 100 || choice == 99) {
      const pid_t child = ::fork();
      if (child == 0) ::_exit(0);
      if (child > 0) ::waitpid(child, nullptr, 0);
    }
    sleep_s(std::exponential_distribution<double>(per_s)(random));
  }
  ::close(listener);
}

// Reads and rewrites a file at random places, so that page cache fills what the limit leaves.
void use_page_cache(const std::atomic<bool>& stop, const std::string& path, std::uint64_t bytes,
                    std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<char> block(64U << 10, 'c');
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return;
  const std::uint64_t blocks = std::max<std::uint64_t>(1, bytes / block.size());
  for (std::uint64_t i = 0; i < blocks && !stop; ++i) {
    if (::pwrite(fd, block.data(), block.size(), static_cast<off_t>(i * block.size())) < 0) break;
    if (i % 16 == 0) sleep_s(0.05);
  }
  while (!stop) {
    const auto at = static_cast<off_t>(random() % blocks * block.size());
    const ssize_t done = random() % 10 == 0 ? ::pwrite(fd, block.data(), block.size(), at)
                                            : ::pread(fd, block.data(), block.size(), at);
    if (done < 0) break;
    sleep_s(0.05);
  }
  ::close(fd);
}

class Options {
public:
  static Options parse(int count, char** words) {
    Options options;
    for (int i = 1; i + 1 < count; i += 2) {
      if (std::strncmp(words[i], "--", 2) != 0) {
        std::fprintf(stderr, "campaign-workload: expected --NAME VALUE, got %s\n", words[i]);
        std::exit(2);
      }
      options.values_.emplace(words[i] + 2, words[i + 1]);
    }
    return options;
  }
  std::string text(const std::string& name) const {
    const auto place = values_.find(name);
    if (place == values_.end()) {
      std::fprintf(stderr, "campaign-workload: --%s is missing\n", name.c_str());
      std::exit(2);
    }
    return place->second;
  }
  double number(const std::string& name) const { return std::strtod(text(name).c_str(), nullptr); }
  std::uint64_t whole(const std::string& name) const {
    return std::strtoull(text(name).c_str(), nullptr, 10);
  }
  std::vector<std::string> all(const std::string& name) const {
    std::vector<std::string> list;
    for (auto [from, to] = values_.equal_range(name); from != to; ++from) list.push_back(from->second);
    return list;
  }

private:
  std::multimap<std::string, std::string> values_;
};

// Follows the course in a loop until the time is over or a call is refused; answers the errno.
class Run {
public:
  Run(Resource& resource, std::uint64_t limit, const Options& options)
      : resource_(resource),
        limit_(static_cast<double>(limit)),
        wobble_(options.number("wobble")),
        random_(options.whole("seed")) {}

  int hold(double level, double seconds) {
    for (const double end = now_s() + seconds; now_s() < end;) {
      if (const int error = step(level); error != 0) return error;
    }
    return 0;
  }
  // From `from` to `to` in `seconds`; without `bound` it goes on at that pace.
  int ramp(Course course, double from, double to, double seconds, bool bound) {
    const double begin = now_s();
    while (true) {
      const double x = (now_s() - begin) / seconds;
      if (bound && x >= 1) return 0;
      if (!bound && x > kPatience) return 0;
      const double level = from + (to - from) * course.at(x);
      if (const int error = step(bound ? std::min(level, to) : level); error != 0) return error;
    }
  }

private:
  // Something is wrong with the fault if it did not come in twice its time.
  static constexpr double kPatience = 2;
  // 20 steps a second: finer than the agent looks.
  static constexpr double kStep = 0.05;

  int step(double level) {
    const double noise = wobble_ * std::normal_distribution<double>()(random_);
    wander_ = 0.9 * wander_ + 0.1 * noise;
    const int error = resource_.set(static_cast<std::uint64_t>(std::max(0.0, level + wander_) * limit_));
    sleep_s(kStep);
    return error;
  }

  Resource& resource_;
  double limit_;
  double wobble_;
  std::mt19937_64 random_;
  double wander_ = 0;
};

int follow(const Options& options, std::uint64_t limit, Resource& resource) {
  const double start = options.number("start");
  const double height = options.number("height");
  const std::string end = options.text("end");
  const std::uint64_t seed = options.whole("seed");
  Run run(resource, limit, options);
  const auto course = [&](std::uint64_t cycle) {
    return Course(options.text("shape"), options.number("shape-parameter"), seed + cycle);
  };

  if (const int error = run.hold(start, options.number("settle-s")); error != 0) return error;
  if (end == "fail") return run.ramp(course(0), start, 1, options.number("ramp-s"), false);
  for (std::uint64_t cycle = 0; cycle < options.whole("cycles"); ++cycle) {
    int error = run.ramp(course(cycle), start, height, options.number("ramp-s"), true);
    if (error == 0) error = run.hold(height, options.number("hold-s"));
    if (error == 0 && end == "release") error = run.hold(start, options.number("rest-s"));
    if (error != 0) return error;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = Options::parse(argc, argv);
  for (const std::string& folder : options.all("cgroup")) {
    std::ofstream procs(folder + "/cgroup.procs");
    procs << "0" << std::flush;
    if (!procs) {
      std::fprintf(stderr, "campaign-workload: cannot join %s\n", folder.c_str());
      return 2;
    }
  }
  const std::string kind = options.text("resource");
  const std::uint64_t seed = options.whole("seed");
  std::uint64_t limit = options.whole("limit");
  std::unique_ptr<Resource> resource;
  if (kind == "memory") {
    resource = std::make_unique<Memory>();
  } else if (kind == "descriptors") {
    resource = std::make_unique<Descriptors>(limit, static_cast<unsigned>(seed));
  } else if (kind == "disk") {
    resource = std::make_unique<Disk>(options.text("folder"));
    limit = free_bytes(options.text("folder"));
  } else {
    std::fprintf(stderr, "campaign-workload: --resource %s, expected memory, descriptors or disk\n",
                 kind.c_str());
    return 2;
  }

  std::atomic<bool> stop = false;
  std::thread chores([&] { do_chores(stop, options.number("chores-per-s"), seed + 1); });
  std::thread cache;
  if (options.whole("page-cache") > 0) {
    cache = std::thread(
        [&] { use_page_cache(stop, options.text("scratch"), options.whole("page-cache"), seed + 2); });
  }

  std::printf("started %.6f\n", now_s());
  std::fflush(stdout);
  const int error = follow(options, limit, *resource);
  if (error != 0) {
    std::printf("refused %.6f %d %s\n", now_s(), error, std::strerror(error));
    std::fflush(stdout);
    // A service that was refused goes on for a while, and is refused again.
    for (int i = 0; i < 20; ++i) {
      resource->set(limit + limit / 10);
      sleep_s(0.2);
    }
  }
  std::printf("ended %.6f\n", now_s());
  std::fflush(stdout);
  stop = true;
  chores.join();
  if (cache.joinable()) cache.join();
  return 0;
}
