// SPDX-License-Identifier: Apache-2.0
#include "tests/torture/audit.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <set>

#include "tests/support/program.h"

namespace espalier::torture {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t kMostLines = 20;

std::string sha256(const std::string& bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> sum{};
  unsigned size = 0;
  EVP_Digest(bytes.data(), bytes.size(), sum.data(), &size, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned i = 0; i < size; ++i) hex += fmt::format("{:02x}", sum[i]);
  return hex;
}

/// Every file of the run, relative to it.
std::vector<std::string> files_of(const fs::path& run) {
  std::vector<std::string> keys;
  for (const auto& entry : fs::recursive_directory_iterator(run)) {
    if (!entry.is_directory()) keys.push_back(entry.path().lexically_relative(run).string());
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

/// What one shard holds beside activations.
struct Contents {
  std::vector<std::string> ids;
  std::vector<int64_t> offsets, sample_index;
  std::vector<int32_t> token_ids, position;
};

/// A safetensors file: the header's length (u64), the header (JSON), the tensors' bytes.
class ShardFile {
 public:
  explicit ShardFile(const std::string& bytes) : bytes_(bytes) {
    uint64_t length = 0;
    if (bytes.size() < sizeof(length)) throw std::runtime_error("no header");
    std::memcpy(&length, bytes.data(), sizeof(length));
    if (length > bytes.size() - sizeof(length)) throw std::runtime_error("the header is cut");
    data_ = sizeof(length) + length;
    header_ = Json::parse(bytes.substr(sizeof(length), length));
  }
  template <typename T>
  std::vector<T> values(const char* name) const {
    const auto [begin, end] = header_.at(name).at("data_offsets").get<std::pair<size_t, size_t>>();
    if (begin > end || end > bytes_.size() - data_) throw std::runtime_error("data_offsets");
    std::vector<T> values((end - begin) / sizeof(T));
    std::memcpy(values.data(), bytes_.data() + data_ + begin, values.size() * sizeof(T));
    return values;
  }
  std::vector<std::string> sample_ids() const {
    const auto text = header_.at("__metadata__").at("sample_ids").get<std::string>();
    return Json::parse(text).get<std::vector<std::string>>();
  }

 private:
  const std::string& bytes_;
  size_t data_ = 0;
  Json header_;
};

class Auditor {
 public:
  Auditor(const fs::path& run, const Checksums& undisturbed)
      : run_(run), undisturbed_(undisturbed) {}

  Audit whole(const std::vector<WantedSample>& samples) {
    for (const WantedSample& sample : samples) wanted_.emplace(sample.id, &sample);
    look_at_names();
    const std::string manifest = test::read_file(run_ / "manifest.jsonl");
    if (manifest.empty()) wrong("manifest.jsonl is missing or empty");
    std::istringstream lines(manifest);
    for (std::string line; std::getline(lines, line);) check_entry(line);
    for (const auto& [key, sum] : undisturbed_) {
      if (!seen_.contains(key)) wrong("{} is not in manifest.jsonl", key);
    }
    check_windows();
    for (const WantedSample& sample : samples) {
      if (!parts_.contains(sample.id)) lose(sample.id, "is missing");
    }
    return std::move(audit_);
  }

  Audit part() {
    for (const std::string& key : files_of(run_)) {
      if (key.starts_with("manifest/") && key.ends_with(".json") && !hidden(key)) {
        check_entry(test::read_file(run_ / key));
      }
    }
    return std::move(audit_);
  }

 private:
  /// Tokens and positions of a sample, over its windows.
  struct Parts {
    std::set<std::string> ids;
    std::vector<int32_t> tokens;
  };

  template <typename... Args>
  void wrong(fmt::format_string<Args...> text, Args&&... args) {
    if (audit_.wrong.size() < kMostLines) {
      audit_.wrong.push_back(fmt::format(text, std::forward<Args>(args)...));
    }
  }
  void lose(const std::string& id, std::string_view how) {
    ++audit_.lost;
    wrong("sample {} {}", id, how);
  }
  static bool hidden(const std::string& key) {
    return fs::path(key).filename().string().starts_with('.');
  }

  void look_at_names() {
    static const std::regex known(
        R"(run\.json|plan\.json|plan/\d{8}\.safetensors|manifest\.jsonl|manifest/\d{8}\.json|)"
        R"(shards/shard-\d{8}\.safetensors)");
    for (const std::string& key : files_of(run_)) {
      if (hidden(key) || key.starts_with("leases/")) {
        ++audit_.leftovers;
        wrong("{} was left behind", key);
      } else if (!std::regex_match(key, known)) {
        wrong("{} is no file of a run", key);
      } else if (key.starts_with("shards/") && !undisturbed_.contains(key)) {
        wrong("the undisturbed run has no {}", key);
      }
    }
  }

  void check_entry(const std::string& line) {
    try {
      const Json entry = Json::parse(line);
      const std::string key =
          fmt::format("shards/shard-{:08}.safetensors", entry.at("shard").get<int64_t>());
      if (!seen_.insert(key).second) return wrong("{} is in the manifest twice", key);
      ++audit_.shards;
      const std::string bytes = test::read_file(run_ / key);
      audit_.bytes += static_cast<int64_t>(bytes.size());
      const std::string sum = sha256(bytes);
      if (entry.at("bytes") != bytes.size() || entry.at("sha256") != sum) {
        ++audit_.damaged;
        wrong("{} has {} bytes and checksum {}, its manifest says {}", key, bytes.size(), sum,
              line);
        return;
      }
      const auto want = undisturbed_.find(key);
      if (want == undisturbed_.end() || want->second != sum) {
        ++audit_.different;
        wrong("{} differs from the undisturbed run's", key);
      }
      check_shard(key, bytes, entry);
    } catch (const std::exception& error) {
      ++audit_.damaged;
      wrong("{}: {}", line, error.what());
    }
  }

  void check_shard(const std::string& key, const std::string& bytes, const Json& entry) {
    const ShardFile file(bytes);
    const Contents c{.ids = file.sample_ids(),
                     .offsets = file.values<int64_t>("offsets"),
                     .sample_index = file.values<int64_t>("sample_index"),
                     .token_ids = file.values<int32_t>("token_ids"),
                     .position = file.values<int32_t>("position")};
    const auto tokens = static_cast<int64_t>(c.token_ids.size());
    const bool sizes = entry.at("samples") == c.ids.size() && entry.at("tokens") == tokens &&
                       c.offsets.size() == c.ids.size() + 1 && c.offsets.front() == 0 &&
                       c.offsets.back() == tokens && c.position.size() == c.token_ids.size() &&
                       c.sample_index.size() == c.token_ids.size() &&
                       std::is_sorted(c.offsets.begin(), c.offsets.end());
    if (!sizes) {
      ++audit_.damaged;
      return wrong("{}: its tensors and its manifest disagree", key);
    }
    audit_.tokens += tokens;
    const auto first = entry.at("first_sample").get<int64_t>();
    for (size_t s = 0; s < c.ids.size(); ++s) {
      ++audit_.samples;
      for (auto at = static_cast<size_t>(c.offsets[s]); at < static_cast<size_t>(c.offsets[s + 1]);
           ++at) {
        if (c.sample_index[at] == first + static_cast<int64_t>(s)) continue;
        ++audit_.damaged;
        return wrong("{}: token {} is of sample {}", key, at, c.sample_index[at]);
      }
      take(c, s);
    }
  }

  /// One sample of a shard, perhaps a window of one.
  void take(const Contents& c, size_t s) {
    const std::string& id = c.ids[s];
    Parts& parts = parts_[id.substr(0, id.find('#'))];
    if (!parts.ids.insert(id).second) {
      ++audit_.duplicated;
      return wrong("sample {} is there twice", id);
    }
    for (auto at = static_cast<size_t>(c.offsets[s]); at < static_cast<size_t>(c.offsets[s + 1]);
         ++at) {
      const auto position = static_cast<size_t>(c.position[at]);
      if (parts.tokens.size() <= position) parts.tokens.resize(position + 1, -1);
      parts.tokens[position] = c.token_ids[at];
    }
  }

  void check_windows() {
    for (const auto& [id, parts] : parts_) {
      const auto want = wanted_.find(id);
      if (want == wanted_.end()) {
        wrong("sample {} is not of the dataset", id);
        continue;
      }
      const bool gap =
          std::find(parts.tokens.begin(), parts.tokens.end(), -1) != parts.tokens.end();
      if (gap || (!want->second->tokens.empty() && want->second->tokens != parts.tokens)) {
        lose(id, "does not have its tokens");
      }
    }
  }

  const fs::path run_;
  const Checksums& undisturbed_;
  std::map<std::string, const WantedSample*> wanted_;
  std::map<std::string, Parts> parts_;
  std::set<std::string> seen_;  // shards
  Audit audit_;
};

}  // namespace

Checksums shard_checksums(const fs::path& run) {
  Checksums sums;
  for (const std::string& key : files_of(run)) {
    if (key.starts_with("shards/")) sums[key] = sha256(test::read_file(run / key));
  }
  return sums;
}

Audit audit_run(const fs::path& run, const std::vector<WantedSample>& samples,
                const Checksums& undisturbed) {
  return Auditor(run, undisturbed).whole(samples);
}

Audit audit_part(const fs::path& run, const Checksums& undisturbed) {
  return Auditor(run, undisturbed).part();
}

}  // namespace espalier::torture
