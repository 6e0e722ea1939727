// SPDX-License-Identifier: Apache-2.0
// Keys, region and endpoint as the AWS command line finds them: environment variables first, then
// the profile in ~/.aws/credentials and ~/.aws/config.
// https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
#pragma once

#include <string>

#include "espalier/io/net/aws_signature.h"

namespace espalier::io {

enum class S3Addressing { automatic, path, virtual_host };

struct AwsSettings {
  AwsCredentials credentials;
  /// Where the credentials come from, for messages: "AWS_ACCESS_KEY_ID", "profile x of FILE".
  std::string source;
  std::string region = "us-east-1";
  std::string endpoint;  // empty: AWS
  S3Addressing addressing = S3Addressing::automatic;
  std::string ca_file;
};

/// Throws `user` when there are no credentials, or they are of a kind that is not read (SSO, roles,
/// processes), saying what to do.
AwsSettings aws_settings();

}  // namespace espalier::io
