/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
// The compiled probes inside the agent's binary, one per *.bpf.c, made by bpf/CMakeLists.txt. Read by
// agent/collect; constants, any thread.
#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace vedette {

struct EmbeddedProbe {
  std::string_view name;                  // "syscalls" of syscalls.bpf.c
  std::span<const unsigned char> object;  // ELF for the BPF target, with BTF
};
const std::vector<EmbeddedProbe>& embedded_probes();

}  // namespace vedette
