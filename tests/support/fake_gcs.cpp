// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_gcs.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "espalier/base/crc32c.h"
#include "espalier/io/net/url.h"

namespace espalier::test {
namespace {

using Json = nlohmann::json;
constexpr size_t kUnit = size_t{256} << 10;

std::string encode(const std::string& raw) {
  std::string out(raw.size() * 2 + 4, '\0');
  out.resize(static_cast<size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                                 reinterpret_cast<const unsigned char*>(raw.data()),
                                                 static_cast<int>(raw.size()))));
  return out;
}
/// Of base64 for URLs.
std::string decode(std::string text) {
  std::replace(text.begin(), text.end(), '-', '+');
  std::replace(text.begin(), text.end(), '_', '/');
  const size_t padding = (4 - text.size() % 4) % 4;
  text.append(padding, '=');
  std::string out(text.size(), '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  out.resize(size < 0 ? 0 : static_cast<size_t>(size) - padding);
  return out;
}
std::string sum_of(const std::string& bytes) {
  const uint32_t crc = crc32c(std::as_bytes(std::span(bytes)));
  std::string raw;
  for (int shift = 24; shift >= 0; shift -= 8) raw += static_cast<char>(crc >> shift);
  return encode(raw);
}

WebAnswer json(const Json& body) {
  return {.headers = {{"Content-Type", "application/json"}}, .body = body.dump()};
}
WebAnswer refuse(int status, const std::string& reason, const std::string& message) {
  WebAnswer answer = json({{"error",
                            {{"code", status},
                             {"message", message},
                             {"errors", {{{"reason", reason}, {"message", message}}}}}}});
  answer.status = status;
  return answer;
}

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;

std::string text_of(const Bio& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<size_t>(size)};
}

}  // namespace

RsaKeys make_rsa_keys() {
  const Key key(EVP_RSA_gen(2048), EVP_PKEY_free);
  const Bio secret(BIO_new(BIO_s_mem()), BIO_free), open(BIO_new(BIO_s_mem()), BIO_free);
  PEM_write_bio_PrivateKey(secret.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  PEM_write_bio_PUBKEY(open.get(), key.get());
  return {.secret = text_of(secret), .open = text_of(open)};
}

FakeGcs::FakeGcs(FakeGcsOptions options)
    : options_(std::move(options)), server_([this](const WebRequest& r) { return handle(r); }) {}

std::map<std::string, std::string> FakeGcs::objects() {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::string> all;
  for (const auto& [key, object] : objects_) all[key] = object.bytes;
  return all;
}
size_t FakeGcs::open_uploads() {
  const std::lock_guard lock(mutex_);
  return static_cast<size_t>(std::count_if(sessions_.begin(), sessions_.end(), [](const auto& s) {
    return s.second.done.body.empty();
  }));
}
void FakeGcs::revoke() {
  const std::lock_guard lock(mutex_);
  tokens_.clear();
}
std::string FakeGcs::new_token() {
  const std::lock_guard lock(mutex_);
  return *tokens_.insert(fmt::format("secret-token-{}", next_++)).first;
}

WebAnswer FakeGcs::handle(const WebRequest& request) {
  if (request.path == "/token" || request.path.starts_with("/computeMetadata/")) {
    return on_token(request);
  }
  const std::lock_guard lock(mutex_);
  if (request.path.starts_with("/session/")) return on_session(request);
  const std::string authorization = request.header("authorization");
  const bool known =
      authorization.starts_with("Bearer ") && tokens_.contains(authorization.substr(7));
  if (options_.wants_token && !known) return refuse(401, "authError", "Invalid Credentials");
  const std::string bucket = "/storage/v1/b/" + options_.bucket + "/o";
  if (request.path == "/upload" + bucket) return on_upload(request);
  if (request.path == bucket) return list(request);
  if (request.path.starts_with(bucket + "/")) {
    return on_object(request, io::percent_decode(request.path.substr(bucket.size() + 1)));
  }
  return refuse(404, "notFound", "The specified bucket does not exist.");
}

/// RFC 7523: signed by the key, with the right fields, for an hour at most.
bool FakeGcs::is_right_claim(const std::string& claim) const {
  const size_t a = claim.find('.'), b = claim.rfind('.');
  if (a == std::string::npos || a == b) return false;
  const std::string text = claim.substr(0, b), signature = decode(claim.substr(b + 1));
  const Bio memory(
      BIO_new_mem_buf(options_.public_key.data(), static_cast<int>(options_.public_key.size())),
      BIO_free);
  const Key key(PEM_read_bio_PUBKEY(memory.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  if (!key || EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) != 1 ||
      EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(signature.data()),
                       signature.size(), reinterpret_cast<const unsigned char*>(text.data()),
                       text.size()) != 1) {
    return false;
  }
  const Json head = Json::parse(decode(claim.substr(0, a)), nullptr, false);
  const Json body = Json::parse(decode(claim.substr(a + 1, b - a - 1)), nullptr, false);
  return head.value("alg", "") == "RS256" && body.value("iss", "").find('@') != std::string::npos &&
         body.value("aud", "") == server_.url() + "/token" &&
         body.value("scope", "").ends_with("/auth/devstorage.read_write") &&
         body.value("exp", 0) - body.value("iat", 0) <= 3600;
}

WebAnswer FakeGcs::on_token(const WebRequest& request) {
  bool right = request.header("metadata-flavor") == "Google";
  if (request.path == "/token") {
    const std::string form = "\n&" + request.body;
    const auto field = [&](const std::string& name) {
      const size_t at = form.find("&" + name + "=");
      if (at == std::string::npos) return std::string();
      const size_t begin = at + name.size() + 2;
      return io::percent_decode(form.substr(begin, form.find('&', begin) - begin));
    };
    right = field("grant_type") == "refresh_token"
                ? field("refresh_token") == options_.refresh_token
                : field("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer" &&
                      is_right_claim(field("assertion"));
  }
  if (!right) {
    WebAnswer answer = json(
        {{"error", "invalid_grant"}, {"error_description", "Token has been expired or revoked."}});
    answer.status = 400;
    return answer;
  }
  return json({{"access_token", new_token()},
               {"expires_in", options_.token_seconds},
               {"token_type", "Bearer"}});
}

WebAnswer FakeGcs::list(const WebRequest& request) const {
  const auto token = request.query.find("pageToken");
  Json page{{"items", Json::array()}};
  auto it = token == request.query.end() ? objects_.begin() : objects_.upper_bound(token->second);
  for (; it != objects_.end(); ++it) {
    if (!it->first.starts_with(request.query.at("prefix"))) continue;
    if (page["items"].size() == options_.page) {
      page["nextPageToken"] = std::prev(it)->first;
      break;
    }
    page["items"].push_back({{"name", it->first}});
  }
  if (page["items"].empty()) page.erase("items");
  return json(page);
}

WebAnswer FakeGcs::put(const WebRequest& request, const std::string& name, const std::string& bytes,
                       const std::string& about) {
  const Json description = Json::parse(about);
  const auto generation = request.query.find("ifGenerationMatch");
  if (generation != request.query.end() && generation->second == "0" && objects_.contains(name)) {
    return refuse(412, "conditionNotMet", "At least one of the pre-conditions did not hold.");
  }
  if (description.contains("crc32c") && description["crc32c"] != sum_of(bytes)) {
    return refuse(400, "invalid", "Provided CRC32C does not match calculated CRC32C.");
  }
  Object& object = objects_[name];
  object.bytes = bytes;
  object.metadata = description.value("metadata", std::map<std::string, std::string>{});
  return json({{"name", name}, {"size", std::to_string(bytes.size())}, {"crc32c", sum_of(bytes)}});
}

WebAnswer FakeGcs::on_upload(const WebRequest& request) {
  if (request.query.at("uploadType") == "resumable") {
    const std::string id = fmt::format("/session/{}", next_++);
    sessions_[id].key = request.query.at("name");
    return {.headers = {{"Location", server_.url() + id}}};
  }
  const std::string type = request.header("content-type");
  const std::string mark = "--" + type.substr(type.find("boundary=") + 9);
  const auto part = [&](size_t begin) {
    const size_t head = request.body.find("\r\n\r\n", begin) + 4;
    return request.body.substr(head, request.body.find("\r\n" + mark, head) - head);
  };
  const std::string about = part(0);
  const std::string bytes = part(request.body.find(mark, mark.size()));
  return put(request, Json::parse(about).at("name"), bytes, about);
}

WebAnswer FakeGcs::on_session(const WebRequest& request) {
  const auto found = sessions_.find(request.path);
  if (found == sessions_.end()) return refuse(404, "notFound", "no such upload");
  if (request.method == "DELETE") {
    sessions_.erase(found);
    return {.status = 499};
  }
  Session& session = found->second;
  if (!session.done.body.empty()) return session.done;  // asked again
  const std::string range = request.header("content-range").substr(6);
  const std::string total = range.substr(range.find('/') + 1);
  if (!range.starts_with("*")) {
    const size_t first = std::stoull(range);
    if (first != session.bytes.size()) return refuse(503, "backendError", "not the next byte");
    if (total == "*" && request.body.size() % kUnit != 0) {
      return refuse(400, "badRequest", "a chunk is no multiple of 256 KiB");
    }
    session.bytes += request.body.substr(0, options_.most_kept);
  }
  if (total != "*" && session.bytes.size() == std::stoull(total)) {
    return session.done = put(request, session.key, session.bytes, "{}");
  }
  WebAnswer answer{.status = 308};
  if (!session.bytes.empty()) {
    answer.headers["Range"] = fmt::format("bytes=0-{}", session.bytes.size() - 1);
  }
  return answer;
}

WebAnswer FakeGcs::on_object(const WebRequest& request, const std::string& key) {
  const auto found = objects_.find(key);
  if (found == objects_.end()) {
    return refuse(404, "notFound", "No such object: " + options_.bucket + "/" + key);
  }
  if (request.method == "DELETE") {
    objects_.erase(found);
    return {.status = 204};
  }
  const Object& object = found->second;
  if (!request.has_query("alt")) {
    return json({{"name", key},
                 {"size", std::to_string(object.bytes.size())},
                 {"crc32c", sum_of(object.bytes)},
                 {"metadata", object.metadata}});
  }
  WebAnswer answer{.headers = {{"x-goog-hash", "crc32c=" + sum_of(object.bytes) + ",md5=AAAA"}},
                   .body = object.bytes};
  const std::string range = request.header("range");
  if (range.empty()) return answer;
  const size_t first = std::stoull(range.substr(6));
  if (first >= object.bytes.size()) return refuse(416, "requestedRangeNotSatisfiable", "outside");
  const size_t last =
      std::min<size_t>(std::stoull(range.substr(range.find('-') + 1)), object.bytes.size() - 1);
  answer.status = 206;
  answer.body = object.bytes.substr(first, last - first + 1);
  return answer;
}

}  // namespace espalier::test
