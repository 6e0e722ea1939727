// SPDX-License-Identifier: Apache-2.0
// Runs the real program as a process of its own.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

namespace espalier::test {

struct Ran {
  int code = -1;    // exit code; 128 + signal when a signal ended it
  std::string out;  // standard output
  std::string err;  // standard error
};

/// A folder of its own for a test, removed at the end.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "espalier-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::permissions(path_, std::filesystem::perms::owner_all, ignored);
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::filesystem::path path() const { return path_; }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// A running program; its output goes to files in a folder.
class Process {
 public:
  /// `file_limit`: the largest file it may write, in bytes; 0: no limit. `environment`:
  /// "NAME=value", added to this process's.
  explicit Process(const std::vector<std::string>& arguments, rlim_t file_limit = 0,
                   const std::vector<std::string>& environment = {});

  /// -1 when it has ended.
  pid_t pid() const { return pid_; }
  bool running() {
    if (pid_ > 0 && waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
    return pid_ > 0;
  }
  void signal(int number) const {
    if (pid_ > 0) kill(pid_, number);
  }
  std::string out() const { return read_file(folder_ / "out"); }
  Ran wait() {
    if (pid_ > 0) waitpid(pid_, &status_, 0);
    pid_ = -1;
    const int code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
    return {code, read_file(folder_ / "out"), read_file(folder_ / "err")};
  }
  ~Process() {
    if (!running()) return;
    signal(SIGKILL);
    waitpid(pid_, &status_, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

 private:
  Folder folder_;
  pid_t pid_ = -1;
  int status_ = 0;
};

inline Process::Process(const std::vector<std::string>& arguments, rlim_t file_limit,
                        const std::vector<std::string>& environment) {
  const std::string out = folder_ / "out", err = folder_ / "err";
  std::vector<char*> argv{const_cast<char*>(ESPALIER_PROGRAM)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ > 0) return;
  dup2(open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
  dup2(open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
  if (file_limit > 0) {
    const rlimit limit{file_limit, file_limit};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  for (const std::string& setting : environment) putenv(const_cast<char*>(setting.c_str()));
  execv(ESPALIER_PROGRAM, argv.data());
  perror(ESPALIER_PROGRAM);
  _exit(127);
}

inline Ran run(const std::vector<std::string>& arguments, rlim_t file_limit = 0) {
  return Process(arguments, file_limit).wait();
}

}  // namespace espalier::test
