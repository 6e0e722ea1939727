// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bench_tokenizer.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "espalier/base/error.h"
#include "espalier/io/json.h"
#include "espalier/text/tokenizer_file.h"
#include "espalier/text/vocab_builder.h"
#include "espalier/train/corpus.h"
#include "espalier/train/data.h"

namespace espalier::train {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string_view as_text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

text::Tokenizer tokenizer_of(const TokenizerBenchOptions& options) {
  if (!options.tokenizer.empty()) return text::Tokenizer::open(options.tokenizer);
  const auto tokens = text::build_vocabulary(as_text(builtin_corpus()), {});
  return text::Tokenizer(text::parse_vocab_txt(text::vocab_txt(tokens), "", "builtin"));
}

}  // namespace

double TokenizerBenchResult::megabytes_per_second() const {
  return static_cast<double>(bytes) / seconds[seconds.size() / 2] / 1e6;
}

TokenizerBenchResult bench_tokenizer(const TokenizerBenchOptions& options) {
  ESPALIER_CHECK(options.rounds > 0, ErrorKind::user, "bench", "rounds = {} must be positive",
                 options.rounds);
  const auto data = ByteData::open(options.data);
  const std::string_view text = as_text(data.bytes());
  TokenizerBenchResult result{.kind = {}, .data = options.data};
  const double start = now();
  const text::Tokenizer tokenizer = tokenizer_of(options);
  result.load_seconds = now() - start;
  result.kind = tokenizer.kind();
  result.vocab_size = tokenizer.vocab_size();
  result.bytes = static_cast<int64_t>(text.size());
  std::vector<int32_t> ids;
  for (int64_t round = 0; round < options.rounds; ++round) {
    const auto work = std::make_unique<text::Workspace>();
    ids.clear();
    const double begin = now();
    for (std::string_view rest = text; !rest.empty();) {
      const size_t size = std::min(rest.find('\n'), rest.size() - 1) + 1;
      tokenizer.encode(rest.substr(0, size), {.special = false}, *work, ids);
      rest.remove_prefix(size);
    }
    result.seconds.push_back(now() - begin);
  }
  std::sort(result.seconds.begin(), result.seconds.end());
  result.tokens = static_cast<int64_t>(ids.size());
  return result;
}

std::string tokenizer_bench_line(const TokenizerBenchResult& result) {
  return fmt::format("{} of {} tokens: {:.1f} MB/s, {:.2f} bytes a token, loaded in {:.0f} ms",
                     result.kind, result.vocab_size, result.megabytes_per_second(),
                     static_cast<double>(result.bytes) / static_cast<double>(result.tokens),
                     result.load_seconds * 1e3);
}

std::string tokenizer_bench_json(const TokenizerBenchResult& result) {
  const nlohmann::json json{{"bench", "tokenizer"},
                            {"kind", result.kind},
                            {"data", result.data},
                            {"bytes", result.bytes},
                            {"tokens", result.tokens},
                            {"vocab_size", result.vocab_size},
                            {"load_seconds", result.load_seconds},
                            {"seconds", result.seconds},
                            {"megabytes_per_second", result.megabytes_per_second()}};
  return json.dump();
}

}  // namespace espalier::train
