// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/net/url.h"

#include "espalier/base/error.h"

namespace espalier::io {
namespace {

bool is_unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string percent_encode(std::string_view text, bool keep_slashes) {
  std::string out;
  for (const char c : text) {
    if (is_unreserved(c) || (c == '/' && keep_slashes)) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

std::string percent_decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool encoded =
        text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0;
    out += encoded ? static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2])) : text[i];
    if (encoded) i += 2;
  }
  return out;
}

std::string query_text(const Query& query) {
  std::string out;
  for (const auto& [name, value] : query) {
    out +=
        fmt::format("{}{}={}", out.empty() ? "" : "&", percent_encode(name), percent_encode(value));
  }
  return out;
}

UrlParts parse_http_url(const std::string& url, std::string_view what) {
  UrlParts parts;
  const size_t colon = url.find("://");
  if (colon != std::string::npos) {
    parts.scheme = url.substr(0, colon);
    const size_t begin = colon + 3;
    const size_t end = std::min(url.find_first_of("/?#", begin), url.size());
    parts.authority = url.substr(begin, end - begin);
    parts.path = end < url.size() && url[end] == '/' ? url.substr(end) : "/";
    parts.path = parts.path.substr(0, parts.path.find_first_of("?#"));
    const bool bracketed = parts.authority.starts_with('[');
    const size_t after = bracketed ? parts.authority.find(']') : 0;
    const size_t port = after == std::string::npos ? after : parts.authority.find(':', after);
    parts.host = parts.authority.substr(bracketed ? 1 : 0, (bracketed ? after : port) - bracketed);
    if (port != std::string::npos) parts.port = parts.authority.substr(port + 1);
  }
  // The URL is not shown: somebody may have put a password in front of the host.
  ESPALIER_CHECK((parts.scheme == "http" || parts.scheme == "https") && !parts.host.empty() &&
                     parts.authority.find('@') == std::string::npos,
                 ErrorKind::user, "http", "{} is no URL of the form http(s)://host[:port]", what);
  return parts;
}

}  // namespace espalier::io
