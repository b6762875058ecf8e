// Whatever the bytes of a recording are, reading it ends with ticks, an end or an error: never with a crash,
// a hang or memory without bound. tests/fuzz/recording_seed is a start: a header and three ticks.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "agent/record/recording.pb.h"
#include "agent/record/tick_decoder.h"

// The container is checksummed, so damage would hardly ever get behind it: the input is the messages alone,
// each behind two bytes of length.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::optional<vedette::TickDecoder> decoder;
  vedette::Observation observation;
  vedette::recording::Message message;
  while (size >= 2) {
    const std::size_t length = std::min<std::size_t>(size - 2, data[0] | data[1] << 8);
    if (!vedette::parse_message({reinterpret_cast<const char*>(data) + 2, length}, message)) return 0;
    data += 2 + length;
    size -= 2 + length;
    if (!decoder) {
      auto made = vedette::TickDecoder::make(message.header());
      if (!made) return 0;
      decoder = std::move(*made);
    } else if (!decoder->decode(message.tick(), observation)) {
      return 0;
    }
  }
  return 0;
}
