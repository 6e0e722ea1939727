// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/manifest.h"

#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace espalier;
  fuzz::refuse_or_read([&] {
    const auto entries = extract::parse_manifest(fuzz::as_text(data, size), "input");
    int64_t sample = 0;
    std::string again;
    for (const extract::ManifestEntry& entry : entries) {
      fuzz::require(entry.first_sample == sample, "samples follow each other");
      sample += entry.samples;
      again += extract::to_json(entry);
    }
    fuzz::require(extract::parse_manifest(again, "again") == entries, "entries come back");
  });
  return 0;
}
