// SPDX-License-Identifier: Apache-2.0
#include "espalier/shard/device.h"

#include <toml++/toml.h>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::shard {
namespace {

// Links are counted as a device sends and receives at the same time, one direction each.
constexpr std::string_view kDevices = R"toml(
# Figures of a device. FLOP/s are of matrix products without sparsity; link_bandwidth is what a
# device sends in one direction while it receives as much; link_latency is one hop.

[cpu]
name = "two Zen 3 cores (virtual machine)"
f32_flops = 205e9          # espalier peak: FMA loop on both cores
bf16_flops = 205e9         # no bf16 arithmetic: products run in f32
f16_flops = 205e9          # the same
memory_bytes = 24e9        # of the machine
memory_bandwidth = 20e9    # espalier peak: a = b + s c
link_bandwidth = 1.25e9    # assumed: 10 Gbit Ethernet
link_latency = 30e-6       # assumed: TCP over it

[tpu-v5e]
name = "TPU v5e"
f32_flops = 32.8e12        # bf16 / 6: float32 products take six bf16 passes at full precision
bf16_flops = 197e12        # cloud.google.com/tpu/docs/v5e: peak compute per chip
f16_flops = 197e12         # runs as bf16
memory_bytes = 16e9        # the same page: HBM2 capacity
memory_bandwidth = 819e9   # the same page
link_bandwidth = 90e9      # 4 links of 400 Gbit/s (the same page: 1600 Gbit/s a chip): a ring uses 2
link_latency = 1e-6        # order of magnitude of a hop in "How to Scale Your Model" (jax-ml)

[a100]
name = "NVIDIA A100 SXM 80 GB"
f32_flops = 156e12         # A100 data sheet: TF32; 19.5e12 without it
bf16_flops = 312e12        # A100 data sheet
f16_flops = 312e12         # A100 data sheet
memory_bytes = 80e9        # A100 data sheet
memory_bandwidth = 2039e9  # A100 data sheet
link_bandwidth = 300e9     # A100 data sheet: NVLink 600 GB/s, half of it each way
link_latency = 3e-6        # assumed: one step of an NCCL ring over NVLink

[h100]
name = "NVIDIA H100 SXM 80 GB"
f32_flops = 494e12         # H100 data sheet: TF32 989e12 with sparsity; 67e12 without TF32
bf16_flops = 989e12        # H100 data sheet: 1979e12 with sparsity
f16_flops = 989e12         # the same
memory_bytes = 80e9        # H100 data sheet
memory_bandwidth = 3350e9  # H100 data sheet
link_bandwidth = 450e9     # H100 data sheet: NVLink 900 GB/s, half of it each way
link_latency = 3e-6        # assumed: one step of an NCCL ring over NVLink

[h200]
name = "NVIDIA H200 SXM 141 GB"
f32_flops = 494e12         # H200 data sheet: as the H100
bf16_flops = 989e12        # the same
f16_flops = 989e12         # the same
memory_bytes = 141e9       # H200 data sheet
memory_bandwidth = 4800e9  # H200 data sheet
link_bandwidth = 450e9     # H200 data sheet: NVLink 900 GB/s, half of it each way
link_latency = 3e-6        # assumed: one step of an NCCL ring over NVLink
)toml";

struct Figure {
  const char* key;
  double Device::*value;
};
constexpr Figure kFigures[] = {{"f32_flops", &Device::f32_flops},
                               {"bf16_flops", &Device::bf16_flops},
                               {"f16_flops", &Device::f16_flops},
                               {"memory_bytes", &Device::memory_bytes},
                               {"memory_bandwidth", &Device::memory_bandwidth},
                               {"link_bandwidth", &Device::link_bandwidth},
                               {"link_latency", &Device::link_latency}};

Device read_device(std::string_view key, const toml::table& table, std::string_view label) {
  Device device;
  device.key = key;
  device.name =
      table.contains("name") ? table["name"].value_or(std::string(key)) : std::string(key);
  std::vector<std::string> known{"name"};
  for (const Figure& figure : kFigures) {
    known.emplace_back(figure.key);
    const auto value = table[figure.key].value<double>();
    ESPALIER_CHECK(value.has_value() && *value > 0.0, ErrorKind::data, "device",
                   "device {} at {}:{} needs a positive number {}", key, label,
                   table.source().begin.line, figure.key);
    device.*figure.value = *value;
  }
  for (const auto& [name, node] : table) {
    const bool found = std::find(known.begin(), known.end(), name.str()) != known.end();
    ESPALIER_CHECK(found, ErrorKind::data, "device", "unknown key \"{}\" at {}:{}{}", name.str(),
                   label, node.source().begin.line, nearest_hint(name.str(), known));
  }
  return device;
}

}  // namespace

double Device::flops(DType dtype) const {
  switch (dtype) {
    case DType::f32:
      return f32_flops;
    case DType::bf16:
      return bf16_flops;
    case DType::f16:
      return f16_flops;
    default:
      break;
  }
  fail(ErrorKind::user, "device", "the peak of {} products in {} is not known", key,
       espalier::name(dtype));
}

std::string_view builtin_devices() { return kDevices.substr(1); }

std::vector<Device> parse_devices(std::string_view text, std::string_view label) {
  std::vector<Device> devices;
  try {
    const toml::table file = toml::parse(text, std::string(label));
    for (const auto& [key, node] : file) {
      ESPALIER_CHECK(node.is_table(), ErrorKind::data, "device",
                     "\"{}\" at {}:{} stands outside of a device; begin with [NAME]", key.str(),
                     label, node.source().begin.line);
      devices.push_back(read_device(key.str(), *node.as_table(), label));
    }
  } catch (const toml::parse_error& error) {
    fail(ErrorKind::data, "device", "{}:{} is not TOML: {}", label, error.source().begin.line,
         error.description());
  }
  ESPALIER_CHECK(!devices.empty(), ErrorKind::data, "device", "{} describes no device", label);
  return devices;
}

std::vector<std::string> builtin_device_keys() {
  std::vector<std::string> keys;
  for (const Device& device : parse_devices(kDevices, "builtin")) keys.push_back(device.key);
  return keys;
}

Device load_device(const std::string& key_or_file) {
  for (Device& device : parse_devices(kDevices, "builtin")) {
    if (device.key == key_or_file) return device;
  }
  if (std::filesystem::is_regular_file(key_or_file)) {
    std::ifstream file(key_or_file, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return parse_devices(text.str(), key_or_file).front();
  }
  const std::vector<std::string> keys = builtin_device_keys();
  fail(ErrorKind::user, "device", "\"{}\" is neither a device ({}) nor a file{}", key_or_file,
       fmt::join(keys, ", "), nearest_hint(key_or_file, keys));
}

}  // namespace espalier::shard
