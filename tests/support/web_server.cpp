// SPDX-License-Identifier: Apache-2.0
#include "tests/support/web_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <stdexcept>

#include "espalier/io/net/url.h"

namespace espalier::test {
namespace {

bool receive(int connection, std::string& buffer) {
  char piece[65536];
  const ssize_t count = ::recv(connection, piece, sizeof(piece), 0);
  if (count <= 0) return false;
  buffer.append(piece, static_cast<size_t>(count));
  return true;
}

bool send_all(int connection, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::send(connection, text.data(), text.size(), MSG_NOSIGNAL);
    if (count <= 0) return false;
    text.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), ::tolower);
  return text;
}

WebRequest parse_head(const std::string& head) {
  WebRequest request;
  size_t line_end = head.find("\r\n");
  const std::string first = head.substr(0, line_end);
  const size_t a = first.find(' '), b = first.rfind(' ');
  request.method = first.substr(0, a);
  const std::string target = first.substr(a + 1, b - a - 1);
  const size_t mark = std::min(target.find('?'), target.size());
  request.path = target.substr(0, mark);
  request.query_text = target.substr(std::min(mark + 1, target.size()));
  for (size_t begin = 0; begin < request.query_text.size();) {
    const size_t end = std::min(request.query_text.find('&', begin), request.query_text.size());
    const std::string pair = request.query_text.substr(begin, end - begin);
    const size_t equal = std::min(pair.find('='), pair.size());
    request.query[io::percent_decode(pair.substr(0, equal))] =
        io::percent_decode(pair.substr(std::min(equal + 1, pair.size())));
    begin = end + 1;
  }
  while (line_end != std::string::npos && line_end + 2 < head.size()) {
    const size_t begin = line_end + 2;
    line_end = head.find("\r\n", begin);
    const std::string line = head.substr(begin, line_end - begin);
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t value = line.find_first_not_of(' ', colon + 1);
    request.headers[lower(line.substr(0, colon))] =
        value == std::string::npos ? "" : line.substr(value);
  }
  return request;
}

void close_hard(int connection) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(connection, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  ::shutdown(connection, SHUT_RDWR);
}

}  // namespace

std::string WebRequest::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

WebServer::WebServer(Handler handler) : handler_(std::move(handler)) {
  socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (::bind(socket_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(socket_, 64) != 0 ||
      ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::runtime_error("no socket for a test server");
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept(); });
}

WebServer::~WebServer() {
  stop_ = true;
  ::shutdown(socket_, SHUT_RDWR);
  acceptor_.join();
  ::close(socket_);
  {
    const std::lock_guard lock(mutex_);
    for (const int connection : connections_) ::shutdown(connection, SHUT_RDWR);
  }
  for (std::thread& thread : threads_) thread.join();
  for (const int connection : connections_) ::close(connection);
}

std::string WebServer::authority() const { return fmt::format("127.0.0.1:{}", port_); }

void WebServer::add(Fault fault) {
  const std::lock_guard lock(mutex_);
  faults_.push_back(std::move(fault));
}

bool WebServer::faults_done() {
  const std::lock_guard lock(mutex_);
  return std::all_of(faults_.begin(), faults_.end(), [](const Fault& f) { return f.times <= 0; });
}

int WebServer::count(const std::function<bool(const WebRequest&)>& when) {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(std::count_if(seen_.begin(), seen_.end(), when));
}

void WebServer::accept() {
  while (!stop_) {
    const int connection = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    const int on = 1;
    ::setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    const std::lock_guard lock(mutex_);
    connections_.push_back(connection);  // closed at the end: its number stays its own
    threads_.emplace_back([this, connection] { serve(connection); });
  }
}

void WebServer::serve(int connection) {
  std::string buffer;
  while (!stop_ && serve_one(connection, buffer)) {
  }
  ::shutdown(connection, SHUT_RDWR);
}

/// The fault for this request, counted, or null.
Fault* WebServer::fault_of(const WebRequest& request, Fault& copy) {
  const std::lock_guard lock(mutex_);
  for (Fault& fault : faults_) {
    if (fault.times <= 0 || (fault.when && !fault.when(request))) continue;
    if (fault.skip-- > 0) continue;
    --fault.times;
    copy = fault;
    return &copy;
  }
  return nullptr;
}

/// Answers one request. False when the connection is to be closed.
bool WebServer::serve_one(int connection, std::string& buffer) {
  size_t end = std::string::npos;
  while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
    if (!receive(connection, buffer)) return false;
  }
  WebRequest request = parse_head(buffer.substr(0, end + 2));
  buffer.erase(0, end + 4);
  Fault copy;
  const Fault* fault = fault_of(request, copy);
  {
    const std::lock_guard lock(mutex_);
    seen_.push_back(request);
  }
  using Kind = Fault::Kind;
  if (fault != nullptr && fault->kind == Kind::drop) {
    close_hard(connection);
    return false;
  }
  const std::string length = request.header("content-length");
  const size_t size = length.empty() ? 0 : std::stoull(length);
  while (buffer.size() < size) {
    if (!receive(connection, buffer)) return false;
  }
  request.body = buffer.substr(0, size);
  buffer.erase(0, size);

  WebAnswer answer =
      fault != nullptr && fault->kind == Kind::refuse ? fault->answer : handler_(request);
  if (fault != nullptr && fault->kind == Kind::alter) fault->change(answer);
  if (fault != nullptr && fault->kind == Kind::lose_answer) {
    close_hard(connection);
    return false;
  }
  std::string head = fmt::format("HTTP/1.1 {} Answer\r\n", answer.status);
  answer.headers.emplace("Content-Length", std::to_string(answer.body.size()));
  for (const auto& [name, value] : answer.headers) head += fmt::format("{}: {}\r\n", name, value);
  if (!send_all(connection, head + "\r\n")) return false;
  if (request.method == "HEAD") return true;
  const bool partial =
      fault != nullptr && (fault->kind == Kind::cut_answer || fault->kind == Kind::stall);
  const size_t first = partial ? std::min(fault->bytes, answer.body.size()) : answer.body.size();
  if (!send_all(connection, std::string_view(answer.body).substr(0, first))) return false;
  if (!partial) return true;
  if (fault->kind == Kind::stall) {
    const auto until =
        std::chrono::steady_clock::now() + std::chrono::duration<double>(fault->seconds);
    while (!stop_ && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return send_all(connection, std::string_view(answer.body).substr(first));
  }
  return false;
}

}  // namespace espalier::test
