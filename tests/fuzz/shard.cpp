// SPDX-License-Identifier: Apache-2.0
// A shard of which the manifest says what its header does: everything in it is read.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "espalier/extract/shard_scan.h"
#include "tests/fuzz/target.h"

namespace espalier::extract {
namespace {

/// One object, whatever its key.
class OneObject final : public Store {
 public:
  explicit OneObject(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::optional<int64_t> size(const std::string&) override { return std::ssize(bytes_); }
  void read(const std::string&, int64_t offset, std::span<std::byte> out) override {
    fuzz::require(offset >= 0 && std::cmp_less_equal(offset, bytes_.size()) &&
                      out.size() <= bytes_.size() - static_cast<size_t>(offset),
                  "reads stay in the object");
    std::copy_n(bytes_.begin() + offset, out.size(), out.begin());
  }
  std::string where(const std::string& key) const override { return key; }
  std::optional<std::filesystem::path> file(const std::string&) const override { return {}; }

  bool create(const std::string&, std::string_view) override { return refuse(); }
  void put(const std::string&, std::string_view) override { refuse(); }
  std::optional<std::string> get(const std::string&, int64_t) override { return {}; }
  void remove(const std::string&) override { refuse(); }
  std::vector<std::string> list(const std::string&) override { return {}; }
  void sweep(const std::string&) override { refuse(); }
  std::unique_ptr<ObjectWriter> writer(const std::string&) override {
    refuse();
    return nullptr;
  }

 private:
  static bool refuse() {
    fuzz::require(false, "a reader does not write");
    return false;
  }
  std::span<const std::byte> bytes_;
};

/// What the header claims, so that the rest is looked at.
ManifestEntry entry_of(std::span<const std::byte> bytes) {
  ManifestEntry entry{.samples = 1, .tokens = 1, .bytes = std::ssize(bytes), .sha256 = ""};
  uint64_t length = 0;
  if (bytes.size() < sizeof(length)) return entry;
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > bytes.size() - sizeof(length)) return entry;
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + sizeof(length),
                                static_cast<size_t>(length));
  try {
    const ShardLayout layout = parse_shard_header(header, "input", entry.bytes);
    entry.samples = layout.samples;
    entry.tokens = layout.tokens;
    entry.first_sample = layout.first_sample;
  } catch (const Error&) {
    // Said again, and looked at, below.
  }
  return entry;
}

void read_everything(std::span<const std::byte> bytes) {
  OneObject store(bytes);
  const ManifestEntry entry = entry_of(bytes);
  const ShardScan scan = scan_shard(store, entry, {.checksums = false});
  fuzz::require(!scan.wrong.empty() || !scan.hooks.empty() || scan.width > 0, "something is found");
  const ShardFile file(store, entry);
  const ShardLayout& layout = file.layout();
  FrameDecoder decoder;
  std::vector<std::byte> row(static_cast<size_t>(layout.row_bytes()));
  for (size_t hook = 0; hook < layout.hooks.size(); ++hook) {
    file.rows(hook, layout.tokens - 1, 1, row, decoder);
  }
}

}  // namespace
}  // namespace espalier::extract

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace espalier;
  fuzz::refuse_or_read([&] { extract::read_everything(std::as_bytes(std::span(data, size))); });
  return 0;
}
