// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/checkpoint_state.h"

#include <algorithm>
#include "espalier/base/crc32c.h"
#include "espalier/io/json.h"
#include "tests/fuzz/target.h"

namespace {
using namespace espalier;

void read_run_file(std::string_view text) {
  fuzz::refuse_or_read([&] {
    const std::string printed = train::print_run_file(train::parse_run_file(text, "input"));
    const auto again = train::parse_run_file(printed, "printed");
    fuzz::require(train::print_run_file(again) == printed, "printing is stable");
  });
}

void read(std::string_view text) {
  fuzz::refuse_or_read([&] {
    const auto state = train::parse_checkpoint_state(text, "input");
    const std::string printed = train::print_checkpoint_state(state);
    const auto again = train::parse_checkpoint_state(printed, "printed");
    fuzz::require(train::print_checkpoint_state(again) == printed, "printing is stable");
    fuzz::require(again.step == state.step && again.seed == state.seed, "values return");
  });
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::as_text(data, size);
  read(text);
  read_run_file(text);
  // Nobody guesses a checksum: the same text as the content of a file whose checksum is right.
  const auto content = nlohmann::json::parse(text, nullptr, false);
  const bool shallow = std::count(text.begin(), text.end(), '[') < 100 &&
                       std::count(text.begin(), text.end(), '{') < 100;
  if (content.is_discarded() || !shallow) return 0;
  const std::string canonical =
      content.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const uint32_t crc = crc32c(std::as_bytes(std::span(canonical.data(), canonical.size())));
  read(fmt::format(R"({{"checkpoint":{},"crc32c":"{:08x}"}})", canonical, crc));
  return 0;
}
