// SPDX-License-Identifier: Apache-2.0
// Samples: token sequences with names, from tasks, texts or ids in files.
//
//   arc      tasks (arc_task.h), in JSONL files or files of one each (.json); one sample for each
//            test of each variant: "007bbfb7/3/0"
//   text     JSONL with "text" (or "content") and perhaps "id"
//   tokens   JSONL with "tokens", a list of ids, and perhaps "id"
//
// A folder stands for its files .json (a task each) and .jsonl, in the order of their names.
// Lines without an id are named FILE:LINE. The same inputs give the same samples in the same order.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/extract/length_policy.h"
#include "espalier/extract/prompt_template.h"
#include "espalier/extract/stages.h"
#include "espalier/text/tokenizer.h"

namespace espalier::extract {

enum class SourceFormat : uint8_t { automatic, arc, text, tokens };
/// "auto", "arc", "text" or "tokens"; throws `user` for another.
SourceFormat parse_source_format(std::string_view text);
std::string_view name(SourceFormat format);

/// Tokens of a sample that are taken without being asked for more.
inline constexpr int64_t kMaxSeqLength = 4096;

struct SourceOptions {
  std::vector<std::filesystem::path> files;
  /// automatic: what the first object of each file looks like.
  SourceFormat format = SourceFormat::automatic;
  LengthPolicy length_policy = LengthPolicy::error;
  int64_t max_seq_length = 0;  // 0: kMaxSeqLength, or the model's positions where fewer
  bool skip_bad_lines = false;
  int64_t max_tasks = -1;  // lines or tasks that are read; -1: all

  // ARC only.
  std::string grid_encoder;    // empty: kDefaultGridEncoder
  std::string prompt_version;  // of the built-in templates; empty: the first
  std::string prompt_file;     // a template of the user's instead
  int64_t predictions_per_task = 8;
  uint64_t random_seed = 42;
};

/// Whether a file of a folder is read: .json and .jsonl.
bool is_dataset_file(const std::filesystem::path& file);

/// The texts of prompts under these options. Throws `user` for files that cannot be read and for
/// unknown versions.
PromptTemplate prompt_template(const SourceOptions& options);

struct Sample {
  std::string id;
  std::string augmentation;  // JSON of what was done to the task, or empty
  std::vector<int32_t> tokens;
  int64_t first_position = 0;  // of tokens[0] in the whole sample, where it was cut
};

/// A text of the dataset, or its tokens where the dataset holds these.
struct Prompt {
  std::string id, augmentation, text;
  std::vector<int32_t> tokens;
  bool has_tokens = false;
};

/// Throws `user` for options that no dataset fits, even where it does not need them: files that are
/// missing, numbers out of range, and texts that describe no prompt or encoder.
void check_source(const SourceOptions& options);

/// How far a dataset was read: whole lines (or files of a folder).
struct SourcePosition {
  int64_t lines = 0, bad_lines = 0;
  std::string first_bad_line;
};

/// One line, and where reading goes on behind it.
struct SourceLine {
  std::vector<Prompt> prompts;
  SourcePosition after;
};

/// Reads on from `from`, which the same options gave, and hands out line after line until `take`
/// says false. Throws `data` for a bad line, with file and number, unless these are skipped (and
/// counted); `user` for missing files.
void read_dataset(const SourceOptions& options, int64_t vocab_size, const SourcePosition& from,
                  StageTimes& times, const std::function<bool(SourceLine)>& take);

/// The samples of a line's prompts, by tokenizer and length policy.
class SampleMaker {
 public:
  /// `survey`, where there is one, sees the lengths of all samples.
  SampleMaker(const SourceOptions& options, const text::Tokenizer& tokenizer,
              LengthSurvey* survey = nullptr)
      : options_(options), tokenizer_(tokenizer), survey_(survey) {}
  /// Appends them. Throws `data` for one that is too long under LengthPolicy::error.
  void make(Prompt prompt, LengthCounts& counts, std::vector<Sample>& samples);

 private:
  const SourceOptions& options_;
  const text::Tokenizer& tokenizer_;
  LengthSurvey* survey_;
  text::Workspace work_;
};

}  // namespace espalier::extract
