// A test that cannot run here says why and returns: tools/test counts it as skipped, not as passed.
#pragma once

#include <cstdio>
#include <string>

#include <doctest/doctest.h>

#define VEDETTE_SKIP(reason)                                                               \
  do {                                                                                     \
    std::printf("SKIPPED (%s:%d): %s\n", __FILE__, __LINE__, std::string(reason).c_str()); \
    return;                                                                                \
  } while (false)
