// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "tests/io/folder.h"

namespace espalier::io {
namespace {
namespace fs = std::filesystem;

std::string with_length(std::string_view header, std::string_view data) {
  std::string image(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(image.data(), &length, sizeof(length));
  return image.append(header).append(data);
}

SafetensorsFile parse(std::string_view image) {
  auto owner = std::make_shared<std::string>(image);
  const std::span<char> chars(owner->data(), owner->size());
  return SafetensorsFile::parse(std::as_writable_bytes(chars), "m.safetensors", owner);
}

/// The message of the refusal of a file with this header and this many bytes of data.
std::string refusal(std::string_view header, size_t data_bytes) {
  try {
    parse(with_length(header, std::string(data_bytes, 'x')));
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data) << error.what();
    return error.what();
  }
  return "accepted";
}

struct BadHeader {
  const char* header;
  size_t data_bytes;
  const char* message;  // after "[safetensors] "
};

TEST(SafetensorsReader, EveryBrokenPromiseHasItsMessage) {
  const BadHeader cases[] = {
      {R"([])", 0, R"(the header does not begin with "{", at m.safetensors)"},
      {R"()", 0, R"(the header does not begin with "{", at m.safetensors)"},
      {R"( {})", 0, R"(the header does not begin with "{", at m.safetensors)"},
      {R"({"a":3})", 0, "a number where an object belongs, at m.safetensors:a"},
      {R"({"a":null})", 0, "null where an object belongs, at m.safetensors:a"},
      {R"({"a":[1]})", 0, "a list where an object belongs, at m.safetensors:a"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", 4, "no data_offsets, at m.safetensors:a"},
      {R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4, "no dtype, at m.safetensors:a"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, "no shape, at m.safetensors:a"},
      {R"({"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4,
       R"(unknown dtype "F33", at m.safetensors:a)"},
      {R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", 4,
       R"(a number where a string belongs in "dtype", at m.safetensors:a)"},
      {R"({"a":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}})", 4,
       R"(a list where a string belongs in "dtype", at m.safetensors:a)"},
      {R"({"a":{"dtype":"F32","shape":"1","data_offsets":[0,4]}})", 4,
       R"(a string where a list of sizes belongs in "shape", at m.safetensors:a)"},
      {R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4,
       R"(a list where a size belongs in "shape", at m.safetensors:a)"},
      {R"({"a":{"dtype":"F32","shape":[{}],"data_offsets":[0,4]}})", 4,
       R"(an object where a size belongs in "shape", at m.safetensors:a)"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4,
       R"(a negative number where a size belongs in "shape", at m.safetensors:a)"},
      {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4,
       R"(a fraction where a size belongs in "shape", at m.safetensors:a)"},
      {R"({"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}})", 4,
       R"(a boolean where a size belongs in "shape", at m.safetensors:a)"},
      {R"({"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}})", 4,
       "shape of 9223372036854775808 does not fit 63 bits, at m.safetensors:a"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", 4,
       "the size of F32 [4294967296,4294967296] does not fit 63 bits, at m.safetensors:a"},
      {R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1,
       "F4 [3] ends inside a byte (12 bits), at m.safetensors:a"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4,
       "data_offsets holds 1 numbers instead of begin and end, at m.safetensors:a"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4,
       "data_offsets [4,0] run backwards, at m.safetensors:a"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4,
       "data_offsets [0,8] reach beyond the 4 bytes of data in the file; it may be cut short, at "
       "m.safetensors:a"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8,
       "data_offsets [0,8] hold 8 bytes, F32 [3] needs 12, at m.safetensors:a"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
       R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
       6, "data_offsets [2,6] overlap the tensor before, which ends at 4, at m.safetensors:b"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
       R"("b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}})",
       10, "data_offsets [6,10] leave a hole of 2 bytes before them, at m.safetensors:b"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 9,
       "5 bytes follow the last tensor, at m.safetensors"},
      {R"({})", 1, "1 bytes follow the last tensor, at m.safetensors"},
      {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
       R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
       0, R"(name "a" appears twice in the header, at m.safetensors)"},
      {R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0,
       R"(key "dtype" appears twice in the header, at m.safetensors:a)"},
      {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"strides":[1]}})", 0,
       R"(unknown key "strides"; a tensor has dtype, shape and data_offsets, at m.safetensors:a)"},
      {R"({"__metadata__":{"format":1}})", 0,
       R"(a number where a string belongs in "format", at m.safetensors:__metadata__)"},
      {R"({"__metadata__":["pt"]})", 0,
       "a list where an object belongs, at m.safetensors:__metadata__"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0,
       R"(name "__metadata__" appears twice in the header, at m.safetensors)"},
  };
  for (const BadHeader& bad : cases) {
    EXPECT_EQ(refusal(bad.header, bad.data_bytes), std::string("[safetensors] ") + bad.message);
  }
}

TEST(SafetensorsReader, HeadersThatAreNotJsonSayAtWhichByte) {
  for (const char* header : {"{", "{\"a\"", "{}x", "{'a':1}", "{\"a\":{\"dtype\":\"\xFF\"}}",
                             "{/**/}", "{\"a\":NaN}", "{},"}) {
    EXPECT_NE(refusal(header, 0).find("the header is not JSON at its byte "), std::string::npos)
        << header << ": " << refusal(header, 0);
  }
  const std::string zero_padded("{}\0\0\0\0\0\0", 8);
  EXPECT_NE(refusal(zero_padded, 0).find("at its byte 2: a zero byte"), std::string::npos);
  // Nesting beyond the format is refused at its second level, before it can cost anything.
  std::string deep = "{\"a\":";
  deep.append(200000, '[');
  EXPECT_NE(refusal(deep, 0).find("a list where an object belongs"), std::string::npos);
}

TEST(SafetensorsReader, LengthsAreCheckedBeforeTheyAreUsed) {
  const auto message = [](std::string image) -> std::string {
    try {
      parse(image);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::data);
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message(""),
            "[safetensors] 0 bytes; a file begins with 8 bytes of header length, at m.safetensors");
  EXPECT_NE(message("1234567").find("7 bytes; "), std::string::npos);
  std::string huge = with_length("{}", "");
  huge[7] = '\xFF';
  EXPECT_NE(message(huge).find("is above the limit of 100000000 bytes"), std::string::npos);
  std::string cut = with_length("{}", "");
  cut[0] = 40;
  EXPECT_EQ(message(cut),
            "[safetensors] header length 40, but only 2 bytes follow; the file may be cut short, "
            "at m.safetensors");
}

TEST(SafetensorsReader, EveryTruncationIsRefused) {
  const std::string image =
      with_length(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "12345678");
  EXPECT_EQ(parse(image).entries().size(), 1u);
  for (size_t size = 0; size < image.size(); ++size) {
    EXPECT_THROW(parse(image.substr(0, size)), Error) << size;
  }
}

TEST(SafetensorsReader, AcceptsWhatTheFormatAllows) {
  const auto file = parse(with_length(
      R"({"z":{"dtype":"U8","shape":[4],"data_offsets":[8,12]},"scalar":{"dtype":"I64","shape":[],)"
      R"("data_offsets":[0,8]},"none":{"dtype":"F32","shape":[3,0],"data_offsets":[8,8]},)"
      R"("f4":{"dtype":"F4","shape":[2],"data_offsets":[12,13]},"__metadata__":{"k":"v"}}   )",
      std::string("\x05\0\0\0\0\0\0\0abcdX", 13)));
  EXPECT_EQ(file.entries().size(), 4u);
  EXPECT_EQ(file.metadata().at("k"), "v");
  EXPECT_EQ(file.tensor("scalar").get(0), 5.0);
  EXPECT_EQ(file.tensor("z").get(3), 'd');
  EXPECT_EQ(file.tensor("none").numel(), 0);
  EXPECT_EQ(file.bytes(file.at("f4")).size(), 1u);
  EXPECT_TRUE(parse(with_length("{}", "")).entries().empty());
}

TEST(SafetensorsReader, MissingAndMismatchedTensorsAreNamed) {
  const auto file =
      parse(with_length(R"({"decoder.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("e":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[4,8]}})",
                        std::string(8, '\0')));
  const auto message = [&](auto call, ErrorKind kind) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind);
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message([&] { file.tensor("decoder.wieght"); }, ErrorKind::data),
            "[safetensors] no tensor decoder.wieght among the 2 of m.safetensors; nearest: "
            "decoder.weight");
  EXPECT_EQ(message([&] { file.tensor("decoder.weight", DType::bf16, {1}); }, ErrorKind::data),
            "[safetensors] F32 [1] where BF16 [1] is expected, at m.safetensors:decoder.weight");
  EXPECT_EQ(message([&] { file.tensor("decoder.weight", DType::f32, {2}); }, ErrorKind::data),
            "[safetensors] F32 [1] where F32 [2] is expected, at m.safetensors:decoder.weight");
  EXPECT_NE(message([&] { file.tensor("e"); }, ErrorKind::unsupported)
                .find("F8_E4M3 [4] cannot be computed with, at m.safetensors:e"),
            std::string::npos);
}

TEST(SafetensorsReader, AnUnalignedTensorIsCopied) {
  for (const char* padding : {"", " ", "  ", "   "}) {
    const std::string header =
        R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})" + std::string(padding);
    const float value = 1.5f;
    std::string data(4, '\0');
    std::memcpy(data.data(), &value, 4);
    const HostTensor tensor = parse(with_length(header, data)).tensor("a");
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data()) % 4, 0u);
    EXPECT_EQ(tensor.get(0), 1.5);
  }
}

std::map<std::string, HostTensor> samples() {
  std::map<std::string, HostTensor> tensors;
  const std::vector<double> values{1.0, -2.0, 0.5, 100.0, 0.0, 3.0};
  for (DType dtype : {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i32, DType::i64}) {
    tensors["layer." + std::string(name(dtype))] = HostTensor::from_doubles(dtype, {2, 3}, values);
  }
  tensors["mask"] = HostTensor::from_doubles(DType::boolean, {3}, std::vector<double>{1, 0, 1});
  tensors["bytes"] = HostTensor::from_doubles(DType::u8, {5}, std::vector<double>{1, 2, 3, 4, 5});
  tensors["scalar"] = HostTensor::from_doubles(DType::f32, {}, std::vector<double>{7});
  tensors["empty"] = HostTensor(DType::f32, {0, 4});
  tensors["quote\"d \xC3\xBC"] = HostTensor(DType::u8, {1});
  return tensors;
}

TEST(SafetensorsWriter, WhatIsWrittenIsReadBackBitForBit) {
  const TestFolder folder;
  const auto tensors = samples();
  save_safetensors(folder / "m.safetensors", tensors, {{"format", "pt"}, {"step", "3"}});
  const auto file = SafetensorsFile::open(folder / "m.safetensors");
  EXPECT_EQ(file.metadata(), (SafetensorsMetadata{{"format", "pt"}, {"step", "3"}}));
  ASSERT_EQ(file.entries().size(), tensors.size());
  for (const auto& [name, want] : tensors) {
    const HostTensor got = file.tensor(name, want.dtype(), want.shape());
    EXPECT_EQ(std::memcmp(got.data(), want.data(), static_cast<size_t>(want.bytes())), 0) << name;
    // Zero copy: every view lies in the file's pages, aligned for its dtype.
    EXPECT_EQ(static_cast<const void*>(got.data()), file.bytes(file.at(name)).data()) << name;
  }
}

TEST(SafetensorsWriter, ViewsOutliveTheFileObjectAndTheFile) {
  const TestFolder folder;
  save_safetensors(folder / "m.safetensors", samples());
  HostTensor view = SafetensorsFile::open(folder / "m.safetensors").tensor("layer.f32");
  fs::remove(folder / "m.safetensors");
  EXPECT_EQ(view.get(3), 100.0);
  view.set(3, 4.0);  // a private page, not the file
  EXPECT_EQ(view.get(3), 4.0);
}

TEST(SafetensorsWriter, HeaderIsDeterministicAndAligned) {
  const TestFolder folder;
  const std::vector<SafetensorsSpec> specs{
      {"b", DType::u8, {3}}, {"a", DType::f32, {1}}, {"c", DType::f64, {1}}};
  const std::vector<SafetensorsSpec> turned{specs[2], specs[0], specs[1]};
  std::vector<std::string> images;
  for (const auto& order : {specs, turned}) {
    auto out = OutputFile::create(folder / std::to_string(images.size()), {});
    SafetensorsWriter writer(out, order);
    for (const SafetensorsSpec& spec : writer.order()) {
      const std::vector<std::byte> bytes(
          static_cast<size_t>(spec.shape.numel() * size_of(spec.dtype)), std::byte{1});
      // In pieces, as a writer that converts on the way does.
      writer.write(spec.name, std::span(bytes).first(1));
      writer.write(spec.name, std::span(bytes).subspan(1));
    }
    writer.finish();
    out.sync_and_close();
    images.push_back(read_text(folder / std::to_string(images.size()), 1000, {}));
  }
  EXPECT_EQ(images[0], images[1]);
  EXPECT_EQ(images[0].substr(8, 61),
            R"({"__metadata__":{"format":"pt"},"c":{"dtype":"F64","shape":[1)");
  EXPECT_EQ(images[0][0] % 8, 0);
}

TEST(SafetensorsWriter, MisuseIsAnError) {
  const TestFolder folder;
  const auto message = [&](const std::vector<SafetensorsSpec>& specs, auto use) -> std::string {
    const fs::path path = folder / "m";
    fs::remove(path);
    auto out = OutputFile::create(path, {});
    try {
      SafetensorsWriter writer(out, specs);
      use(writer);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  const std::vector<std::byte> four(4), five(5);
  const auto nothing = [](SafetensorsWriter&) {};
  const std::vector<SafetensorsSpec> ab{{"a", DType::f32, {1}}, {"b", DType::f32, {1}}};
  EXPECT_NE(message({{"a", DType::u8, {1}}, {"a", DType::u8, {1}}}, nothing).find("appears twice"),
            std::string::npos);
  EXPECT_NE(message({{"__metadata__", DType::u8, {1}}}, nothing).find("cannot be named"),
            std::string::npos);
  EXPECT_NE(message({{"\xFF", DType::u8, {1}}}, nothing).find("not UTF-8"), std::string::npos);
  EXPECT_NE(message(ab, [&](auto& w) { w.write("b", four); }).find("the turn of a"),
            std::string::npos);
  EXPECT_NE(message(ab, [&](auto& w) { w.write("a", five); }).find("5 bytes of a where 4"),
            std::string::npos);
  EXPECT_NE(message(ab,
                    [&](auto& w) {
                      w.write("a", four);
                      w.finish();
                    })
                .find("4 bytes of b never came"),
            std::string::npos);
}

/// Files of other writers, where the shared data folder lies beside the sources.
std::vector<fs::path> shared_files(const char* kind) {
  const fs::path folder =
      fs::path(ESPALIER_SOURCE_DIR) / ".." / "shared" / "data" / "safetensors" / kind;
  const fs::path here = fs::exists(folder) ? folder
                                           : fs::path(ESPALIER_SOURCE_DIR) / "../.." /
                                                 "shared/data/safetensors" / kind;
  std::vector<fs::path> files;
  if (!fs::exists(here)) return files;
  for (const auto& entry : fs::recursive_directory_iterator(here)) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  return files;
}

TEST(SafetensorsShared, FilesOfOtherWritersAreAccepted) {
  const auto files = shared_files("valid");
  if (files.empty()) GTEST_SKIP() << "no ../shared/data/safetensors";
  int64_t tensors = 0;
  for (const fs::path& path : files) {
    const auto file = SafetensorsFile::open(path);
    for (const SafetensorsEntry& entry : file.entries()) {
      if (!dtype_from_safetensors(entry.dtype)) continue;
      EXPECT_EQ(file.tensor(entry.name).bytes(), entry.end - entry.begin);
      ++tensors;
    }
  }
  printf("accepted %zu files, %lld tensors\n", files.size(), static_cast<long long>(tensors));
}

TEST(SafetensorsShared, MalformedFilesAreRefused) {
  const auto files = shared_files("malformed");
  if (files.empty()) GTEST_SKIP() << "no ../shared/data/safetensors";
  for (const fs::path& path : files) {
    try {
      SafetensorsFile::open(path);
      ADD_FAILURE() << path << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::data) << error.what();
    }
  }
  printf("refused %zu files\n", files.size());
}

}  // namespace
}  // namespace espalier::io
