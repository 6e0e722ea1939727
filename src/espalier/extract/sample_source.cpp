// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/sample_source.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <set>

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

PromptTemplate read_template(const SourceOptions& o) {
  if (o.prompt_file.empty()) {
    return builtin_prompt_template(o.prompt_version.empty() ? kFirstPrompt : o.prompt_version);
  }
  return parse_prompt_template(io::read_text(o.prompt_file, kTemplateLimit, {.stage = "prompt"}),
                               o.prompt_file);
}

std::string json_of(const Augmentation& a) {
  return Json{{"mirrored", a.mirrored},
              {"quarter_turns", a.quarter_turns},
              {"colours", a.colours},
              {"order", a.order}}
      .dump();
}

SourceFormat guess_format(std::string_view line) {
  const Json json = Json::parse(line, nullptr, false);
  if (json.is_object() && json.contains("train")) return SourceFormat::arc;
  if (json.is_object() && json.contains("tokens")) return SourceFormat::tokens;
  return SourceFormat::text;
}

class Reader {
 public:
  Reader(const SourceOptions& options, const text::Tokenizer& tokenizer, SourceReport& report,
         const std::function<void(Sample)>& take)
      : options_(options),
        tokenizer_(tokenizer),
        report_(report),
        take_(take),
        encoder_(parse_grid_encoder(options.grid_encoder.empty() ? kDefaultGridEncoder
                                                                 : options.grid_encoder)),
        prompts_(read_template(options)),
        augmenter_(options.random_seed) {}

  void read(const fs::path& path) {
    if (!fs::is_directory(path)) return read_lines(path);
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.path().extension() == ".json") files.push_back(entry.path());
    }
    ESPALIER_CHECK(!files.empty(), ErrorKind::user, "dataset", "{} holds no .json file",
                   path.string());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
      const auto bytes = io::MappedFile::open(file, kContext);
      guarded(file.string(), [&](const std::string& where) {
        take_task(parse_arc_task(text_of(*bytes), where, file.stem().string()));
      });
    }
  }

 private:
  static std::string_view text_of(io::MappedFile& file) {
    const auto bytes = file.bytes();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

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
      guarded(fmt::format("{} line {}", path.string(), line + 1), [&](const std::string& where) {
        take_line(format, text, where, fmt::format("{}:{}", path.filename().string(), line + 1),
                  line);
      });
    }
  }

  template <typename Read>
  void guarded(const std::string& where, const Read& read) {
    if (options_.max_tasks >= 0 && report_.lines >= options_.max_tasks) return;
    ++report_.lines;
    try {
      read(where);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::data || !bad_line_) throw;
      bad_line_ = false;
      if (!options_.skip_bad_lines) throw;
      if (report_.bad_lines++ == 0) report_.first_bad_line = error.what();
    }
  }

  /// Errors of what this reads are the line's, others are the run's.
  template <typename Parse>
  auto parsed(const Parse& parse) {
    bad_line_ = true;
    auto result = parse();
    bad_line_ = false;
    return result;
  }

  void take_line(SourceFormat format, std::string_view text, const std::string& where,
                 const std::string& default_id, int64_t line) {
    if (format == SourceFormat::arc) {
      return take_task(parsed([&] { return parse_arc_task(text, where, line_id(line)); }));
    }
    Sample sample{.id = default_id, .augmentation = {}, .tokens = {}};
    parsed([&] {
      read_object(format, text, where, sample);
      return true;
    });
    cut(std::move(sample));
  }

  void read_object(SourceFormat format, std::string_view text, const std::string& where,
                   Sample& sample) {
    const Json json = Json::parse(text, nullptr, false);
    ESPALIER_CHECK(json.is_object(), ErrorKind::data, "dataset", "{} is no JSON object", where);
    if (const auto id = json.find("id"); id != json.end()) {
      sample.id = id->is_string() ? id->get<std::string>() : id->dump();
    }
    if (format == SourceFormat::tokens) {
      const auto ids = json.find("tokens");
      ESPALIER_CHECK(ids != json.end() && ids->is_array(), ErrorKind::data, "dataset",
                     "{}: \"tokens\" is missing or no list", where);
      for (const Json& id : *ids) {
        ESPALIER_CHECK(id.is_number_integer() && id.get<int64_t>() >= 0 &&
                           id.get<int64_t>() < tokenizer_.vocab_size(),
                       ErrorKind::data, "dataset", "{}: {} is no token below {}", where, id.dump(),
                       tokenizer_.vocab_size());
        sample.tokens.push_back(id.get<int32_t>());
      }
      return;
    }
    for (const char* key : {"text", "content"}) {
      const auto found = json.find(key);
      if (found == json.end()) continue;
      ESPALIER_CHECK(found->is_string(), ErrorKind::data, "dataset", "{}: \"{}\" is no text", where,
                     key);
      tokenizer_.encode(found->get_ref<const std::string&>(), {}, work_, sample.tokens);
      return;
    }
    fail(ErrorKind::data, "dataset", "{}: \"text\" is missing", where);
  }

  void take_task(ArcTask task) {
    bad_line_ = false;
    if (!ids_.insert(task.id).second) {
      task.id = line_id(report_.lines - 1);
      ids_.insert(task.id);
    }
    const std::vector<Augmentation> variants =
        augmenter_.variants(task, options_.predictions_per_task);
    for (size_t v = 0; v < variants.size(); ++v) {
      const ArcTask variant = augment(task, variants[v]);
      for (size_t t = 0; t < variant.test.size(); ++t) {
        Sample sample{.id = fmt::format("{}/{}/{}", task.id, v, t),
                      .augmentation = json_of(variants[v]),
                      .tokens = {}};
        tokenizer_.encode(prompts_.render(variant, t, *encoder_), {}, work_, sample.tokens);
        cut(std::move(sample));
      }
    }
  }

  void cut(Sample sample) {
    const auto length = static_cast<int64_t>(sample.tokens.size());
    const std::vector<TokenRange> parts = apply_length_policy(
        options_.length_policy, length, options_.max_seq_length, sample.id, report_.lengths);
    for (size_t i = 0; i < parts.size(); ++i) {
      Sample part{
          .id = parts.size() > 1 ? fmt::format("{}#{}", sample.id, i) : sample.id,
          .augmentation = sample.augmentation,
          .tokens = {sample.tokens.begin() + parts[i].begin, sample.tokens.begin() + parts[i].end},
          .first_position = parts[i].begin};
      take_(std::move(part));
    }
  }

  const SourceOptions& options_;
  const text::Tokenizer& tokenizer_;
  SourceReport& report_;
  const std::function<void(Sample)>& take_;
  std::unique_ptr<GridEncoder> encoder_;
  PromptTemplate prompts_;
  Augmenter augmenter_;
  text::Workspace work_;
  std::set<std::string> ids_;
  bool bad_line_ = false;
};

}  // namespace

SourceFormat parse_source_format(std::string_view text) {
  return parse_choice<SourceFormat>("dataset", text, kFormats);
}

void read_samples(const SourceOptions& options, const text::Tokenizer& tokenizer,
                  SourceReport& report, const std::function<void(Sample)>& take) {
  ESPALIER_CHECK(!options.files.empty(), ErrorKind::user, "dataset", "no dataset is given");
  Reader reader(options, tokenizer, report, take);
  for (const fs::path& file : options.files) reader.read(file);
}

}  // namespace espalier::extract
