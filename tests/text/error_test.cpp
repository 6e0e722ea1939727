// SPDX-License-Identifier: Apache-2.0
// What damaged and unsupported tokenizer files say.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "espalier/base/error.h"
#include "espalier/text/byte_bpe.h"
#include "espalier/text/jobs.h"
#include "espalier/text/tokenizer_file.h"
#include "tests/support/errors.h"

namespace espalier::text {
namespace {

using test::message;

namespace fs = std::filesystem;
using nlohmann::json;

json bert() {
  return json::parse(R"({"model":{"type":"WordPiece","unk_token":"[UNK]",
    "continuing_subword_prefix":"##","max_input_chars_per_word":100,
    "vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"a":3,"##b":4}},
    "normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"},
    "added_tokens":[{"id":0,"content":"[UNK]","special":true,"normalized":false}]})");
}

json bpe() {
  json vocab = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocab[byte_characters()[static_cast<size_t>(byte)]] = byte;
  }
  vocab["ab"] = 256;
  return {{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"a b"}}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}}};
}

void parse(const json& file) { parse_tokenizer_json(file.dump(), "tokenizer.json"); }

/// The error of a file that `change` has damaged, with every fragment in it.
template <typename Change>
void expect_error(json file, Change change, std::initializer_list<const char*> fragments,
                  ErrorKind kind = ErrorKind::data) {
  change(file);
  const std::string text = message(kind, [&] { parse(file); });
  for (const char* fragment : fragments) {
    EXPECT_NE(text.find(fragment), std::string::npos) << text << "\nlacks " << fragment;
  }
}

TEST(TokenizerErrors, TheFilesAboveAreRight) {
  parse(bert());
  parse(bpe());
}

TEST(TokenizerErrors, Syntax) {
  const std::string whole = bert().dump();
  for (const size_t size : {size_t{0}, size_t{1}, whole.size() / 2, whole.size() - 1}) {
    const std::string text =
        message(ErrorKind::data, [&] { parse_tokenizer_json(whole.substr(0, size), "file"); });
    EXPECT_NE(text.find("the JSON is damaged at byte"), std::string::npos) << text;
    EXPECT_NE(text.find("at file"), std::string::npos) << text;
  }
}

TEST(TokenizerErrors, TypesAndMissingParts) {
  expect_error(bert(), [](json& f) { f.erase("model"); }, {"\"model\" is missing"});
  expect_error(bert(), [](json& f) { f = json::array(); }, {"an object is needed", "array"});
  expect_error(bert(), [](json& f) { f["model"].erase("vocab"); },
               {"\"vocab\" is missing", "model in"});
  expect_error(bert(), [](json& f) { f["model"]["vocab"] = {1, 2}; }, {"an object", "model.vocab"});
  expect_error(bert(), [](json& f) { f["model"]["vocab"]["a"] = "x"; },
               {"\"a\"", "string", "not an integer"});
  expect_error(bert(), [](json& f) { f["added_tokens"] = 3; },
               {"an array is needed", "added_tokens"});
  expect_error(bert(), [](json& f) { f["added_tokens"][0]["id"] = 1.5; },
               {"an integer is needed", "added_tokens[0].id"});
  expect_error(bert(), [](json& f) { f["added_tokens"][0]["special"] = "yes"; }, {"true or false"});
}

TEST(TokenizerErrors, Ids) {
  expect_error(bert(), [](json& f) { f["model"]["vocab"]["c"] = 3; },
               {"id 3 is given to two tokens", "\"a\"", "\"c\""});
  expect_error(bert(), [](json& f) { f["model"]["vocab"]["c"] = -1; }, {"\"c\"", "negative id -1"});
  expect_error(bert(), [](json& f) { f["model"]["vocab"]["c"] = 5000000; },
               {"\"c\"", "5000000", "vocabulary of about"});
  expect_error(bert(), [](json& f) { f["added_tokens"][0]["id"] = 4; }, {"two ids, 0 and 4"});
  expect_error(bert(), [](json& f) { f["added_tokens"].push_back(f["added_tokens"][0]); },
               {"[UNK]", "added twice"});
  expect_error(bert(), [](json& f) { f["model"]["unk_token"] = "<unk>"; },
               {"<unk>", "not in the vocabulary"});
  expect_error(bert(), [](json& f) { f["model"]["max_input_chars_per_word"] = -3; },
               {"-3", "outside"});
}

TEST(TokenizerErrors, Merges) {
  expect_error(
      bpe(), [](json& f) { f["model"]["merges"].push_back("a zz"); },
      {"merge 1 of \"a\" and \"zz\" needs token \"zz\", which the vocabulary of 257 lacks"});
  expect_error(bpe(), [](json& f) { f["model"]["merges"].push_back("b a"); },
               {"needs token \"ba\""});
  expect_error(bpe(), [](json& f) { f["model"]["merges"].push_back("abc"); },
               {"merge 1", "not two tokens"});
  expect_error(bpe(), [](json& f) { f["model"]["merges"].push_back(7); },
               {"a merge is", "merges[1]"});
  expect_error(bpe(),
               [](json& f) {
                 f["model"]["vocab"].erase("a");
                 f["model"]["merges"] = json::array();
               },
               {"lacks \"a\", which stands for byte 0x61"});
}

TEST(TokenizerErrors, WhatIsNotSupportedIsNamed) {
  const auto unsupported = ErrorKind::unsupported;
  expect_error(
      bert(), [](json& f) { f["model"]["type"] = "Unigram"; }, {"Unigram"}, unsupported);
  expect_error(
      bert(), [](json& f) { f["normalizer"]["type"] = "NFKC"; }, {"NFKC"}, unsupported);
  expect_error(
      bert(), [](json& f) { f["pre_tokenizer"]["type"] = "Whitespace"; }, {"Whitespace"},
      unsupported);
  expect_error(
      bert(),
      [](json& f) {
        f["post_processor"] = {{"type", "Odd"}};
      },
      {"Odd"}, unsupported);
  expect_error(
      bpe(), [](json& f) { f["model"]["dropout"] = 0.1; }, {"dropout"}, unsupported);
  expect_error(
      bpe(), [](json& f) { f["model"]["byte_fallback"] = true; }, {"byte_fallback"}, unsupported);
  expect_error(
      bpe(),
      [](json& f) {
        f["normalizer"] = {{"type", "NFKC"}};
      },
      {"NFKC"}, unsupported);
  expect_error(
      bpe(), [](json& f) { f["pre_tokenizer"]["add_prefix_space"] = true; }, {"add_prefix_space"},
      unsupported);
  const auto split = [](json& f) {
    f["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", "\\w+|x"}}}, {"behavior", "Isolated"}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  };
  expect_error(bpe(), split, {"pattern \\w+|x is none of the known", "qwen2"}, unsupported);
}

TEST(TokenizerErrors, Templates) {
  const auto with = [](const char* single) {
    return [single](json& f) {
      f["post_processor"] = {{"type", "TemplateProcessing"},
                             {"single", json::parse(single)},
                             {"special_tokens", {{"[CLS]", {{"ids", {99}}}}}}};
    };
  };
  expect_error(bert(), with(R"([{"SpecialToken":{"id":"[CLS]"}}])"), {"id 99", "vocabulary of 5"});
  expect_error(bert(), with(R"([{"SpecialToken":{"id":"[SEP]"}}])"), {"\"[SEP]\" is missing"});
  expect_error(bert(), with("[]"), {"lacks the sequence A"});
  expect_error(bert(), with(R"([{"Sequence":{"id":"A"}},{"Sequence":{"id":"A"}}])"), {"A once"});
}

TEST(TokenizerErrors, VocabTxt) {
  const auto error = [](const char* lines) {
    return message(ErrorKind::data, [&] { parse_vocab_txt(lines, "", "vocab.txt"); });
  };
  EXPECT_NE(error("[UNK]\na\na\n").find("\"a\" is on lines 2 and 3"), std::string::npos);
  EXPECT_NE(error("[UNK]\n\n").find("line 2 is empty"), std::string::npos);
  EXPECT_NE(error("[UNK]\n\xFF\n").find("line 2 is not valid UTF-8"), std::string::npos);
  EXPECT_NE(error("[CLS]\n[SEP]\n").find("lacks [UNK]"), std::string::npos);
  EXPECT_NE(error("").find("lacks [UNK]"), std::string::npos);
}

TEST(TokenizerErrors, VocabJsonAndMerges) {
  const std::string vocab = bpe()["model"]["vocab"].dump();
  const auto error = [&](ErrorKind kind, const std::string& merges, const std::string& config) {
    return message(kind, [&] { parse_vocab_and_merges(vocab, merges, config, "model"); });
  };
  const Tokenizer right(parse_vocab_and_merges(vocab, "#version: 0.2\na b\n", "", "model"));
  EXPECT_EQ(right.encode("ab"), std::vector<int32_t>{256});
  EXPECT_NE(error(ErrorKind::data, "a b\nb q q\n", "").find("merge 1"), std::string::npos);
  EXPECT_NE(
      error(ErrorKind::unsupported, "", R"({"tokenizer_class":"T5Tokenizer"})").find("T5Tokenizer"),
      std::string::npos);
  EXPECT_NE(error(ErrorKind::data, "", R"({"added_tokens_decoder":{"x1":{"content":"<a>"}}})")
                .find("\"x1\" is no id"),
            std::string::npos);
}

TEST(TokenizerErrors, Folders) {
  const fs::path folder = fs::path(::testing::TempDir()) / "no_tokenizer";
  fs::create_directories(folder);
  const std::string text = message(ErrorKind::user, [&] { Tokenizer::open(folder); });
  EXPECT_NE(text.find("no tokenizer.json, no vocab.txt"), std::string::npos) << text;
  message(ErrorKind::user, [] { Tokenizer::open("/no/such/tokenizer.json"); });
}

TEST(TokenizeErrors, Lines) {
  const Tokenizer tokenizer(parse_tokenizer_json(bert().dump(), "file"));
  const auto run = [&](const char* input, const TokenizeOptions& options) {
    std::istringstream in(input);
    std::ostringstream out;
    tokenize_lines(tokenizer, options, in, out);
    return out.str();
  };
  EXPECT_EQ(run("\"ab a\"\n\n\"a\"\n", {}), "[3, 4, 3]\n[3]\n");
  EXPECT_EQ(run("\"a\xFF"
                "b\"\n",
                {.json = true}),
            "{\"ids\":[3, 4],\"tokens\":[\"a\",\"##b\"],\"replaced\":1}\n");
  const auto error = [&](const char* input, const TokenizeOptions& options) {
    return message(ErrorKind::data, [&] { run(input, options); });
  };
  EXPECT_NE(error("\"a\"\nb\n", {}).find("line 2 is no JSON"), std::string::npos);
  EXPECT_NE(error("[1]\n", {}).find("line 1 holds array, not a string"), std::string::npos);
  json with_decoder = bert();
  with_decoder["decoder"] = {{"type", "WordPiece"}};
  const Tokenizer decoding(parse_tokenizer_json(with_decoder.dump(), "file"));
  std::istringstream in("[3, 77]\n");
  std::ostringstream out;
  const std::string text =
      message(ErrorKind::data, [&] { tokenize_lines(decoding, {.decode = true}, in, out); });
  EXPECT_NE(text.find("id 77 has no token in a vocabulary of 5"), std::string::npos) << text;
  EXPECT_NE(error("[-1]\n", {.decode = true}).find("-1 is no id"), std::string::npos);
  EXPECT_NE(message(ErrorKind::unsupported, [&] { run("[3]\n", {.decode = true}); })
                .find("decoder none is not supported"),
            std::string::npos);
}

}  // namespace
}  // namespace espalier::text
