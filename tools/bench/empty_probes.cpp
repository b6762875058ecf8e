// usage: empty_probes [PROBE...]     (default: all probes of bpf/)
//        empty_probes --others [PROBE...]
// The floor of whoever watches what Vedette watches: for each program that the agent would attach here, an
// empty one of the same type on the same hook. The hooks are read from the objects inside the agent, so the
// two cannot drift apart. Prints "ready" and holds until its standard input ends.
// --others: prints how many programs of anybody are attached to those hooks now, and ends.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <unistd.h>

#include "agent/base/handle.h"
#include "agent/collect/kept_file.h"
#include "agent/collect/mount_info.h"
#include "bpf/embedded.h"

using vedette::FileHandle;

namespace {

struct Hook {
  std::string section;  // "tp_btf/sched_switch"
  bpf_prog_type type;
  bpf_attach_type attach_type;

  std::string target() const { return section.substr(section.find('/') + 1); }
};

using Btf = std::unique_ptr<btf, void (*)(btf*)>;
using Object = std::unique_ptr<bpf_object, void (*)(bpf_object*)>;

bool is_missing(const btf* kernel, const Hook& hook) {
  const std::string type = "btf_trace_" + hook.target();
  return hook.section.starts_with("tp_btf/") &&
         btf__find_by_name_kind(kernel, type.c_str(), BTF_KIND_TYPEDEF) < 0;
}

// What the agent attaches of this probe, as probe_object.cpp decides it; nothing where the probe is degraded.
std::vector<Hook> hooks_of(const vedette::EmbeddedProbe& probe, const btf* kernel) {
  constexpr std::string_view kFallback = "_fallback";
  const Object object(bpf_object__open_mem(probe.object.data(), probe.object.size(), nullptr),
                      bpf_object__close);
  std::vector<Hook> hooks;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object.get()) {
    const auto hook_of = [](const bpf_program* of) {
      return Hook{bpf_program__section_name(of), bpf_program__type(of),
                  bpf_program__expected_attach_type(of)};
    };
    Hook hook = hook_of(program);
    const std::string name = bpf_program__name(program);
    // What only runs when it is asked is no hook.
    const bool is_asked = hook.attach_type == BPF_TRACE_ITER || hook.section.find('/') == std::string::npos;
    if (is_asked || name.ends_with(kFallback)) continue;
    if (is_missing(kernel, hook)) {
      const bpf_program* fallback =
          bpf_object__find_program_by_name(object.get(), (name + std::string(kFallback)).c_str());
      if (fallback == nullptr) {
        std::fprintf(stderr, "%s: no %s here, the agent is without this probe\n",
                     std::string(probe.name).c_str(), hook.target().c_str());
        return {};
      }
      hook = hook_of(fallback);
    }
    hooks.push_back(std::move(hook));
  }
  return hooks;
}

FileHandle open_cgroup_root() {
  vedette::ReadBuffer buffer;
  const auto text = buffer.read_path("/proc/self/mountinfo");
  for (const vedette::Mount& mount : vedette::parse_mountinfo(text.value_or(""))) {
    if (mount.type == "cgroup2" && mount.root == "/")
      return FileHandle(::open(mount.point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  return {};
}

// The link; without one, errno says why.
FileHandle attach_empty(const Hook& hook, int cgroup_root) {
  const bool in_cgroup = hook.type != BPF_PROG_TYPE_TRACING && hook.type != BPF_PROG_TYPE_RAW_TRACEPOINT;
  // r0 = 0, for cgroups 1 (let it pass); exit
  const std::array<bpf_insn, 2> code{
      bpf_insn{.code = BPF_ALU64 | BPF_MOV | BPF_K,
               .dst_reg = 0,
               .src_reg = 0,
               .off = 0,
               .imm = in_cgroup ? 1 : 0},
      bpf_insn{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = hook.attach_type);
  if (hook.type == BPF_PROG_TYPE_TRACING) {
    const int id = libbpf_find_vmlinux_btf_id(hook.target().c_str(), hook.attach_type);
    if (id < 0) {
      errno = -id;
      return {};
    }
    options.attach_btf_id = static_cast<__u32>(id);
  }
  const FileHandle program(bpf_prog_load(hook.type, "empty", "GPL", code.data(), code.size(), &options));
  if (!program) return {};
  if (in_cgroup) return FileHandle(bpf_link_create(program.get(), cgroup_root, hook.attach_type, nullptr));
  const std::string target = hook.target();
  return FileHandle(bpf_raw_tracepoint_open(
      hook.type == BPF_PROG_TYPE_RAW_TRACEPOINT ? target.c_str() : nullptr, program.get()));
}

int count_others(const std::vector<Hook>& hooks) {
  std::set<std::string> tracepoints;
  std::set<std::uint32_t> cgroup_types;
  for (const Hook& hook : hooks) {
    tracepoints.insert(hook.target());
    if (hook.type != BPF_PROG_TYPE_TRACING) cgroup_types.insert(hook.attach_type);
  }
  int count = 0;
  for (__u32 id = 0; bpf_link_get_next_id(id, &id) == 0;) {
    const FileHandle link(bpf_link_get_fd_by_id(id));
    std::array<char, 128> name{};
    bpf_link_info info{};
    info.raw_tracepoint.tp_name = reinterpret_cast<__u64>(name.data());
    info.raw_tracepoint.tp_name_len = name.size();
    __u32 size = sizeof(info);
    if (!link || bpf_obj_get_info_by_fd(link.get(), &info, &size) != 0) continue;
    if (info.type == BPF_LINK_TYPE_RAW_TRACEPOINT) count += tracepoints.count(name.data()) != 0 ? 1 : 0;
    if (info.type == BPF_LINK_TYPE_CGROUP) count += cgroup_types.count(info.cgroup.attach_type) != 0 ? 1 : 0;
  }
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string_view> names(argv + 1, argv + argc);
  const bool others = !names.empty() && names.front() == "--others";
  if (others) names.erase(names.begin());

  const Btf kernel(btf__load_vmlinux_btf(), btf__free);
  if (!kernel) {
    std::perror("empty_probes: the kernel's BTF");
    return 1;
  }
  std::vector<Hook> hooks;
  std::size_t found = 0;
  for (const vedette::EmbeddedProbe& probe : vedette::embedded_probes()) {
    if (!names.empty() && std::ranges::find(names, probe.name) == names.end()) continue;
    ++found;
    for (Hook& hook : hooks_of(probe, kernel.get())) hooks.push_back(std::move(hook));
  }
  if (found == 0 || (!names.empty() && found != names.size())) {
    std::fprintf(stderr, "usage: empty_probes [--others] [PROBE...]; the probes are:");
    for (const vedette::EmbeddedProbe& probe : vedette::embedded_probes())
      std::fprintf(stderr, " %s", std::string(probe.name).c_str());
    std::fputs("\n", stderr);
    return 2;
  }
  if (others) {
    std::printf("%d\n", count_others(hooks));
    return 0;
  }
  const FileHandle cgroup_root = open_cgroup_root();
  std::vector<FileHandle> links;
  for (const Hook& hook : hooks) {
    links.push_back(attach_empty(hook, cgroup_root.get()));
    if (links.back()) continue;
    std::fprintf(stderr, "empty_probes: an empty program on %s: %s\n", hook.section.c_str(),
                 std::strerror(errno));
    return 1;
  }
  std::puts("ready");
  std::fflush(stdout);
  std::array<char, 16> input{};
  while (::read(STDIN_FILENO, input.data(), input.size()) > 0) {
  }
  return 0;
}
