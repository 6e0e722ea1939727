// SPDX-License-Identifier: Apache-2.0
// A JSONL dataset behind one byte that chooses what happens to bad lines and long samples.
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

#include "espalier/extract/sample_source.h"
#include "espalier/extract/stages.h"
#include "espalier/text/tokenizer_file.h"
#include "tests/fuzz/target.h"

namespace {
using namespace espalier;
using namespace espalier::extract;

constexpr int64_t kLongest = 12;

/// A file without a name that holds `text`.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view text) : fd_(::memfd_create("dataset", MFD_CLOEXEC)) {
    fuzz::require(
        fd_ >= 0 && ::write(fd_, text.data(), text.size()) == static_cast<ssize_t>(text.size()),
        "memory holds the input");
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return fmt::format("/proc/self/fd/{}", fd_); }

 private:
  int fd_;
};

void read(const SourceOptions& options, const text::Tokenizer& tokenizer) {
  StageTimes times;
  SampleMaker maker(options, tokenizer);
  LengthCounts counts;
  std::vector<Sample> samples;
  SourcePosition position;
  read_dataset(options, tokenizer.vocab_size(), {}, times, [&](SourceLine line) {
    for (Prompt& prompt : line.prompts) maker.make(std::move(prompt), counts, samples);
    position = line.after;
    return true;
  });
  int64_t tokens = 0;
  for (const Sample& sample : samples) {
    const auto length = static_cast<int64_t>(sample.tokens.size());
    fuzz::require(length > 0 && length <= kLongest, "a sample fits a row");
    for (const int32_t id : sample.tokens) {
      fuzz::require(id >= 0 && id < tokenizer.vocab_size(), "ids are tokens");
    }
    tokens += length;
  }
  fuzz::require(std::ssize(samples) == counts.whole + counts.truncated + counts.windows,
                "samples are counted");
  fuzz::require(tokens == counts.tokens, "tokens are counted");
  fuzz::require(position.bad_lines <= position.lines, "bad lines are lines");
  fuzz::require((position.bad_lines == 0) == position.first_bad_line.empty(), "a bad line is told");
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const text::Tokenizer tokenizer(
      text::parse_vocab_txt("[UNK]\n[CLS]\n[SEP]\na\nb\n##a\n##b\n0\n1\n{\n", "", "vocabulary"));
  if (size == 0) return 0;
  const MemoryFile file(fuzz::as_text(data + 1, size - 1));
  SourceOptions options;
  options.files = {file.path()};
  options.skip_bad_lines = (data[0] & 1) != 0;
  options.length_policy = static_cast<LengthPolicy>((data[0] >> 1) % 5);
  options.max_seq_length = kLongest;
  options.predictions_per_task = 2;
  options.prompt_version = "output-from-examples-v1";
  fuzz::refuse_or_read([&] { read(options, tokenizer); });
  return 0;
}
