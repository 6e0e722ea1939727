// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "espalier/base/crc32c.h"
#include "espalier/base/error.h"
#include "espalier/io/atomic.h"
#include "espalier/io/safetensors.h"
#include "espalier/train/checkpoint_state.h"
#include "tests/io/folder.h"
#include "tests/syscalls/child.h"
#include "tests/train_files/samples.h"

namespace espalier::train {
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

void flip_byte(const fs::path& path, int64_t position, int bit = 0) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(position);
  const char byte = static_cast<char>(file.get());
  file.seekp(position);
  file.put(static_cast<char>(byte ^ (1 << bit)));
}

TEST(Checkpoint, ReturnsBitForBit) {
  const TestFolder dir;
  const fs::path folder = save_checkpoint(dir / "run/deep", sample_checkpoint(123));
  EXPECT_EQ(folder, dir / "run/deep/step-00000123");
  const auto loaded = load_newest(dir / "run/deep");
  ASSERT_TRUE(loaded.has_value());
  EXPECT_TRUE(same_checkpoint(loaded->checkpoint, sample_checkpoint(123)));
  EXPECT_EQ(loaded->folder, folder);
  EXPECT_EQ(loaded->warnings, "");
  EXPECT_TRUE(loaded->library.starts_with("espalier 0."));
  // The model file stands alone, as `transformers` reads it.
  const auto model = io::SafetensorsFile::open(folder / "model.safetensors");
  EXPECT_EQ(model.metadata().at("format"), "pt");
  EXPECT_TRUE(model.contains("layers.0.weight"));
}

TEST(Checkpoint, NothingThereIsNotAnError) {
  const TestFolder dir;
  EXPECT_FALSE(load_newest(dir.path()).has_value());
  EXPECT_FALSE(load_newest(dir / "missing").has_value());
  fs::create_directory(dir / "step-x0000001");
  fs::create_directory(dir / "step-1");
  EXPECT_FALSE(load_newest(dir.path()).has_value());
}

TEST(Checkpoint, KeepLastKeepsTheNewestCompleteOnes) {
  const TestFolder dir;
  for (int64_t step : {1, 5, 20, 100'000'000, 7})
    save_checkpoint(dir.path(), sample_checkpoint(step));
  fs::remove(dir / "step-00000020/state.json");
  keep_last(dir.path(), 2);
  const std::vector<fs::path> want{dir / "step-100000000", dir / "step-00000020",
                                   dir / "step-00000007"};
  EXPECT_EQ(list_checkpoints(dir.path()), want);
  EXPECT_EQ(dir.count(), 3);
  EXPECT_NE(message_of([&] { keep_last(dir.path(), 0); }, ErrorKind::user).find("at least 1"),
            std::string::npos);
}

TEST(Checkpoint, SavingAStepAgainReplacesIt) {
  const TestFolder dir;
  save_checkpoint(dir.path(), sample_checkpoint(4, 2));
  save_checkpoint(dir.path(), sample_checkpoint(4, 3));
  EXPECT_TRUE(same_checkpoint(load_newest(dir.path())->checkpoint, sample_checkpoint(4, 3)));
  EXPECT_EQ(dir.count(), 1);
}

TEST(Checkpoint, LaterOnesAreSetAsideWhenARunGoesBack) {
  const TestFolder dir;
  for (int round = 0; round < 2; ++round) {
    for (int64_t step : {10, 20, 30}) save_checkpoint(dir.path(), sample_checkpoint(step));
    EXPECT_EQ(set_aside_after(dir.path(), 10).size(), 2u);
    EXPECT_EQ(list_checkpoints(dir.path()).size(), 1u);
  }
  EXPECT_TRUE(fs::exists(dir / "aside-step-00000030-2/state.json"));
}

TEST(CheckpointDamage, EveryKindFallsBackAndSaysWhy) {
  struct Damage {
    const char* message;
    std::function<void(const fs::path&)> apply;
  };
  const Damage damages[] = {
      {"state.json: cannot open",  // replaced below: the file is missing
       [](const fs::path& f) { fs::remove(f / "state.json"); }},
      {"not JSON", [](const fs::path& f) { fs::resize_file(f / "state.json", 100); }},
      {"not JSON", [](const fs::path& f) { fs::resize_file(f / "state.json", 0); }},
      {"bytes where", [](const fs::path& f) { fs::resize_file(f / "model.safetensors", 100); }},
      {"bytes where", [](const fs::path& f) { fs::resize_file(f / "state.safetensors", 1 << 20); }},
      {"No such file", [](const fs::path& f) { fs::remove(f / "state.safetensors"); }},
      {"the checksum does not match",
       [](const fs::path& f) { flip_byte(f / "model.safetensors", 3000); }},
      {"the checksum does not match",
       [](const fs::path& f) { flip_byte(f / "state.safetensors", 20); }},
      {"the folder holds step 2",
       [](const fs::path& f) {
         fs::remove_all(f);
         fs::copy(f.parent_path() / "step-00000002", f, fs::copy_options::recursive);
       }},
  };
  for (const Damage& damage : damages) {
    const TestFolder dir;
    for (int64_t step : {1, 2, 3}) save_checkpoint(dir.path(), sample_checkpoint(step));
    damage.apply(dir / "step-00000003");
    const auto loaded = load_newest(dir.path());
    ASSERT_TRUE(loaded.has_value());
    EXPECT_TRUE(same_checkpoint(loaded->checkpoint, sample_checkpoint(2)));
    EXPECT_NE(loaded->warnings.find("damaged checkpoint " + (dir / "step-00000003").string()),
              std::string::npos);
    EXPECT_NE(loaded->warnings.find("using " + (dir / "step-00000002").string() + " instead"),
              std::string::npos);
    const bool missing = std::string_view(damage.message).starts_with("state.json");
    EXPECT_NE(loaded->warnings.find(missing ? "No such file" : damage.message), std::string::npos)
        << loaded->warnings;
  }
}

TEST(CheckpointDamage, AllDamagedIsAnErrorThatListsThem) {
  const TestFolder dir;
  for (int64_t step : {1, 2}) save_checkpoint(dir.path(), sample_checkpoint(step));
  for (const char* name : {"step-00000001", "step-00000002"}) {
    fs::resize_file(dir / name / "model.safetensors", 10);
  }
  const std::string message = message_of([&] { load_newest(dir.path()); }, ErrorKind::data);
  EXPECT_TRUE(message.starts_with("[checkpoint] every checkpoint in ")) << message;
  EXPECT_NE(message.find("step-00000001"), std::string::npos);
  EXPECT_NE(message.find("step-00000002"), std::string::npos);
}

TEST(CheckpointDamage, NoFlippedBitOfStateJsonGoesUnnoticed) {
  const CheckpointState state{.step = 7,
                              .seed = 9,
                              .config = {{"layers", int64_t{2}}, {"name", std::string("x")}},
                              .options = {{"lr", 0.5}, {"worst", -HUGE_VAL}},
                              .library = "espalier 0",
                              .model = {100, 0x12345678},
                              .state = {7, 0xABCDEF}};
  const std::string text = print_checkpoint_state(state);
  EXPECT_EQ(print_checkpoint_state(parse_checkpoint_state(text, "x")), text);
  int refused = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = text;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      try {
        // A blank that became another blank changes nothing.
        EXPECT_EQ(print_checkpoint_state(parse_checkpoint_state(flipped, "x")), text) << flipped;
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::data) << error.what();
        ++refused;
      }
    }
    EXPECT_THROW(parse_checkpoint_state(std::string_view(text).substr(0, i), "x"), Error)
        << (i + 1 < text.size() ? "" : "only the last newline is missing");
    if (i + 2 == text.size()) break;
  }
  EXPECT_GT(refused, static_cast<int>(text.size()) * 7);
}

TEST(CheckpointDamage, StateJsonThatIsSomethingElse) {
  const auto message = [](std::string_view text, ErrorKind kind = ErrorKind::data) {
    return message_of([&] { parse_checkpoint_state(text, "state.json"); }, kind);
  };
  EXPECT_EQ(message("[]"), "[checkpoint] the file is not an object, at state.json");
  EXPECT_EQ(message("{}"), "[checkpoint] the file has no \"checkpoint\", at state.json");
  EXPECT_EQ(message(R"({"checkpoint":{},"crc32c":"xyz"})"),
            "[checkpoint] the file.crc32c is not eight hexadecimal digits, at state.json");
  EXPECT_EQ(message(R"({"checkpoint":{},"crc32c":"00000000"})").substr(0, 60),
            "[checkpoint] the checksum does not match: stated 00000000, f");
  const auto sealed = [](const std::string& content) {
    const uint32_t crc = crc32c(std::as_bytes(std::span(content.data(), content.size())));
    return fmt::format(R"({{"checkpoint":{},"crc32c":"{:08x}"}})", content, crc);
  };
  EXPECT_EQ(message(sealed(R"({"format":"1"})")),
            "[checkpoint] the file.checkpoint.format is not an integer, at state.json");
  EXPECT_EQ(message(sealed(R"({"format":2})"), ErrorKind::unsupported),
            "[checkpoint] format 2 was written by a later version; this one reads up to 1, at "
            "state.json");
  EXPECT_EQ(message(sealed(R"({"format":1,"step":-1})")),
            "[checkpoint] the file.checkpoint.step is not a number from 0 on, at "
            "state.json");
  EXPECT_EQ(message(std::string(100000, '[')),
            "[checkpoint] nested more than 4 deep, at state.json");
}

TEST(Checkpoint, DifferencesNameTheSetting) {
  const CheckpointSection saved{{"num_layer", int64_t{8}}, {"dtype", std::string("bf16")}};
  EXPECT_EQ(differences(saved, saved), "");
  EXPECT_EQ(differences(saved, {{"num_layer", int64_t{4}}, {"flash", true}}),
            "dtype is \"bf16\" in the checkpoint and absent now; flash is absent in the checkpoint "
            "and true now; num_layer is 8 in the checkpoint and 4 now");
}

TEST(CheckpointErrors, AFullDiskKeepsThePreviousOne) {
  const TestFolder dir;
  const fs::path kept = save_checkpoint(dir.path(), sample_checkpoint(1));
  EXPECT_EQ(in_child([&] {
              ::signal(SIGXFSZ, SIG_IGN);
              const rlimit limit{64 << 10, 64 << 10};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              const std::string message =
                  message_of([&] { save_checkpoint(dir.path(), sample_checkpoint(2, 200)); },
                             ErrorKind::device);
              const bool right = message.starts_with("[checkpoint] cannot write ") &&
                                 message.find("File too large, at ") != std::string::npos &&
                                 message.find("model.safetensors; raise the file-size limit") !=
                                     std::string::npos &&
                                 message.ends_with("previous checkpoint kept: " + kept.string());
              if (!right) fprintf(stderr, "%s\n", message.c_str());
              return right && !::testing::Test::HasFailure() ? 0 : 1;
            }),
            0);
  EXPECT_EQ(dir.count(), 1);
  EXPECT_TRUE(same_checkpoint(load_newest(dir.path())->checkpoint, sample_checkpoint(1)));
}

TEST(CheckpointErrors, AFolderThatCannotBeMade) {
  const TestFolder dir;
  io::write_file_atomically(dir / "file", "x", {});
  const std::string message =
      message_of([&] { save_checkpoint(dir / "file", sample_checkpoint(1)); }, ErrorKind::user);
  EXPECT_NE(message.find("cannot"), std::string::npos);
  EXPECT_NE(message.find((dir / "file").string()), std::string::npos) << message;
}

}  // namespace
}  // namespace espalier::train
