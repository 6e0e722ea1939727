// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/error.h"
#include "espalier/extract/store.h"

namespace espalier::extract {

std::unique_ptr<Store> open_store(const std::string& url) {
  const size_t colon = url.find("://");
  if (colon == std::string::npos) return open_folder_store(url);
  fail(ErrorKind::unsupported, "store", "{} is no folder; URLs cannot be opened", url);
}

}  // namespace espalier::extract
