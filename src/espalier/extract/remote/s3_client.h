// SPDX-License-Identifier: Apache-2.0
// Calls to one bucket of S3 or of a service that speaks its protocol: signed, repeated while that
// may help, and with errors that say what to do. No error holds a secret.
// https://docs.aws.amazon.com/AmazonS3/latest/API
#pragma once

#include <atomic>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "espalier/io/net/aws_settings.h"
#include "espalier/io/net/http.h"
#include "espalier/io/net/retry.h"

namespace espalier::extract {

struct S3Options {
  std::string bucket;
  io::AwsSettings aws;
  io::HttpOptions http;
  io::RetryPolicy retry;
  /// A larger object is sent in parts of this size (at least 5 MiB, but for the last, where the
  /// service is AWS), of which so many are on their way at a time. Memory: one more than these.
  int64_t part_bytes = int64_t{8} << 20;
  int parts_in_flight = 3;
};

struct S3Call {
  std::string method;
  std::string key;  // in the bucket; empty: the bucket itself
  io::Query query = {};
  io::HttpHeaders headers = {};
  std::span<const std::byte> body = {};
  /// Digest of the body, 16 bytes, where the service shall check it and its answer is to name it.
  std::string md5 = {};
  int64_t answer_limit = int64_t{4} << 20;
  double thinking_seconds = 0.0;
};

struct S3Answer {
  io::HttpAnswer http;
  std::string code;  // "NoSuchKey", ...; empty when the call succeeded
  bool ok() const { return code.empty(); }
  /// Without quotes.
  std::string etag() const;
};

class S3Client {
 public:
  explicit S3Client(S3Options options);

  /// Succeeds, or is refused with one of the codes in `expected`; any other refusal throws: `user`
  /// for credentials, permissions, bucket and region, `unsupported` for what the service has not.
  S3Answer call(const S3Call& call, std::initializer_list<std::string_view> expected = {});
  const S3Options& options() const { return options_; }
  /// "s3://bucket/key"
  std::string where(const std::string& key) const;

 private:
  io::HttpRequest sign(const S3Call& call, const std::string& payload_sha256) const;
  bool is_passing(const S3Call& call, const io::HttpAnswer& answer);
  bool adopt_clock(const io::HttpAnswer& answer);
  std::string message_of(const io::HttpAnswer& answer) const;
  [[noreturn]] void refuse(const S3Call& call, const io::HttpAnswer& answer,
                           const std::string& code) const;

  S3Options options_;
  io::Http http_;
  std::string base_, host_, path_;  // of the bucket: URL, Host header, path without its last '/'
  std::atomic<int64_t> clock_offset_{0};  // the service's clock less this machine's, seconds
};

/// Whether an answer's ETag is the MD5 of the bytes: not where the service encrypts with a key of
/// its customer.
bool has_md5_etag(const S3Answer& answer);

}  // namespace espalier::extract
