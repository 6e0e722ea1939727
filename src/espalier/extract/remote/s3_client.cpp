// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/remote/s3_client.h"

#include <algorithm>
#include <cstdlib>
#include <pugixml.hpp>

#include "espalier/base/error.h"
#include "espalier/io/net/digest.h"

namespace espalier::extract {
namespace {

struct Refusal {
  std::string code, message, region;
};

/// What a refusal says. Only these fields are ever shown: others hold parts of the request.
Refusal parse_refusal(const io::HttpAnswer& answer) {
  pugi::xml_document xml;
  xml.load_buffer(answer.body.data(), answer.body.size());
  const pugi::xml_node error = xml.child("Error");
  Refusal refusal{.code = error.child_value("Code"),
                  .message = error.child_value("Message"),
                  .region = answer.header("x-amz-bucket-region")};
  if (refusal.region.empty()) refusal.region = error.child_value("Region");
  if (!refusal.code.empty()) return refusal;
  switch (answer.status) {  // HEAD has no body
    case 404:
      refusal.code = "NoSuchKey";
      break;
    case 412:
      refusal.code = "PreconditionFailed";
      break;
    case 416:
      refusal.code = "InvalidRange";
      break;
    default:
      refusal.code = fmt::format("HTTP {}", answer.status);
  }
  return refusal;
}

/// Empty for success. An answer to POST may begin with 200 and end as a refusal.
std::string code_of(const std::string& method, const io::HttpAnswer& answer) {
  if (answer.status == 0) return "no answer";
  if (!answer.ok()) return parse_refusal(answer).code;
  if (method == "POST" && answer.body.find("<Error>") != std::string::npos) {
    return parse_refusal(answer).code;
  }
  return "";
}

/// A service may send back what it was sent.
std::string without_secrets(std::string text, const io::AwsCredentials& credentials) {
  for (const std::string& secret : {credentials.secret_key, credentials.session_token}) {
    for (size_t at = 0; !secret.empty() && (at = text.find(secret)) != std::string::npos;) {
      text.replace(at, secret.size(), "...");
    }
  }
  return text;
}

bool one_of(std::string_view code, std::initializer_list<std::string_view> codes) {
  return std::find(codes.begin(), codes.end(), code) != codes.end();
}

bool is_md5(const std::string& etag) {
  return etag.size() == 32 && etag.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string default_endpoint(const std::string& region) {
  return fmt::format("https://s3.{}.amazonaws.com{}", region,
                     region.starts_with("cn-") ? ".cn" : "");
}

}  // namespace

std::string S3Answer::etag() const {
  std::string etag = http.header("etag");
  std::erase(etag, '"');
  return etag;
}

bool has_md5_etag(const S3Answer& answer) {
  return is_md5(answer.etag()) &&
         !answer.http.header("x-amz-server-side-encryption").starts_with("aws:") &&
         answer.http.header("x-amz-server-side-encryption-customer-algorithm").empty();
}

S3Client::S3Client(S3Options options) : options_(std::move(options)), http_(options_.http) {
  const io::AwsSettings& aws = options_.aws;
  const bool of_aws = aws.endpoint.empty();
  const io::UrlParts endpoint =
      io::parse_http_url(of_aws ? default_endpoint(aws.region) : aws.endpoint, "the endpoint");
  // AWS's certificate covers one label before its name, and other services rarely have names for
  // buckets.
  const bool named = aws.addressing == io::S3Addressing::automatic
                         ? of_aws && options_.bucket.find('.') == std::string::npos
                         : aws.addressing == io::S3Addressing::virtual_host;
  path_ = endpoint.path;
  while (path_.ends_with('/')) path_.pop_back();
  host_ = named ? options_.bucket + "." + endpoint.authority : endpoint.authority;
  if (!named) path_ += "/" + io::percent_encode(options_.bucket);
  base_ = endpoint.scheme + "://" + host_;
}

std::string S3Client::where(const std::string& key) const {
  return fmt::format("s3://{}/{}", options_.bucket, key);
}

io::HttpRequest S3Client::sign(const S3Call& call, const std::string& payload_sha256) const {
  const std::string path =
      call.key.empty() && !path_.empty() ? path_ : path_ + "/" + io::percent_encode(call.key, true);
  io::HttpHeaders headers = call.headers;
  headers["host"] = host_;
  headers["x-amz-date"] = io::aws_timestamp(std::time(nullptr) + clock_offset_);
  headers["x-amz-content-sha256"] = payload_sha256;
  if (!call.md5.empty()) headers["content-md5"] = io::base64(call.md5);
  const io::AwsCredentials& credentials = options_.aws.credentials;
  if (!credentials.session_token.empty()) {
    headers["x-amz-security-token"] = credentials.session_token;
  }
  headers["authorization"] = io::aws_authorization({.method = call.method,
                                                    .path = path,
                                                    .query = call.query,
                                                    .headers = headers,
                                                    .payload_sha256 = payload_sha256},
                                                   credentials, options_.aws.region, "s3");
  const std::string query = io::query_text(call.query);
  return {.method = call.method,
          .url = base_ + path + (query.empty() ? "" : "?" + query),
          .headers = std::move(headers),
          .body = call.body,
          .answer_limit = call.answer_limit,
          .thinking_seconds = call.thinking_seconds};
}

/// Requests are good for minutes around the service's time: where clocks differ, its clock counts.
bool S3Client::adopt_clock(const io::HttpAnswer& answer) {
  const int64_t here = std::time(nullptr);
  const int64_t offset = io::http_date(answer.header("date")).value_or(here) - here;
  return std::abs(clock_offset_.exchange(offset) - offset) > 60;
}

bool S3Client::is_passing(const S3Call& call, const io::HttpAnswer& answer) {
  if (io::is_passing(answer)) return true;
  const std::string code = code_of(call.method, answer);
  if (code == "RequestTimeTooSkewed") return adopt_clock(answer);
  if (!code.empty()) {
    return one_of(code,
                  {"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "BadDigest",
                   "XAmzContentSHA256Mismatch", "ConditionalRequestConflict", "OperationAborted"});
  }
  // Of what was stored, and of a whole object that was read.
  const bool whole = call.method == "GET" && !call.key.empty() && call.query.empty() &&
                     answer.status == 200 && !answer.too_long;
  const std::string md5 = whole ? io::md5(io::bytes_of(answer.body)) : call.md5;
  const S3Answer got{.http = answer};
  return !md5.empty() && has_md5_etag(got) && got.etag() != io::hex(md5);
}

S3Answer S3Client::call(const S3Call& call, std::initializer_list<std::string_view> expected) {
  const std::string payload = io::hex(io::sha256(call.body));
  const auto reason = [&](const io::HttpAnswer& answer) {
    const std::string code = code_of(call.method, answer);
    return code.empty() ? "the checksum is wrong" : code + ": " + message_of(answer);
  };
  S3Answer answer{
      .http = io::send_patiently(http_, options_.retry,
                                 {.make = [&] { return sign(call, payload); },
                                  .passing = [&](const auto& a) { return is_passing(call, a); },
                                  .what = call.method + " " + where(call.key),
                                  .reason = reason})};
  answer.code = code_of(call.method, answer.http);
  if (!answer.ok() && !one_of(answer.code, expected)) refuse(call, answer.http, answer.code);
  return answer;
}

std::string S3Client::message_of(const io::HttpAnswer& answer) const {
  return without_secrets(parse_refusal(answer).message, options_.aws.credentials);
}

void S3Client::refuse(const S3Call& call, const io::HttpAnswer& answer,
                      const std::string& code) const {
  const Refusal refusal = parse_refusal(answer);
  const std::string what = fmt::format("{} {}", call.method, where(call.key));
  const std::string message = message_of(answer);
  const std::string why = message.empty() ? code : fmt::format("{}: {}", code, message);
  const std::string& source = options_.aws.source;
  if (one_of(code,
             {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})) {
    fail(ErrorKind::user, "store",
         "{}: the credentials from {} have expired ({}); get new ones and run the same command "
         "again",
         what, source, why);
  }
  if (one_of(code, {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken",
                    "InvalidClientTokenId", "HTTP 401"})) {
    fail(ErrorKind::user, "store",
         "{}: the credentials from {} are not accepted ({}); check key, secret and session token",
         what, source, why);
  }
  if (code == "RequestTimeTooSkewed") {
    fail(ErrorKind::user, "store", "{}: the service's clock is another ({}); set this machine's",
         what, why);
  }
  if (!refusal.region.empty() && refusal.region != options_.aws.region &&
      (answer.status == 301 || answer.status == 307 || answer.status == 400)) {
    fail(ErrorKind::user, "store", "{}: the bucket is in region {}, not in {}; set AWS_REGION={}",
         what, refusal.region, options_.aws.region, refusal.region);
  }
  if (answer.status == 403) {
    fail(ErrorKind::user, "store",
         "{}: not allowed with the credentials from {} ({}); they need s3:ListBucket, GetObject, "
         "PutObject, DeleteObject, ListBucketMultipartUploads, ListMultipartUploadParts and "
         "AbortMultipartUpload",
         what, source, why);
  }
  if (code == "NoSuchBucket") {
    fail(ErrorKind::user, "store", "{}: there is no bucket {}; make it, or correct the URL", what,
         options_.bucket);
  }
  if (answer.status == 501 || code == "NotImplemented") {
    fail(ErrorKind::unsupported, "store", "{}: the service has no such call ({})", what, why);
  }
  fail(ErrorKind::user, "store", "{}: refused with {} ({})", what, answer.status, why);
}

}  // namespace espalier::extract
