// What the number behind a detail's label means on this machine: devices, system calls, the kernel's reasons
// for dropping a packet. Used by collect/LiveSource; tick thread only.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "bpf/signals.h"

namespace vedette {

class DetailLabels {
public:
  // `sys`: a sysfs.
  explicit DetailLabels(std::string sys = "/sys") : sys_(std::move(sys)) {}

  // Never fails: a number without a name stands for itself ("8:16", "reason 70"). Looks each one up once.
  std::string word(detail_label label, std::int32_t number);

  // The kernel gives a removed device's number to another one. Looks all devices up again and says which
  // numbers are another device's now; one that is gone keeps its name until then.
  std::set<std::int32_t> renew_devices();

private:
  // Of a block device by the kernel's number (major << 20 | minor): "sda1"; nothing if there is none.
  std::optional<std::string> device_name(std::uint32_t device) const;

  std::string sys_;
  std::map<std::pair<detail_label, std::int32_t>, std::string> words_;
  std::map<std::int32_t, std::string> reasons_;
  bool reasons_read_ = false;
};

}  // namespace vedette
