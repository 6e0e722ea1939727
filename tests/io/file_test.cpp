// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "espalier/base/crc32c.h"
#include "espalier/io/atomic.h"
#include "tests/io/folder.h"

namespace espalier::io {
namespace {
namespace fs = std::filesystem;

template <typename Function>
std::string message_of(Function function, ErrorKind kind) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "no error";
}

/// Runs `check` in a child process and gives its exit code; for limits that must not stay.
template <typename Function>
int in_child(Function check) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = check();
    } catch (const std::exception& error) {
      fprintf(stderr, "child: %s\n", error.what());
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(AtomicFile, AppearsWholeAndReplaces) {
  const TestFolder folder;
  const fs::path path = folder / "state.json";
  write_file_atomically(path, "first", {});
  EXPECT_EQ(read_text(path, 100, {}), "first");
  {
    AtomicFile file(path, {});
    file.out().write("half");
    EXPECT_EQ(read_text(path, 100, {}), "first");
  }
  EXPECT_EQ(read_text(path, 100, {}), "first");
  EXPECT_EQ(folder.count(), 1);
  write_file_atomically(path, "second", {});
  EXPECT_EQ(read_text(path, 100, {}), "second");
  EXPECT_EQ(folder.count(), 1);
}

TEST(AtomicFile, CountsAndChecksums) {
  const TestFolder folder;
  AtomicFile file(folder / "a", {});
  const std::string big((3 << 20) + 17, 'q');
  file.out().write("1234");
  file.out().write(big);
  EXPECT_EQ(file.out().written(), 4 + static_cast<int64_t>(big.size()));
  const std::string all = "1234" + big;
  EXPECT_EQ(file.out().crc32c(), crc32c(std::as_bytes(std::span(all.data(), all.size()))));
  file.commit();
  EXPECT_EQ(read_text(folder / "a", 1 << 23, {}), all);
}

TEST(AtomicFolder, AppearsWholeReplacesAndCleansUp) {
  const TestFolder folder;
  const auto write = [&](std::string_view text, bool commit) {
    AtomicFolder pending(folder / "step-1", {});
    auto out = pending.create("data");
    out.write(text);
    out.sync_and_close();
    if (commit) pending.commit();
  };
  write("zero", false);
  EXPECT_EQ(folder.count(), 0);
  write("one", true);
  write("half", false);
  EXPECT_EQ(read_text(folder / "step-1/data", 100, {}), "one");
  write("two", true);
  EXPECT_EQ(read_text(folder / "step-1/data", 100, {}), "two");
  EXPECT_EQ(folder.count(), 1);
  remove_folder(folder / "step-1", {});
  EXPECT_EQ(folder.count(), 0);
}

TEST(AtomicFolder, LeftoversOfKilledProcessesAreCleared) {
  const TestFolder folder;
  EXPECT_EQ(in_child([&]() -> int {
              AtomicFolder pending(folder / "step-1", {});
              pending.create("data").write("half");
              AtomicFile file(folder / "metrics", {});
              ::raise(SIGKILL);
              return 0;
            }),
            128 + SIGKILL);
  fs::create_directory(folder / "step-0");
  EXPECT_EQ(folder.count(), 3);
  EXPECT_EQ(remove_leftovers(folder.path()), 2);
  EXPECT_EQ(folder.count(), 1);
  EXPECT_EQ(remove_leftovers(folder / "missing"), 0);
}

TEST(FileErrors, AFileSizeLimitIsReportedAndNothingIsLeft) {
  const TestFolder folder;
  write_file_atomically(folder / "big", "old", {});
  EXPECT_EQ(in_child([&] {
              ::signal(SIGXFSZ, SIG_IGN);
              const rlimit limit{1 << 20, 1 << 20};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              const std::string message = message_of(
                  [&] {
                    const FileContext context{"checkpoint", "previous checkpoint kept: step-9"};
                    AtomicFile file(folder / "big", context);
                    file.out().write(std::string(3 << 20, 'x'));
                  },
                  ErrorKind::device);
              const std::string want =
                  "[checkpoint] cannot write 3.00 MiB (1048576 of them done, 1.00 MiB in the "
                  "file): File too large, at ";
              fprintf(stderr, "%s\n", message.c_str());
              const bool right =
                  message.starts_with(want) && message.ends_with(
                                                   "; raise the file-size limit (ulimit -f); "
                                                   "previous checkpoint kept: step-9");
              return right && !::testing::Test::HasFailure() ? 0 : 1;
            }),
            0);
  EXPECT_EQ(read_text(folder / "big", 100, {}), "old");
  EXPECT_EQ(folder.count(), 1);
}

TEST(FileErrors, AFullDeviceSaysSo) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  auto out = OutputFile::append("/dev/full", {.stage = "metrics"});
  EXPECT_EQ(
      message_of([&] { out.write("hello"); }, ErrorKind::device),
      "[metrics] cannot write 5 B (0 of them done, 0 B in the file): No space left on device, "
      "at /dev/full; free some space or choose another folder");
}

TEST(FileErrors, MissingAndWrongPaths) {
  const TestFolder folder;
  EXPECT_EQ(
      message_of([&] { MappedFile::open(folder / "none", {}); }, ErrorKind::user),
      "[file] cannot open the file: No such file or directory, at " + (folder / "none").string());
  EXPECT_NE(message_of([&] { MappedFile::open(folder.path(), {}); }, ErrorKind::user)
                .find("is not an ordinary file"),
            std::string::npos);
  EXPECT_NE(
      message_of([&] { write_file_atomically(folder / "no/where", "x", {}); }, ErrorKind::user)
          .find("cannot create the file: No such file or directory"),
      std::string::npos);
  write_file_atomically(folder / "file", "text", {});
  EXPECT_NE(message_of([&] { create_folders(folder / "file/sub", {}); }, ErrorKind::user)
                .find("cannot create the folder: Not a directory"),
            std::string::npos);
  EXPECT_NE(message_of([&] { create_folders(folder / "file", {}); }, ErrorKind::user)
                .find("cannot create the folder: Not a directory"),
            std::string::npos);
  EXPECT_EQ(message_of([&] { read_text(folder / "file", 3, {}); }, ErrorKind::data),
            "[file] 4 bytes where at most 3 are allowed, at " + (folder / "file").string());
  create_folders(folder / "a/b/c/", {});
  create_folders(folder / "a/b/c", {});
  EXPECT_TRUE(fs::is_directory(folder / "a/b/c"));
}

TEST(FileErrors, AFolderThatMayNotBeWritten) {
  const TestFolder folder;
  fs::create_directory(folder / "locked");
  EXPECT_EQ(in_child([&] {
              // Root ignores permissions, so the child becomes nobody.
              fs::permissions(folder.path(), fs::perms::all);
              fs::permissions(folder / "locked", fs::perms::owner_read | fs::perms::owner_exec |
                                                     fs::perms::others_exec);
              if (::geteuid() == 0 && ::setuid(65534) != 0) return 2;
              const std::string message = message_of(
                  [&] { write_file_atomically(folder / "locked/x", "x", {}); }, ErrorKind::user);
              return message.find("Permission denied, at ") != std::string::npos &&
                             message.ends_with("; check the permissions")
                         ? 0
                         : 1;
            }),
            0);
}

TEST(FolderLock, SecondWriterIsTurnedAwayUntilTheFirstLeaves) {
  const TestFolder folder;
  {
    const FolderLock lock(folder.path(), {});
    EXPECT_EQ(message_of([&] { FolderLock second(folder.path(), {}); }, ErrorKind::user),
              "[file] another process is writing into " + folder.path().string() +
                  "; wait for it or choose another folder");
  }
  EXPECT_NO_THROW(FolderLock(folder.path(), {}));
}

}  // namespace
}  // namespace espalier::io
