// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/remote/gcs_store.h"

#include <algorithm>
#include <cstring>

#include "espalier/base/error.h"
#include "espalier/extract/remote/gcs_upload.h"
#include "espalier/extract/remote/json_text.h"
#include "espalier/extract/store_key.h"
#include "espalier/io/json.h"
#include "espalier/io/net/digest.h"

namespace espalier::extract {
namespace {

using Json = nlohmann::json;
/// Marks an object as the work of one call of create.
constexpr const char* kMark = "espalier-write";
constexpr int64_t kReadBytes = int64_t{8} << 20;

/// "crc32c=AAAAAA==" in the list of sums that goes with an object's bytes.
bool has_right_sum(const io::HttpAnswer& answer) {
  const std::string sums = answer.header("x-goog-hash");
  const size_t at = sums.find("crc32c=");
  if (at == std::string::npos || answer.status != 200 || answer.too_long) return true;
  return sums.compare(at + 7, 8, io::base64_crc32c(io::bytes_of(answer.body))) == 0;
}

class GcsStore final : public Store {
 public:
  GcsStore(GcsOptions options, const std::string& prefix)
      : client_(std::move(options)), prefix_(prefix.empty() ? "" : prefix + "/") {}

  bool create(const std::string& key, std::string_view bytes) override {
    const std::string mark = io::random_hex();
    return gcs_put(client_, full(key), bytes, {{"ifGenerationMatch", "0"}}, {{kMark, mark}}) ||
           is_own(key, bytes, mark);
  }

  void put(const std::string& key, std::string_view bytes) override {
    gcs_put(client_, full(key), bytes);
  }

  std::optional<std::string> get(const std::string& key, int64_t limit) override {
    io::HttpAnswer answer = client_.call({.method = "GET",
                                          .key = full(key),
                                          .url = client_.object_url(full(key)),
                                          .query = {{"alt", "media"}},
                                          .answer_limit = limit,
                                          .right = has_right_sum},
                                         {404});
    if (!answer.ok()) return std::nullopt;
    ESPALIER_CHECK(!answer.too_long, ErrorKind::data, "store",
                   "{} is longer than the {} bytes that are expected", where(key), limit);
    return std::move(answer.body);
  }

  std::optional<int64_t> size(const std::string& key) override {
    const Json about = describe(key);
    if (about.is_null()) return std::nullopt;
    return std::strtoll(json_text(about, "size").c_str(), nullptr, 10);
  }

  void read(const std::string& key, int64_t offset, std::span<std::byte> out) override {
    while (!out.empty()) {
      const int64_t count = std::min(kReadBytes, static_cast<int64_t>(out.size()));
      const io::HttpAnswer answer = client_.call(
          {.method = "GET",
           .key = full(key),
           .url = client_.object_url(full(key)),
           .query = {{"alt", "media"}},
           .headers = {{"range", fmt::format("bytes={}-{}", offset, offset + count - 1)}},
           .answer_limit = count},
          {404, 416});
      ESPALIER_CHECK(answer.status != 404, ErrorKind::data, "store", "{} is missing", where(key));
      const auto got = answer.ok() ? static_cast<int64_t>(answer.body.size()) : int64_t{0};
      ESPALIER_CHECK(got == count && answer.status == 206, ErrorKind::data, "store",
                     "{} ends at {}, before {} + {}", where(key), offset + got, offset, count);
      std::memcpy(out.data(), answer.body.data(), static_cast<size_t>(count));
      out = out.subspan(static_cast<size_t>(count));
      offset += count;
    }
  }

  void remove(const std::string& key) override {
    client_.call({.method = "DELETE", .key = full(key), .url = client_.object_url(full(key))},
                 {404});
  }

  std::vector<std::string> list(const std::string& prefix) override {
    std::vector<std::string> keys;
    io::Query query{{"prefix", prefix_ + prefix}, {"fields", "items(name),nextPageToken"}};
    for (bool more = true; more;) {
      const io::HttpAnswer answer = client_.call(
          {.method = "GET", .key = prefix_ + prefix, .url = client_.list_url(), .query = query});
      const Json page = parse(answer, where(prefix));
      for (const Json& item : page.contains("items") ? page["items"] : Json::array()) {
        const std::string key = json_text(item, "name");
        // "folder/" is what a console makes to show an empty folder.
        if (key.starts_with(prefix_) && !key.ends_with('/')) {
          keys.push_back(key.substr(prefix_.size()));
        }
      }
      query["pageToken"] = json_text(page, "nextPageToken");
      more = !query["pageToken"].empty();
    }
    std::sort(keys.begin(), keys.end());
    return keys;
  }

  /// Nothing: unfinished uploads are no objects, and the service drops them after a week.
  void sweep(const std::string&) override {}

  std::unique_ptr<ObjectWriter> writer(const std::string& key) override {
    return std::make_unique<GcsUpload>(client_, full(key));
  }

  std::string where(const std::string& key) const override { return client_.where(prefix_ + key); }
  std::optional<std::filesystem::path> file(const std::string&) const override {
    return std::nullopt;
  }

 private:
  std::string full(const std::string& key) const {
    check_key(key, where(""));
    return prefix_ + key;
  }

  static Json parse(const io::HttpAnswer& answer, const std::string& where) {
    Json json = io::try_parse_json(answer.body);
    ESPALIER_CHECK(json.is_object(), ErrorKind::data, "store", "{}: the answer is no JSON object",
                   where);
    return json;
  }

  /// What the service says about an object; null when there is none.
  Json describe(const std::string& key) {
    const io::HttpAnswer answer = client_.call(
        {.method = "GET", .key = full(key), .url = client_.object_url(full(key))}, {404});
    return answer.ok() ? parse(answer, where(key)) : Json();
  }

  /// A refused creation may have met its own object: an answer was lost and the call repeated.
  bool is_own(const std::string& key, std::string_view bytes, const std::string& mark) {
    const Json about = describe(key);
    if (about.is_null()) return false;
    const Json metadata = about.contains("metadata") ? about["metadata"] : Json();
    if (json_text(metadata, kMark) != mark) return false;
    if (json_text(about, "crc32c") != io::base64_crc32c(io::bytes_of(bytes))) put(key, bytes);
    return true;
  }

  GcsClient client_;
  std::string prefix_;
};

}  // namespace

std::unique_ptr<Store> open_gcs_store(GcsOptions options, const std::string& prefix) {
  return std::make_unique<GcsStore>(std::move(options), prefix);
}

}  // namespace espalier::extract
