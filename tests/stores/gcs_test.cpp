// SPDX-License-Identifier: Apache-2.0
// Google Cloud Storage: faults, refusals, resumed uploads and tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/stores/cases.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

using test::Fault;
using test::WebAnswer;
using test::WebRequest;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr size_t kChunk = size_t{256} << 10;

WebAnswer refusal(int status, const std::string& reason, const std::string& message = "no") {
  return {.status = status,
          .body =
              nlohmann::json{
                  {"error",
                   {{"code", status}, {"message", message}, {"errors", {{{"reason", reason}}}}}}}
                  .dump()};
}

class GcsTest : public ::testing::Test {
 protected:
  std::unique_ptr<Store> open() { return open_gcs_store(options(), "run"); }
  GcsOptions options() { return test::gcs_options(gcs_, patience_); }

  test::FakeGcs gcs_;
  test::Patience patience_;
};

TEST_F(GcsTest, ACreationWhoseAnswerWasLostIsNotSomebodyElses) {
  const auto store = open();
  for (const Fault::Kind kind : {Fault::Kind::lose_answer, Fault::Kind::drop}) {
    gcs_.server().add({.kind = kind, .when = test::is("POST")});
    EXPECT_TRUE(store->create(fmt::format("{}", static_cast<int>(kind)), "one"));
    EXPECT_FALSE(store->create(fmt::format("{}", static_cast<int>(kind)), "one"));
  }
  EXPECT_TRUE(gcs_.server().faults_done());
}

TEST_F(GcsTest, DamageOnTheWayIsFound) {
  const auto store = open();
  gcs_.server().add({.when = test::is("POST"),
                     .answer = refusal(400, "invalid", "Provided CRC32C does not match")});
  gcs_.server().add({.kind = Fault::Kind::alter, .when = test::is("POST"), .change = [](auto& a) {
                       a.body = R"({"crc32c": "AAAAAA=="})";
                     }});
  EXPECT_TRUE(store->create("a", "0123456789"));
  gcs_.server().add({.kind = Fault::Kind::alter, .when = test::is("GET"), .change = [](auto& a) {
                       a.body[3] = 'x';
                     }});
  EXPECT_EQ(store->get("a", 10), "0123456789");
  EXPECT_TRUE(gcs_.server().faults_done());
  // Of a large object nothing is left to send again.
  gcs_.server().add(
      {.kind = Fault::Kind::alter,
       .when = [](const WebRequest& r) { return r.header("content-range").ends_with("/600000"); },
       .change = [](auto& a) { a.body = R"({"crc32c": "AAAAAA=="})"; }});
  EXPECT_THAT(test::message(ErrorKind::device,
                            [&] { test::write_object(*store, "b", test::noise(600'000)); }),
              HasSubstr("gs://bucket/run/b: its checksum is wrong after the upload, and it was "
                        "removed; run the same command again"));
  EXPECT_EQ(store->size("b"), std::nullopt);
}

TEST_F(GcsTest, EveryCallSurvivesThrottlingAndBrokenConnections) {
  const auto store = open();
  const std::string bytes = test::noise(3 * kChunk + 1000);
  std::string part(5000, ' ');
  const auto everything = [&] {
    EXPECT_TRUE(store->create("k", "v"));
    store->put("k", "w");
    EXPECT_EQ(store->get("k", 9), "w");
    EXPECT_EQ(store->list("").size(), 1u);
    test::write_object(*store, "big", bytes);
    EXPECT_TRUE(gcs_.objects().at("run/big") == bytes);
    store->read("big", 20'000, std::as_writable_bytes(std::span(part)));
    EXPECT_TRUE(part == bytes.substr(20'000, 5000));
    store->remove("k");
    store->remove("big");
    EXPECT_TRUE(gcs_.objects().empty());
  };
  everything();
  const int calls = gcs_.server().count([](const auto&) { return true; });
  EXPECT_GT(calls, 10);
  for (int call = 0; call < calls; ++call) {
    for (const Fault::Kind kind : {Fault::Kind::refuse, Fault::Kind::drop, Fault::Kind::lose_answer,
                                   Fault::Kind::cut_answer}) {
      gcs_.server().add({.kind = kind, .skip = call, .answer = refusal(429, "rateLimitExceeded")});
      everything();
      EXPECT_TRUE(gcs_.server().faults_done()) << call;
    }
  }
}

TEST_F(GcsTest, TheRestOfAChunkIsSentAgain) {
  const std::string bytes = test::noise(2 * kChunk + 77);
  GcsOptions o = options();
  gcs_.options().most_kept = kChunk;
  o.chunk_bytes = 2 * kChunk;
  test::write_object(*open_gcs_store(o, "run"), "a", bytes);
  EXPECT_TRUE(gcs_.objects().at("run/a") == bytes);
  EXPECT_EQ(gcs_.server().count([](const WebRequest& r) {
    return r.header("content-range")
        .starts_with(fmt::format("bytes {}-{}", kChunk, 2 * kChunk - 1));
  }),
            1);
}

TEST_F(GcsTest, AServiceThatTakesNothingIsAnError) {
  gcs_.server().add({.when = test::is("PUT"), .answer = {.status = 308}, .times = 100});
  EXPECT_THAT(test::message(ErrorKind::device,
                            [&] { test::write_object(*open(), "a", test::noise(kChunk + 1)); }),
              HasSubstr("the service takes no more than 0 of 262144 bytes"));
}

TEST_F(GcsTest, AServiceThatHasMoreThanWasSentIsAnError) {
  gcs_.server().add({.when = test::is("PUT"),
                     .answer = {.status = 308, .headers = {{"Range", "bytes=0-999999"}}}});
  EXPECT_THAT(test::message(ErrorKind::data,
                            [&] { test::write_object(*open(), "a", test::noise(kChunk + 1)); }),
              HasSubstr("the service says that it has 1000000 bytes, after 0 of 262144"));
}

TEST_F(GcsTest, AnUploadThatTheServiceLostIsAnError) {
  gcs_.server().add({.when = test::is("PUT"), .skip = 1, .answer = refusal(410, "gone")});
  EXPECT_THAT(test::message(ErrorKind::device,
                            [&] { test::write_object(*open(), "a", test::noise(700'000)); }),
              HasSubstr("the service has lost the upload (410); run the same command again"));
  EXPECT_EQ(gcs_.open_uploads(), 0u);
}

TEST_F(GcsTest, RefusalsAreErrorsAtOnceWithoutSecrets) {
  const auto store = open();
  gcs_.server().add(
      {.answer = refusal(403, "forbidden", "no storage.objects.create for secret-token-1")});
  std::string text = test::message(ErrorKind::user, [&] { store->put("a", "x"); });
  EXPECT_THAT(text,
              HasSubstr("POST gs://bucket/run/a: not allowed with the credentials from the test "
                        "(403: no storage.objects.create for ...)"));
  EXPECT_THAT(text, HasSubstr("Storage Object User"));
  GcsOptions o = options();
  o.bucket = "no-bucket";
  const auto other = open_gcs_store(o, "");
  for (const auto& run : std::vector<std::function<void()>>{
           [&] { other->create("a", "x"); }, [&] { other->get("a", 1); }, [&] { other->list(""); },
           [&] { test::write_object(*other, "a", test::noise(kChunk + 1)); }}) {
    EXPECT_THAT(test::message(ErrorKind::user, run), HasSubstr("there is no bucket no-bucket"));
  }
  gcs_.server().add({.answer = {.status = 400, .body = "a line\nand another"}});
  EXPECT_THAT(test::message(ErrorKind::user, [&] { store->put("a", "x"); }),
              HasSubstr("refused with 400: a line"));
  EXPECT_EQ(patience_.waits, 0);
}

TEST_F(GcsTest, ATokenThatIsRefusedIsReplacedOnce) {
  const auto store = open();
  store->put("a", "x");
  gcs_.revoke();
  store->put("a", "y");
  EXPECT_EQ(store->get("a", 1), "y");
  gcs_.server().add({.answer = refusal(401, "authError", "Invalid Credentials"), .times = 9});
  EXPECT_THAT(
      test::message(ErrorKind::user, [&] { store->put("a", "z"); }),
      HasSubstr("the credentials from the test are not accepted (401: Invalid Credentials); "
                "set GOOGLE_APPLICATION_CREDENTIALS to a valid key"));
}

TEST_F(GcsTest, WrongAnswersAreErrors) {
  const auto store = open();
  gcs_.server().add({.answer = {.body = "[1"}});
  EXPECT_THAT(test::message(ErrorKind::data, [&] { store->list(""); }),
              HasSubstr("gs://bucket/run/: the answer is no JSON object"));
  gcs_.server().add({.answer = {.body = "{}"}});
  EXPECT_THAT(test::message(ErrorKind::data,
                            [&] { test::write_object(*store, "b", test::noise(kChunk + 1)); }),
              HasSubstr("the answer names no session of the upload"));
}

class TokenTest : public GcsTest {
 protected:
  std::unique_ptr<Store> open_with(const std::string& json) {
    GcsOptions o = options();
    o.tokens = io::google_tokens_from_json(json, "key.json", o.http, o.retry);
    return open_gcs_store(o, "");
  }
  std::string account(const std::string& key) {
    return nlohmann::json{{"type", "service_account"},
                          {"client_email", "worker@project.iam"},
                          {"private_key_id", "1"},
                          {"private_key", key},
                          {"token_uri", gcs_.server().url() + "/token"}}
        .dump();
  }
  std::string user(const std::string& token) {
    return nlohmann::json{{"type", "authorized_user"},
                          {"client_id", "id"},
                          {"client_secret", "client-secret"},
                          {"refresh_token", token},
                          {"token_uri", gcs_.server().url() + "/token"}}
        .dump();
  }
};

TEST_F(TokenTest, OfAServiceAccount) {
  const test::RsaKeys keys = test::make_rsa_keys();
  gcs_.options().public_key = keys.open;
  const auto store = open_with(account(keys.secret));
  store->put("a", "x");
  EXPECT_EQ(store->get("a", 1), "x");
  const auto is_token = [](const WebRequest& r) { return r.path == "/token"; };
  EXPECT_EQ(gcs_.server().count(is_token), 1);
  gcs_.options().public_key = test::make_rsa_keys().open;
  const auto other = open_with(account(keys.secret));
  const std::string text = test::message(ErrorKind::user, [&] { other->put("a", "x"); });
  EXPECT_THAT(text, HasSubstr("key.json gives no access token (400 invalid_grant: Token has been "
                              "expired or revoked.)"));
  EXPECT_THAT(text, HasSubstr("set GOOGLE_APPLICATION_CREDENTIALS"));
  EXPECT_THAT(text, Not(HasSubstr("BEGIN")));
}

TEST_F(TokenTest, OfAUserAndAMetadataServer) {
  open_with(user("the-refresh-token"))->put("a", "x");
  EXPECT_THAT(test::message(ErrorKind::user, [&] { open_with(user("old"))->put("a", "x"); }),
              HasSubstr("key.json gives no access token"));
  GcsOptions o = options();
  o.tokens = io::google_tokens_from_metadata(gcs_.server().authority(), o.http, o.retry);
  open_gcs_store(o, "")->put("b", "x");
  EXPECT_EQ(gcs_.objects().size(), 2u);
}

TEST_F(TokenTest, ExpireAndAreFetchedAgain) {
  gcs_.options().token_seconds = 0;
  const auto store = open_with(user("the-refresh-token"));
  store->put("a", "x");
  store->put("a", "x");
  EXPECT_EQ(gcs_.server().count([](const WebRequest& r) { return r.path == "/token"; }), 2);
}

TEST_F(TokenTest, WrongFilesAreErrors) {
  const auto refused = [&](const std::string& json) {
    return test::message(ErrorKind::user, [&] { open_with(json); });
  };
  EXPECT_THAT(refused("x"), HasSubstr("key.json is no JSON object"));
  EXPECT_THAT(refused("{}"), HasSubstr("key.json has no type"));
  EXPECT_THAT(refused(R"({"type": "external_account"})"),
              HasSubstr("is of type external_account, read are service_account and"));
  EXPECT_THAT(refused(R"({"type": "authorized_user"})"), HasSubstr("key.json has no "));
  EXPECT_THAT(refused(account("no key")), HasSubstr("the private key is no RSA key in PEM form"));
}

}  // namespace
}  // namespace espalier::extract
