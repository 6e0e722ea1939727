// SPDX-License-Identifier: Apache-2.0
// Calls to one bucket of Google Cloud Storage: with a token, repeated while that may help, and with
// errors that say what to do. No error holds a secret.
// https://cloud.google.com/storage/docs/json_api/v1
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "espalier/io/net/google_token.h"
#include "espalier/io/net/http.h"
#include "espalier/io/net/retry.h"
#include "espalier/io/net/url.h"

namespace espalier::extract {

struct GcsOptions {
  std::string bucket;
  std::string endpoint = "https://storage.googleapis.com";
  std::shared_ptr<io::Http> http;
  std::shared_ptr<io::GoogleTokens> tokens;  // none: an emulator
  io::RetryPolicy retry;
  /// A larger object is sent in chunks of this size, a multiple of 256 KiB. Memory: two of them.
  int64_t chunk_bytes = int64_t{8} << 20;
};

struct GcsCall {
  std::string method;
  std::string key;  // in the bucket, for messages
  std::string url;  // object_url, list_url, upload_url, or that of an upload's session
  io::Query query = {};
  io::HttpHeaders headers = {};
  std::span<const std::byte> body = {};
  int64_t answer_limit = int64_t{4} << 20;
  /// The URL of a session is a secret that stands for the token.
  bool of_session = false;
  /// Whether an answer that succeeded holds what it should; else the call is repeated.
  std::function<bool(const io::HttpAnswer&)> right = {};
};

class GcsClient {
 public:
  explicit GcsClient(GcsOptions options) : options_(std::move(options)) {}

  /// Succeeds, or is refused with one of the codes in `expected`; any other refusal throws `user`.
  io::HttpAnswer call(const GcsCall& call, std::initializer_list<int> expected = {});

  std::string object_url(const std::string& key) const;
  std::string list_url() const;
  std::string upload_url() const;
  /// "gs://bucket/key"
  std::string where(const std::string& key) const;
  const GcsOptions& options() const { return options_; }

 private:
  bool is_passing(const GcsCall& call, const io::HttpAnswer& answer, const std::string& token);
  [[noreturn]] void refuse(const GcsCall& call, const io::HttpAnswer& answer) const;

  GcsOptions options_;
};

}  // namespace espalier::extract
