// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/net/google_token.h"

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>

#include "espalier/base/error.h"
#include "espalier/io/file.h"
#include "espalier/io/json.h"
#include "espalier/io/net/digest.h"
#include "espalier/io/net/url.h"

namespace espalier::io {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kScope = "https://www.googleapis.com/auth/devstorage.read_write";
constexpr const char* kTokenUrl = "https://oauth2.googleapis.com/token";
constexpr int64_t kFileLimit = int64_t{1} << 20;
constexpr int kClaimSeconds = 3600;  // the longest that is taken
constexpr const char* kHowTo =
    "set GOOGLE_APPLICATION_CREDENTIALS to the JSON key of a service account, or run \"gcloud auth "
    "application-default login\"";

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// A field of a credentials file; its value is a secret.
std::string field(const Json& json, const char* name, const std::string& source) {
  const auto found = json.find(name);
  ESPALIER_CHECK(found != json.end() && found->is_string(), ErrorKind::user, "google",
                 "{} has no {}; {}", source, name, kHowTo);
  return found->get<std::string>();
}

/// "invalid_grant: Token has been expired or revoked."
std::string oauth_reason(const HttpAnswer& answer) {
  const Json json = try_parse_json(answer.body);
  if (!json.is_object()) return "";
  std::string reason;
  for (const char* name : {"error", "error_description"}) {
    const auto found = json.find(name);
    if (found == json.end() || !found->is_string()) continue;
    reason += (reason.empty() ? "" : ": ") + found->get<std::string>();
  }
  return reason;
}

GoogleTokens::Token ask(Http& http, const RetryPolicy& retry, const HttpRequest& request,
                        const std::string& source) {
  const HttpAnswer answer = send_patiently(http, retry,
                                           {.make = [&] { return request; },
                                            .what = "asking for an access token with " + source,
                                            .reason = oauth_reason});
  ESPALIER_CHECK(answer.ok(), ErrorKind::user, "google", "{} gives no access token ({} {}); {}",
                 source, answer.status, oauth_reason(answer), kHowTo);
  const Json json = try_parse_json(answer.body);
  const bool right = json.is_object() && json.contains("access_token") &&
                     json["access_token"].is_string() && json.contains("expires_in") &&
                     json["expires_in"].is_number();
  ESPALIER_CHECK(right, ErrorKind::data, "google",
                 "the answer to {} holds no access token and its time", source);
  return {.text = json["access_token"].get<std::string>(),
          .seconds = json["expires_in"].get<double>()};
}

/// The claim of a service account, signed (RFC 7523).
std::string assertion(const Json& account, const std::string& token_url,
                      const std::string& source) {
  const std::time_t now = std::time(nullptr);
  const Json header{{"alg", "RS256"}, {"typ", "JWT"}, {"kid", account.value("private_key_id", "")}};
  const Json claim{{"iss", field(account, "client_email", source)},
                   {"scope", kScope},
                   {"aud", token_url},
                   {"iat", now},
                   {"exp", now + kClaimSeconds}};
  const std::string text = base64_url(header.dump()) + "." + base64_url(claim.dump());
  return text + "." + base64_url(sign_rs256(field(account, "private_key", source), text));
}

}  // namespace

GoogleTokens::GoogleTokens(std::function<Token()> fetch, std::string source)
    : fetch_(std::move(fetch)), source_(std::move(source)) {}

std::string GoogleTokens::get() {
  const std::lock_guard lock(mutex_);
  if (token_.empty() || steady_seconds() >= good_until_) {
    const Token token = fetch_();
    replaced_ = replaced_ && token_.empty();
    token_ = token.text;
    good_until_ = steady_seconds() + 0.9 * token.seconds;
  }
  return token_;
}

bool GoogleTokens::replace(const std::string& token) {
  const std::lock_guard lock(mutex_);
  if (token != token_) return true;  // another thread did
  if (replaced_) return false;
  token_.clear();
  replaced_ = true;
  return true;
}

std::unique_ptr<GoogleTokens> google_tokens_from_json(const std::string& text,
                                                      const std::string& source,
                                                      std::shared_ptr<Http> http,
                                                      const RetryPolicy& retry) {
  const Json json = try_parse_json(text);
  ESPALIER_CHECK(json.is_object(), ErrorKind::user, "google", "{} is no JSON object; {}", source,
                 kHowTo);
  const std::string type = field(json, "type", source);
  const std::string url = json.contains("token_uri") ? field(json, "token_uri", source) : kTokenUrl;
  std::function<std::string()> form;
  if (type == "service_account") {
    assertion(json, url, source);  // a wrong file is found here
    form = [=] {
      return query_text({{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"},
                         {"assertion", assertion(json, url, source)}});
    };
  } else if (type == "authorized_user") {
    form = [body = query_text({{"grant_type", "refresh_token"},
                               {"client_id", field(json, "client_id", source)},
                               {"client_secret", field(json, "client_secret", source)},
                               {"refresh_token", field(json, "refresh_token", source)}})] {
      return body;
    };
  } else {
    fail(ErrorKind::user, "google",
         "{} is of type {}, read are service_account and authorized_user; {}", source, type,
         kHowTo);
  }
  auto fetch = [=] {
    const std::string body = form();
    return ask(*http, retry,
               {.method = "POST",
                .url = url,
                .headers = {{"content-type", "application/x-www-form-urlencoded"}},
                .body = bytes_of(body)},
               source);
  };
  return std::make_unique<GoogleTokens>(std::move(fetch), source);
}

std::unique_ptr<GoogleTokens> google_tokens_from_metadata(const std::string& host,
                                                          std::shared_ptr<Http> http,
                                                          const RetryPolicy& retry) {
  const std::string source = "the metadata server " + host;
  auto fetch = [=] {
    return ask(*http, retry,
               {.url = fmt::format("http://{}/computeMetadata/v1/instance/service-accounts/default/"
                                   "token",
                                   host),
                .headers = {{"metadata-flavor", "Google"}}},
               source);
  };
  return std::make_unique<GoogleTokens>(std::move(fetch), source);
}

std::unique_ptr<GoogleTokens> google_tokens(std::shared_ptr<Http> http, const RetryPolicy& retry) {
  const auto from_file = [&](const fs::path& path) {
    return google_tokens_from_json(read_text(path, kFileLimit, {.stage = "google"}), path.string(),
                                   http, retry);
  };
  const char* named = std::getenv("GOOGLE_APPLICATION_CREDENTIALS");
  if (named != nullptr && *named != '\0') return from_file(named);
  const char* host = std::getenv("GCE_METADATA_HOST");
  if (host != nullptr && *host != '\0') return google_tokens_from_metadata(host, http, retry);
  const char* home = std::getenv("HOME");
  const fs::path login =
      fs::path(home == nullptr ? "" : home) / ".config/gcloud/application_default_credentials.json";
  std::error_code error;
  ESPALIER_CHECK(fs::exists(login, error), ErrorKind::user, "google", "no credentials; {}", kHowTo);
  return from_file(login);
}

}  // namespace espalier::io
