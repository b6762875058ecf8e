#include "agent/record/part_count.h"

#include <algorithm>
#include <cstdint>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

namespace vedette {
namespace {

using google::protobuf::internal::WireFormatLite;

class PartCount {
public:
  explicit PartCount(std::span<const PartBound> bounds) : bounds_(bounds), counts_(bounds.size()) {}

  // Of a message inside the fields of path_.
  const PartBound* beyond(std::string_view bytes) {
    google::protobuf::io::CodedInputStream in(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                              static_cast<int>(bytes.size()));
    const std::size_t depth = path_.size();
    for (std::uint32_t tag = in.ReadTag(); tag != 0; tag = in.ReadTag()) {
      path_.resize(depth);
      path_.push_back(WireFormatLite::GetTagFieldNumber(tag));
      bool has_parts = false;
      for (std::size_t i = 0; i < bounds_.size(); ++i) {
        const std::vector<int>& path = bounds_[i].path;
        if (!std::ranges::equal(path_, std::span(path).first(std::min(path.size(), path_.size())))) continue;
        if (path.size() == path_.size() && ++counts_[i] > bounds_[i].most) return &bounds_[i];
        has_parts = has_parts || path.size() > path_.size();
      }
      if (has_parts && WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
        std::uint32_t size = 0;
        if (!in.ReadVarint32(&size)) return nullptr;
        const std::string_view rest = bytes.substr(static_cast<std::size_t>(in.CurrentPosition()));
        if (const PartBound* bound = beyond(rest.substr(0, size))) return bound;
        if (size > rest.size() || !in.Skip(static_cast<int>(size))) return nullptr;
      } else if (!WireFormatLite::SkipField(&in, tag)) {
        return nullptr;
      }
    }
    return nullptr;
  }

private:
  std::span<const PartBound> bounds_;
  std::vector<std::size_t> counts_;
  std::vector<int> path_;
};

}  // namespace

const PartBound* too_many_parts(std::string_view bytes, std::span<const PartBound> bounds) {
  return PartCount(bounds).beyond(bytes);
}

}  // namespace vedette
