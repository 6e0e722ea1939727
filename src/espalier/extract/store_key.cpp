// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/store_key.h"

#include "espalier/base/error.h"

namespace espalier::extract {

void check_key(const std::string& key, const std::string& root) {
  for (size_t begin = 0; begin <= key.size();) {
    const size_t end = std::min(key.find('/', begin), key.size());
    const std::string_view part = std::string_view(key).substr(begin, end - begin);
    ESPALIER_CHECK(!part.empty() && part != "." && part != "..", ErrorKind::user, "store",
                   "\"{}\" is no key below {}", key, root);
    begin = end + 1;
  }
}

}  // namespace espalier::extract
