// SPDX-License-Identifier: Apache-2.0
// Requests sent again until they are answered: exponential backoff with full jitter (each wait is
// uniform between 0 and a bound that doubles), so that many workers do not come back together.
#pragma once

#include <functional>
#include <string>

#include "espalier/io/net/http.h"

namespace espalier::io {

struct RetryPolicy {
  int tries = 10;
  double first_seconds = 0.5;     // the first wait's bound
  double longest_seconds = 20.0;  // and the bound of all
  /// A server that asks for more patience (Retry-After) gets at most this.
  double longest_asked_seconds = 120.0;
  /// Without: the calling thread sleeps.
  std::function<void(double)> sleep = {};
  /// Without: random numbers in [0, 1).
  std::function<double()> uniform = {};
};

/// No whole answer, or one of 408, 429, 500, 502, 503, 504.
bool is_passing(const HttpAnswer& answer);

/// Seconds that Retry-After asks for (a number or a date), or 0.
double retry_after(const HttpAnswer& answer, std::int64_t now);

struct PatientRequest {
  /// Makes the request of each try: signatures hold for minutes only. What its body refers to must
  /// live until the next call.
  std::function<HttpRequest()> make;
  /// Whether an answer is worth another try.
  std::function<bool(const HttpAnswer&)> passing = is_passing;
  /// For the message when no try is left: "PUT s3://bucket/key", and the reason an answer gives.
  std::string what;
  std::function<std::string(const HttpAnswer&)> reason = {};
};

/// The first answer that is not passing. Throws `device` when no try is left.
HttpAnswer send_patiently(Http& http, const RetryPolicy& policy, const PatientRequest& request);

}  // namespace espalier::io
