// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/remote/gcs_upload.h"

#include "espalier/base/crc32c.h"
#include "espalier/base/error.h"
#include "espalier/extract/remote/json_text.h"
#include "espalier/io/json.h"
#include "espalier/io/net/digest.h"

namespace espalier::extract {
namespace {

using Json = nlohmann::json;
constexpr int64_t kChunkUnit = int64_t{256} << 10;
constexpr const char* kBytes = "application/octet-stream";

/// The sum in an object's description, or nothing.
std::string crc32c_of(const io::HttpAnswer& answer) {
  return json_text(io::try_parse_json(answer.body), "crc32c");
}

/// Bytes that the service has, of "Range: bytes=0-N"; without the header none.
int64_t committed_of(const io::HttpAnswer& answer) {
  const std::string range = answer.header("range");
  const size_t dash = range.rfind('-');
  return dash == std::string::npos ? 0 : std::strtoll(range.c_str() + dash + 1, nullptr, 10) + 1;
}

}  // namespace

bool gcs_put(GcsClient& client, const std::string& key, std::string_view bytes, io::Query query,
             const std::map<std::string, std::string>& metadata) {
  const std::string sum = io::base64_crc32c(io::bytes_of(bytes));
  Json about{{"name", key}, {"crc32c", sum}};
  if (!metadata.empty()) about["metadata"] = metadata;
  const std::string boundary = io::random_hex();
  std::string body = fmt::format(
      "--{0}\r\nContent-Type: application/json\r\n\r\n{1}\r\n--{0}\r\nContent-Type: {2}\r\n\r\n",
      boundary, about.dump(), kBytes);
  body.append(bytes);
  body += fmt::format("\r\n--{}--\r\n", boundary);
  query["uploadType"] = "multipart";
  const io::HttpAnswer answer =
      client.call({.method = "POST",
                   .key = key,
                   .url = client.upload_url(),
                   .query = std::move(query),
                   .headers = {{"content-type", "multipart/related; boundary=" + boundary}},
                   .body = io::bytes_of(body),
                   .right = [&](const io::HttpAnswer& a) { return crc32c_of(a) == sum; }},
                  {412});
  return answer.ok();
}

GcsUpload::GcsUpload(GcsClient& client, std::string key)
    : client_(client),
      key_(std::move(key)),
      buffer_(static_cast<size_t>(client.options().chunk_bytes)) {
  ESPALIER_ASSERT(client.options().chunk_bytes % kChunkUnit == 0);
}

GcsUpload::~GcsUpload() {
  if (in_flight_.valid()) in_flight_.wait();
  if (finished_ || session_.empty()) return;
  try {
    client_.call({.method = "DELETE", .key = key_, .url = session_, .of_session = true},
                 {499, 404, 410});
  } catch (const Error&) {
    // The service forgets unfinished uploads after a week.
  }
}

void GcsUpload::write(std::span<const std::byte> bytes) {
  buffer_.write(bytes, [this](std::string chunk) { send(std::move(chunk), false); });
}

void GcsUpload::commit() {
  std::string rest = buffer_.take();
  if (session_.empty()) {
    gcs_put(client_, key_, rest);
  } else {
    send(std::move(rest), true);
    wait();
  }
  finished_ = true;
}

void GcsUpload::begin() {
  const std::string about = Json{{"name", key_}}.dump();
  const io::HttpAnswer answer = client_.call(
      {.method = "POST",
       .key = key_,
       .url = client_.upload_url(),
       .query = {{"uploadType", "resumable"}, {"name", key_}},
       .headers = {{"content-type", "application/json"}, {"x-upload-content-type", kBytes}},
       .body = io::bytes_of(about)});
  session_ = answer.header("location");
  ESPALIER_CHECK(!session_.empty(), ErrorKind::data, "store",
                 "{}: the answer names no session of the upload", label());
}

void GcsUpload::wait() {
  if (in_flight_.valid()) in_flight_.get();
}

/// One chunk is on its way while the next one is filled.
void GcsUpload::send(std::string bytes, bool last) {
  if (session_.empty()) begin();
  wait();
  in_flight_ = std::async(std::launch::async,
                          [this, bytes = std::move(bytes), last] { send_chunk(bytes, last); });
}

void GcsUpload::send_chunk(const std::string& bytes, bool last) {
  const int64_t begin = handed_over_;
  handed_over_ += static_cast<int64_t>(bytes.size());
  crc_ = crc32c(io::bytes_of(bytes), crc_);
  const std::string total = last ? std::to_string(handed_over_) : "*";
  for (int idle = 0; idle < client_.options().retry.tries;) {
    const int64_t before = committed_;
    const io::HttpAnswer answer = send_from(
        before, std::string_view(bytes).substr(static_cast<size_t>(before - begin)), total);
    if (answer.ok()) {
      ESPALIER_CHECK(last, ErrorKind::data, "store", "{}: the upload ended before its last chunk",
                     label());
      return check_sum(answer);
    }
    ESPALIER_CHECK(answer.status == 308, ErrorKind::device, "store",
                   "{}: the service has lost the upload ({}); run the same command again", label(),
                   answer.status);
    committed_ = committed_of(answer);
    ESPALIER_CHECK(committed_ >= before && committed_ <= handed_over_, ErrorKind::data, "store",
                   "{}: the service says that it has {} bytes, after {} of {}", label(), committed_,
                   before, handed_over_);
    if (committed_ == handed_over_ && !last) return;
    idle = committed_ == before ? idle + 1 : 0;
  }
  fail(ErrorKind::device, "store",
       "{}: the service takes no more than {} of {} bytes; run the same command again", label(),
       committed_, handed_over_);
}

/// Sends what is missing; after a failure asks what that is instead.
io::HttpAnswer GcsUpload::send_from(int64_t committed, std::string_view rest,
                                    const std::string& total) {
  const std::string range =
      rest.empty()
          ? "*"
          : fmt::format("{}-{}", committed, committed + static_cast<int64_t>(rest.size()) - 1);
  bool sent = false;
  const auto make = [&] {
    io::HttpRequest request{.method = "PUT", .url = session_};
    request.headers["content-range"] = fmt::format("bytes {}/{}", sent ? "*" : range, total);
    if (!sent) request.body = io::bytes_of(rest);
    sent = true;
    return request;
  };
  return io::send_patiently(*client_.options().http, client_.options().retry,
                            {.make = make, .what = "PUT " + label()});
}

void GcsUpload::check_sum(const io::HttpAnswer& answer) {
  if (crc32c_of(answer) == io::base64_crc32c(crc_)) return;
  client_.call({.method = "DELETE", .key = key_, .url = client_.object_url(key_)}, {404});
  fail(ErrorKind::device, "store",
       "{}: its checksum is wrong after the upload, and it was removed; run the same command again",
       label());
}

}  // namespace espalier::extract
