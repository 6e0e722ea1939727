// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/documents.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <exception>

#include "espalier/base/error.h"
#include "espalier/io/json.h"
#include "espalier/io/safetensors.h"
#include "espalier/text/utf8.h"

namespace espalier::train {
namespace {

/// Bytes of one piece of work: large enough that joining pieces costs nothing.
constexpr size_t kPiece = size_t{1} << 20;

/// What one piece of the data becomes.
struct Piece {
  std::vector<int32_t> ids;
  std::vector<int64_t> ends;  // of its documents in ids
  DocumentCounts counts;
};

/// A line at the beginning of `text`, with its end.
std::string_view first_line(std::string_view text) {
  const size_t end = text.find('\n');
  return text.substr(0, end == std::string_view::npos ? text.size() : end + 1);
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

/// Cuts the data into pieces that end with documents.
std::vector<std::string_view> pieces_of(std::string_view text, DocumentFormat format) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    size_t size = std::min(kPiece, text.size());
    // On to the end of the line, and for text to the next empty line.
    while (size < text.size()) {
      const std::string_view line = first_line(text.substr(size));
      const bool whole_line = text[size - 1] == '\n';
      size += line.size();
      if (format == DocumentFormat::jsonl || (whole_line && is_blank(line))) break;
    }
    pieces.push_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return pieces;
}

class PieceReader {
 public:
  PieceReader(const text::Tokenizer& tokenizer, text::Workspace& work, Piece& piece)
      : tokenizer_(tokenizer), work_(work), piece_(piece) {}

  void add(std::string_view document) {
    const size_t before = piece_.ids.size();
    tokenizer_.encode(document, {.special = false}, work_, piece_.ids);
    if (piece_.ids.size() == before) {
      ++piece_.counts.empty;
      return;
    }
    ++piece_.counts.documents;
    piece_.ends.push_back(static_cast<int64_t>(piece_.ids.size()));
  }

  void read_text(std::string_view text) {
    std::string document;
    const auto end_document = [&] {
      if (!document.empty()) add(document);
      document.clear();
    };
    while (!text.empty()) {
      const std::string_view line = first_line(text);
      text.remove_prefix(line.size());
      if (is_blank(line)) {
        end_document();
      } else {
        append_line(line, document);
      }
    }
    end_document();
  }

  void read_jsonl(std::string_view text, int64_t first_number, const std::string& source) {
    std::string repaired;
    for (int64_t number = first_number; !text.empty(); ++number) {
      const std::string_view line = first_line(text);
      text.remove_prefix(line.size());
      if (is_blank(line)) continue;
      repaired.clear();
      append_line(line, repaired);
      const auto value = io::try_parse_json(repaired);
      const bool right = value.is_object() && value.contains("text") && value["text"].is_string();
      ESPALIER_CHECK(right, ErrorKind::data, "data",
                     "line {} is no JSON object with a string \"text\", at {}", number, source);
      add(value["text"].get_ref<const std::string&>());
    }
  }

 private:
  void append_line(std::string_view line, std::string& out) {
    const int64_t replaced = text::append_repaired_utf8(line, out);
    piece_.counts.invalid_lines += replaced > 0;
    piece_.counts.replaced += replaced;
  }
  const text::Tokenizer& tokenizer_;
  text::Workspace& work_;
  Piece& piece_;
};

struct Owned {
  std::vector<int32_t> ids;
  std::vector<int64_t> offsets{0};
};

constexpr std::array<std::pair<const char*, int64_t DocumentCounts::*>, 6> kCounts{{
    {"documents", &DocumentCounts::documents},
    {"empty", &DocumentCounts::empty},
    {"invalid_lines", &DocumentCounts::invalid_lines},
    {"replaced", &DocumentCounts::replaced},
    {"tokens", &DocumentCounts::tokens},
    {"bytes", &DocumentCounts::bytes},
}};

/// The documents of a cache file, or nothing when it is of something else or damaged.
std::optional<TokenDocuments> read_cache(const std::filesystem::path& cache,
                                         const std::string& fingerprint) {
  if (!std::filesystem::exists(cache)) return std::nullopt;
  try {
    const auto file = io::SafetensorsFile::open(cache);
    const auto& metadata = file.metadata();
    const auto of = metadata.find("fingerprint");
    if (of == metadata.end() || of->second != fingerprint) return std::nullopt;
    DocumentCounts counts;
    for (const auto& [name, member] : kCounts) counts.*member = std::stoll(metadata.at(name));
    struct Views {
      HostTensor ids, offsets;
    };
    const auto views = std::make_shared<Views>(Views{
        file.tensor("ids", DType::i32, {counts.tokens}),
        file.tensor("offsets", DType::i64, {counts.documents + 1}),
    });
    const auto ids = std::as_const(views->ids).as<int32_t>();
    const auto offsets = std::as_const(views->offsets).as<int64_t>();
    const bool whole = offsets.front() == 0 && offsets.back() == counts.tokens &&
                       std::is_sorted(offsets.begin(), offsets.end());
    if (!whole) return std::nullopt;
    return TokenDocuments(ids, offsets, counts, views);
  } catch (const std::exception&) {
    return std::nullopt;  // made again
  }
}

void write_cache(const std::filesystem::path& cache, const std::string& fingerprint,
                 const TokenDocuments& documents) {
  io::SafetensorsMetadata metadata{{"fingerprint", fingerprint}};
  for (const auto& [name, member] : kCounts) {
    metadata[name] = std::to_string(documents.counts().*member);
  }
  const auto view = [](DType dtype, auto values) {
    using Value = std::remove_const_t<typename decltype(values)::element_type>;
    return HostTensor(dtype, {static_cast<int64_t>(values.size())},
                      const_cast<Value*>(values.data()), nullptr);
  };
  io::save_safetensors(cache,
                       {{"ids", view(DType::i32, documents.ids())},
                        {"offsets", view(DType::i64, documents.offsets())}},
                       metadata);
}

}  // namespace

std::string describe(const DocumentCounts& counts) {
  std::string result = fmt::format("{} documents, {} tokens", counts.documents, counts.tokens);
  if (counts.empty > 0) result += fmt::format(", {} empty documents left out", counts.empty);
  if (counts.invalid_lines > 0) {
    result += fmt::format(", {} lines of invalid UTF-8 ({} replacements)", counts.invalid_lines,
                          counts.replaced);
  }
  return result;
}

DocumentFormat format_of(const std::string& source) {
  const std::string extension = std::filesystem::path(source).extension().string();
  return extension == ".jsonl" || extension == ".ndjson" ? DocumentFormat::jsonl
                                                         : DocumentFormat::text;
}

TokenDocuments tokenize_documents(std::span<const uint8_t> bytes, DocumentFormat format,
                                  const std::string& source, const text::Tokenizer& tokenizer) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto inputs = pieces_of(text, format);
  std::vector<int64_t> first_lines{1};
  for (const std::string_view input : inputs) {
    first_lines.push_back(first_lines.back() + std::count(input.begin(), input.end(), '\n'));
  }
  std::vector<Piece> pieces(inputs.size());
  // The error of the first piece that has one, whatever the order they run in.
  std::vector<std::exception_ptr> errors(inputs.size());
#pragma omp parallel
  {
    text::Workspace work;
#pragma omp for schedule(dynamic)
    for (size_t i = 0; i < inputs.size(); ++i) {
      try {
        PieceReader reader(tokenizer, work, pieces[i]);
        if (format == DocumentFormat::text) {
          reader.read_text(inputs[i]);
        } else {
          reader.read_jsonl(inputs[i], first_lines[i], source);
        }
      } catch (...) {
        errors[i] = std::current_exception();
      }
    }
  }
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }

  const auto owned = std::make_shared<Owned>();
  DocumentCounts counts;
  for (Piece& piece : pieces) {
    for (const auto& [name, member] : kCounts) counts.*member += piece.counts.*member;
    const auto start = static_cast<int64_t>(owned->ids.size());
    for (const int64_t end : piece.ends) owned->offsets.push_back(start + end);
    owned->ids.insert(owned->ids.end(), piece.ids.begin(), piece.ids.end());
    piece = {};
  }
  counts.tokens = static_cast<int64_t>(owned->ids.size());
  counts.bytes = static_cast<int64_t>(bytes.size());
  ESPALIER_CHECK(counts.documents > 0, ErrorKind::data, "data",
                 "{} bytes hold no document with a token ({} are empty), at {}", bytes.size(),
                 counts.empty, source);
  return TokenDocuments(owned->ids, owned->offsets, counts, owned);
}

TokenDocuments cached_documents(const std::filesystem::path& cache, const std::string& fingerprint,
                                std::span<const uint8_t> bytes, DocumentFormat format,
                                const std::string& source, const text::Tokenizer& tokenizer) {
  if (cache.empty()) return tokenize_documents(bytes, format, source, tokenizer);
  if (auto found = read_cache(cache, fingerprint)) return *std::move(found);
  TokenDocuments documents = tokenize_documents(bytes, format, source, tokenizer);
  write_cache(cache, fingerprint, documents);
  return documents;
}

}  // namespace espalier::train
