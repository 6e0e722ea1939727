// SPDX-License-Identifier: Apache-2.0
// TensorBoard event files: TFRecord frames around protobuf `Event` messages, encoded by hand since
// a scalar needs four fields of them.
//   frame  https://www.tensorflow.org/tutorials/load_data/tfrecord
//   Event  https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/event.proto
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "espalier/io/file.h"

namespace espalier::train {

class EventFile {
 public:
  /// Creates `folder/events.out.tfevents.<seconds>.<host>`. With `restart_step`, readers drop what
  /// earlier files of the folder hold from that step on.
  EventFile(const std::filesystem::path& folder, std::optional<int64_t> restart_step);

  /// Writes one scalar, stamped with the time of the call.
  void scalar(int64_t step, std::string_view tag, double value);
  const std::filesystem::path& path() const { return out_.path(); }

 private:
  void record(std::string_view event);
  io::OutputFile out_;
};

}  // namespace espalier::train
