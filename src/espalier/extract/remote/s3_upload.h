// SPDX-License-Identifier: Apache-2.0
// One object being sent to S3: a small one by a single call, a larger one in parts, several at a
// time.
//
// A worker that was killed leaves its parts in the store. The next one to send the same key goes on
// with them: what it makes is the same, bit for bit, so a part whose MD5 is that of its own is not
// sent again. Two living workers may thus share an upload; the first to complete it wins, and the
// other finds the finished object to be its own.
#pragma once

#include <atomic>
#include <deque>
#include <future>
#include <map>
#include <string>
#include <vector>

#include "espalier/extract/remote/part_buffer.h"
#include "espalier/extract/remote/s3_client.h"
#include "espalier/extract/store.h"

namespace espalier::extract {

class S3Upload final : public ObjectWriter {
 public:
  /// `key` is in the bucket.
  S3Upload(S3Client& client, std::string key);
  /// Without commit: parts of an upload that this object began are removed.
  ~S3Upload() override;

  using ObjectWriter::write;
  void write(std::span<const std::byte> bytes) override;
  void commit() override;
  std::string label() const override { return client_.where(key_); }

 private:
  struct Part {
    std::string md5;   // 16 bytes
    std::string etag;  // as the service calls it; empty: the upload is gone
    int64_t bytes = 0;
  };
  void begin();
  void adopt(const std::string& id);
  void send(std::string bytes);
  Part send_part(int number, const std::string& bytes);
  void wait_for(size_t in_flight);
  void complete();
  void check_finished_by_another();
  bool has_same_parts();
  void abort(const std::string& id) noexcept;
  void abort_others() noexcept;
  std::vector<std::string> uploads();

  S3Client& client_;
  std::string key_;
  PartBuffer buffer_;
  std::string id_;  // of the upload in parts; empty before the first part
  bool own_ = false, committed_ = false;
  std::atomic<bool> gone_{false};            // completed or aborted by another
  std::map<int, std::string> there_;         // MD5 digits of the parts that were found
  std::deque<std::future<Part>> in_flight_;  // in order
  std::vector<Part> parts_;
  int count_ = 0;
};

}  // namespace espalier::extract
