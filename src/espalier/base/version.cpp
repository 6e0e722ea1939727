// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/version.h"

namespace espalier {

std::string_view version() { return ESPALIER_VERSION; }

}  // namespace espalier
