// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_s3.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <ctime>
#include <pugixml.hpp>
#include <sstream>

#include "espalier/io/net/url.h"

namespace espalier::test {
namespace {

std::string digest(const EVP_MD* kind, const std::string& text) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), out, &size, kind, nullptr);
  return {out, out + size};
}
std::string mac(const std::string& key, const std::string& text) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), out, &size);
  return {out, out + size};
}
std::string digits(const std::string& raw) {
  std::string out;
  for (const char c : raw) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}
std::string base64(const std::string& raw) {
  std::string out(raw.size() * 2 + 4, '\0');
  out.resize(static_cast<size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                                 reinterpret_cast<const unsigned char*>(raw.data()),
                                                 static_cast<int>(raw.size()))));
  return out;
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);) parts.push_back(part);
  return parts;
}

WebAnswer refuse(int status, const std::string& code, const std::string& message) {
  return {.status = status,
          .headers = {{"Content-Type", "application/xml"}},
          .body = fmt::format("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code>"
                              "<Message>{}</Message><RequestId>1</RequestId></Error>",
                              code, message)};
}
WebAnswer xml(const std::string& body) {
  return {.headers = {{"Content-Type", "application/xml"}},
          .body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" + body};
}

std::string date(std::time_t when, const char* format) {
  char text[64];
  std::tm parts{};
  ::gmtime_r(&when, &parts);
  return {text, std::strftime(text, sizeof(text), format, &parts)};
}

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&' || c == '<' || c == '>') {
      out += fmt::format("&#{};", static_cast<int>(c));
    } else {
      out += c;
    }
  }
  return out;
}

/// The text between two marks, or nothing.
std::string between(const std::string& text, const std::string& from, const std::string& to) {
  const size_t begin = text.find(from);
  if (begin == std::string::npos) return "";
  const size_t start = begin + from.size();
  return text.substr(start, std::min(text.find(to, start), text.size()) - start);
}

}  // namespace

FakeS3::FakeS3(FakeS3Options options)
    : options_(std::move(options)), server_([this](const WebRequest& r) { return handle(r); }) {}

std::map<std::string, std::string> FakeS3::objects() {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::string> all;
  for (const auto& [key, object] : objects_) all[key] = object.bytes;
  return all;
}
void FakeS3::set(const std::string& key, const std::string& bytes) {
  const std::lock_guard lock(mutex_);
  objects_[key] = make(bytes);
}
std::vector<std::string> FakeS3::open_uploads() {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> keys;
  for (const auto& [id, upload] : uploads_) keys.push_back(upload.key);
  return keys;
}

FakeS3::Object FakeS3::make(std::string bytes) const {
  std::string etag = digits(digest(EVP_md5(), options_.md5_etags ? bytes : bytes + "other"));
  return {.bytes = std::move(bytes), .etag = std::move(etag), .metadata = {}};
}

/// The signature as the service computes it, from what arrived.
std::string FakeS3::check(const WebRequest& request) const {
  const std::string authorization = request.header("authorization");
  const std::vector<std::string> scope = split(between(authorization, "Credential=", ","), '/');
  const std::string names = between(authorization, "SignedHeaders=", ",");
  const std::string signature = between(authorization, "Signature=", " ");
  if (scope.size() != 5 || scope[0] != options_.access_key) return "InvalidAccessKeyId";
  if (scope[2] != options_.region) return "AuthorizationHeaderMalformed";
  if (request.header("x-amz-security-token") != options_.session_token) return "InvalidToken";
  const std::string time = request.header("x-amz-date");
  std::tm parts{};
  if (::strptime(time.c_str(), "%Y%m%dT%H%M%SZ", &parts) == nullptr) return "AccessDenied";
  if (std::abs(::timegm(&parts) - (std::time(nullptr) + options_.clock_offset)) > 900) {
    return "RequestTimeTooSkewed";
  }
  if (request.header("x-amz-content-sha256") != digits(digest(EVP_sha256(), request.body))) {
    return "XAmzContentSHA256Mismatch";
  }
  std::string canonical = request.method + "\n" + request.path + "\n";
  std::vector<std::string> pairs = split(request.query_text, '&');
  std::sort(pairs.begin(), pairs.end());
  for (size_t i = 0; i < pairs.size(); ++i) canonical += (i > 0 ? "&" : "") + pairs[i];
  canonical += "\n";
  const std::vector<std::string> signed_names = split(names, ';');
  for (const std::string& name : signed_names) {
    canonical += name + ":" + request.header(name) + "\n";
  }
  for (const auto& [name, value] : request.headers) {
    const bool must = name == "host" || name.starts_with("x-amz-") || name == "content-md5";
    if (must && std::find(signed_names.begin(), signed_names.end(), name) == signed_names.end()) {
      return "AccessDenied";
    }
  }
  canonical += "\n" + names + "\n" + request.header("x-amz-content-sha256");
  std::string key = mac("AWS4" + options_.secret_key, scope[1]);
  for (size_t i = 2; i < scope.size(); ++i) key = mac(key, scope[i]);
  const std::string to_sign =
      fmt::format("AWS4-HMAC-SHA256\n{}\n{}/{}/{}/{}\n{}", time, scope[1], scope[2], scope[3],
                  scope[4], digits(digest(EVP_sha256(), canonical)));
  return digits(mac(key, to_sign)) == signature ? "" : "SignatureDoesNotMatch";
}

WebAnswer FakeS3::handle(const WebRequest& request) {
  const std::lock_guard lock(mutex_);
  WebAnswer answer;
  std::string path = io::percent_decode(request.path).substr(1);
  const bool virtual_host = request.header("host").starts_with(options_.bucket + ".");
  std::string bucket = options_.bucket;
  if (!virtual_host) {
    const size_t slash = std::min(path.find('/'), path.size());
    bucket = path.substr(0, slash);
    path.erase(0, slash + 1);
  }
  if (const std::string code = check(request); !code.empty()) {
    const int status = code == "InvalidToken" || code == "XAmzContentSHA256Mismatch" ||
                               code == "AuthorizationHeaderMalformed"
                           ? 400
                           : 403;
    answer = refuse(status, code, "what came was not signed as it should be");
    if (code == "AuthorizationHeaderMalformed") {
      answer.headers["x-amz-bucket-region"] = options_.region;
    }
  } else if (bucket != options_.bucket) {
    answer = refuse(404, "NoSuchBucket", "The specified bucket does not exist");
  } else {
    answer = path.empty() ? on_bucket(request) : on_object(request, path);
  }
  answer.headers["Date"] =
      date(std::time(nullptr) + options_.clock_offset, "%a, %d %b %Y %H:%M:%S GMT");
  if (request.method == "HEAD" && answer.status >= 300) answer.body.clear();
  return answer;
}

WebAnswer FakeS3::on_bucket(const WebRequest& request) {
  if (request.method != "GET") return refuse(405, "MethodNotAllowed", "not here");
  return request.has_query("uploads") ? list_uploads(request) : list(request);
}

WebAnswer FakeS3::list(const WebRequest& request) const {
  const auto value = [&](const char* name) {
    const auto found = request.query.find(name);
    return found == request.query.end() ? "" : found->second;
  };
  std::string items;
  size_t count = 0;
  for (auto it = objects_.upper_bound(value("continuation-token")); it != objects_.end(); ++it) {
    if (!it->first.starts_with(value("prefix"))) continue;
    if (count++ == options_.page) {
      items += "<IsTruncated>true</IsTruncated><NextContinuationToken>" +
               escape(std::prev(it)->first) + "</NextContinuationToken>";
      break;
    }
    items += "<Contents><Key>" + escape(it->first) + "</Key></Contents>";
  }
  return xml("<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">" + items +
             "</ListBucketResult>");
}

WebAnswer FakeS3::list_uploads(const WebRequest& request) const {
  const auto after = request.query.find("upload-id-marker");
  std::string items;
  size_t count = 0;
  auto it = after == request.query.end() ? uploads_.begin() : uploads_.upper_bound(after->second);
  for (; it != uploads_.end(); ++it) {
    if (!it->second.key.starts_with(request.query.at("prefix"))) continue;
    if (count++ == options_.page) {
      items += "<IsTruncated>true</IsTruncated><NextKeyMarker>" + it->second.key +
               "</NextKeyMarker><NextUploadIdMarker>" + std::prev(it)->first +
               "</NextUploadIdMarker>";
      break;
    }
    items += fmt::format(
        "<Upload><Key>{}</Key><UploadId>{}</UploadId><Initiated>{}</Initiated></Upload>",
        it->second.key, it->first, it->second.began);
  }
  return xml("<ListMultipartUploadsResult>" + items + "</ListMultipartUploadsResult>");
}

WebAnswer FakeS3::list_parts(const WebRequest& request, const Upload& upload) const {
  const auto after = request.query.find("part-number-marker");
  std::string items;
  size_t count = 0;
  auto it = after == request.query.end() ? upload.parts.begin()
                                         : upload.parts.upper_bound(std::stoi(after->second));
  for (; it != upload.parts.end(); ++it) {
    if (count++ == options_.page) {
      items += fmt::format(
          "<IsTruncated>true</IsTruncated><NextPartNumberMarker>{}"
          "</NextPartNumberMarker>",
          std::prev(it)->first);
      break;
    }
    items += fmt::format("<Part><PartNumber>{}</PartNumber><ETag>&quot;{}&quot;</ETag></Part>",
                         it->first, it->second.etag);
  }
  return xml(fmt::format("<ListParts{0}>{1}</ListParts{0}>", options_.answers, items));
}

std::map<std::string, std::string> FakeS3::headers_of(const Object& object) const {
  std::map<std::string, std::string> headers = object.metadata;
  headers["ETag"] = "\"" + object.etag + "\"";
  if (!options_.md5_etags) headers["x-amz-server-side-encryption"] = "aws:kms";
  return headers;
}

WebAnswer FakeS3::get(const WebRequest& request, const Object& object) const {
  WebAnswer answer{.headers = headers_of(object), .body = object.bytes};
  const std::string range = request.header("range");
  if (range.empty()) return answer;
  const size_t first = std::stoull(range.substr(6));
  if (first >= object.bytes.size()) return refuse(416, "InvalidRange", "outside of the object");
  const size_t last =
      std::min<size_t>(std::stoull(range.substr(range.find('-') + 1)), object.bytes.size() - 1);
  answer.status = 206;
  answer.body = object.bytes.substr(first, last - first + 1);
  return answer;
}

WebAnswer FakeS3::put(const WebRequest& request, const std::string& key) {
  if (request.header("if-none-match") == "*" && objects_.contains(key)) {
    return refuse(412, "PreconditionFailed", "it exists");
  }
  Object object = make(request.body);
  for (const auto& [name, value] : request.headers) {
    if (name.starts_with("x-amz-meta-")) object.metadata[name] = value;
  }
  WebAnswer answer{.headers = headers_of(object)};
  objects_[key] = std::move(object);
  return answer;
}

WebAnswer FakeS3::on_object(const WebRequest& request, const std::string& key) {
  const std::string sum = request.header("content-md5");
  if (!sum.empty() && sum != base64(digest(EVP_md5(), request.body))) {
    return refuse(400, "BadDigest", "the Content-MD5 is not that of the body");
  }
  if (request.has_query("uploads") || request.has_query("uploadId")) {
    return on_upload(request, key);
  }
  if (request.method == "PUT") return put(request, key);
  if (request.method == "DELETE") {
    objects_.erase(key);
    return {.status = 204};
  }
  const auto found = objects_.find(key);
  if (found == objects_.end()) return refuse(404, "NoSuchKey", "there is no such key");
  return get(request, found->second);
}

WebAnswer FakeS3::on_upload(const WebRequest& request, const std::string& key) {
  if (request.has_query("uploads")) {
    const std::string id = fmt::format("upload-{:04}", next_upload_++);
    // All within one second: the order is that of the ids.
    uploads_[id] = {.key = key, .began = "2026-01-01T00:00:00Z", .parts = {}};
    return xml("<InitiateMultipartUploadResult><UploadId>" + id +
               "</UploadId></InitiateMultipartUploadResult>");
  }
  const std::string& id = request.query.at("uploadId");
  const auto found = uploads_.find(id);
  if (found == uploads_.end() || found->second.key != key) {
    return refuse(404, "NoSuchUpload", "there is no such upload");
  }
  if (request.method == "GET") return list_parts(request, found->second);
  if (request.method == "POST") return complete(request, id);
  if (request.method == "DELETE") {
    uploads_.erase(found);
    return {.status = 204};
  }
  Object part = make(request.body);
  WebAnswer answer{.headers = headers_of(part)};
  found->second.parts[std::stoi(request.query.at("partNumber"))] = std::move(part);
  return answer;
}

WebAnswer FakeS3::complete(const WebRequest& request, const std::string& id) {
  pugi::xml_document document;
  document.load_buffer(request.body.data(), request.body.size());
  Upload& upload = uploads_.at(id);
  std::string bytes, sums;
  int count = 0;
  for (const pugi::xml_node node : document.child("CompleteMultipartUpload").children("Part")) {
    const auto part = upload.parts.find(node.child("PartNumber").text().as_int());
    std::string etag = node.child_value("ETag");
    std::erase(etag, '"');
    if (part == upload.parts.end() || part->second.etag != etag) {
      return refuse(400, "InvalidPart", "a part is not as it is listed");
    }
    const bool last = node.next_sibling("Part").empty();
    if (!last && part->second.bytes.size() < options_.least_part_bytes) {
      return refuse(400, "EntityTooSmall", "a part is smaller than the minimum");
    }
    bytes += part->second.bytes;
    sums += digest(EVP_md5(), part->second.bytes);
    ++count;
  }
  Object object = make(std::move(bytes));
  if (options_.md5_etags) object.etag = digits(digest(EVP_md5(), sums));
  object.etag += fmt::format("-{}", count);
  objects_[upload.key] = object;
  uploads_.erase(id);
  return xml("<CompleteMultipartUploadResult><ETag>&quot;" + object.etag +
             "&quot;</ETag></CompleteMultipartUploadResult>");
}

}  // namespace espalier::test
