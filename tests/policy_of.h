// A policy as a test writes it: YAML of the section `policy`.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include "agent/act/policy.h"
#include "agent/yaml_section.h"

namespace vedette {

inline std::shared_ptr<const Policy> policy_of(const std::string& yaml) {
  auto root = YamlSection::parse("policy: " + yaml, "test.yaml");
  REQUIRE(root);
  auto policy = Policy::read(*root, "test.yaml");
  if (!policy) FAIL(policy.error().text);
  return std::make_shared<const Policy>(std::move(*policy));
}

}  // namespace vedette
