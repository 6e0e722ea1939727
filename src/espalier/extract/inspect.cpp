// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/inspect.h"

#include "espalier/base/error.h"

namespace espalier::extract {

InspectReport inspect_run(Store& store, const InspectOptions& options) {
  InspectReport report{.index = open_run(store, /*partial=*/true)};
  RunScan scan = scan_run(store, report.index.entries,
                          {.checksums = false,
                           .hooks = options.hooks,
                           .threads = options.threads,
                           .progress = options.progress});
  ESPALIER_CHECK(scan.tokens == report.index.tokens(), ErrorKind::data, "inspect",
                 "{} of {} tokens can be read: {}; espalier verify says more", scan.tokens,
                 report.index.tokens(), scan.wrong.empty() ? "" : scan.wrong.front());
  report.dtype = scan.dtype;
  report.compression = scan.compression;
  report.width = scan.width;
  report.hooks = std::move(scan.hooks);
  return report;
}

}  // namespace espalier::extract
