// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/remote/s3_store.h"

#include <algorithm>
#include <cstring>
#include <pugixml.hpp>

#include "espalier/base/error.h"
#include "espalier/extract/remote/s3_upload.h"
#include "espalier/extract/store_key.h"
#include "espalier/io/net/digest.h"

namespace espalier::extract {
namespace {

/// Marks an object as the work of one call of create.
constexpr const char* kMark = "x-amz-meta-espalier-write";
constexpr int64_t kReadBytes = int64_t{8} << 20;

class S3Store final : public Store {
 public:
  S3Store(S3Options options, const std::string& prefix)
      : client_(std::move(options)), prefix_(prefix.empty() ? "" : prefix + "/") {}

  bool create(const std::string& key, std::string_view text) override {
    const auto bytes = io::bytes_of(text);
    const std::string mark = io::random_hex();
    const S3Answer answer = client_.call({.method = "PUT",
                                          .key = full(key),
                                          .headers = {{"if-none-match", "*"}, {kMark, mark}},
                                          .body = bytes,
                                          .md5 = io::md5(bytes)},
                                         {"PreconditionFailed"});
    return answer.ok() || is_own(key, text, mark);
  }

  void put(const std::string& key, std::string_view text) override {
    const auto bytes = io::bytes_of(text);
    client_.call({.method = "PUT", .key = full(key), .body = bytes, .md5 = io::md5(bytes)});
  }

  std::optional<std::string> get(const std::string& key, int64_t limit) override {
    S3Answer answer = get_object(key, limit);
    if (!answer.ok()) return std::nullopt;
    ESPALIER_CHECK(!answer.http.too_long, ErrorKind::data, "store",
                   "{} is longer than the {} bytes that are expected", where(key), limit);
    return std::move(answer.http.body);
  }

  std::optional<int64_t> size(const std::string& key) override {
    const S3Answer answer = client_.call({.method = "HEAD", .key = full(key)}, {"NoSuchKey"});
    if (!answer.ok()) return std::nullopt;
    return std::strtoll(answer.http.header("content-length").c_str(), nullptr, 10);
  }

  void read(const std::string& key, int64_t offset, std::span<std::byte> out) override {
    while (!out.empty()) {
      const int64_t count = std::min(kReadBytes, static_cast<int64_t>(out.size()));
      const S3Answer answer = client_.call(
          {.method = "GET",
           .key = full(key),
           .headers = {{"range", fmt::format("bytes={}-{}", offset, offset + count - 1)}},
           .answer_limit = count},
          {"NoSuchKey", "InvalidRange"});
      ESPALIER_CHECK(answer.code != "NoSuchKey", ErrorKind::data, "store", "{} is missing",
                     where(key));
      const auto got = answer.ok() ? static_cast<int64_t>(answer.http.body.size()) : int64_t{0};
      ESPALIER_CHECK(got == count && answer.http.status == 206, ErrorKind::data, "store",
                     "{} ends at {}, before {} + {}", where(key), offset + got, offset, count);
      std::memcpy(out.data(), answer.http.body.data(), static_cast<size_t>(count));
      out = out.subspan(static_cast<size_t>(count));
      offset += count;
    }
  }

  void remove(const std::string& key) override {
    client_.call({.method = "DELETE", .key = full(key)}, {"NoSuchKey"});
  }

  std::vector<std::string> list(const std::string& prefix) override {
    std::vector<std::string> keys;
    io::Query query{{"list-type", "2"}, {"prefix", prefix_ + prefix}};
    for (bool more = true; more;) {
      const S3Answer answer = client_.call({.method = "GET", .key = "", .query = query});
      pugi::xml_document xml;
      xml.load_buffer(answer.http.body.data(), answer.http.body.size());
      const pugi::xml_node list = xml.child("ListBucketResult");
      ESPALIER_CHECK(list, ErrorKind::data, "store", "{}: the answer holds no list", where(prefix));
      for (const pugi::xml_node object : list.children("Contents")) {
        const std::string key = object.child_value("Key");
        // "folder/" is what a console makes to show an empty folder.
        if (key.starts_with(prefix_) && !key.ends_with('/')) {
          keys.push_back(key.substr(prefix_.size()));
        }
      }
      more = std::string_view(list.child_value("IsTruncated")) == "true";
      query["continuation-token"] = list.child_value("NextContinuationToken");
    }
    std::sort(keys.begin(), keys.end());
    return keys;
  }

  /// Nothing: the next writer of a key continues what killed ones began, and its commit ends all
  /// other uploads of that key.
  void sweep(const std::string&) override {}

  std::unique_ptr<ObjectWriter> writer(const std::string& key) override {
    return std::make_unique<S3Upload>(client_, full(key));
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

  S3Answer get_object(const std::string& key, int64_t limit) {
    return client_.call({.method = "GET", .key = full(key), .answer_limit = limit}, {"NoSuchKey"});
  }

  /// A refused creation may have met its own object: an answer was lost and the call repeated.
  bool is_own(const std::string& key, std::string_view text, const std::string& mark) {
    const S3Answer answer = get_object(key, static_cast<int64_t>(text.size()));
    if (!answer.ok() || answer.http.header(kMark) != mark) return false;
    if (answer.http.too_long || answer.http.body != text) put(key, text);
    return true;
  }

  S3Client client_;
  std::string prefix_;
};

}  // namespace

std::unique_ptr<Store> open_s3_store(S3Options options, const std::string& prefix) {
  return std::make_unique<S3Store>(std::move(options), prefix);
}

}  // namespace espalier::extract
