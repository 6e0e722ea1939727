// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/metrics.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <cstring>

#include "espalier/base/crc32c.h"
#include "espalier/base/error.h"
#include "tests/io/folder.h"
#include "tests/syscalls/child.h"

namespace espalier::train {
namespace {
namespace fs = std::filesystem;
constexpr int64_t kLimit = 1 << 20;

struct Event {
  double wall_time = 0;
  int64_t step = 0;
  std::string file_version, tag;
  float value = 0;
  int64_t session = 0;
};

/// Protobuf fields of a message: calls back with (field, wire type, integer, bytes).
template <typename Callback>
void read_fields(std::string_view bytes, Callback callback) {
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes.at(0));
      bytes.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (!bytes.empty()) {
    const uint64_t key = varint();
    uint64_t number = 0;
    std::string_view body;
    size_t size = 0;
    switch (key & 7) {
      case 0:
        number = varint();
        break;
      case 1:
        size = 8;
        break;
      case 2:
        size = varint();
        break;
      case 5:
        size = 4;
        break;
      default:
        FAIL() << "wire type " << (key & 7);
    }
    ASSERT_LE(size, bytes.size());
    body = bytes.substr(0, size);
    bytes.remove_prefix(size);
    callback(static_cast<int>(key >> 3), number, body);
  }
}

template <typename T>
T fixed(std::string_view bytes) {
  T value{};
  EXPECT_EQ(bytes.size(), sizeof(T));
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

uint32_t unmask(uint32_t masked) { return std::rotl(masked - 0xA282EAD8u, 15); }

std::vector<Event> read_events(const fs::path& path) {
  const std::string file = io::read_text(path, kLimit, {});
  std::string_view rest = file;
  std::vector<Event> events;
  const auto crc = [](std::string_view bytes) {
    return crc32c(std::as_bytes(std::span(bytes.data(), bytes.size())));
  };
  while (!rest.empty()) {
    const auto length = fixed<uint64_t>(rest.substr(0, 8));
    EXPECT_EQ(unmask(fixed<uint32_t>(rest.substr(8, 4))), crc(rest.substr(0, 8)));
    const std::string_view body = rest.substr(12, length);
    EXPECT_EQ(unmask(fixed<uint32_t>(rest.substr(12 + length, 4))), crc(body));
    rest.remove_prefix(16 + length);
    Event& event = events.emplace_back();
    read_fields(body, [&](int field, uint64_t number, std::string_view bytes) {
      if (field == 1) event.wall_time = fixed<double>(bytes);
      if (field == 2) event.step = static_cast<int64_t>(number);
      if (field == 3) event.file_version = bytes;
      if (field == 5) {
        read_fields(bytes, [&](int, uint64_t, std::string_view entry) {
          read_fields(entry, [&](int part, uint64_t, std::string_view content) {
            if (part == 1) event.tag = content;
            if (part == 2) event.value = fixed<float>(content);
          });
        });
      }
      if (field == 7) {
        read_fields(bytes, [&](int, uint64_t status, std::string_view) {
          event.session = static_cast<int64_t>(status);
        });
      }
    });
  }
  return events;
}

std::string csv(const MetricsLogger& logger) {
  return io::read_text(logger.csv_path(), kLimit, {});
}

TEST(Metrics, EveryRecordIsInBothFilesAtOnce) {
  const TestFolder dir;
  MetricsLogger logger(
      {.folder = dir / "run", .columns = {"loss", "learning_rate", "memory_bytes"}});
  logger.log(1, {{"loss", 5.545177459716797}, {"memory_bytes", 1e9}});
  logger.log(20, {{"learning_rate", 1e-3}, {"loss", std::nan("")}});
  logger.log_event(20, "eval/bits_per_byte", 2.5);
  EXPECT_EQ(csv(logger),
            "step,loss,learning_rate,memory_bytes\n"
            "1,5.545177459716797,,1000000000\n"
            "20,nan,0.001,\n");
  EXPECT_TRUE(logger.event_path().filename().string().starts_with("events.out.tfevents.1"));
  const auto events = read_events(logger.event_path());
  ASSERT_EQ(events.size(), 6u);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_EQ(events[1].tag, "train/loss");
  EXPECT_EQ(events[1].step, 1);
  EXPECT_EQ(events[1].value, 5.545177459716797f);
  EXPECT_NEAR(events[1].wall_time, static_cast<double>(::time(nullptr)), 100.0);
  EXPECT_EQ(events[3].tag, "train/learning_rate");
  EXPECT_TRUE(std::isnan(events[4].value));
  EXPECT_EQ(events[5].tag, "eval/bits_per_byte");
  EXPECT_EQ(events[5].step, 20);
}

TEST(Metrics, TheCsvReadsBack) {
  const TestFolder dir;
  MetricsLogger logger({.folder = dir.path(), .columns = {"loss", "speed"}});
  for (int64_t step = 1; step <= 5; ++step) {
    logger.log(step, {{"loss", 1.0 / static_cast<double>(step)}});
  }
  logger.log(6, {{"speed", 3.0}});
  const MetricsTable table = read_metrics(logger.csv_path());
  EXPECT_EQ(table.columns, (std::vector<std::string>{"loss", "speed"}));
  ASSERT_EQ(table.rows.size(), 6u);
  const auto [x, y] = table.series("loss");
  EXPECT_EQ(x, (std::vector<double>{1, 2, 3, 4, 5}));
  EXPECT_EQ(y[2], 1.0 / 3.0);
  EXPECT_TRUE(table.series("none").first.empty());
}

TEST(Metrics, AResumedRunDropsWhatItWillRepeat) {
  const TestFolder dir;
  const MetricsOptions options{.folder = dir.path(), .columns = {"loss"}};
  EXPECT_EQ(in_child([&]() -> int {
              MetricsLogger logger(options);
              for (int64_t step = 1; step <= 4; ++step) {
                logger.log(step, {{"loss", static_cast<double>(step)}});
              }
              io::OutputFile::append(logger.csv_path(), {}).write("5,0.");  // cut off
              ::raise(SIGKILL);
              return 0;
            }),
            128 + SIGKILL);
  MetricsOptions resumed = options;
  resumed.resume_step = 2;
  MetricsLogger logger(resumed);
  logger.log(3, {{"loss", 30.0}});
  EXPECT_EQ(csv(logger), "step,loss\n1,1\n2,2\n3,30\n");
  const auto events = read_events(logger.event_path());
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[1].session, 1);  // SessionLog.START: earlier events from step 3 on are purged
  EXPECT_EQ(events[1].step, 3);
  EXPECT_EQ(dir.count(), 3);  // the CSV and two event files, even within one second

  MetricsLogger anew(options);
  EXPECT_EQ(csv(anew), "step,loss\n");
}

template <typename Function>
std::string message_of(Function function, ErrorKind kind) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "no error";
}

TEST(Metrics, ErrorsNameTheColumnTheLineAndTheFile) {
  const TestFolder dir;
  {
    MetricsLogger logger({.folder = dir.path(), .columns = {"loss", "speed"}});
    EXPECT_EQ(message_of(
                  [&] {
                    logger.log(1, {{"los", 1.0}});
                  },
                  ErrorKind::internal),
              "[metrics] los is not a column; nearest: loss");
  }
  EXPECT_EQ(
      message_of(
          [&] { MetricsLogger({.folder = dir.path(), .columns = {"loss"}, .resume_step = 1}); },
          ErrorKind::data),
      "[metrics] the columns \"step,loss,speed\" are not those of this run, \"step,loss\"; "
      "move the file away, at " +
          (dir / "metrics.csv").string());
  const auto parse = [](std::string_view text) {
    return message_of([&] { parse_metrics(text, "m.csv"); }, ErrorKind::data);
  };
  EXPECT_EQ(parse(""), "[metrics] the first column is not \"step\", at m.csv:1");
  EXPECT_EQ(parse("step,a\n1,2,3\n"), "[metrics] 3 cells where the header has 2, at m.csv:2");
  EXPECT_EQ(parse("step,a\n1,2\nx,2\n"), "[metrics] step \"x\" is not a number, at m.csv:3");
  EXPECT_EQ(parse("step,a\n1,2x\n"), "[metrics] a \"2x\" is not a number, at m.csv:2");
  EXPECT_EQ(parse_metrics("step,a\n1,2\n2,", "m.csv").rows.size(), 1u);
}

}  // namespace
}  // namespace espalier::train
