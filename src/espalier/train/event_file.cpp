// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/event_file.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>

#include "espalier/base/crc32c.h"

namespace espalier::train {
namespace {
namespace fs = std::filesystem;

/// A protobuf message under construction.
class Message {
 public:
  Message& integer(int field, int64_t value) {
    varint(static_cast<uint64_t>(field) << 3);
    varint(static_cast<uint64_t>(value));
    return *this;
  }
  Message& real64(int field, double value) {
    varint(static_cast<uint64_t>(field) << 3 | 1);
    little_endian(std::bit_cast<uint64_t>(value), 8);
    return *this;
  }
  Message& real32(int field, float value) {
    varint(static_cast<uint64_t>(field) << 3 | 5);
    little_endian(std::bit_cast<uint32_t>(value), 4);
    return *this;
  }
  Message& text(int field, std::string_view value) {
    varint(static_cast<uint64_t>(field) << 3 | 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(int field, const Message& value) { return text(field, value.bytes_); }
  void little_endian(uint64_t value, int count) {
    for (int i = 0; i < count; ++i) bytes_ += static_cast<char>(value >> (8 * i));
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

/// TFRecord's rotation, so that a CRC stored in the data it covers does no harm.
uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(std::as_bytes(std::span(bytes.data(), bytes.size())));
  return std::rotr(crc, 15) + 0xA282EAD8u;
}

double wall_time() {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  return now.count();
}

/// The event with its time; fields: wall_time 1, step 2, file_version 3, summary 5, session_log 7.
Message event() { return Message().real64(1, wall_time()); }

fs::path free_path(const fs::path& folder) {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host = {"localhost"};
  const std::string name =
      fmt::format("events.out.tfevents.{:010}.{}", static_cast<int64_t>(wall_time()), host.data());
  fs::path path = folder / name;
  for (int n = 1; fs::exists(path); ++n) path = folder / fmt::format("{}.{}", name, n);
  return path;
}
}  // namespace

EventFile::EventFile(const fs::path& folder, std::optional<int64_t> restart_step)
    : out_(io::OutputFile::create(free_path(folder), {.stage = "metrics"})) {
  record(event().text(3, "brain.Event:2").bytes());
  if (restart_step) {
    constexpr int64_t kStart = 1;  // SessionLog.status
    record(event().integer(2, *restart_step).message(7, Message().integer(1, kStart)).bytes());
  }
}

void EventFile::scalar(int64_t step, std::string_view tag, double value) {
  // Summary.Value: tag 1, simple_value 2.
  const Message entry = Message().text(1, tag).real32(2, static_cast<float>(value));
  record(event().integer(2, step).message(5, Message().message(1, entry)).bytes());
}

void EventFile::record(std::string_view event) {
  Message length, checksums;
  length.little_endian(event.size(), 8);
  std::string frame = length.bytes();
  checksums.little_endian(masked_crc(frame), 4);
  checksums.little_endian(masked_crc(event), 4);
  frame.append(checksums.bytes(), 0, 4).append(event).append(checksums.bytes(), 4, 4);
  out_.write(frame);  // one call: a reader never sees half a frame of a live run for long
}

}  // namespace espalier::train
