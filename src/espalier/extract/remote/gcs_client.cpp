// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/remote/gcs_client.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/extract/remote/json_text.h"
#include "espalier/io/json.h"

namespace espalier::extract {
namespace {

using Json = nlohmann::json;

struct Refusal {
  std::string reason, message;
};

/// {"error": {"message": ..., "errors": [{"reason": ...}]}}, or a line of text.
Refusal parse_refusal(const io::HttpAnswer& answer) {
  Refusal refusal;
  const Json json = io::try_parse_json(answer.body);
  const Json error = json.is_object() && json.contains("error") ? json["error"] : Json();
  if (!error.is_object()) {
    refusal.message = answer.body.substr(0, std::min(answer.body.find('\n'), size_t{200}));
    return refusal;
  }
  refusal.message = json_text(error, "message");
  const auto errors = error.find("errors");
  if (errors != error.end() && errors->is_array() && !errors->empty()) {
    refusal.reason = json_text(errors->front(), "reason");
  }
  return refusal;
}

bool lacks_bucket(const io::HttpAnswer& answer) {
  return answer.status == 404 &&
         parse_refusal(answer).message.find("bucket does not exist") != std::string::npos;
}

std::string without(std::string text, const std::string& secret) {
  for (size_t at = 0; !secret.empty() && (at = text.find(secret)) != std::string::npos;) {
    text.replace(at, secret.size(), "...");
  }
  return text;
}

}  // namespace

std::string GcsClient::object_url(const std::string& key) const {
  return list_url() + "/" + io::percent_encode(key);
}
std::string GcsClient::list_url() const {
  return fmt::format("{}/storage/v1/b/{}/o", options_.endpoint,
                     io::percent_encode(options_.bucket));
}
std::string GcsClient::upload_url() const {
  return fmt::format("{}/upload/storage/v1/b/{}/o", options_.endpoint,
                     io::percent_encode(options_.bucket));
}
std::string GcsClient::where(const std::string& key) const {
  return fmt::format("gs://{}/{}", options_.bucket, key);
}

bool GcsClient::is_passing(const GcsCall& call, const io::HttpAnswer& answer,
                           const std::string& token) {
  if (io::is_passing(answer)) return true;
  if (answer.ok()) return call.right && !call.right(answer);
  if (answer.status == 401 && !token.empty()) return options_.tokens->replace(token);
  const Refusal refusal = parse_refusal(answer);
  // A sum of what was sent that the service does not find is damage on the way.
  std::string message = refusal.message;
  std::transform(message.begin(), message.end(), message.begin(), ::tolower);
  return refusal.reason == "rateLimitExceeded" || refusal.reason == "userRateLimitExceeded" ||
         message.find("crc32c") != std::string::npos;
}

io::HttpAnswer GcsClient::call(const GcsCall& call, std::initializer_list<int> expected) {
  std::string token;
  const auto make = [&] {
    io::HttpRequest request{.method = call.method,
                            .url = call.url,
                            .headers = call.headers,
                            .body = call.body,
                            .answer_limit = call.answer_limit};
    if (!call.query.empty()) request.url += "?" + io::query_text(call.query);
    if (options_.tokens && !call.of_session) {
      token = options_.tokens->get();
      request.headers["authorization"] = "Bearer " + token;
    }
    return request;
  };
  io::HttpAnswer answer = io::send_patiently(
      *options_.http, options_.retry,
      {.make = make,
       .passing = [&](const auto& a) { return is_passing(call, a, token); },
       .what = call.method + " " + where(call.key),
       .reason =
           [&](const auto& a) {
             return a.ok() ? "the checksum is wrong" : without(parse_refusal(a).message, token);
           }});
  const bool known = std::find(expected.begin(), expected.end(), answer.status) != expected.end();
  if (!answer.ok() && (!known || lacks_bucket(answer))) {
    answer.body = without(answer.body, token);
    refuse(call, answer);
  }
  return answer;
}

void GcsClient::refuse(const GcsCall& call, const io::HttpAnswer& answer) const {
  const std::string what = fmt::format("{} {}", call.method, where(call.key));
  const std::string message = parse_refusal(answer).message;
  const std::string why =
      fmt::format("{}{}{}", answer.status, message.empty() ? "" : ": ", message);
  const std::string source =
      options_.tokens ? "the credentials from " + options_.tokens->source() : "no credentials";
  if (answer.status == 401) {
    fail(ErrorKind::user, "store",
         "{}: {} are not accepted ({}); set GOOGLE_APPLICATION_CREDENTIALS to a valid key, or run "
         "\"gcloud auth application-default login\"",
         what, source, why);
  }
  if (answer.status == 403) {
    fail(ErrorKind::user, "store",
         "{}: not allowed with {} ({}); they need the role Storage Object User on the bucket", what,
         source, why);
  }
  if (lacks_bucket(answer)) {
    fail(ErrorKind::user, "store", "{}: there is no bucket {}; make it, or correct the URL", what,
         options_.bucket);
  }
  fail(ErrorKind::user, "store", "{}: refused with {}", what, why);
}

}  // namespace espalier::extract
