// SPDX-License-Identifier: Apache-2.0
// What a device can do, from small TOML tables: peaks of arithmetic, memory and links.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/tensor/dtype.h"

namespace espalier::shard {

struct Device {
  std::string key;                                            // "h100"
  std::string name;                                           // for people
  double f32_flops = 0.0, bf16_flops = 0.0, f16_flops = 0.0;  // a second, of matrix products
  double memory_bytes = 0.0;
  double memory_bandwidth = 0.0;  // bytes a second
  double link_bandwidth = 0.0;    // bytes a second that a device sends while it receives as much
  double link_latency = 0.0;      // seconds of one hop

  /// Throws `user` for types that no matrix product is computed in.
  double flops(DType dtype) const;
};

/// The tables that come with the program, as text with the source of every figure.
std::string_view builtin_devices();
/// Keys of the devices that come with the program.
std::vector<std::string> builtin_device_keys();
/// A device that comes with the program, by key, or the first one of a TOML file. Throws `user`
/// with the nearest key, `data` for a file that cannot be read or lacks a figure.
Device load_device(const std::string& key_or_file);
/// Devices of a text; `label` names it in messages.
std::vector<Device> parse_devices(std::string_view text, std::string_view label);

}  // namespace espalier::shard
