// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/net/aws_signature.h"

#include "espalier/base/error.h"
#include "espalier/io/net/digest.h"

namespace espalier::io {

std::string aws_timestamp(std::time_t now) {
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", &parts)};
}

std::string aws_authorization(const AwsRequest& request, const AwsCredentials& credentials,
                              const std::string& region, const std::string& service) {
  std::string lines, names;  // a map's order is the one that is asked for
  for (const auto& [name, value] : request.headers) {
    lines += fmt::format("{}:{}\n", name, value);
    names += (names.empty() ? "" : ";") + name;
  }
  const std::string canonical =
      fmt::format("{}\n{}\n{}\n{}\n{}\n{}", request.method, request.path, query_text(request.query),
                  lines, names, request.payload_sha256);
  const std::string& time = request.headers.at("x-amz-date");
  const std::string day = time.substr(0, 8);
  const std::string scope = fmt::format("{}/{}/{}/aws4_request", day, region, service);
  const std::string to_sign =
      fmt::format("AWS4-HMAC-SHA256\n{}\n{}\n{}", time, scope, hex(sha256(bytes_of(canonical))));
  std::string key = "AWS4" + credentials.secret_key;
  for (const std::string& part : {day, region, service, std::string("aws4_request"), to_sign}) {
    key = hmac_sha256(key, part);
  }
  return fmt::format("AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}",
                     credentials.access_key, scope, names, hex(key));
}

}  // namespace espalier::io
