// SPDX-License-Identifier: Apache-2.0
// The client and its patience, against a server that misbehaves.
#include "espalier/io/net/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "espalier/io/net/digest.h"
#include "espalier/io/net/retry.h"
#include "tests/stores/cases.h"
#include "tests/support/errors.h"

namespace espalier::io {
namespace {

using test::Fault;
using test::Patience;
using test::WebAnswer;
using test::WebRequest;
using test::WebServer;
using ::testing::HasSubstr;

/// Says back what it was told.
WebAnswer echo(const WebRequest& r) {
  return {.headers = {{"X-Length", std::to_string(r.body.size())}, {"x-type", r.header("x-type")}},
          .body = r.method + " " + r.path + "?" + r.query_text + " " + r.body};
}

class HttpTest : public ::testing::Test {
 protected:
  HttpAnswer get(const std::string& path) { return http_.send({.url = server_.url() + path}); }
  HttpAnswer patient(int tries = 4) {
    return send_patiently(http_, patience_.policy(tries),
                          {.make = [&] { return HttpRequest{.url = server_.url() + "/x"}; },
                           .what = "GET it",
                           .reason = [](const HttpAnswer& a) { return a.body; }});
  }

  WebServer server_{echo};
  Http http_{{.connect_seconds = 2.0, .silence_seconds = 1.0, .slow_bytes = 1000}};
  Patience patience_;
};

TEST_F(HttpTest, SendsAndReceives) {
  HttpAnswer answer = get("/a/../b%2Fc?x=1");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "GET /a/../b%2Fc?x=1 ");  // the path as it is
  const std::string body = test::noise(3'000'000);
  answer = http_.send({.method = "PUT",
                       .url = server_.url() + "/",
                       .headers = {{"x-type", "own"}},
                       .body = bytes_of(body),
                       .answer_limit = 4'000'000});
  EXPECT_EQ(answer.header("x-length"), "3000000");
  EXPECT_EQ(answer.header("x-type"), "own");
  EXPECT_TRUE(answer.body == "PUT /? " + body);
  answer = http_.send({.method = "HEAD", .url = server_.url() + "/"});
  EXPECT_EQ(answer.body, "");
  EXPECT_EQ(answer.header("content-length"), "8");
  EXPECT_EQ(http_.send({.method = "DELETE", .url = server_.url() + "/"}).body, "DELETE /? ");
  EXPECT_EQ(http_.send({.method = "POST", .url = server_.url() + "/"}).body, "POST /? ");
}

TEST_F(HttpTest, LongAnswersEnd) {
  const HttpAnswer answer = http_.send({.url = server_.url() + "/long", .answer_limit = 5});
  EXPECT_TRUE(answer.too_long);
  EXPECT_EQ(answer.status, 200);
  server_.add({.answer = {.status = 400, .body = std::string(200'000, 'x')}});
  EXPECT_EQ(get("/").body.size(), size_t{64} << 10);  // of a refusal, its beginning
}

TEST_F(HttpTest, WhatTheNetworkDoesIsAnAnswer) {
  server_.add({.kind = Fault::Kind::drop});
  EXPECT_EQ(get("/").status, 0);
  server_.add({.kind = Fault::Kind::lose_answer});
  EXPECT_NE(get("/").failure, "");
  server_.add({.kind = Fault::Kind::cut_answer, .bytes = 3});
  EXPECT_EQ(get("/long").status, 0);  // a part is nothing
  EXPECT_EQ(get("/").status, 200);
  EXPECT_EQ(http_.send({.url = "http://127.0.0.1:1/"}).status, 0);
}

TEST_F(HttpTest, SlowAnswersAreGivenUp) {
  server_.add({.kind = Fault::Kind::stall, .bytes = 2, .seconds = 30.0});
  const auto begin = std::chrono::steady_clock::now();
  const HttpAnswer answer = get("/");
  EXPECT_EQ(answer.status, 0);
  EXPECT_THAT(answer.failure, HasSubstr("Timeout"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  server_.add({.kind = Fault::Kind::stall, .bytes = 2, .seconds = 30.0});
  EXPECT_EQ(patient().status, 200);
}

TEST_F(HttpTest, NoUrlIsAnError) {
  EXPECT_THAT(test::message(ErrorKind::user, [&] { http_.send({.url = "file:///etc/passwd"}); }),
              HasSubstr("no URL of the form http(s)://"));
}

TEST_F(HttpTest, PassingFailuresAreTriedAgain) {
  for (const int status : {429, 500, 502, 503, 504}) {
    server_.add({.answer = {.status = status}});
    EXPECT_EQ(patient().status, 200) << status;
  }
  EXPECT_EQ(patience_.waits, 5);
  // libcurl itself sends again, once, what it sent on a connection that was kept and is closed.
  server_.add({.kind = Fault::Kind::drop, .times = 3});
  EXPECT_EQ(patient().status, 200);
  EXPECT_EQ(patience_.waits, 7);
  EXPECT_TRUE(server_.faults_done());
  server_.add({.answer = {.status = 404}});
  EXPECT_EQ(patient().status, 404);  // no other try
  EXPECT_EQ(patience_.waits, 7);
}

TEST_F(HttpTest, WaitsDoubleUpToABound) {
  server_.add({.answer = {.status = 503}, .times = 9});
  EXPECT_EQ(patient(10).status, 200);
  // Half of 0.5, 1, 2, 4, 8, 16 and three times 20: the test's dice always say one half.
  EXPECT_DOUBLE_EQ(patience_.seconds, 0.5 * (0.5 + 1 + 2 + 4 + 8 + 16 + 3 * 20));
}

TEST_F(HttpTest, RetryAfterIsHonoured) {
  server_.add({.answer = {.status = 429, .headers = {{"Retry-After", "7"}}}});
  patient();
  EXPECT_DOUBLE_EQ(patience_.seconds, 7.25);
  server_.add({.answer = {.status = 503, .headers = {{"Retry-After", "100000"}}}});
  patient();
  EXPECT_DOUBLE_EQ(patience_.seconds, 7.25 + 120.25);  // at most two minutes
  HttpAnswer answer;
  answer.headers["retry-after"] = "Fri, 24 May 2013 00:00:30 GMT";
  EXPECT_EQ(retry_after(answer, 1369353600), 30.0);
  EXPECT_EQ(retry_after(answer, 1369353700), 0.0);
  answer.headers["retry-after"] = "soon";
  EXPECT_EQ(retry_after(answer, 0), 0.0);
}

TEST_F(HttpTest, NoTryLeftIsAnErrorThatSaysWhatWasWrong) {
  server_.add({.answer = {.status = 503, .body = "SlowDown"}, .times = 4});
  EXPECT_EQ(test::message(ErrorKind::device, [&] { patient(); }),
            "[store] GET it: no success in 4 tries with 1.75 s between them, the last: 503 "
            "SlowDown; run the same command again when the network or the service is well");
}

TEST_F(HttpTest, JitterIsBetweenZeroAndTheBound) {
  RetryPolicy policy{.tries = 2};
  std::vector<double> waits;
  policy.sleep = [&](double seconds) { waits.push_back(seconds); };
  server_.add({.answer = {.status = 503}, .times = 100});
  for (int i = 0; i < 50; ++i) {
    EXPECT_ANY_THROW(send_patiently(
        http_, policy,
        {.make = [&] { return HttpRequest{.url = server_.url()}; }, .what = "GET it"}));
  }
  const auto [least, most] = std::minmax_element(waits.begin(), waits.end());
  EXPECT_GE(*least, 0.0);
  EXPECT_LT(*most, 0.5);
  EXPECT_LT(*least, 0.15);  // 50 equal draws of [0, 0.5) all above it: 2e-8
  EXPECT_GT(*most, 0.35);
}

}  // namespace
}  // namespace espalier::io
