// SPDX-License-Identifier: Apache-2.0
// S3: faults, refusals, and uploads that others began.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/extract/remote/s3_upload.h"
#include "espalier/io/net/digest.h"
#include "tests/stores/cases.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

using test::Fault;
using test::WebAnswer;
using test::WebRequest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

/// A refusal in the service's form.
WebAnswer refusal(int status, const std::string& code, const std::string& message = "no") {
  return {
      .status = status,
      .body = fmt::format("<Error><Code>{}</Code><Message>{}</Message></Error>", code, message)};
}

class S3Test : public ::testing::Test {
 protected:
  std::unique_ptr<Store> open() { return open_s3_store(options(), "run"); }
  S3Options options() { return test::s3_options(s3_, patience_); }
  void fault(Fault::Kind kind, std::function<bool(const WebRequest&)> when, int skip = 0) {
    s3_.server().add({.kind = kind, .when = std::move(when), .skip = skip});
  }
  int parts_sent() { return s3_.server().count(test::is("PUT", "partNumber")); }

  /// A worker was killed with five of eight parts in the store; more parts than fit a page of the
  /// list.
  void check_that_parts_are_used() {
    const std::string bytes = test::noise(4096 * 8 - 10);
    const auto store = open();
    {
      // Its destructor would abort: as if killed, this one never reaches the service.
      S3Client client(options());
      S3Upload dead(client, "run/a");
      dead.write(io::bytes_of(bytes).first(4096 * 5 + 1));
      while (parts_sent() < 5) std::this_thread::yield();
      s3_.server().add({.when = test::is("DELETE"), .answer = refusal(403, "AccessDenied")});
    }
    EXPECT_THAT(s3_.open_uploads(), ElementsAre("run/a"));
    EXPECT_EQ(parts_sent(), 5);
    test::write_object(*store, "a", bytes);
    EXPECT_EQ(parts_sent(), 8);  // three more
    EXPECT_TRUE(s3_.objects().at("run/a") == bytes);
    EXPECT_TRUE(s3_.open_uploads().empty());
  }

  test::FakeS3 s3_;
  test::Patience patience_;
};

TEST_F(S3Test, BothKindsOfAddressesAndTemporaryCredentials) {
  s3_.options().session_token = "token/of=session";
  S3Options o = options();
  o.aws.addressing = io::S3Addressing::virtual_host;
  o.aws.endpoint = fmt::format("http://localhost:{}/", s3_.server().port());
  const auto store = open_s3_store(o, "");
  store->put("a b", "x");
  EXPECT_EQ(store->get("a b", 1), "x");
  EXPECT_THAT(store->list(""), ElementsAre("a b"));
  EXPECT_EQ(s3_.server().count([&](const WebRequest& r) {
    return r.header("host") == fmt::format("bucket.localhost:{}", s3_.server().port());
  }),
            3);
  EXPECT_TRUE(open_s3_store(options(), "a")->list("").empty());
}

// The answer is lost, and the second try finds an object: its own.
TEST_F(S3Test, ACreationWhoseAnswerWasLostIsNotSomebodyElses) {
  const auto store = open();
  fault(Fault::Kind::lose_answer, test::is("PUT"));
  EXPECT_TRUE(store->create("a", "one"));
  EXPECT_EQ(s3_.objects().at("run/a"), "one");
  EXPECT_FALSE(store->create("a", "one"));  // somebody else's, though the bytes are the same
  // The same on a connection that was used before, where libcurl itself repeats a request.
  EXPECT_EQ(store->get("a", 10), "one");
  fault(Fault::Kind::lose_answer, test::is("PUT"));
  EXPECT_TRUE(store->create("b", "two"));
  // Lost before anything was done.
  fault(Fault::Kind::drop, test::is("PUT"));
  EXPECT_TRUE(store->create("c", "three"));
  EXPECT_TRUE(s3_.server().faults_done());
}

TEST_F(S3Test, AnObjectThatWasStoredDamagedIsReplaced) {
  const auto store = open();
  // The first try stores something else and says so by its checksum; the second is refused.
  s3_.server().add({.kind = Fault::Kind::alter, .when = test::is("PUT"), .change = [&](auto& a) {
                      a.headers["ETag"] = "\"00000000000000000000000000000000\"";
                    }});
  EXPECT_TRUE(store->create("a", "one"));
  EXPECT_EQ(store->get("a", 10), "one");
  s3_.server().add({.kind = Fault::Kind::alter, .when = test::is("PUT"), .change = [&](auto& a) {
                      a.headers["ETag"] = "\"00000000000000000000000000000000\"";
                    }});
  store->put("a", "two");
  EXPECT_EQ(s3_.server().count(test::is("PUT")), 4);
}

TEST_F(S3Test, DamageOnTheWayIsFoundAndReadAgain) {
  const auto store = open();
  store->put("a", "0123456789");
  s3_.server().add({.kind = Fault::Kind::alter, .when = test::is("GET"), .change = [](auto& a) {
                      a.body[3] = 'x';
                    }});
  EXPECT_EQ(store->get("a", 10), "0123456789");
  s3_.server().add({.when = test::is("PUT"), .answer = refusal(400, "BadDigest")});
  store->put("a", "new");
  EXPECT_EQ(s3_.objects().at("run/a"), "new");
  EXPECT_TRUE(s3_.server().faults_done());
}

TEST_F(S3Test, EveryCallSurvivesThrottlingAndBrokenConnections) {
  const auto store = open();
  const std::string bytes = test::noise(30'000);
  std::string part(5000, ' ');
  const auto everything = [&] {
    EXPECT_TRUE(store->create("k", "v"));
    store->put("k", "w");
    EXPECT_EQ(store->get("k", 9), "w");
    EXPECT_EQ(store->list("").size(), 1u);
    test::write_object(*store, "big", bytes);
    EXPECT_EQ(store->size("big"), 30'000);
    store->read("big", 20'000, std::as_writable_bytes(std::span(part)));
    EXPECT_TRUE(part == bytes.substr(20'000, 5000));
    store->remove("k");
    store->remove("big");
    EXPECT_TRUE(s3_.objects().empty());
    EXPECT_TRUE(s3_.open_uploads().empty());
  };
  everything();
  const int calls = s3_.server().count([](const auto&) { return true; });
  EXPECT_GT(calls, 15);
  // Each call in turn fails once, in each way.
  for (int call = 0; call < calls; ++call) {
    for (const Fault::Kind kind : {Fault::Kind::refuse, Fault::Kind::drop, Fault::Kind::lose_answer,
                                   Fault::Kind::cut_answer}) {
      s3_.server().add({.kind = kind, .skip = call, .answer = refusal(503, "SlowDown")});
      everything();
      EXPECT_TRUE(s3_.server().faults_done()) << call;
    }
  }
}

TEST_F(S3Test, WrongCredentialsAreAnErrorAtOnce) {
  struct Case {
    int status;
    const char *code, *says;
  };
  const auto store = open();
  for (const Case& c :
       {Case{400, "ExpiredToken", "credentials from the test have expired"},
        Case{400, "InvalidToken", "are not accepted (InvalidToken: "},
        Case{403, "InvalidAccessKeyId", "are not accepted (InvalidAccessKeyId: "},
        Case{403, "AccessDenied", "not allowed with the credentials from the test (AccessDenied: "},
        Case{404, "NoSuchBucket", "there is no bucket bucket; make it, or correct the URL"},
        Case{400, "EntityTooLarge", "refused with 400 (EntityTooLarge: "}}) {
    s3_.server().add({.answer = refusal(c.status, c.code)});
    const std::string text = test::message(ErrorKind::user, [&] { store->put("a", "x"); });
    EXPECT_THAT(text, HasSubstr(c.says));
    EXPECT_THAT(text, HasSubstr("PUT s3://bucket/run/a: "));
  }
  s3_.server().add({.answer = refusal(501, "NotImplemented", "A header is not implemented")});
  EXPECT_THAT(test::message(ErrorKind::unsupported, [&] { store->create("a", "x"); }),
              HasSubstr("the service has no such call (NotImplemented: A header"));
  EXPECT_EQ(patience_.waits, 0);
  // From the signature itself.
  S3Options o = options();
  o.aws.credentials.secret_key = "another";
  EXPECT_THAT(test::message(ErrorKind::user, [&] { open_s3_store(o, "")->get("a", 1); }),
              HasSubstr("are not accepted (SignatureDoesNotMatch: "));
  o = options();
  o.bucket = "no-bucket";
  EXPECT_THAT(test::message(ErrorKind::user, [&] { open_s3_store(o, "")->create("a", "x"); }),
              HasSubstr("there is no bucket no-bucket"));
  o = options();
  o.aws.region = "eu-other-1";
  EXPECT_THAT(test::message(ErrorKind::user, [&] { open_s3_store(o, "")->get("a", 1); }),
              HasSubstr("the bucket is in region eu-test-1, not in eu-other-1; set AWS_REGION="));
  EXPECT_EQ(patience_.waits, 0);
}

TEST_F(S3Test, ErrorsHoldNoSecrets) {
  s3_.options().session_token = "session-secret";
  const auto store = open();
  s3_.server().add({.answer = refusal(403, "AccessDenied", "you sent session-secret, really")});
  s3_.server().add({.answer = refusal(503, "SlowDown", "session-secret again"), .times = 4});
  for (const ErrorKind kind : {ErrorKind::user, ErrorKind::device}) {
    const std::string text = test::message(kind, [&] { store->get("a", 1); });
    for (const char* secret : {"the-secret-key", "session-secret", "Signature="}) {
      EXPECT_THAT(text, Not(HasSubstr(secret)));
    }
  }
}

TEST_F(S3Test, AServiceWhoseClockDiffersIsFollowed) {
  s3_.options().clock_offset = -7200;
  const auto store = open();
  store->put("a", "x");
  EXPECT_EQ(patience_.waits, 1);
  store->put("a", "y");
  EXPECT_EQ(patience_.waits, 1);
  // A service that never agrees is an error, not an endless conversation.
  s3_.server().add({.answer = refusal(403, "RequestTimeTooSkewed"), .times = 9});
  EXPECT_THAT(test::message(ErrorKind::user, [&] { store->put("a", "z"); }),
              HasSubstr("the service's clock is another (RequestTimeTooSkewed: no)"));
}

TEST_F(S3Test, ASmallObjectIsOneCallAndALargeOneIsParts) {
  const auto store = open();
  test::write_object(*store, "small", test::noise(4096));
  EXPECT_EQ(s3_.server().count([](const auto&) { return true; }), 1);
  test::write_object(*store, "large", test::noise(4096 * 3 + 1));
  EXPECT_EQ(parts_sent(), 4);
  EXPECT_EQ(s3_.objects().at("run/large"), test::noise(4096 * 3 + 1));
}

TEST_F(S3Test, APartIsRefusedForGoodAndTheUploadIsAborted) {
  const auto store = open();
  s3_.server().add(
      {.when = test::is("PUT", "partNumber"), .skip = 2, .answer = refusal(403, "AccessDenied")});
  EXPECT_THAT(
      test::message(ErrorKind::user, [&] { test::write_object(*store, "a", test::noise(50'000)); }),
      HasSubstr("PUT s3://bucket/run/a: not allowed"));
  EXPECT_TRUE(s3_.open_uploads().empty());
  EXPECT_TRUE(s3_.objects().empty());
}

TEST_F(S3Test, AKilledWorkersPartsAreUsed) { check_that_parts_are_used(); }
TEST_F(S3Test, AKilledWorkersPartsAreUsedWhereAnswersAreCalledResponses) {
  s3_.options().answers = "Response";
  check_that_parts_are_used();
}

// Parts of other bytes: every part is sent, over those that are there.
TEST_F(S3Test, AKilledWorkersOtherPartsAreReplaced) {
  const auto store = open();
  {
    S3Client client(options());
    S3Upload dead(client, "run/a");
    dead.write(io::bytes_of(test::noise(4096 * 5 + 1, 2)));
    s3_.server().add({.when = test::is("DELETE"), .answer = refusal(403, "AccessDenied")});
  }
  const std::string bytes = test::noise(4096 * 4);
  test::write_object(*store, "a", bytes);
  EXPECT_TRUE(s3_.objects().at("run/a") == bytes);
  EXPECT_EQ(parts_sent(), 5 + 4);
}

// A worker that was asleep wakes up in the middle of its upload; another one went on with it.
TEST_F(S3Test, TwoWorkersShareAnUpload) {
  const std::string bytes = test::noise(4096 * 6);
  const auto span = io::bytes_of(bytes);
  for (const bool md5_etags : {true, false}) {
    s3_.options().md5_etags = md5_etags;
    const auto store = open();
    const auto sleeper = store->writer("a");
    sleeper->write(span.first(4096 * 3));
    test::write_object(*store, "a", bytes);
    EXPECT_TRUE(s3_.open_uploads().empty());
    sleeper->write(span.subspan(4096 * 3));
    sleeper->commit();  // what is there is what it would have made
    EXPECT_TRUE(s3_.objects().at("run/a") == bytes);
    EXPECT_TRUE(s3_.open_uploads().empty());
    store->remove("a");
  }
}

TEST_F(S3Test, AnUploadThatOthersAbortedIsAnError) {
  const auto store = open();
  const std::string bytes = test::noise(4096 * 6);
  s3_.server().add(
      {.when = test::is("PUT", "partNumber"), .skip = 3, .answer = refusal(404, "NoSuchUpload")});
  const auto write = [&] { test::write_object(*store, "a", bytes); };
  EXPECT_THAT(
      test::message(ErrorKind::device, write),
      HasSubstr("s3://bucket/run/a: its upload in parts was ended by somebody else; run the "
                "same command again"));
  s3_.set("run/a", "another object");
  s3_.server().add({.when = test::is("POST", "uploadId"), .answer = refusal(404, "NoSuchUpload")});
  EXPECT_THAT(test::message(ErrorKind::device, write), HasSubstr("was ended by somebody else"));
}

TEST_F(S3Test, ACompletionThatFailsLateIsRepeated) {
  const auto store = open();
  // 200, and then an error in the body.
  WebAnswer late = refusal(200, "InternalError");
  s3_.server().add({.when = test::is("POST", "uploadId"), .answer = late});
  const std::string bytes = test::noise(10'000);
  test::write_object(*store, "a", bytes);
  EXPECT_TRUE(s3_.objects().at("run/a") == bytes);
  // Done, but the answer is lost: the next try finds no upload, and the object.
  fault(Fault::Kind::lose_answer, test::is("POST", "uploadId"));
  test::write_object(*store, "b", bytes);
  EXPECT_TRUE(s3_.objects().at("run/b") == bytes);
  EXPECT_TRUE(s3_.server().faults_done());
}

TEST_F(S3Test, WrongAnswersAreErrors) {
  const auto store = open();
  store->put("a", "0123456789");
  s3_.server().add({.answer = {.body = "no list"}});
  EXPECT_THAT(test::message(ErrorKind::data, [&] { store->list(""); }),
              HasSubstr("s3://bucket/run/: the answer holds no list"));
  s3_.server().add({.answer = {.body = "x"}});
  EXPECT_THAT(
      test::message(ErrorKind::data, [&] { test::write_object(*store, "b", test::noise(9000)); }),
      HasSubstr("the answer holds no ListMultipartUploadsResult"));
}

}  // namespace
}  // namespace espalier::extract
