// SPDX-License-Identifier: Apache-2.0
// Deduplication, the disk cache and its accidents, and code for processors this one is not.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "espalier/backend/cpu/jit/codegen.h"
#include "tests/backend_jit/model_loops.h"

namespace espalier::cpu {
namespace {

namespace fs = std::filesystem;

class CacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("espalier_jit_test_" + std::to_string(getpid()));
    fs::remove_all(folder_);
    for (const auto& [name, loop] : model_loops()) loops_.push_back(loop);
    loops_.resize(3);
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// Compiles in a fresh compiler, checks that the functions work, and gives its counts.
  JitStats compile() {
    JitOptions options;
    options.cache_dir = folder_.string();
    LoopCompiler compiler(options);
    const std::vector<LoopFn> functions = compiler.compile(loops_);
    for (size_t k = 0; k < loops_.size(); ++k) {
      LoopCase c(loops_[k], std::vector<int64_t>(loops_[k].outer_rank, 2), 33);
      EXPECT_EQ(c.check(functions[k]), "");
    }
    return compiler.stats();
  }
  std::vector<fs::path> files() const {
    std::vector<fs::path> result;
    for (const auto& entry : fs::directory_iterator(folder_)) result.push_back(entry.path());
    std::sort(result.begin(), result.end());
    return result;
  }
  static std::string read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static void write(const fs::path& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }

  fs::path folder_;
  std::vector<plan::Loop> loops_;
};

}  // namespace

TEST(Compiler, EqualStructuresShareOneFunction) {
  LoopCompiler compiler;
  const plan::Loop softmax = softmax_loop(DType::f32), gelu = gelu_loop(DType::f32);
  const std::vector<LoopFn> first = compiler.compile(std::vector{softmax, gelu, softmax});
  EXPECT_EQ(first[0], first[2]);
  EXPECT_NE(first[0], first[1]);
  const std::vector<LoopFn> second = compiler.compile(std::vector{gelu});
  EXPECT_EQ(second[0], first[1]);
  const JitStats stats = compiler.stats();
  EXPECT_EQ(stats.loops, 4);
  EXPECT_EQ(stats.compiled, 2);
  EXPECT_EQ(stats.from_cache, 0);
  EXPECT_GT(stats.seconds, 0.0);
}

TEST(Compiler, NothingToDo) {
  LoopCompiler compiler;
  EXPECT_TRUE(compiler.compile({}).empty());
}

TEST(Compiler, ShowsWhatItEmits) {
  LoopCompiler compiler;
  EXPECT_NE(compiler.llvm_ir(softmax_loop(DType::f32)).find("define void @espalier_loop_"),
            std::string::npos);
  EXPECT_NE(compiler.assembly(softmax_loop(DType::f32)).find("vfmadd"), std::string::npos);
}

TEST(Compiler, EmitsFullWidthAvx512) {
  jit::Codegen codegen({.avx512 = true, .width = 16});
  for (const auto& [name, loop] : model_loops()) {
    const std::string text = codegen.assembly(loop, "loop");
    EXPECT_NE(text.find("%zmm"), std::string::npos) << name;
    EXPECT_FALSE(codegen.object(loop, "loop").empty());
  }
}

TEST(Compiler, RunsOnTwoThreadsAtOnce) {
  LoopCompiler compiler;
  std::vector<plan::Loop> loops;
  for (const auto& [name, loop] : model_loops()) loops.push_back(loop);
  std::vector<LoopFn> a, b;
  std::thread other([&] { a = compiler.compile(loops); });
  b = compiler.compile(loops);
  other.join();
  EXPECT_EQ(a, b);
}

TEST_F(CacheTest, SecondProcessFindsEverything) {
  JitStats stats = compile();
  EXPECT_EQ(stats.compiled, 3);
  EXPECT_EQ(files().size(), 3u);
  stats = compile();
  EXPECT_EQ(stats.compiled, 0);
  EXPECT_EQ(stats.from_cache, 3);
}

TEST_F(CacheTest, DamagedFilesAreRebuilt) {
  compile();
  const std::vector<fs::path> all = files();
  const std::string whole = read(all[0]);
  std::vector<std::string> damaged{"", "x", whole.substr(0, 100), whole.substr(0, whole.size() - 1),
                                   whole + "x"};
  for (const size_t at : {size_t{0}, size_t{20}, size_t{90}, whole.size() / 2, whole.size() - 1}) {
    damaged.push_back(whole);
    damaged.back()[at] ^= 1;
  }
  for (const std::string& text : damaged) {
    write(all[0], text);
    const JitStats stats = compile();
    EXPECT_EQ(stats.compiled, 1);
    EXPECT_EQ(stats.from_cache, 2);
    EXPECT_EQ(read(all[0]), whole) << "was not written anew";
  }
}

TEST_F(CacheTest, ForeignFilesAreRebuilt) {
  compile();
  const std::vector<fs::path> all = files();
  const std::string mine = read(all[0]);
  write(all[0], read(all[1]));  // intact, but of another loop
  EXPECT_EQ(compile().compiled, 1);
  EXPECT_EQ(read(all[0]), mine);
}

TEST_F(CacheTest, FolderThatCannotBeWrittenIsNoCache) {
  write(folder_, "a file where the folder should be");
  EXPECT_EQ(compile().compiled, 3);
  EXPECT_EQ(compile().compiled, 3);
}

TEST_F(CacheTest, LeavesNoTemporaryFiles) {
  compile();
  for (const fs::path& path : files()) EXPECT_EQ(path.extension(), ".loop") << path;
}

TEST_F(CacheTest, WidthsDoNotMix) {
  compile();
  JitOptions options;
  options.cache_dir = folder_.string();
  options.vector_width = 4;
  LoopCompiler compiler(options);
  compiler.compile(loops_);
  EXPECT_EQ(compiler.stats().compiled, 3);
}

}  // namespace espalier::cpu
