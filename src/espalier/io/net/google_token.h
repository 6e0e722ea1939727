// SPDX-License-Identifier: Apache-2.0
// Access tokens of Google's services, from what GOOGLE_APPLICATION_CREDENTIALS names: the key of a
// service account (a signed claim is exchanged for a token, RFC 7523) or a user's refresh token.
// https://google.aip.dev/auth/4110
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "espalier/io/net/retry.h"

namespace espalier::io {

class GoogleTokens {
 public:
  struct Token {
    std::string text;
    double seconds = 0.0;  // that it is good for
  };
  /// `fetch` asks for a new token; `source` says where it comes from, for messages.
  GoogleTokens(std::function<Token()> fetch, std::string source);

  /// The token, a new one when the last has less than a tenth of its time left. Any thread.
  std::string get();
  /// The service did not take `token`: the next get asks for another. False when that was done for
  /// this token before, so that asking again is useless.
  bool replace(const std::string& token);
  const std::string& source() const { return source_; }

 private:
  std::function<Token()> fetch_;
  std::string source_;
  std::mutex mutex_;
  std::string token_;
  double good_until_ = 0.0;  // steady clock
  bool replaced_ = false;    // token_ is the answer to a refusal
};

/// As the environment says: the file in GOOGLE_APPLICATION_CREDENTIALS, the metadata server where
/// GCE_METADATA_HOST names it, or the file that `gcloud auth application-default login` wrote.
/// Throws `user` when there is none of them, or the file is of another kind.
std::unique_ptr<GoogleTokens> google_tokens(std::shared_ptr<Http> http, const RetryPolicy& retry);

/// From a credentials file's text.
std::unique_ptr<GoogleTokens> google_tokens_from_json(const std::string& json,
                                                      const std::string& source,
                                                      std::shared_ptr<Http> http,
                                                      const RetryPolicy& retry);
/// From a metadata server: "metadata.google.internal", or another host with a port.
std::unique_ptr<GoogleTokens> google_tokens_from_metadata(const std::string& host,
                                                          std::shared_ptr<Http> http,
                                                          const RetryPolicy& retry);

}  // namespace espalier::io
