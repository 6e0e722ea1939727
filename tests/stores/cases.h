// SPDX-License-Identifier: Apache-2.0
// Stores that talk to this process's own servers, with patience that takes no time.
#pragma once

#include <atomic>
#include <memory>
#include <random>
#include <string>

#include "espalier/extract/remote/gcs_store.h"
#include "espalier/extract/remote/s3_store.h"
#include "tests/support/fake_gcs.h"
#include "tests/support/fake_s3.h"

namespace espalier::test {

/// Adds up waits instead of waiting.
struct Patience {
  std::atomic<int> waits{0};
  std::atomic<double> seconds{0.0};

  io::RetryPolicy policy(int tries = 4) {
    return {.tries = tries,
            .sleep =
                [this](double wait) {
                  ++waits;
                  seconds = seconds + wait;
                },
            .uniform = [] { return 0.5; }};
  }
};

inline extract::S3Options s3_options(FakeS3& s3, Patience& patience) {
  const FakeS3Options& fake = s3.options();
  return {.bucket = fake.bucket,
          .aws = {.credentials = {.access_key = fake.access_key,
                                  .secret_key = fake.secret_key,
                                  .session_token = fake.session_token},
                  .source = "the test",
                  .region = fake.region,
                  .endpoint = s3.server().url()},
          .http = {.silence_seconds = 2.0},
          .retry = patience.policy(),
          .part_bytes = 4096,
          .parts_in_flight = 2};
}

inline extract::GcsOptions gcs_options(FakeGcs& gcs, Patience& patience) {
  auto fetch = [&gcs] { return io::GoogleTokens::Token{gcs.new_token(), 3600.0}; };
  return {.bucket = gcs.options().bucket,
          .endpoint = gcs.server().url(),
          .http = std::make_shared<io::Http>(io::HttpOptions{.silence_seconds = 2.0}),
          .tokens = std::make_shared<io::GoogleTokens>(std::move(fetch), "the test"),
          .retry = patience.policy(),
          .chunk_bytes = int64_t{256} << 10};
}

/// Bytes without a pattern, the same every time.
inline std::string noise(size_t size, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

inline void write_object(extract::Store& store, const std::string& key, std::string_view bytes) {
  const auto writer = store.writer(key);
  // In uneven pieces: what arrives does not follow the parts.
  for (size_t at = 0; at < bytes.size(); at += 1500) writer->write(bytes.substr(at, 1500));
  writer->commit();
}

inline auto is(const std::string& method, const std::string& query = {}) {
  return [=](const WebRequest& r) {
    return r.method == method && (query.empty() || r.has_query(query));
  };
}

}  // namespace espalier::test
