// SPDX-License-Identifier: Apache-2.0
// URLs of object stores (RFC 3986).
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace espalier::io {

/// Every byte but letters, digits and -._~ as %XX; '/' too unless it is to be kept.
std::string percent_encode(std::string_view text, bool keep_slashes = false);
/// The bytes again. A '%' without two digits stays as it is.
std::string percent_decode(std::string_view text);

/// Parameters by name, not encoded.
using Query = std::map<std::string, std::string>;
/// "a=1&b=2", encoded, sorted; empty for none.
std::string query_text(const Query& query);

/// The parts of "https://host:port/path?rest".
struct UrlParts {
  std::string scheme, host, port, path;  // host without brackets or port, path with its first '/'
  /// As in a Host header: with the port where one is named.
  std::string authority;
};
/// Throws `user` for text that is no http or https URL with a host, naming it as `what`.
UrlParts parse_http_url(const std::string& url, std::string_view what);

}  // namespace espalier::io
