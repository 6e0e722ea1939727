// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/plan_piece.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/io/json.h"
#include "espalier/io/safetensors.h"
#include "espalier/io/sha256.h"

namespace espalier::extract {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "espalier-plan-1";
constexpr const char* kNextStep = "remove plan.json and the folder plan: they are made again";

class TextSink final : public io::ByteSink {
 public:
  using io::ByteSink::write;
  void write(std::span<const std::byte> bytes) override {
    text_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  std::string label() const override { return "a plan"; }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

/// Over what a piece says and holds.
std::string checksum(const io::SafetensorsMetadata& metadata,
                     const std::map<std::string, HostTensor>& tensors) {
  io::Sha256 sum;
  for (const auto& [key, value] : metadata) {
    if (key != "sha256") sum.write(fmt::format("{} {}\n{}\n", key, value.size(), value));
  }
  for (const auto& [name, tensor] : tensors) {
    sum.write(fmt::format("{} {}\n", name, tensor.shape().str()));
    sum.write(std::span(static_cast<const std::byte*>(tensor.data()),
                        static_cast<size_t>(tensor.bytes())));
  }
  return sum.hex();
}

Json json_of(const PlanTotals& t) {
  Json batches = Json::array();
  for (const auto& [shape, count] : t.batches) {
    batches.push_back({{"rows", shape.first}, {"seq", shape.second}, {"count", count}});
  }
  return {{"shards", t.shards},
          {"samples", t.samples},
          {"tokens", t.tokens},
          {"computed_tokens", t.computed_tokens},
          {"batches", batches},
          {"lines", t.position.lines},
          {"bad_lines", t.position.bad_lines},
          {"first_bad_line", t.position.first_bad_line},
          {"lengths",
           {{"whole", t.lengths.whole},
            {"empty", t.lengths.empty},
            {"skipped", t.lengths.skipped},
            {"truncated", t.lengths.truncated},
            {"windowed", t.lengths.windowed},
            {"windows", t.lengths.windows},
            {"tokens", t.lengths.tokens},
            {"dropped_tokens", t.lengths.dropped_tokens}}},
          {"chain", t.chain}};
}

PlanTotals totals_of(const Json& json) {
  const auto number = [](const Json& at, const char* key) { return at.at(key).get<int64_t>(); };
  PlanTotals t{.shards = number(json, "shards"),
               .samples = number(json, "samples"),
               .tokens = number(json, "tokens"),
               .computed_tokens = number(json, "computed_tokens"),
               .position = {.lines = number(json, "lines"),
                            .bad_lines = number(json, "bad_lines"),
                            .first_bad_line = json.at("first_bad_line").get<std::string>()},
               .chain = json.at("chain").get<std::string>()};
  for (const Json& batch : json.at("batches")) {
    t.batches[{number(batch, "rows"), number(batch, "seq")}] = number(batch, "count");
  }
  const Json& lengths = json.at("lengths");
  t.lengths = {.whole = number(lengths, "whole"),
               .empty = number(lengths, "empty"),
               .skipped = number(lengths, "skipped"),
               .truncated = number(lengths, "truncated"),
               .windowed = number(lengths, "windowed"),
               .windows = number(lengths, "windows"),
               .tokens = number(lengths, "tokens"),
               .dropped_tokens = number(lengths, "dropped_tokens")};
  return t;
}

[[noreturn]] void fail_damaged(std::string_view label, std::string_view what) {
  fail(ErrorKind::data, "plan", "{} is damaged: {}; {}", label, what, kNextStep);
}

void check_run(std::string_view there, std::string_view run, std::string_view label) {
  ESPALIER_CHECK(there == run, ErrorKind::data, "plan", "{} belongs to another run.json; {}", label,
                 kNextStep);
}

std::map<std::string, HostTensor> tensors_of(const ShardWork& work) {
  const auto samples = std::ssize(work.samples);
  HostTensor ids(DType::i32, {work.tokens()}), offsets(DType::i64, {samples + 1});
  HostTensor first(DType::i64, {samples}), placements(DType::i32, {samples, 3});
  HostTensor batches(DType::i32, {std::ssize(work.batches), 2});
  auto id = ids.as<int32_t>().begin();
  for (size_t i = 0; i < work.samples.size(); ++i) {
    const Sample& sample = work.samples[i];
    id = std::copy(sample.tokens.begin(), sample.tokens.end(), id);
    offsets.as<int64_t>()[i + 1] = offsets.as<int64_t>()[i] + std::ssize(sample.tokens);
    first.as<int64_t>()[i] = sample.first_position;
  }
  for (size_t b = 0; b < work.batches.size(); ++b) {
    const Batch& batch = work.batches[b];
    batches.as<int32_t>()[2 * b] = static_cast<int32_t>(batch.rows);
    batches.as<int32_t>()[2 * b + 1] = static_cast<int32_t>(batch.seq);
    for (const Placement& p : batch.placements) {
      const auto at = placements.as<int32_t>().begin() + 3 * p.sample;
      at[0] = static_cast<int32_t>(b);
      at[1] = static_cast<int32_t>(p.row);
      at[2] = static_cast<int32_t>(p.column);
    }
  }
  return {{"token_ids", ids},
          {"offsets", offsets},
          {"first_position", first},
          {"placements", placements},
          {"batches", batches}};
}

}  // namespace

std::string plan_key(int64_t shard) { return fmt::format("plan/{:08}.safetensors", shard); }

void PlanTotals::add(const ShardWork& work) {
  ++shards;
  samples += std::ssize(work.samples);
  tokens += work.tokens();
  for (const Batch& batch : work.batches) {
    computed_tokens += batch.rows * batch.seq;
    ++batches[{batch.rows, batch.seq}];
  }
}

std::string to_json(const PlanTotals& totals, std::string_view run) {
  Json json{{"format", kFormat}, {"run", run}};
  json.update(json_of(totals));
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

PlanTotals parse_plan_totals(std::string_view text, std::string_view run, std::string_view label) {
  try {
    const Json json = io::parse_ordered_json(text);
    check_run(json.at("run").get<std::string>(), run, label);
    return totals_of(json);
  } catch (const nlohmann::json::exception& error) {
    fail_damaged(label, error.what());
  }
}

std::string write_plan_piece(const ShardWork& work, std::string_view run, PlanTotals& totals,
                             bool resumable) {
  Json ids = Json::array(), augmentations = Json::array();
  for (const Sample& sample : work.samples) {
    ids.push_back(sample.id);
    augmentations.push_back(sample.augmentation);
  }
  const auto text = [](const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  io::SafetensorsMetadata metadata{{"format", kFormat},
                                   {"run", std::string(run)},
                                   {"shard", std::to_string(work.index)},
                                   {"first_sample", std::to_string(work.first_sample)},
                                   {"sample_ids", text(ids)},
                                   {"augmentations", text(augmentations)}};
  const std::map<std::string, HostTensor> tensors = tensors_of(work);
  totals.chain = io::sha256_hex(totals.chain + checksum(metadata, tensors));
  if (resumable) metadata["totals"] = text(json_of(totals));
  metadata["sha256"] = checksum(metadata, tensors);
  TextSink sink;
  io::write_safetensors(sink, tensors, metadata);
  return sink.take();
}

PlanPiece read_plan_piece(std::span<std::byte> bytes, std::string_view run,
                          std::string_view label) {
  const auto file = io::SafetensorsFile::parse(bytes, std::string(label), nullptr);
  const io::SafetensorsMetadata& metadata = file.metadata();
  const auto at = [&](const char* key) -> const std::string& {
    const auto found = metadata.find(key);
    if (found == metadata.end()) fail_damaged(label, fmt::format("{} is missing", key));
    return found->second;
  };
  if (at("format") != kFormat) fail_damaged(label, "its format is unknown");
  check_run(at("run"), run, label);
  if (at("sha256") != checksum(metadata, file.tensors())) {
    fail_damaged(label, "its checksum is not that of its contents");
  }
  // From here on it is what write_plan_piece made.
  const Json ids = io::parse_ordered_json(at("sample_ids")),
             augmentations = io::parse_ordered_json(at("augmentations"));
  const HostTensor tokens = file.tensor("token_ids"), offsets = file.tensor("offsets");
  const HostTensor first = file.tensor("first_position"), places = file.tensor("placements");
  const HostTensor batches = file.tensor("batches");
  PlanPiece piece;
  piece.work.index = std::stoll(at("shard"));
  piece.work.first_sample = std::stoll(at("first_sample"));
  for (int64_t b = 0; b < batches.shape()[0]; ++b) {
    const auto row = batches.as<int32_t>().subspan(static_cast<size_t>(2 * b), 2);
    piece.work.batches.push_back({.rows = row[0], .seq = row[1], .placements = {}});
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto begin = static_cast<size_t>(offsets.as<int64_t>()[i]);
    const auto end = static_cast<size_t>(offsets.as<int64_t>()[i + 1]);
    const auto ids_of_sample = tokens.as<int32_t>().subspan(begin, end - begin);
    piece.work.samples.push_back({.id = ids[i].get<std::string>(),
                                  .augmentation = augmentations[i].get<std::string>(),
                                  .tokens = {ids_of_sample.begin(), ids_of_sample.end()},
                                  .first_position = first.as<int64_t>()[i]});
    const auto place = places.as<int32_t>().subspan(3 * i, 3);
    piece.work.batches[static_cast<size_t>(place[0])].placements.push_back(
        {.sample = static_cast<int64_t>(i), .row = place[1], .column = place[2]});
  }
  if (const auto found = metadata.find("totals"); found != metadata.end()) {
    piece.totals = totals_of(io::parse_ordered_json(found->second));
  }
  return piece;
}

}  // namespace espalier::extract
