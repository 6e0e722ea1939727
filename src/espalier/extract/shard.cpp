// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/shard.h"

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "espalier/base/error.h"
#include "espalier/io/safetensors.h"
#include "espalier/io/sha256.h"

namespace espalier::extract {
namespace {

using Json = nlohmann::ordered_json;

/// Passes bytes on, counting and summing them.
class Summed final : public io::ByteSink {
 public:
  explicit Summed(io::ByteSink& out) : out_(out) {}
  using io::ByteSink::write;
  void write(std::span<const std::byte> bytes) override {
    sum_.write(bytes);
    count_ += static_cast<int64_t>(bytes.size());
    out_.write(bytes);
  }
  std::string label() const override { return out_.label(); }
  int64_t count() const { return count_; }
  std::string hex() { return sum_.hex(); }

 private:
  io::ByteSink& out_;
  io::Sha256 sum_;
  int64_t count_ = 0;
};

}  // namespace

std::string shard_key(int64_t index) {
  return fmt::format("shards/shard-{:08}.safetensors", index);
}
std::string manifest_key(int64_t index) { return fmt::format("manifest/{:08}.json", index); }

Shard::Shard(int64_t index, int64_t first_sample, std::span<const Sample> samples,
             std::vector<std::string> hooks, int64_t width, DType dtype)
    : index_(index),
      first_sample_(first_sample),
      width_(width),
      samples_(samples),
      hooks_(std::move(hooks)),
      dtype_(dtype),
      offsets_{0} {
  for (const Sample& sample : samples) {
    offsets_.push_back(offsets_.back() + static_cast<int64_t>(sample.tokens.size()));
  }
  for (size_t i = 0; i < hooks_.size(); ++i) {
    activations_.emplace_back(dtype, Shape{tokens(), width});
  }
}

void Shard::put(size_t hook, int64_t sample, const float* rows) {
  const int64_t begin = offsets_[static_cast<size_t>(sample)] * width_;
  const int64_t count = offsets_[static_cast<size_t>(sample) + 1] * width_ - begin;
  HostTensor& to = activations_[hook];
  switch (dtype_) {
    case DType::bf16:
    case DType::f16: {
      uint16_t* out = static_cast<uint16_t*>(to.data()) + begin;
      for (int64_t i = 0; i < count; ++i) {
        out[i] = dtype_ == DType::bf16 ? to_bf16(rows[i]) : to_f16(rows[i]);
      }
      return;
    }
    default:
      std::memcpy(static_cast<float*>(to.data()) + begin, rows,
                  static_cast<size_t>(count) * sizeof(float));
  }
}

bool Shard::commit(Store& store) const {
  const auto count = static_cast<int64_t>(samples_.size());
  std::map<std::string, HostTensor> tensors;
  for (size_t i = 0; i < hooks_.size(); ++i) tensors.emplace(hooks_[i], activations_[i]);
  HostTensor ids(DType::i32, {tokens()}), positions(DType::i32, {tokens()});
  HostTensor indices(DType::i64, {tokens()}), offsets(DType::i64, {count + 1});
  size_t at = 0;
  Json names = Json::array(), augmentations = Json::array();
  for (size_t s = 0; s < samples_.size(); ++s) {
    const Sample& sample = samples_[s];
    for (size_t i = 0; i < sample.tokens.size(); ++i, ++at) {
      ids.as<int32_t>()[at] = sample.tokens[i];
      positions.as<int32_t>()[at] =
          static_cast<int32_t>(sample.first_position) + static_cast<int32_t>(i);
      indices.as<int64_t>()[at] = first_sample_ + static_cast<int64_t>(s);
    }
    names.push_back(sample.id);
    augmentations.push_back(sample.augmentation.empty() ? Json()
                                                        : Json::parse(sample.augmentation));
  }
  std::copy(offsets_.begin(), offsets_.end(), offsets.as<int64_t>().begin());
  tensors.emplace("token_ids", ids);
  tensors.emplace("position", positions);
  tensors.emplace("sample_index", indices);
  tensors.emplace("offsets", offsets);

  const std::unique_ptr<ObjectWriter> file = store.writer(shard_key(index_));
  Summed summed(*file);
  io::write_safetensors(summed, tensors,
                        {{"format", "espalier-activations-1"},
                         {"first_sample", std::to_string(first_sample_)},
                         {"sample_ids", names.dump()},
                         {"augmentations", augmentations.dump()}});
  file->commit();
  const Json entry{{"shard", index_},    {"first_sample", first_sample_}, {"samples", count},
                   {"tokens", tokens()}, {"bytes", summed.count()},       {"sha256", summed.hex()}};
  return store.create(manifest_key(index_), entry.dump() + "\n");
}

ManifestEntry parse_manifest_entry(std::string_view text, std::string_view label) {
  try {
    const Json json = Json::parse(text);
    return {.shard = json.at("shard").get<int64_t>(),
            .first_sample = json.at("first_sample").get<int64_t>(),
            .samples = json.at("samples").get<int64_t>(),
            .tokens = json.at("tokens").get<int64_t>(),
            .bytes = json.at("bytes").get<int64_t>(),
            .sha256 = json.at("sha256").get<std::string>()};
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::data, "manifest", "{} is no entry of a manifest: {}", label, error.what());
  }
}

}  // namespace espalier::extract
