// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "espalier/extract/remote/gcs_client.h"
#include "espalier/extract/store.h"

namespace espalier::extract {

/// A prefix of a bucket; `prefix` is empty or a key without a '/' at its end. Creation asks for
/// generation 0.
std::unique_ptr<Store> open_gcs_store(GcsOptions options, const std::string& prefix);

}  // namespace espalier::extract
