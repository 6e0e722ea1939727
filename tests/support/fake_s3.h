// SPDX-License-Identifier: Apache-2.0
// Enough of S3 for tests, in this process: one bucket, signatures checked by code of its own,
// conditional creation, parts, lists with pages.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "tests/support/web_server.h"

namespace espalier::test {

struct FakeS3Options {
  std::string bucket = "bucket", region = "eu-test-1";
  std::string access_key = "AKIDTEST", secret_key = "the-secret-key", session_token = "";
  size_t page = 3;                 // entries of a list's page
  size_t least_part_bytes = 1024;  // of all parts but the last
  int64_t clock_offset = 0;        // seconds that this service's clock is ahead
  bool md5_etags = true;           // false: as with a key of the customer
  std::string answers = "Result";  // how names of answers end; "Response" in some services
};

class FakeS3 {
 public:
  explicit FakeS3(FakeS3Options options = {});

  WebServer& server() { return server_; }
  FakeS3Options& options() { return options_; }
  /// Key to bytes.
  std::map<std::string, std::string> objects();
  void set(const std::string& key, const std::string& bytes);
  /// Keys of the uploads in parts that nobody completed or aborted.
  std::vector<std::string> open_uploads();

 private:
  struct Object {
    std::string bytes, etag;
    std::map<std::string, std::string> metadata;
  };
  struct Upload {
    std::string key, began;
    std::map<int, Object> parts;
  };
  WebAnswer handle(const WebRequest& request);
  WebAnswer on_bucket(const WebRequest& request);
  WebAnswer on_object(const WebRequest& request, const std::string& key);
  WebAnswer on_upload(const WebRequest& request, const std::string& key);
  WebAnswer complete(const WebRequest& request, const std::string& id);
  WebAnswer put(const WebRequest& request, const std::string& key);
  WebAnswer get(const WebRequest& request, const Object& object) const;
  WebAnswer list(const WebRequest& request) const;
  WebAnswer list_uploads(const WebRequest& request) const;
  WebAnswer list_parts(const WebRequest& request, const Upload& upload) const;
  Object make(std::string bytes) const;
  std::map<std::string, std::string> headers_of(const Object& object) const;
  /// The code of what is wrong with a request's signature, or nothing.
  std::string check(const WebRequest& request) const;

  FakeS3Options options_;
  std::mutex mutex_;
  std::map<std::string, Object> objects_;
  std::map<std::string, Upload> uploads_;
  int next_upload_ = 1;
  WebServer server_;  // last: its threads use the rest
};

}  // namespace espalier::test
