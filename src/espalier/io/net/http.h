// SPDX-License-Identifier: Apache-2.0
// One request over HTTP/1.1, by libcurl. What the network does is part of the answer; only wrong
// use is an error. Connections are kept and used again; calls may come from several threads.
// Proxies are taken from the environment as libcurl does, except for hosts of this machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::io {

/// Names in small letters.
using HttpHeaders = std::map<std::string, std::string>;

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  HttpHeaders headers;
  std::span<const std::byte> body;
  /// Bytes of an answer's body that are kept at most. Of a refusal (300 and above) the beginning
  /// is kept.
  int64_t answer_limit = int64_t{1} << 20;
  /// How long the server may think, where that is longer than HttpOptions::silence_seconds.
  double thinking_seconds = 0.0;
};

struct HttpAnswer {
  int status = 0;       // 0: no whole answer came, and `failure` says why
  std::string failure;  // never the URL or a header
  HttpHeaders headers;
  std::string body;
  bool too_long = false;  // the body is longer than answer_limit

  bool ok() const { return status >= 200 && status < 300; }
  /// Empty when there is none.
  std::string header(const std::string& name) const;
};

/// Seconds since 1970 of a date as headers have it; nothing for other text.
std::optional<int64_t> http_date(const std::string& text);

struct HttpOptions {
  double connect_seconds = 10.0;
  /// A transfer is given up when less than slow_bytes a second pass for so long.
  double silence_seconds = 30.0;
  int64_t slow_bytes = 1024;
  /// Certificates to trust, a PEM file; empty: the system's.
  std::string ca_file;
};

class Http {
 public:
  explicit Http(HttpOptions options = {});
  ~Http();
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;

  /// Sends once. Throws `user` for what no repetition cures: a certificate that is not trusted, a
  /// URL that is none.
  HttpAnswer send(const HttpRequest& request);

 private:
  struct Free {
    void operator()(void* handle) const;
  };
  using Handle = std::unique_ptr<void, Free>;
  Handle take();
  void give_back(Handle handle);

  HttpOptions options_;
  std::mutex mutex_;
  std::vector<Handle> idle_;  // each keeps its connections
};

}  // namespace espalier::io
