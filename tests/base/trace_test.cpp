// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/trace.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace espalier {
namespace {
using std::chrono::microseconds;

TEST(Trace, IsJsonThatAViewerReads) {
  const auto origin = TraceWriter::Clock::now();
  TraceWriter writer(origin);
  writer.name_thread(2, "loops \"fused\"");
  writer.add("matmul_0", "matmul", 2, origin + microseconds(10), origin + microseconds(35),
             {{"shape", "[8,8] f32"}});
  { const TraceScope scope(&writer, "step", "train"); }
  { const TraceScope nothing(nullptr, "unseen", "train"); }
  const auto json = nlohmann::json::parse(writer.json());
  const auto& events = json.at("traceEvents");
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0]["args"]["name"], "loops \"fused\"");
  EXPECT_EQ(events[1]["ph"], "X");
  EXPECT_EQ(events[1]["ts"], 10.0);
  EXPECT_EQ(events[1]["dur"], 25.0);
  EXPECT_EQ(events[1]["args"]["shape"], "[8,8] f32");
  EXPECT_EQ(events[2]["name"], "step");
  EXPECT_GE(events[2]["dur"].get<double>(), 0.0);
}

TEST(Trace, AnEmptyTraceIsJsonToo) {
  EXPECT_TRUE(nlohmann::json::parse(TraceWriter().json()).at("traceEvents").empty());
}

}  // namespace
}  // namespace espalier
