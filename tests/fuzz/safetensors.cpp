// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/safetensors.h"

#include <vector>

#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace espalier;
  const auto image = std::make_shared<std::vector<std::byte>>(size);
  for (size_t i = 0; i < size; ++i) (*image)[i] = std::byte{data[i]};
  fuzz::refuse_or_read([&] {
    const auto file = io::SafetensorsFile::parse(*image, "input", image);
    int64_t position = 0;
    for (const io::SafetensorsEntry& entry : file.entries()) {
      fuzz::require(entry.begin == position, "tensors follow each other");
      position = entry.end;
      fuzz::require(file.contains(entry.name), "an entry is found by its name");
      const std::span<const std::byte> bytes = file.bytes(entry);
      // Touches every byte, for the address sanitizer.
      const std::vector<std::byte> copy(bytes.begin(), bytes.end());
      fuzz::require(copy.size() == bytes.size(), "bytes can be copied");
      if (!io::dtype_from_safetensors(entry.dtype)) continue;
      const HostTensor tensor = file.tensor(entry.name);
      fuzz::require(tensor.bytes() == entry.end - entry.begin, "a tensor fills its bytes");
      if (tensor.numel() > 0) tensor.get(tensor.numel() - 1);
    }
  });
  return 0;
}
