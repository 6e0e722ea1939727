// SPDX-License-Identifier: Apache-2.0
// Signatures and encodings against published examples.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/io/net/aws_signature.h"
#include "espalier/io/net/digest.h"
#include "espalier/io/net/url.h"
#include "tests/support/errors.h"

namespace espalier::io {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

TEST(Digest, PublishedValues) {
  EXPECT_EQ(hex(md5(bytes_of("abc"))), "900150983cd24fb0d6963f7d28e17f72");  // RFC 1321
  EXPECT_EQ(hex(sha256(bytes_of(""))),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex(hmac_sha256("Jefe", "what do ya want for nothing?")),  // RFC 4231, case 2
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(base64("foob"), "Zm9vYg==");  // RFC 4648
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64_url("\xFB\xFF"), "-_8");
  EXPECT_EQ(base64_crc32c(bytes_of("123456789")), "4waSgw==");  // 0xE3069283
  EXPECT_EQ(random_hex().size(), 32u);
  EXPECT_NE(random_hex(), random_hex());
}

TEST(Url, EncodesAndDecodes) {
  EXPECT_EQ(percent_encode("a b/c~é+"), "a%20b%2Fc~%C3%A9%2B");
  EXPECT_EQ(percent_encode("a b/c", true), "a%20b/c");
  EXPECT_EQ(percent_decode("a%20b%2fc%4"), "a b/c%4");
  EXPECT_EQ(query_text({{"prefix", "a/b c"}, {"list-type", "2"}, {"uploads", ""}}),
            "list-type=2&prefix=a%2Fb%20c&uploads=");
  const UrlParts parts = parse_http_url("https://host.name:9000/base?x", "it");
  EXPECT_EQ(parts.host, "host.name");
  EXPECT_EQ(parts.port, "9000");
  EXPECT_EQ(parts.authority, "host.name:9000");
  EXPECT_EQ(parts.path, "/base");
  EXPECT_EQ(parse_http_url("http://[::1]:80", "it").host, "::1");
  for (const char* wrong : {"", "host", "ftp://host", "http://", "http:///x", "http://u:pw@host"}) {
    const std::string text =
        test::message(ErrorKind::user, [&] { parse_http_url(wrong, "AWS_ENDPOINT_URL"); });
    EXPECT_THAT(text, HasSubstr("AWS_ENDPOINT_URL is no URL of the form http(s)://host[:port]"));
    EXPECT_THAT(text, ::testing::Not(HasSubstr("pw")));
  }
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
const AwsCredentials kExample{.access_key = "AKIAIOSFODNN7EXAMPLE",
                              .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};

std::string of_s3(AwsRequest request, const std::string& body = "") {
  request.payload_sha256 = hex(sha256(bytes_of(body)));
  request.headers["host"] = "examplebucket.s3.amazonaws.com";
  request.headers["x-amz-date"] = "20130524T000000Z";
  request.headers["x-amz-content-sha256"] = request.payload_sha256;
  return aws_authorization(request, kExample, "us-east-1", "s3");
}

TEST(AwsSignature, ExamplesOfS3) {
  EXPECT_EQ(of_s3({.method = "GET", .path = "/test.txt", .headers = {{"range", "bytes=0-9"}}}),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
            "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
            "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
  EXPECT_THAT(of_s3({.method = "PUT",
                     .path = "/" + percent_encode("test$file.text"),
                     .headers = {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
                                 {"x-amz-storage-class", "REDUCED_REDUNDANCY"}}},
                    "Welcome to Amazon S3."),
              EndsWith("98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"));
  EXPECT_THAT(of_s3({.method = "GET", .path = "/", .query = {{"lifecycle", ""}}}),
              EndsWith("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"));
  EXPECT_THAT(of_s3({.method = "GET", .path = "/", .query = {{"prefix", "J"}, {"max-keys", "2"}}}),
              EndsWith("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
}

// https://docs.aws.amazon.com/general/latest/gr/sigv4-create-canonical-request.html
TEST(AwsSignature, ExampleOfAnotherService) {
  EXPECT_THAT(
      aws_authorization(
          {.method = "GET",
           .path = "/",
           .query = {{"Action", "ListUsers"}, {"Version", "2010-05-08"}},
           .headers = {{"content-type", "application/x-www-form-urlencoded; charset=utf-8"},
                       {"host", "iam.amazonaws.com"},
                       {"x-amz-date", "20150830T123600Z"}},
           .payload_sha256 = hex(sha256(bytes_of("")))},
          {.access_key = "AKIDEXAMPLE", .secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"},
          "us-east-1", "iam"),
      EndsWith("5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"));
  EXPECT_EQ(aws_timestamp(1440938160), "20150830T123600Z");
}

}  // namespace
}  // namespace espalier::io
