// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/net/retry.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <random>
#include <thread>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::io {
namespace {

double random_share() { return std::ldexp(static_cast<double>(std::random_device{}()), -32); }

void wait(const RetryPolicy& policy, double seconds) {
  if (policy.sleep) return policy.sleep(seconds);
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

}  // namespace

bool is_passing(const HttpAnswer& answer) {
  switch (answer.status) {
    case 0:
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
      return true;
    default:
      return false;
  }
}

double retry_after(const HttpAnswer& answer, int64_t now) {
  const std::string text = answer.header("retry-after");
  if (text.empty()) return 0.0;
  if (text.find_first_not_of("0123456789.") == std::string::npos) {
    return std::strtod(text.c_str(), nullptr);
  }
  return static_cast<double>(std::max<int64_t>(0, http_date(text).value_or(now) - now));
}

HttpAnswer send_patiently(Http& http, const RetryPolicy& policy, const PatientRequest& request) {
  double waited = 0.0;
  for (int failed = 1;; ++failed) {
    HttpAnswer answer = http.send(request.make());
    if (!request.passing(answer)) return answer;
    if (failed >= policy.tries) {
      std::string reason = answer.status == 0 ? answer.failure : std::to_string(answer.status);
      if (answer.status != 0 && request.reason) reason += " " + request.reason(answer);
      fail(ErrorKind::device, "store",
           "{}: no success in {} tries with {} between them, the last: {}; run the same command "
           "again when the network or the service is well",
           request.what, failed, human_duration(waited), reason);
    }
    const double bound =
        std::min(policy.longest_seconds, std::ldexp(policy.first_seconds, failed - 1));
    const double jitter = bound * (policy.uniform ? policy.uniform() : random_share());
    const double asked =
        std::min(policy.longest_asked_seconds, retry_after(answer, std::time(nullptr)));
    wait(policy, asked + jitter);
    waited += asked + jitter;
  }
}

}  // namespace espalier::io
