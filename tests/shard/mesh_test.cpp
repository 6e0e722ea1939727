// SPDX-License-Identifier: Apache-2.0
#include "espalier/shard/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/shard/spec.h"
#include "tests/support/errors.h"

namespace espalier::shard {
namespace {

using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Mesh, ReadsItsOwnText) {
  const Mesh mesh = Mesh::parse("data=8,model=4");
  EXPECT_EQ(mesh.devices(), 32);
  EXPECT_EQ(mesh.size("model"), 4);
  EXPECT_EQ(mesh, Mesh({{"data", 8}, {"model", 4}}));
  EXPECT_EQ(Mesh::parse(mesh.str()), mesh);
  EXPECT_EQ(Mesh().devices(), 1);
  EXPECT_EQ(Mesh::parse(""), Mesh());
}

TEST(Mesh, TheLastAxisVariesFastest) {
  const Mesh mesh = Mesh::parse("data=2,model=4");
  EXPECT_EQ(mesh.coordinate(6, "data"), 1);
  EXPECT_EQ(mesh.coordinate(6, "model"), 2);
  EXPECT_EQ(mesh.coordinate(3, "data"), 0);
}

TEST(Mesh, WrongTextsAndNumbersAreNamed) {
  EXPECT_THAT(error_of([] { Mesh::parse("data=8,model"); }),
              HasSubstr("[mesh] \"model\" is not AXIS=SIZE; a mesh is written as data=8,model=4"));
  EXPECT_THAT(error_of([] { Mesh::parse("data=8x"); }), HasSubstr("\"data=8x\" is not AXIS=SIZE"));
  EXPECT_THAT(error_of([] { Mesh::parse("data=0"); }), HasSubstr("axis data has 0 devices"));
  EXPECT_THAT(error_of([] { Mesh::parse("a=2,a=2"); }), HasSubstr("axis a comes twice"));
  EXPECT_THAT(error_of([] { Mesh::parse("a=4294967296,b=4294967296"); }),
              HasSubstr("number of devices overflows"));
  const Mesh mesh = Mesh::parse("data=2,model=4");
  EXPECT_THAT(error_of([&] { mesh.size("modle"); }),
              HasSubstr("the mesh data=2,model=4 has no axis modle; nearest: model"));
  EXPECT_THAT(error_of([&] { mesh.coordinate(8, "data"); }),
              HasSubstr("rank 8 is outside the mesh data=2,model=4 of 8 devices, ranks 0 to 7"));
  EXPECT_THAT(error_of([&] { mesh.check_devices(4); }),
              HasSubstr("the mesh data=2,model=4 needs 8 devices, there are 4"));
}

TEST(Mesh, FactorizationsAreAllOfThem) {
  std::vector<std::string> texts;
  for (const Mesh& mesh : factorizations(12, {"data", "model"})) texts.push_back(mesh.str());
  EXPECT_THAT(texts, ElementsAre("data=12,model=1", "data=6,model=2", "data=4,model=3",
                                 "data=3,model=4", "data=2,model=6", "data=1,model=12"));
  EXPECT_EQ(factorizations(8, {"a", "b", "c"}).size(), 10u);
}

TEST(PartitionSpec, RegionsTileTheTensor) {
  const Mesh mesh = Mesh::parse("data=2,model=3");
  for (const PartitionSpec& spec :
       {PartitionSpec(), PartitionSpec{{"model"}, {}}, PartitionSpec{{"data"}, {"model"}},
        PartitionSpec{{}, {"model", "data"}}, PartitionSpec{{"data", "model"}, {}},
        PartitionSpec::parse("(2*model,data)"), PartitionSpec::parse("(2*data,3*model)"),
        PartitionSpec::parse("(-,(3*data,3*model))")}) {
    const Shape shape{12, 18};
    std::vector<int> owners(12 * 18, 0);
    for (int64_t rank = 0; rank < mesh.devices(); ++rank) {
      const Region region = region_of(shape, spec, mesh, rank);
      EXPECT_EQ(region.size.numel(), spec.local_shape(shape, mesh).numel());
      EXPECT_EQ(region.view.numel(), shape.numel());
      const std::vector<int64_t> strides = region.view.strides();
      for (int64_t i = 0; i < region.size.numel(); ++i) {
        int64_t index = 0, rest = i;
        for (int64_t d = region.view.rank() - 1; d >= 0; --d) {
          const auto at = static_cast<size_t>(d);
          index += (region.first[at] + rest % region.size[d]) * strides[at];
          rest /= region.size[d];
        }
        ++owners[static_cast<size_t>(index)];
      }
    }
    const int64_t copies = mesh.devices() / spec.pieces(mesh);
    EXPECT_THAT(owners, testing::Each(copies)) << spec.str(2);
  }
}

TEST(PartitionSpec, TheFirstAxisOfADimensionCutsTheCoarsestPieces) {
  const Mesh mesh = Mesh::parse("data=2,model=2");
  const PartitionSpec spec{{"model", "data"}, {}};
  // rank 1 is data 0, model 1: the second half's first quarter.
  EXPECT_THAT(region_of({8, 1}, spec, mesh, 1).first, ElementsAre(4, 0));
  EXPECT_THAT(region_of({8, 1}, spec, mesh, 2).first, ElementsAre(2, 0));
}

TEST(PartitionSpec, ADeviceHasAPieceOfEveryGroup) {
  const Mesh mesh = Mesh::parse("model=2");
  PartitionSpec spec;
  spec.cut(0, "model", 3);
  EXPECT_EQ(spec.groups(0), 3);
  EXPECT_EQ(spec.local_shape({6, 1}, mesh), (Shape{3, 1}));
  // Seen as [3,2,1]: the second of each two.
  const Region region = region_of({6, 1}, spec, mesh, 1);
  EXPECT_EQ(region.view, (Shape{3, 2, 1}));
  EXPECT_THAT(region.first, ElementsAre(0, 1, 0));
  EXPECT_EQ(region.size, (Shape{3, 1, 1}));
  EXPECT_THAT(error_of([&] {
                spec.local_shape({9, 1}, mesh);
              }),
              HasSubstr("does not divide dimension 0 of [9,1], where 9 are left in 3 groups"));
  EXPECT_THAT(
      error_of([&] { spec.cut(0, "data", 2); }),
      HasSubstr("axis data cannot cut dimension 0 within 2 groups, others cut it within 3"));
}

TEST(PartitionSpec, PrintsAndRefuses) {
  for (const char* text :
       {"-", "(model,-)", "((data,model),-)", "(3*model,-)", "(-,(2*data,2*model))"}) {
    EXPECT_EQ(PartitionSpec::parse(text).str(2), text);
  }
  for (const char* text : {"(*model,-)", "(3*,-)", "(1*model,-)", "(x*model,-)", "(3*-,-)"}) {
    EXPECT_THAT(error_of([&] { PartitionSpec::parse(text); }), HasSubstr("is no partition spec"))
        << text;
  }
  EXPECT_EQ(PartitionSpec().str(2), "-");
  EXPECT_EQ((PartitionSpec{{"model"}, {}}).str(2), "(model,-)");
  EXPECT_EQ((PartitionSpec{{"data", "model"}, {}}).str(2), "((data,model),-)");
  EXPECT_THAT(error_of([] {
                (void)PartitionSpec{{"a"}, {"a"}, {}};
              }),
              HasSubstr("axis a cuts two dimensions, 0 and 1"));
  const Mesh mesh = Mesh::parse("a=3");
  EXPECT_THAT(error_of([&] {
                PartitionSpec{{"a"}, {}}.local_shape({8, 1}, mesh);
              }),
              HasSubstr("axis a of 3 devices does not divide dimension 0 of [8,1]"));
}

TEST(PartitionSpec, ReadsWhatItWrites) {
  for (const char* text : {"-", "(model,-)", "((data,model),-)", "(-,-,(model,data))", "(data)"}) {
    const PartitionSpec spec = PartitionSpec::parse(text);
    const auto commas = std::count(text, text + std::strlen(text), ',');
    const auto inner = std::count(text + 1, text + std::strlen(text), '(');
    EXPECT_EQ(spec.str(commas - inner + 1), text);
  }
  for (const char* text :
       {"", "model", "(model", "()", "(model,)", "(model,model)", "((a,b)", "(a)b", "(((a)))"}) {
    EXPECT_THAT(error_of([&] { PartitionSpec::parse(text); }), HasSubstr("is no partition spec"))
        << text;
  }
}

}  // namespace
}  // namespace espalier::shard
