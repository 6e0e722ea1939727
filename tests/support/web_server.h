// SPDX-License-Identifier: Apache-2.0
// A small HTTP/1.1 server on this machine for tests of clients, with faults on order.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace espalier::test {

struct WebRequest {
  std::string method;
  std::string path;                            // as it was sent, without the query
  std::string query_text;                      // the same
  std::map<std::string, std::string> query;    // decoded
  std::map<std::string, std::string> headers;  // names in small letters
  std::string body;

  std::string header(const std::string& name) const;
  bool has_query(const std::string& name) const { return query.contains(name); }
};

struct WebAnswer {
  int status = 200;
  std::map<std::string, std::string> headers = {};
  std::string body = {};
};

/// What goes wrong with a request that `when` takes (any, without it), `times` times after `skip`.
struct Fault {
  enum class Kind {
    refuse,       // `answer` instead of the handler's
    drop,         // the connection is closed with the request unread and nothing done
    lose_answer,  // done, but closed without an answer
    cut_answer,   // closed after `bytes` of the answer's body
    stall,        // the answer's body stops after `bytes` for `seconds`
    alter,        // `change` is applied to the answer
  };
  Kind kind = Kind::refuse;
  std::function<bool(const WebRequest&)> when = {};
  int skip = 0;
  WebAnswer answer = {};
  int times = 1;
  size_t bytes = 0;
  double seconds = 0.0;
  std::function<void(WebAnswer&)> change = {};
};

class WebServer {
 public:
  using Handler = std::function<WebAnswer(const WebRequest&)>;
  explicit WebServer(Handler handler);
  ~WebServer();
  WebServer(const WebServer&) = delete;
  WebServer& operator=(const WebServer&) = delete;

  /// "127.0.0.1:PORT"
  std::string authority() const;
  std::string url() const { return "http://" + authority(); }
  int port() const { return port_; }
  void add(Fault fault);
  /// Whether all faults have happened.
  bool faults_done();
  /// Requests so far that `when` takes.
  int count(const std::function<bool(const WebRequest&)>& when);

 private:
  void accept();
  void serve(int connection);
  bool serve_one(int connection, std::string& buffer);
  Fault* fault_of(const WebRequest& request, Fault& copy);

  Handler handler_;
  int socket_ = -1, port_ = 0;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::vector<Fault> faults_;
  std::vector<WebRequest> seen_;  // without bodies
  std::vector<int> connections_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace espalier::test
