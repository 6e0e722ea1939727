// SPDX-License-Identifier: Apache-2.0
// Enough of Google Cloud Storage for tests, in this process: one bucket, generations as conditions,
// resumable uploads, and the places where tokens come from.
#pragma once

#include <map>
#include <mutex>
#include <set>
#include <string>

#include "tests/support/web_server.h"

namespace espalier::test {

struct FakeGcsOptions {
  std::string bucket = "bucket";
  size_t page = 3;  // entries of a list's page
  /// Bytes of each chunk that are kept at most: the rest has to be sent again.
  size_t most_kept = size_t{1} << 40;
  bool wants_token = true;
  /// PEM of the public key that a service account's claims are checked with.
  std::string public_key;
  std::string refresh_token = "the-refresh-token";
  int token_seconds = 3600;
};

class FakeGcs {
 public:
  explicit FakeGcs(FakeGcsOptions options = {});

  WebServer& server() { return server_; }
  FakeGcsOptions& options() { return options_; }
  std::map<std::string, std::string> objects();
  size_t open_uploads();
  /// Tokens that were given out are good no more.
  void revoke();
  /// A token that is good.
  std::string new_token();

 private:
  struct Object {
    std::string bytes;
    std::map<std::string, std::string> metadata;
  };
  struct Session {
    std::string key, bytes;
    WebAnswer done;  // the answer to the last chunk
  };
  WebAnswer handle(const WebRequest& request);
  WebAnswer on_token(const WebRequest& request);
  WebAnswer on_upload(const WebRequest& request);
  WebAnswer on_session(const WebRequest& request);
  WebAnswer put(const WebRequest& request, const std::string& name, const std::string& bytes,
                const std::string& about);
  WebAnswer list(const WebRequest& request) const;
  WebAnswer on_object(const WebRequest& request, const std::string& key);
  bool is_right_claim(const std::string& claim) const;

  FakeGcsOptions options_;
  std::mutex mutex_;
  std::map<std::string, Object> objects_;
  std::map<std::string, Session> sessions_;
  std::set<std::string> tokens_;
  int next_ = 1;
  WebServer server_;  // last: its threads use the rest
};

/// A pair of RSA keys in PEM.
struct RsaKeys {
  std::string secret, open;
};
RsaKeys make_rsa_keys();

}  // namespace espalier::test
