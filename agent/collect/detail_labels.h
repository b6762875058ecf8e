// What the number behind a detail's label means on this machine: devices, system calls, the kernel's reasons
// for dropping a packet. Used by collect/LiveSource; tick thread only.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "bpf/signals.h"

namespace vedette {

class DetailLabels {
public:
  // Never fails: a number without a name stands for itself ("8:16", "reason 70"). Looks each one up once.
  std::string word(detail_label label, std::int32_t number);

private:
  std::map<std::pair<detail_label, std::int32_t>, std::string> words_;
  std::map<std::int32_t, std::string> reasons_;
  bool reasons_read_ = false;
};

// Name of a block device by the kernel's number (major << 20 | minor): "sda1"; "8:1" if there is none.
std::string device_name(std::uint32_t device);

}  // namespace vedette
