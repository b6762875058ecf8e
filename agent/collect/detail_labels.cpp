#include "agent/collect/detail_labels.h"

#include <array>
#include <memory>
#include <string_view>

#include <bpf/btf.h>
#include <malloc.h>
#include <unistd.h>

#include "agent/base/kernel_names.h"

namespace vedette {
namespace {

// SKB_DROP_REASON_TCP_CSUM -> TCP_CSUM. Empty before 5.17, where packets had no reasons. The kernel's whole
// BTF (some 10 MB) is in memory meanwhile, once in the agent's life.
std::map<std::int32_t, std::string> read_drop_reasons() {
  std::map<std::int32_t, std::string> reasons;
  {
    const std::unique_ptr<btf, void (*)(btf*)> kernel(btf__load_vmlinux_btf(), btf__free);
    const int id = kernel ? btf__find_by_name_kind(kernel.get(), "skb_drop_reason", BTF_KIND_ENUM) : -1;
    if (id > 0) {
      const btf_type* type = btf__type_by_id(kernel.get(), static_cast<__u32>(id));
      const auto* value = btf_enum(type);
      for (unsigned i = 0; i < btf_vlen(type); ++i, ++value) {
        std::string_view name = btf__name_by_offset(kernel.get(), value->name_off);
        for (const std::string_view prefix : {"SKB_DROP_REASON_", "SKB_"}) {
          if (!name.starts_with(prefix)) continue;
          name.remove_prefix(prefix.size());
          break;
        }
        reasons[value->val] = name;
      }
    }
  }
  ::malloc_trim(0);
  return reasons;
}

}  // namespace

std::optional<std::string> DetailLabels::device_name(std::uint32_t device) const {
  std::array<char, 256> target{};
  const std::string link = sys_ + "/dev/block/" + device_number(device);
  const ssize_t size = ::readlink(link.c_str(), target.data(), target.size());
  if (size <= 0) return std::nullopt;
  const std::string_view path(target.data(), static_cast<std::size_t>(size));
  return std::string(path.substr(path.rfind('/') + 1));
}

std::set<std::int32_t> DetailLabels::renew_devices() {
  std::set<std::int32_t> others;
  for (auto& [key, word] : words_) {
    const auto& [label, number] = key;
    if (label != LABEL_DEVICE) continue;
    auto name = device_name(static_cast<std::uint32_t>(number));
    if (!name || *name == word) continue;
    word = std::move(*name);
    others.insert(number);
  }
  return others;
}

std::string DetailLabels::word(detail_label label, std::int32_t number) {
  const auto [place, fresh] = words_.try_emplace({label, number});
  if (!fresh) return place->second;
  std::string& word = place->second;
  switch (label) {
    case LABEL_CALL:
      word = syscall_name(number);
      break;
    case LABEL_CODE:
      word = std::to_string(number);
      break;
    case LABEL_DEVICE:
      word = device_name(static_cast<std::uint32_t>(number))
                 .value_or(device_number(static_cast<std::uint32_t>(number)));
      break;
    case LABEL_REASON: {
      if (!reasons_read_) reasons_ = read_drop_reasons();
      reasons_read_ = true;
      const auto found = reasons_.find(number);
      word = found == reasons_.end() ? "reason " + std::to_string(number) : found->second;
      break;
    }
    case LABEL_SIGNAL:
      word = signal_name(number);
      break;
    case LABEL_SERVER:  // LiveSource knows its name
      break;
  }
  return word;
}

}  // namespace vedette
