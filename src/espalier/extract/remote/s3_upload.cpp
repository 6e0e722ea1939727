// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/remote/s3_upload.h"

#include <algorithm>
#include <pugixml.hpp>

#include "espalier/base/error.h"
#include "espalier/io/net/digest.h"

namespace espalier::extract {
namespace {

constexpr int kMostParts = 10000;
/// Putting the parts together can take S3 minutes.
constexpr double kCompleteSeconds = 600.0;

/// The answer to `call`, an element named after it: "...Result" where the service is S3 itself,
/// "...Response" in some that speak its protocol.
pugi::xml_document parse(const S3Answer& answer, std::string_view call, const std::string& where) {
  pugi::xml_document xml;
  xml.load_buffer(answer.http.body.data(), answer.http.body.size());
  ESPALIER_CHECK(std::string_view(xml.document_element().name()).starts_with(call), ErrorKind::data,
                 "store", "{}: the answer holds no {}Result", where, call);
  return xml;
}

}  // namespace

S3Upload::S3Upload(S3Client& client, std::string key)
    : client_(client),
      key_(std::move(key)),
      buffer_(static_cast<size_t>(client.options().part_bytes)) {}

S3Upload::~S3Upload() {
  for (std::future<Part>& part : in_flight_) {
    if (part.valid()) part.wait();
  }
  if (!committed_ && own_) abort(id_);
}

void S3Upload::write(std::span<const std::byte> bytes) {
  buffer_.write(bytes, [this](std::string part) { send(std::move(part)); });
}

void S3Upload::commit() {
  std::string rest = buffer_.take();
  if (count_ == 0) {
    const auto body = io::bytes_of(rest);
    client_.call({.method = "PUT", .key = key_, .body = body, .md5 = io::md5(body)});
  } else {
    send(std::move(rest));
    wait_for(0);
    complete();
    abort_others();
  }
  committed_ = true;
}

/// Ids of the uploads of this key, the oldest first.
std::vector<std::string> S3Upload::uploads() {
  std::vector<std::pair<std::string, std::string>> found;  // when it began, id
  io::Query query{{"uploads", ""}, {"prefix", key_}};
  for (;;) {
    const S3Answer answer = client_.call({.method = "GET", .key = "", .query = query});
    const pugi::xml_document xml = parse(answer, "ListMultipartUploads", label());
    const pugi::xml_node list = xml.document_element();
    for (const pugi::xml_node upload : list.children("Upload")) {
      if (key_ != upload.child_value("Key")) continue;  // a longer name
      found.emplace_back(upload.child_value("Initiated"), upload.child_value("UploadId"));
    }
    if (std::string_view(list.child_value("IsTruncated")) != "true") break;
    query["key-marker"] = list.child_value("NextKeyMarker");
    query["upload-id-marker"] = list.child_value("NextUploadIdMarker");
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> ids;
  ids.reserve(found.size());
  for (auto& [began, id] : found) ids.push_back(std::move(id));
  return ids;
}

void S3Upload::begin() {
  for (const std::string& id : uploads()) {
    adopt(id);
    if (!id_.empty()) return;
  }
  const S3Answer answer = client_.call({.method = "POST", .key = key_, .query = {{"uploads", ""}}});
  const pugi::xml_document xml = parse(answer, "InitiateMultipartUpload", label());
  id_ = xml.document_element().child_value("UploadId");
  own_ = true;
}

/// Goes on with another worker's upload, unless it is gone by now.
void S3Upload::adopt(const std::string& id) {
  io::Query query{{"uploadId", id}};
  std::map<int, std::string> parts;
  for (;;) {
    const S3Answer answer =
        client_.call({.method = "GET", .key = key_, .query = query}, {"NoSuchUpload"});
    if (!answer.ok()) return;
    const pugi::xml_document xml = parse(answer, "ListParts", label());
    const pugi::xml_node list = xml.document_element();
    for (const pugi::xml_node part : list.children("Part")) {
      std::string etag = part.child_value("ETag");
      std::erase(etag, '"');
      parts[part.child("PartNumber").text().as_int()] = etag;
    }
    if (std::string_view(list.child_value("IsTruncated")) != "true") break;
    query["part-number-marker"] = list.child_value("NextPartNumberMarker");
  }
  id_ = id;
  there_ = std::move(parts);
}

void S3Upload::send(std::string bytes) {
  if (count_ == 0) begin();
  ESPALIER_CHECK(++count_ <= kMostParts, ErrorKind::unsupported, "store",
                 "{} is longer than {} parts of {} bytes; use a smaller --shard-tokens", label(),
                 kMostParts, client_.options().part_bytes);
  wait_for(static_cast<size_t>(std::max(1, client_.options().parts_in_flight)) - 1);
  in_flight_.push_back(std::async(
      std::launch::async,
      [this, number = count_, bytes = std::move(bytes)] { return send_part(number, bytes); }));
}

/// Takes results until no more than so many parts are on their way.
void S3Upload::wait_for(size_t in_flight) {
  while (in_flight_.size() > in_flight) {
    std::future<Part> part = std::move(in_flight_.front());
    in_flight_.pop_front();
    parts_.push_back(part.get());
  }
}

S3Upload::Part S3Upload::send_part(int number, const std::string& bytes) {
  const auto body = io::bytes_of(bytes);
  Part part{.md5 = io::md5(body), .etag = {}, .bytes = static_cast<int64_t>(bytes.size())};
  const auto found = there_.find(number);
  if (found != there_.end() && found->second == io::hex(part.md5)) {
    part.etag = found->second;
    return part;
  }
  if (gone_) return part;
  const S3Answer answer =
      client_.call({.method = "PUT",
                    .key = key_,
                    .query = {{"partNumber", std::to_string(number)}, {"uploadId", id_}},
                    .body = body,
                    .md5 = part.md5},
                   {"NoSuchUpload"});
  if (answer.ok()) {
    part.etag = answer.etag();
  } else {
    gone_ = true;
  }
  return part;
}

void S3Upload::complete() {
  if (gone_) return check_finished_by_another();
  pugi::xml_document xml;
  pugi::xml_node list = xml.append_child("CompleteMultipartUpload");
  for (size_t i = 0; i < parts_.size(); ++i) {
    pugi::xml_node part = list.append_child("Part");
    part.append_child("PartNumber").text().set(static_cast<int>(i + 1));
    part.append_child("ETag").text().set(("\"" + parts_[i].etag + "\"").c_str());
  }
  struct Text final : pugi::xml_writer {
    std::string text;
    void write(const void* data, size_t size) override {
      text.append(static_cast<const char*>(data), size);
    }
  } text;
  xml.save(text, "", pugi::format_raw | pugi::format_no_declaration);
  const S3Answer answer = client_.call({.method = "POST",
                                        .key = key_,
                                        .query = {{"uploadId", id_}},
                                        .headers = {{"content-type", "application/xml"}},
                                        .body = io::bytes_of(text.text),
                                        .thinking_seconds = kCompleteSeconds},
                                       {"NoSuchUpload"});
  // Gone: completed by the try before this one, whose answer was lost, or by another worker.
  if (!answer.ok()) check_finished_by_another();
}

void S3Upload::check_finished_by_another() {
  own_ = false;
  std::string all;
  for (const Part& part : parts_) all += part.md5;
  const std::string etag = fmt::format("{}-{}", io::hex(io::md5(io::bytes_of(all))), parts_.size());
  const S3Answer answer = client_.call({.method = "HEAD", .key = key_}, {"NoSuchKey"});
  if (answer.ok() && (answer.etag() == etag || has_same_parts())) return;
  fail(ErrorKind::device, "store",
       "{}: its upload in parts was ended by somebody else; run the same command again", label());
}

/// Reads the object: for services whose ETag is no digest of the parts.
bool S3Upload::has_same_parts() {
  int64_t begin = 0;
  for (const Part& part : parts_) {
    const S3Answer answer = client_.call(
        {.method = "GET",
         .key = key_,
         .headers = {{"range", fmt::format("bytes={}-{}", begin, begin + part.bytes - 1)}},
         .answer_limit = part.bytes},
        {"NoSuchKey", "InvalidRange"});
    if (!answer.ok() || io::md5(io::bytes_of(answer.http.body)) != part.md5) return false;
    begin += part.bytes;
  }
  const S3Answer answer = client_.call({.method = "HEAD", .key = key_}, {"NoSuchKey"});
  return answer.ok() && answer.http.header("content-length") == std::to_string(begin);
}

void S3Upload::abort(const std::string& id) noexcept {
  try {
    client_.call({.method = "DELETE", .key = key_, .query = {{"uploadId", id}}}, {"NoSuchUpload"});
  } catch (const Error&) {
    // What remains is found by the next upload of this key, or by the bucket's lifecycle rule.
  }
}

/// Two workers that began at once, or a creation whose answer was lost, leave uploads that nobody
/// will complete.
void S3Upload::abort_others() noexcept {
  try {
    for (const std::string& id : uploads()) abort(id);
  } catch (const Error&) {
    // As above: the object itself is there.
  }
}

}  // namespace espalier::extract
