#include "agent/collect/probe_object.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <numeric>
#include <string_view>
#include <system_error>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <unistd.h>

#include "agent/base/handle.h"

namespace vedette {
namespace {

// libbpf explains itself only through this process-wide callback: each thread keeps its own words.
thread_local std::string libbpf_words;

// Beyond this a verifier log only repeats itself; its end, which matters, is kept by the cut in the middle.
constexpr std::size_t kMaxWords = 1 << 18;

int keep_words(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN || libbpf_words.size() > kMaxWords) return 0;
  std::array<char, 4096> line{};  // one warning; verifier logs are longer and read from their tail
  va_list copy;
  va_copy(copy, arguments);
  const int size = std::vsnprintf(line.data(), line.size(), format, arguments);
  if (size >= static_cast<int>(line.size())) {
    std::string whole(static_cast<std::size_t>(size) + 1, '\0');
    std::vsnprintf(whole.data(), whole.size(), format, copy);
    whole.resize(static_cast<std::size_t>(size));  // without the zero byte
    libbpf_words += whole;
  } else {
    libbpf_words += line.data();
  }
  va_end(copy);
  return 0;
}

// The line that says why, out of libbpf's warnings: the verifier's verdict stands just before its statistics;
// without a verifier log it is the first warning.
std::string reason_of(std::string_view words) {
  const std::size_t end = words.find("\nprocessed ");
  std::string_view line;
  if (end != std::string_view::npos) {
    const std::size_t begin = words.rfind('\n', end - 1);
    line = words.substr(begin == std::string_view::npos ? 0 : begin + 1,
                        end - (begin == std::string_view::npos ? 0 : begin + 1));
  } else {
    line = words.substr(0, words.find('\n'));
  }
  constexpr std::string_view kPrefix = "libbpf: ";
  if (line.starts_with(kPrefix)) line.remove_prefix(kPrefix.size());
  return std::string(line);
}

tl::unexpected<Error> fail_libbpf(const std::string& what, int error_number) {
  std::string text = what + ": " + std::strerror(error_number);
  if (const std::string reason = reason_of(libbpf_words); !reason.empty()) text += " (" + reason + ")";
  return fail(std::move(text));
}

// Without CAP_SYS_ADMIN, as in a pod, the kernel does not hand out the types of its modules.
bool may_read_module_types() {
  __u32 id = 0;
  return bpf_btf_get_next_id(0, &id) == 0 || errno != EPERM;
}

constexpr std::string_view kFallback = "_fallback";
constexpr std::string_view kTracepointSection = "tp_btf/";
constexpr std::string_view kRawTracepointSection = "raw_tp/";
constexpr const char* kTypes = "/sys/kernel/btf";
constexpr const char* kKernelTypes = "/sys/kernel/btf/vmlinux";

Error missing_tracepoint(const std::string& what, std::string_view tracepoint) {
  return {what + ": this kernel has no tracepoint " + std::string(tracepoint) +
          ", and no module that is loaded has it"};
}

// The bytes of `config` (bpf/totals.bpf.h) in the object's read-only data, before it is frozen by loading.
probe_config* find_config(bpf_object* object) {
  const btf* types = bpf_object__btf(object);
  const int section = types == nullptr ? -1 : btf__find_by_name_kind(types, ".rodata", BTF_KIND_DATASEC);
  if (section < 0) return nullptr;
  const btf_type* type = btf__type_by_id(types, static_cast<__u32>(section));
  const btf_var_secinfo* variable = btf_var_secinfos(type);
  for (unsigned i = 0; i < btf_vlen(type); ++i, ++variable) {
    const btf_type* var = btf__type_by_id(types, variable->type);
    if (std::string_view(btf__name_by_offset(types, var->name_off)) != "config") continue;
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, object) {
      if (!bpf_map__is_internal(map) || !std::string_view(bpf_map__name(map)).ends_with(".rodata")) continue;
      std::size_t size = 0;
      auto* data = static_cast<std::uint8_t*>(const_cast<void*>(bpf_map__initial_value(map, &size)));
      if (data == nullptr || variable->offset + sizeof(probe_config) > size) return nullptr;
      return reinterpret_cast<probe_config*>(data + variable->offset);
    }
  }
  return nullptr;
}

// What WALK() of bpf/compat.bpf.h makes.
constexpr std::string_view kWalkSection = "raw_tp";

bool can_walk_maps() {
  static const bool can =
      libbpf_probe_bpf_helper(BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_FUNC_for_each_map_elem, nullptr) == 1;
  return can;
}

// What stands in for the tracepoints that this kernel does not have; a failure where nothing does.
tl::expected<std::vector<std::string>, ProbeObject::Failure> find_fallbacks(const std::string& probe,
                                                                            bpf_object* object,
                                                                            const Tracepoints& tracepoints) {
  std::vector<std::string> fallbacks;
  std::string_view missing;
  bool any = false;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    const std::string_view section = bpf_program__section_name(program);
    const std::string name = bpf_program__name(program);
    if (section == kWalkSection && !can_walk_maps()) fallbacks.push_back(name + std::string(kFallback));
    if (!section.starts_with(kTracepointSection) || name.ends_with(kFallback)) continue;
    const std::string_view tracepoint = section.substr(kTracepointSection.size());
    if (tracepoints.names.empty() || tracepoints.names.contains(tracepoint)) {
      any = true;
      continue;
    }
    std::string fallback = name + std::string(kFallback);
    if (bpf_object__find_program_by_name(object, fallback.c_str()) == nullptr) {
      if (missing.empty()) missing = tracepoint;
      continue;
    }
    fallbacks.push_back(std::move(fallback));
  }
  if (missing.empty()) return fallbacks;
  return tl::unexpected(
      ProbeObject::Failure(missing_tracepoint("load probe " + probe, missing), !any && tracepoints.complete));
}

constexpr std::string_view kSurvey = "_survey";
constexpr std::string_view kFlush = "_flush";
constexpr std::string_view kMapIterator = "iter/bpf_map_elem";

std::string_view without_fallback(std::string_view name) {
  if (name.ends_with(kFallback)) name.remove_suffix(kFallback.size());
  return name;
}

// Whether it is of that kind, in either shape, and was loaded.
bool is_asked(const bpf_program* program, std::string_view kind) {
  return bpf_program__autoload(program) && without_fallback(bpf_program__name(program)).ends_with(kind);
}
bool is_kept(const bpf_program* program) {
  return is_asked(program, kSurvey) || is_asked(program, kFlush);
}
bool is_iterator(const bpf_program* program) {
  return bpf_program__expected_attach_type(program) == BPF_TRACE_ITER;
}

// NAME_survey and NAME_flush in iter/bpf_map_elem go through the map NAME of its object.
bpf_link* attach_iterator(bpf_object* object, const bpf_program* program) {
  if (std::string_view(bpf_program__section_name(program)) != kMapIterator)
    return bpf_program__attach(program);
  std::string name(without_fallback(bpf_program__name(program)));
  for (const std::string_view suffix : {kSurvey, kFlush}) {
    if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
  }
  const int map = bpf_object__find_map_fd_by_name(object, name.c_str());
  if (map < 0) {
    errno = ENOENT;
    return nullptr;
  }
  bpf_iter_link_info target{};
  target.map.map_fd = static_cast<__u32>(map);
  LIBBPF_OPTS(bpf_iter_attach_opts, options, .link_info = &target, .link_info_len = sizeof(target));
  return bpf_program__attach_iter(program, &options);
}

constexpr std::string_view kPacketSection = "cgroup_skb/";

// Beside whatever others attach there or below (a BPF link allows several), and gone with this process.
Result<bpf_link*> attach_to_cgroups(const bpf_program* program, const std::string& mount) {
  const std::string what = std::string("attach ") + bpf_program__name(program);
  if (mount.empty()) return fail(what + ": no cgroup v2 hierarchy is mounted here");
  const FileHandle root(::open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail_errno("open " + mount + " to " + what);
  bpf_link* link = bpf_program__attach_cgroup(program, root.get());
  if (link != nullptr) return link;
  if (errno == EPERM) return fail(what + ": programs on packets need CAP_NET_ADMIN");
  return fail_libbpf(what, errno);
}

// Maps named so hold when something began (bpf/starts.bpf.h).
constexpr std::string_view kStarts = "starts";

void forget_all(const bpf_map* map) {
  const int fd = bpf_map__fd(map);
  if (bpf_map__type(map) == BPF_MAP_TYPE_ARRAY) {
    // At once: sched's has 65,536 places.
    __u32 count = bpf_map__max_entries(map);
    std::vector<__u32> places(count);
    std::iota(places.begin(), places.end(), 0U);
    const std::vector<char> zeros(std::size_t{count} * bpf_map__value_size(map));
    bpf_map_update_batch(fd, places.data(), zeros.data(), &count, nullptr);
    return;
  }
  std::vector<char> key(bpf_map__key_size(map));
  while (bpf_map_get_next_key(fd, nullptr, key.data()) == 0 && bpf_map_delete_elem(fd, key.data()) == 0) {
  }
}

// An iterator program does its work when it is read: one read after the other goes through all there is.
Status run_iterator(const bpf_link* link, std::vector<survey_record>* records) {
  const FileHandle iterator(bpf_iter_create(bpf_link__fd(link)));
  if (!iterator) return fail_errno("create the iterator");
  std::array<survey_record, 256> buffer{};
  std::size_t left = 0;  // bytes of a record that the read cut
  for (;;) {
    auto* begin = reinterpret_cast<char*>(buffer.data());
    const ssize_t size = ::read(iterator.get(), begin + left, sizeof(buffer) - left);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (size < 0) return fail_errno("read the iterator");
    if (size == 0) return {};
    const std::size_t bytes = left + static_cast<std::size_t>(size);
    const std::size_t count = bytes / sizeof(survey_record);
    if (records != nullptr) {
      records->insert(records->end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(count));
    }
    left = bytes - count * sizeof(survey_record);
    std::memmove(begin, begin + count * sizeof(survey_record), left);
  }
}

}  // namespace

void ProbeObject::Close::operator()(bpf_object* object) const {
  bpf_object__close(object);
}
void ProbeObject::Close::operator()(bpf_link* link) const {
  bpf_link__destroy(link);
}

Tracepoints find_tracepoints() {
  // The names are searched, not the types they belong to: nothing has to be parsed.
  constexpr std::string_view kPrefix{"\0btf_trace_", 11};
  constexpr std::string_view kModulesTell{"\0btf_module\0", 12};
  Tracepoints found;
  found.complete = ::access("/proc/modules", F_OK) != 0;  // a kernel without modules
  std::error_code ignored;
  for (std::filesystem::directory_iterator at(kTypes, ignored), end; !ignored && at != end;
       at.increment(ignored)) {
    std::ifstream file(at->path(), std::ios::binary);
    const std::string types{std::istreambuf_iterator<char>(file), {}};
    for (std::size_t name = types.find(kPrefix); name != std::string::npos;
         name = types.find(kPrefix, name)) {
      name += kPrefix.size();
      found.names.emplace(types, name, types.find('\0', name) - name);
    }
    if (types.find(kModulesTell) != std::string::npos) found.complete = true;
  }
  return found;
}

tl::expected<ProbeObject, ProbeObject::Failure> ProbeObject::attach(const EmbeddedProbe& probe,
                                                                    std::span<const SharedMap> maps,
                                                                    const probe_config& config,
                                                                    const Tracepoints& tracepoints,
                                                                    const std::string& cgroup_mount) {
  static std::once_flag once;
  std::call_once(once, [] { libbpf_set_print(keep_words); });
  const std::string name(probe.name);

  libbpf_words.clear();
  ProbeObject result;
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name.c_str());
  // A type that the kernel itself lacks, say one of another version, libbpf looks for in the modules, and
  // gives up where it may not; where the types are a given, it does not look.
  const bool module_types = may_read_module_types();
  if (!module_types) options.btf_custom_path = kKernelTypes;
  result.object_.reset(bpf_object__open_mem(probe.object.data(), probe.object.size(), &options));
  if (!result.object_) return fail_libbpf("open the object of probe " + name, errno);
  bpf_object* object = result.object_.get();

  for (const SharedMap& shared : maps) {
    bpf_map* map = bpf_object__find_map_by_name(object, shared.name.c_str());
    if (map == nullptr) continue;
    if (bpf_map__reuse_fd(map, shared.fd) != 0)
      return fail_libbpf("share map " + shared.name + " with probe " + name, errno);
  }
  probe_config* place = find_config(object);
  if (place == nullptr) return fail("probe " + name + " has no `config`, see bpf/totals.bpf.h");
  *place = config;

  const auto fallbacks = find_fallbacks(name, object, tracepoints);
  if (!fallbacks) return tl::unexpected(fallbacks.error());
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    const std::string_view program_name = bpf_program__name(program);
    const bool is_fallback = program_name.ends_with(kFallback);
    const bool wanted = std::ranges::find(*fallbacks, program_name) != fallbacks->end();
    const bool replaced =
        std::ranges::find(*fallbacks, std::string(program_name) + std::string(kFallback)) != fallbacks->end();
    bpf_program__set_autoload(program, is_fallback ? wanted : !replaced);
  }

  if (const int error = bpf_object__load(object); error != 0) {
    auto failed = fail_libbpf("load probe " + name, -error);
    if (error == -EPERM && !module_types)
      failed.value().text += "; tracepoints of modules need CAP_SYS_ADMIN";
    return failed;
  }
  result.cgroup_mount_ = cgroup_mount;
  if (auto attached = result.attach_all(); !attached) return tl::unexpected(attached.error());
  bpf_object__for_each_program(program, object) {
    if (!is_kept(program)) continue;
    auto asked = result.ask(program);
    if (!asked) return tl::unexpected(asked.error());
    (is_asked(program, kFlush) ? result.flushes_ : result.surveys_).push_back(std::move(*asked));
  }
  return result;
}

tl::expected<void, ProbeObject::Failure> ProbeObject::attach_all() {
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object_.get()) {
    if (!bpf_program__autoload(program) || is_kept(program)) continue;
    if (is_iterator(program)) {
      // Once is enough: its link may go.
      if (const auto ran = ask(program); !ran) return tl::unexpected(ran.error());
      continue;
    }
    const std::string_view section = bpf_program__section_name(program);
    if (section.starts_with(kPacketSection)) {
      const auto link = attach_to_cgroups(program, cgroup_mount_);
      if (!link) return tl::unexpected(Failure(link.error()));
      links_.emplace_back(*link);
      continue;
    }
    Link link(bpf_program__attach(program));
    if (!link) {
      const std::string what = std::string("attach ") + bpf_program__name(program);
      if (errno == ENOENT && section.starts_with(kRawTracepointSection)) {
        return tl::unexpected(
            Failure(missing_tracepoint(what, section.substr(kRawTracepointSection.size())), links_.empty()));
      }
      return tl::unexpected(Failure(fail_libbpf(what, errno).value()));
    }
    links_.push_back(std::move(link));
  }
  return {};
}

Result<ProbeObject::Asked> ProbeObject::ask(const bpf_program* program) const {
  Asked asked{.name = bpf_program__name(program), .program = bpf_program__fd(program), .iterator = {}};
  if (is_iterator(program)) {
    asked.iterator.reset(attach_iterator(object_.get(), program));
    if (!asked.iterator) return fail_libbpf("attach " + asked.name, errno);
  }
  if (Status ran = run(asked, nullptr); !ran) return tl::unexpected(ran.error());
  return asked;
}

Status ProbeObject::run(const Asked& asked, std::vector<survey_record>* records) {
  if (!asked.iterator) {
    LIBBPF_OPTS(bpf_test_run_opts, options);
    if (bpf_prog_test_run_opts(asked.program, &options) != 0) return fail_errno("run " + asked.name);
    return {};
  }
  if (Status read = run_iterator(asked.iterator.get(), records); !read)
    return fail("run " + asked.name + ": " + read.error().text);
  return {};
}

void ProbeObject::detach() {
  links_.clear();
}

Status ProbeObject::reattach() {
  libbpf_words.clear();
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object_.get()) {
    if (std::string_view(bpf_map__name(map)).starts_with(kStarts)) forget_all(map);
  }
  if (auto attached = attach_all(); !attached) {
    detach();
    return tl::unexpected<Error>(attached.error());
  }
  return {};
}

Status ProbeObject::survey(std::vector<survey_record>& records) const {
  for (const auto& asked : surveys_) {
    if (Status ran = run(asked, &records); !ran) return ran;
  }
  return {};
}

Status ProbeObject::flush() const {
  for (const auto& asked : flushes_) {
    if (Status ran = run(asked, nullptr); !ran) return ran;
  }
  return {};
}

ProbeObject::Cost ProbeObject::cost() const {
  Cost cost;
  const bpf_program* program = nullptr;
  bpf_object__for_each_program(const_cast<bpf_program*&>(program), object_.get()) {
    if (!bpf_program__autoload(program)) continue;
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) != 0) continue;
    cost.runs += info.run_cnt;
    cost.run_ns += info.run_time_ns;
  }
  return cost;
}

std::optional<std::uint64_t> ProbeObject::misses() const {
  constexpr __u32 kEnd = offsetof(bpf_prog_info, recursion_misses) + sizeof(bpf_prog_info::recursion_misses);
  std::uint64_t misses = 0;
  const bpf_program* program = nullptr;
  bpf_object__for_each_program(const_cast<bpf_program*&>(program), object_.get()) {
    if (!bpf_program__autoload(program)) continue;
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    // The kernel says how much of it it filled.
    if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) != 0 || size < kEnd)
      return std::nullopt;
    misses += info.recursion_misses;
  }
  return misses;
}

std::vector<int> ProbeObject::own_map_fds(std::span<const SharedMap> shared) const {
  std::vector<int> fds;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object_.get()) {
    const std::string_view name = bpf_map__name(map);
    const bool is_shared = std::ranges::any_of(shared, [&](const SharedMap& m) { return m.name == name; });
    if (!is_shared && bpf_map__fd(map) >= 0) fds.push_back(bpf_map__fd(map));
  }
  return fds;
}

}  // namespace vedette
