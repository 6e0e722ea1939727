// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/sample_source.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <unordered_set>

#include "espalier/base/error.h"
#include "espalier/extract/augmentation.h"
#include "espalier/extract/choice.h"
#include "espalier/extract/grid_encoder.h"
#include "espalier/extract/prompt_template.h"
#include "espalier/io/file.h"
#include "espalier/io/json.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::array<std::string_view, 4> kFormats{"auto", "arc", "text", "tokens"};
constexpr int64_t kTemplateLimit = int64_t{1} << 20;
constexpr std::string_view kFirstPrompt = "output-from-examples-v0";

const io::FileContext kContext{.stage = "dataset", .next_step = "check --dataset"};

std::string json_of(const Augmentation& a) {
  return Json{{"mirrored", a.mirrored},
              {"quarter_turns", a.quarter_turns},
              {"colours", a.colours},
              {"order", a.order}}
      .dump();
}

SourceFormat guess_format(std::string_view line) {
  const Json json = io::try_parse_json(line);
  if (json.is_object() && json.contains("train")) return SourceFormat::arc;
  if (json.is_object() && json.contains("tokens")) return SourceFormat::tokens;
  return SourceFormat::text;
}

/// Thrown to leave: the taker has enough.
struct Enough {};

class Reader {
 public:
  Reader(const SourceOptions& options, int64_t vocab_size, const SourcePosition& from,
         StageTimes& times, const std::function<bool(SourceLine)>& take)
      : options_(options),
        vocab_size_(vocab_size),
        from_(from),
        times_(times),
        take_(take),
        encoder_(parse_grid_encoder(options.grid_encoder.empty() ? kDefaultGridEncoder
                                                                 : options.grid_encoder)),
        prompts_(prompt_template(options)),
        augmenter_(options.random_seed) {}

  void read(const fs::path& path) {
    if (!fs::is_directory(path)) return read_lines(path);
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(path)) {
      if (is_dataset_file(entry.path())) files.push_back(entry.path());
    }
    ESPALIER_CHECK(!files.empty(), ErrorKind::user, "dataset", "{} holds no .json or .jsonl file",
                   path.string());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
      if (file.extension() == ".jsonl") {
        read_lines(file);
        continue;
      }
      one_line(file.string(), [&](const std::string& where) {
        const auto bytes = io::MappedFile::open(file, kContext);
        read_task(text_of(*bytes), where, file.stem().string());
      });
    }
  }

 private:
  static std::string_view text_of(io::MappedFile& file) {
    const auto bytes = file.bytes();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  /// What was read before, by this process or another.
  bool is_past() const { return lines_ < from_.lines; }

  void read_lines(const fs::path& path) {
    const auto file = io::MappedFile::open(path, kContext);
    std::string_view rest = text_of(*file);
    SourceFormat format = options_.format;
    for (int64_t line = 0; !rest.empty(); ++line) {
      const size_t end = rest.find('\n');
      const std::string_view text = rest.substr(0, end);
      rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
      if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      if (format == SourceFormat::automatic) format = guess_format(text);
      one_line(fmt::format("{} line {}", path.string(), line + 1), [&](const std::string& where) {
        if (format == SourceFormat::arc) return read_task(text, where, line_id(line));
        if (is_past()) return;
        const StageTimer timer(times_, Stage::read);
        read_object(format, text, where, fmt::format("{}:{}", path.filename().string(), line + 1));
      });
    }
  }

  /// Errors of kind `data` in `read` are the line's.
  template <typename Read>
  void one_line(const std::string& where, const Read& read) {
    if (options_.max_tasks >= 0 && lines_ >= options_.max_tasks) throw Enough();
    const bool past = is_past();
    line_ = {};
    try {
      read(where);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::data || !options_.skip_bad_lines) throw;
      line_ = {};
      if (!past && bad_lines_++ == 0) first_bad_line_ = error.what();
    }
    if (++lines_ == from_.lines) {
      bad_lines_ = from_.bad_lines;
      first_bad_line_ = from_.first_bad_line;
    }
    if (past) return;
    line_.after = {.lines = lines_, .bad_lines = bad_lines_, .first_bad_line = first_bad_line_};
    if (!take_(std::move(line_))) throw Enough();
  }

  void read_object(SourceFormat format, std::string_view text, const std::string& where,
                   std::string default_id) {
    const Json json = io::try_parse_json(text);
    ESPALIER_CHECK(json.is_object(), ErrorKind::data, "dataset", "{} is no JSON object", where);
    Prompt prompt{.id = std::move(default_id)};
    if (const auto id = json.find("id"); id != json.end()) {
      prompt.id = id->is_string() ? id->get<std::string>() : id->dump();
    }
    if (format == SourceFormat::tokens) {
      prompt.tokens = read_tokens(json, where);
      prompt.has_tokens = true;
    } else {
      const auto found = json.contains("text") ? json.find("text") : json.find("content");
      ESPALIER_CHECK(found != json.end(), ErrorKind::data, "dataset", "{}: \"text\" is missing",
                     where);
      ESPALIER_CHECK(found->is_string(), ErrorKind::data, "dataset", "{}: \"{}\" is no text", where,
                     found.key());
      prompt.text = found->get<std::string>();
    }
    line_.prompts.push_back(std::move(prompt));
  }

  std::vector<int32_t> read_tokens(const Json& json, const std::string& where) const {
    const auto ids = json.find("tokens");
    ESPALIER_CHECK(ids != json.end() && ids->is_array(), ErrorKind::data, "dataset",
                   "{}: \"tokens\" is missing or no list", where);
    std::vector<int32_t> tokens;
    for (const Json& id : *ids) {
      ESPALIER_CHECK(
          id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < vocab_size_,
          ErrorKind::data, "dataset", "{}: {} is no token below {}", where, id.dump(), vocab_size_);
      tokens.push_back(id.get<int32_t>());
    }
    return tokens;
  }

  void read_task(std::string_view text, const std::string& where, std::string default_id) {
    std::optional<StageTimer> timer(std::in_place, times_, Stage::read);
    ArcTask task = parse_arc_task(text, where, std::move(default_id));
    timer.emplace(times_, Stage::prompt);
    // The number of a line may be another task's name.
    for (int64_t line = lines_; !ids_.insert(task.id).second; ++line) task.id = line_id(line);
    // Drawn for tasks of the past too: the draws of the next ones follow.
    const std::vector<Augmentation> variants =
        augmenter_.variants(task, options_.predictions_per_task);
    if (is_past()) return;
    for (size_t v = 0; v < variants.size(); ++v) {
      const ArcTask variant = augment(task, variants[v]);
      for (size_t t = 0; t < variant.test.size(); ++t) {
        line_.prompts.push_back({.id = fmt::format("{}/{}/{}", task.id, v, t),
                                 .augmentation = json_of(variants[v]),
                                 .text = prompts_.render(variant, t, *encoder_)});
      }
    }
  }

  const SourceOptions& options_;
  const int64_t vocab_size_;
  const SourcePosition& from_;
  StageTimes& times_;
  const std::function<bool(SourceLine)>& take_;
  std::unique_ptr<GridEncoder> encoder_;
  PromptTemplate prompts_;
  Augmenter augmenter_;
  std::unordered_set<std::string> ids_;
  int64_t lines_ = 0, bad_lines_ = 0;
  std::string first_bad_line_;
  SourceLine line_;
};

}  // namespace

SourceFormat parse_source_format(std::string_view text) {
  return parse_choice<SourceFormat>("dataset", text, kFormats);
}
std::string_view name(SourceFormat format) { return kFormats[static_cast<size_t>(format)]; }

bool is_dataset_file(const fs::path& file) {
  return file.extension() == ".json" || file.extension() == ".jsonl";
}

PromptTemplate prompt_template(const SourceOptions& o) {
  if (o.prompt_file.empty()) {
    return builtin_prompt_template(o.prompt_version.empty() ? kFirstPrompt : o.prompt_version);
  }
  return parse_prompt_template(io::read_text(o.prompt_file, kTemplateLimit, {.stage = "prompt"}),
                               o.prompt_file);
}

void check_source(const SourceOptions& o) {
  ESPALIER_CHECK(!o.files.empty(), ErrorKind::user, "dataset", "no dataset is given");
  for (const fs::path& file : o.files) {
    std::error_code error;
    if (fs::exists(file, error)) continue;
    io::fail_errno(error ? error.value() : ENOENT, kContext, "cannot find it", file);
  }
  ESPALIER_CHECK(o.max_tasks >= -1, ErrorKind::user, "dataset",
                 "--max-tasks {} must not be negative; -1 takes all", o.max_tasks);
  parse_grid_encoder(o.grid_encoder.empty() ? kDefaultGridEncoder : o.grid_encoder);
  prompt_template(o);
  check_augmentation(o.random_seed, o.predictions_per_task);
}

void read_dataset(const SourceOptions& options, int64_t vocab_size, const SourcePosition& from,
                  StageTimes& times, const std::function<bool(SourceLine)>& take) {
  check_source(options);
  Reader reader(options, vocab_size, from, times, take);
  try {
    for (const fs::path& file : options.files) reader.read(file);
  } catch (const Enough&) {
    return;
  }
}

void SampleMaker::make(Prompt prompt, LengthCounts& counts, std::vector<Sample>& samples) {
  if (!prompt.has_tokens) tokenizer_.encode(prompt.text, {}, work_, prompt.tokens);
  const auto length = static_cast<int64_t>(prompt.tokens.size());
  if (survey_ != nullptr) survey_->add(prompt.id, length);
  const std::vector<TokenRange> parts = apply_length_policy(
      options_.length_policy, length, options_.max_seq_length, prompt.id, counts);
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto begin = prompt.tokens.begin();
    samples.push_back({.id = parts.size() > 1 ? fmt::format("{}#{}", prompt.id, i) : prompt.id,
                       .augmentation = prompt.augmentation,
                       .tokens = {begin + parts[i].begin, begin + parts[i].end},
                       .first_position = parts[i].begin});
  }
}

}  // namespace espalier::extract
