// SPDX-License-Identifier: Apache-2.0
// What says how a model is cut: plan files, device tables, and the texts of flags, of which every
// line of the input is one.
#include <sstream>
#include <string>

#include "espalier/shard/device.h"
#include "espalier/shard/mesh.h"
#include "espalier/shard/spec.h"
#include "espalier/shard/transform.h"
#include "tests/fuzz/target.h"

namespace {
using namespace espalier;

/// A transform, glob or mesh that is wrong is an error of the user, who wrote it.
template <typename Read>
void refuse_user_or_read(Read read) {
  fuzz::refuse_or_read([&] {
    try {
      read();
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::user) throw;
    }
  });
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(fuzz::as_text(data, size));
  refuse_user_or_read([&] {
    for (const shard::PlanText& plan : shard::parse_plans(text, "input")) {
      for (const shard::RuleText& rule : plan.rules) {
        fuzz::require(shard::Transform::parse(rule.transform.str()).str() == rule.transform.str(),
                      "a transform reads its own text");
      }
    }
  });
  fuzz::refuse_or_read(
      [&] { fuzz::require(!shard::parse_devices(text, "input").empty(), "a table has a device"); });
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    refuse_user_or_read([&] { shard::RuleText::parse(line); });
    refuse_user_or_read([&] { shard::PartitionSpec::parse(line); });
    refuse_user_or_read([&] {
      const shard::Mesh mesh = shard::Mesh::parse(line);
      fuzz::require(shard::Mesh::parse(mesh.str()).str() == mesh.str(), "a mesh reads its text");
      fuzz::require(mesh.devices() >= 1, "a mesh has a device");
    });
  }
  return 0;
}
