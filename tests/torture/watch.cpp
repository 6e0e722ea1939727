// SPDX-License-Identifier: Apache-2.0
#include "tests/torture/watch.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "tests/support/program.h"

namespace espalier::torture {
namespace {

namespace fs = std::filesystem;

/// The flags of an open descriptor, from the octal number in its fdinfo.
int flags_of(const fs::path& fdinfo) {
  std::ifstream file(fdinfo);
  for (std::string key, value; file >> key >> value;) {
    if (key == "flags:") return static_cast<int>(std::stol(value, nullptr, 8));
  }
  return O_RDONLY;
}

/// 'R', 'S', 'D', 'T', 'Z', ... or 0 when it is gone. The name before it may hold anything.
char state_of(const fs::path& stat) {
  const std::string text = test::read_file(stat);
  const size_t end = text.rfind(')');
  return end == std::string::npos || end + 2 >= text.size() ? '\0' : text[end + 2];
}

}  // namespace

std::vector<std::string> files_being_written(pid_t process, const fs::path& folder) {
  std::vector<std::string> found;
  const fs::path proc = fs::path("/proc") / std::to_string(process);
  std::error_code error;  // descriptors come and go while they are listed
  for (fs::directory_iterator at(proc / "fd", error), end; !error && at != end;
       at.increment(error)) {
    std::error_code gone;
    const std::string target = fs::read_symlink(at->path(), gone).string();
    if (gone || !target.starts_with(folder.string() + "/")) continue;
    const int flags = flags_of(proc / "fdinfo" / at->path().filename());
    if ((flags & O_ACCMODE) != O_RDONLY) found.push_back(target);
  }
  return found;
}

bool freeze(pid_t process) {
  // -1, an ended worker's, would be every process there is.
  if (process <= 0 || ::kill(process, SIGSTOP) != 0) return false;
  const fs::path tasks = fs::path("/proc") / std::to_string(process) / "task";
  for (;;) {
    bool still = true;
    std::error_code error;
    for (fs::directory_iterator at(tasks, error), end; !error && at != end; at.increment(error)) {
      const char state = state_of(at->path() / "stat");
      if (state == 'Z' || state == 'X') return false;
      still = still && (state == 'T' || state == '\0');
    }
    if (error) return false;
    if (still) return true;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

}  // namespace espalier::torture
