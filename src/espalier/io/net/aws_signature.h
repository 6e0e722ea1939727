// SPDX-License-Identifier: Apache-2.0
// AWS Signature Version 4: what makes a request one of the owner of a secret key.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
#pragma once

#include <ctime>
#include <string>

#include "espalier/io/net/http.h"
#include "espalier/io/net/url.h"

namespace espalier::io {

struct AwsCredentials {
  std::string access_key, secret_key;
  std::string session_token;  // of temporary credentials
};

/// "20150830T123600Z"
std::string aws_timestamp(std::time_t now);

struct AwsRequest {
  std::string method;
  std::string path;     // encoded, as it is sent
  Query query;          // not encoded
  HttpHeaders headers;  // all of them are signed; "host" and "x-amz-date" are there
  std::string payload_sha256;
};

/// The value of the header Authorization. Takes the time from "x-amz-date".
std::string aws_authorization(const AwsRequest& request, const AwsCredentials& credentials,
                              const std::string& region, const std::string& service);

}  // namespace espalier::io
