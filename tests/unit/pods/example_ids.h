// Two containers and a pod.
#pragma once

#include <string>

namespace vedette {

inline const std::string kC1 = "3f4e1c0a9b8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f";
inline const std::string kC2 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
inline const std::string kUid = "0c3a8f1e-5d2b-4c7a-9e6f-1a2b3c4d5e6f";
inline const std::string kOtherUid = "7b1d2c3e-4f5a-4b6c-8d7e-9f0a1b2c3d4e";

}  // namespace vedette
