// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/net/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "espalier/base/error.h"
#include "espalier/io/net/url.h"

namespace espalier::io {
namespace {

/// Of a refusal's body, which is a message.
constexpr size_t kRefusalLimit = size_t{64} << 10;

/// OpenSSL writes to sockets that may be closed, and libcurl can keep the signal away only for the
/// whole process. This keeps it from the one thread, and takes what came in between.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoSigpipe() {
    const timespec at_once{};
    if (!was_pending_) {
      while (sigtimedwait(&pipe_, nullptr, &at_once) == SIGPIPE) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;

 private:
  sigset_t pipe_{}, before_{};
  bool was_pending_ = false;
};

struct Receiver {
  HttpAnswer answer;
  size_t limit;
};

bool is_refusal(int status) { return status >= 300; }

size_t on_header(char* data, size_t size, size_t count, void* to) {
  HttpAnswer& answer = static_cast<Receiver*>(to)->answer;
  std::string_view line(data, size * count);
  while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
  if (line.starts_with("HTTP/")) {  // a later status line replaces "100 Continue"
    answer.headers.clear();
    const size_t space = line.find(' ');
    answer.status = space == std::string_view::npos ? 0 : std::atoi(line.data() + space + 1);
    return size * count;
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return size * count;
  std::string name(line.substr(0, colon));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  line.remove_prefix(colon + 1);
  while (line.starts_with(' ') || line.starts_with('\t')) line.remove_prefix(1);
  std::string& value = answer.headers[name];
  value += (value.empty() ? "" : ", ") + std::string(line);  // a repeated one is a list
  return size * count;
}

size_t on_body(char* data, size_t size, size_t count, void* to) {
  Receiver& receiver = *static_cast<Receiver*>(to);
  HttpAnswer& answer = receiver.answer;
  const size_t bytes = size * count;
  if (is_refusal(answer.status)) {
    answer.body.append(data, std::min(bytes, kRefusalLimit - answer.body.size()));
    return bytes;
  }
  answer.too_long = bytes > receiver.limit - answer.body.size();
  if (answer.too_long) return 0;  // ends the transfer
  answer.body.append(data, bytes);
  return bytes;
}

/// Hosts that no proxy leads to: this machine, and the address of clouds' metadata servers.
bool is_near(const std::string& host) {
  return host == "localhost" || host.ends_with(".localhost") || host == "::1" ||
         host.starts_with("127.") || host.starts_with("169.254.") ||
         host == "metadata.google.internal";
}

template <typename T>
void set(void* handle, CURLoption option, T value) {
  const CURLcode code = curl_easy_setopt(handle, option, value);
  ESPALIER_CHECK(code == CURLE_OK, ErrorKind::internal, "http", "libcurl refused option {}: {}",
                 static_cast<int>(option), curl_easy_strerror(code));
}

void check_curable(CURLcode code, const std::string& host, const std::string& ca_file) {
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      fail(ErrorKind::user, "http",
           "the certificate of {} is not trusted ({}); name a file of certificates in "
           "AWS_CA_BUNDLE{}",
           host, curl_easy_strerror(code), ca_file.empty() ? "" : ", which is now " + ca_file);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      fail(ErrorKind::user, "http", "the address of {} is no URL: {}", host,
           curl_easy_strerror(code));
    default:
      return;
  }
}

}  // namespace

std::string HttpAnswer::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

std::optional<int64_t> http_date(const std::string& text) {
  const std::time_t date = curl_getdate(text.c_str(), nullptr);
  return date < 0 ? std::nullopt : std::optional<int64_t>(date);
}

void Http::Free::operator()(void* handle) const { curl_easy_cleanup(handle); }

Http::Http(HttpOptions options) : options_(std::move(options)) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  ESPALIER_CHECK(ready == CURLE_OK, ErrorKind::internal, "http", "libcurl does not start: {}",
                 curl_easy_strerror(ready));
}
Http::~Http() = default;

Http::Handle Http::take() {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return Handle(curl_easy_init());
  Handle handle = std::move(idle_.back());
  idle_.pop_back();
  return handle;
}

void Http::give_back(Handle handle) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(handle));
}

HttpAnswer Http::send(const HttpRequest& request) {
  const UrlParts parts = parse_http_url(request.url, "the address");
  Handle owner = take();
  void* handle = owner.get();
  ESPALIER_CHECK(handle != nullptr, ErrorKind::internal, "http", "libcurl makes no handle");
  curl_easy_reset(handle);  // connections stay
  Receiver receiver{.answer = {}, .limit = static_cast<size_t>(request.answer_limit)};

  set(handle, CURLOPT_URL, request.url.c_str());
  set(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  set(handle, CURLOPT_PATH_AS_IS, 1L);  // what is sent is what was signed
  set(handle, CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_1_1});
  set(handle, CURLOPT_NOSIGNAL, 1L);
  set(handle, CURLOPT_TCP_KEEPALIVE, 1L);
  if (is_near(parts.host)) set(handle, CURLOPT_PROXY, "");
  if (!options_.ca_file.empty()) set(handle, CURLOPT_CAINFO, options_.ca_file.c_str());
  set(handle, CURLOPT_CONNECTTIMEOUT_MS, std::lround(options_.connect_seconds * 1e3));
  const double silence = std::max(options_.silence_seconds, request.thinking_seconds);
  set(handle, CURLOPT_LOW_SPEED_TIME, std::lround(std::max(1.0, silence)));
  set(handle, CURLOPT_LOW_SPEED_LIMIT, static_cast<long>(options_.slow_bytes));
  set(handle, CURLOPT_HEADERFUNCTION, on_header);
  set(handle, CURLOPT_HEADERDATA, static_cast<void*>(&receiver));
  set(handle, CURLOPT_WRITEFUNCTION, on_body);
  set(handle, CURLOPT_WRITEDATA, static_cast<void*>(&receiver));

  if (request.method == "HEAD") {
    set(handle, CURLOPT_NOBODY, 1L);
  } else {
    if (!request.body.empty() || request.method == "PUT" || request.method == "POST") {
      set(handle, CURLOPT_POST, 1L);
      set(handle, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
      set(handle, CURLOPT_POSTFIELDS,
          request.body.empty() ? "" : reinterpret_cast<const char*>(request.body.data()));
    }
    set(handle, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> list(nullptr, curl_slist_free_all);
  const auto add = [&list](const std::string& line) {
    curl_slist* longer = curl_slist_append(list.get(), line.c_str());
    ESPALIER_CHECK(longer != nullptr, ErrorKind::internal, "http", "no memory for a header");
    (void)list.release();
    list.reset(longer);
  };
  for (const auto& [name, value] : request.headers) add(fmt::format("{}: {}", name, value));
  add("Expect:");  // else libcurl waits a second for servers that do not know it
  if (!request.headers.contains("content-type")) add("Content-Type:");
  set(handle, CURLOPT_HTTPHEADER, list.get());

  CURLcode code = CURLE_OK;
  {
    const NoSigpipe guard;
    code = curl_easy_perform(handle);
  }
  HttpAnswer& answer = receiver.answer;
  if (code == CURLE_WRITE_ERROR && answer.too_long) return std::move(answer);  // not kept alive
  if (code == CURLE_OK) {
    give_back(std::move(owner));
    return std::move(answer);
  }
  check_curable(code, parts.authority, options_.ca_file);
  return {.failure = curl_easy_strerror(code)};
}

}  // namespace espalier::io
