// FNV-1a, 64 bits: tells texts apart in names and fingerprints, protects nothing. A pure function: any
// thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace vedette {

constexpr std::uint64_t kFnv1aBasis = 0xcbf29ce484222325;

// Of several texts one after the other: `hash` is what it answered for the one before.
constexpr std::uint64_t fnv1a(std::string_view text, std::uint64_t hash = kFnv1aBasis) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace vedette
