// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "espalier/extract/remote/s3_client.h"
#include "espalier/extract/store.h"

namespace espalier::extract {

/// A prefix of a bucket; `prefix` is empty or a key without a '/' at its end. Creation is a
/// conditional PUT (If-None-Match), which the service must honour: AWS, MinIO, Ceph and R2 do.
std::unique_ptr<Store> open_s3_store(S3Options options, const std::string& prefix);

}  // namespace espalier::extract
