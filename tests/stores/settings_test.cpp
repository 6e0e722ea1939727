// SPDX-License-Identifier: Apache-2.0
// Where keys, regions and endpoints come from.
#include "espalier/io/net/aws_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "espalier/extract/store.h"
#include "espalier/io/net/google_token.h"
#include "tests/support/environment.h"
#include "tests/support/errors.h"
#include "tests/support/fake_gcs.h"

namespace espalier::io {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class SettingsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(home_);
    fs::create_directories(home_ / ".aws");
    for (const char* name :
         {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
          "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_REGION", "AWS_DEFAULT_REGION",
          "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE", "STORAGE_EMULATOR_HOST",
          "GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST"}) {
      environment_.unset(name);
    }
    environment_.set("HOME", home_.string());
  }
  void TearDown() override { fs::remove_all(home_); }
  void write(const std::string& name, const std::string& text) {
    fs::create_directories((home_ / name).parent_path());
    std::ofstream(home_ / name) << text;
  }
  static std::string refused() {
    return test::message(ErrorKind::user, [] { aws_settings(); });
  }

  fs::path home_ = fs::path(::testing::TempDir()) / fmt::format("espalier-home-{}", ::getpid());
  test::Environment environment_;
};

TEST_F(SettingsTest, TheEnvironmentGoesFirst) {
  write(".aws/credentials",
        "[default]\naws_access_key_id = FILEKEY\naws_secret_access_key = file-secret\n");
  write(".aws/config", "[default]\nregion = eu-file-1\nendpoint_url = http://file\n");
  AwsSettings s = aws_settings();
  EXPECT_EQ(s.credentials.access_key, "FILEKEY");
  EXPECT_EQ(s.credentials.secret_key, "file-secret");
  EXPECT_EQ(s.region, "eu-file-1");
  EXPECT_EQ(s.endpoint, "http://file");
  EXPECT_EQ(s.source, "profile default of " + (home_ / ".aws/credentials").string());
  environment_.set("AWS_ACCESS_KEY_ID", "ENVKEY");
  environment_.set("AWS_SECRET_ACCESS_KEY", "env-secret");
  environment_.set("AWS_SESSION_TOKEN", "env-token");
  environment_.set("AWS_DEFAULT_REGION", "eu-default-1");
  environment_.set("AWS_ENDPOINT_URL", "http://general");
  s = aws_settings();
  EXPECT_EQ(s.credentials.access_key, "ENVKEY");
  EXPECT_EQ(s.credentials.secret_key, "env-secret");
  EXPECT_EQ(s.credentials.session_token, "env-token");
  EXPECT_EQ(s.source, "AWS_ACCESS_KEY_ID");
  EXPECT_EQ(s.region, "eu-default-1");
  EXPECT_EQ(s.endpoint, "http://general");
  environment_.set("AWS_REGION", "eu-env-1");
  environment_.set("AWS_ENDPOINT_URL_S3", "http://own");
  environment_.set("AWS_CA_BUNDLE", "ca.pem");
  s = aws_settings();
  EXPECT_EQ(s.region, "eu-env-1");
  EXPECT_EQ(s.endpoint, "http://own");
  EXPECT_EQ(s.ca_file, "ca.pem");
}

TEST_F(SettingsTest, Profiles) {
  write("keys",
        "# comment\r\n[default]\naws_access_key_id=A\naws_secret_access_key=a\n"
        "[ other ]\r\n aws_access_key_id = B\n aws_secret_access_key = b=/+c\r\n"
        "aws_session_token = t\n");
  write("config",
        "[default]\nregion = one\n[profile other]\nregion = two\ns3 =\n"
        "  addressing_style = virtual\n  endpoint_url = http://nested\noutput = json\n");
  environment_.set("AWS_SHARED_CREDENTIALS_FILE", (home_ / "keys").string());
  environment_.set("AWS_CONFIG_FILE", (home_ / "config").string());
  environment_.set("AWS_PROFILE", "other");
  const AwsSettings s = aws_settings();
  EXPECT_EQ(s.credentials.access_key, "B");
  EXPECT_EQ(s.credentials.secret_key, "b=/+c");
  EXPECT_EQ(s.credentials.session_token, "t");
  EXPECT_EQ(s.region, "two");
  EXPECT_EQ(s.endpoint, "http://nested");
  EXPECT_EQ(s.addressing, S3Addressing::virtual_host);
  environment_.set("AWS_PROFILE", "othr");
  EXPECT_THAT(refused(), HasSubstr("AWS_PROFILE is othr: neither"));
  EXPECT_THAT(refused(), HasSubstr("nearest: other"));
  write("config", "[default]\ns3 =\n  addressing_style = odd\n");
  environment_.unset("AWS_PROFILE");
  EXPECT_THAT(refused(), HasSubstr("addressing_style odd in "));
}

TEST_F(SettingsTest, MissingCredentialsSayWhatToDo) {
  EXPECT_THAT(refused(), HasSubstr("no credentials: neither the environment nor profile default"));
  EXPECT_THAT(refused(), HasSubstr("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
  write(".aws/config", "[default]\nsso_session = corp\n");
  EXPECT_THAT(refused(), HasSubstr("profile default has sso_session, which is not read here; run: "
                                   "eval \"$(aws configure export-credentials --profile default"));
  environment_.set("AWS_SECRET_ACCESS_KEY", "alone-secret");
  EXPECT_THAT(refused(), HasSubstr("AWS_ACCESS_KEY_ID has only one of key and secret"));
  EXPECT_THAT(refused(), Not(HasSubstr("alone-secret")));
  EXPECT_THAT(test::message(ErrorKind::user, [] { extract::open_store("s3://bucket/x"); }),
              HasSubstr("only one of key and secret"));
}

TEST_F(SettingsTest, GoogleCredentialsAndEmulators) {
  EXPECT_THAT(test::message(ErrorKind::user, [] { extract::open_store("gs://bucket/x"); }),
              HasSubstr("no credentials; set GOOGLE_APPLICATION_CREDENTIALS"));
  environment_.set("GOOGLE_APPLICATION_CREDENTIALS", (home_ / "none.json").string());
  EXPECT_THAT(test::message(ErrorKind::user, [] { extract::open_store("gs://bucket/x"); }),
              HasSubstr("none.json"));
  test::FakeGcs gcs;
  const std::string url = gcs.server().url() + "/token";
  write(".config/gcloud/application_default_credentials.json",
        R"({"type": "authorized_user", "client_id": "i", "client_secret": "s", )"
        R"("refresh_token": "the-refresh-token", "token_uri": ")" +
            url + "\"}");
  const auto http = std::make_shared<Http>();
  environment_.unset("GOOGLE_APPLICATION_CREDENTIALS");
  EXPECT_THAT(google_tokens(http, {})->get(), HasSubstr("secret-token"));
  environment_.set("GCE_METADATA_HOST", gcs.server().authority());
  const auto tokens = google_tokens(http, {});
  EXPECT_EQ(tokens->source(), "the metadata server " + gcs.server().authority());
  EXPECT_THAT(tokens->get(), HasSubstr("secret-token"));
  gcs.options().wants_token = false;
  environment_.set("STORAGE_EMULATOR_HOST", gcs.server().authority());
  extract::open_store("gs://bucket/x")->put("a", "b");
  EXPECT_EQ(gcs.objects().at("x/a"), "b");
}

}  // namespace
}  // namespace espalier::io
