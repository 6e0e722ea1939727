// SPDX-License-Identifier: Apache-2.0
// One object being sent to Google Cloud Storage: a small one by a single call, a larger one in the
// chunks of a resumable upload. After a failure the service is asked how much it has, and the rest
// is sent again. A killed worker's upload cannot be found by others; the service forgets it.
// https://cloud.google.com/storage/docs/performing-resumable-uploads
#pragma once

#include <future>
#include <string>

#include "espalier/extract/remote/gcs_client.h"
#include "espalier/extract/remote/part_buffer.h"
#include "espalier/extract/store.h"

namespace espalier::extract {

/// Sends a whole object; `query` and `metadata` are its conditions and labels. False when refused
/// by a condition.
bool gcs_put(GcsClient& client, const std::string& key, std::string_view bytes,
             io::Query query = {}, const std::map<std::string, std::string>& metadata = {});

class GcsUpload final : public ObjectWriter {
 public:
  /// `key` is in the bucket.
  GcsUpload(GcsClient& client, std::string key);
  /// Without commit: the upload is given up.
  ~GcsUpload() override;

  using ObjectWriter::write;
  void write(std::span<const std::byte> bytes) override;
  void commit() override;
  std::string label() const override { return client_.where(key_); }

 private:
  void begin();
  void send(std::string bytes, bool last);
  void send_chunk(const std::string& bytes, bool last);
  io::HttpAnswer send_from(int64_t committed, std::string_view rest, const std::string& total);
  void check_sum(const io::HttpAnswer& answer);
  void wait();

  GcsClient& client_;
  std::string key_;
  PartBuffer buffer_;
  std::string session_;      // URL; empty before the first chunk
  int64_t committed_ = 0;    // bytes that the service has
  int64_t handed_over_ = 0;  // bytes of all chunks so far
  uint32_t crc_ = 0;         // of these
  std::future<void> in_flight_;
  bool finished_ = false;
};

}  // namespace espalier::extract
