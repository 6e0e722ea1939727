// SPDX-License-Identifier: Apache-2.0
// Short lists without allocations, and values that copies share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "espalier/base/shared.h"
#include "espalier/base/small_vector.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;

TEST(SmallVector, IsOneListWhenItOutgrowsItsRoom) {
  SmallVector<int64_t, 2> list;
  EXPECT_TRUE(list.empty());
  for (int64_t i = 0; i < 5; ++i) {
    list.push_back(i);
    EXPECT_EQ(list.size(), static_cast<size_t>(i + 1));
    EXPECT_EQ(list[static_cast<size_t>(i)], i);
  }
  list[0] = 7;
  list[4] = 8;
  EXPECT_THAT(list, ElementsAre(7, 1, 2, 3, 8));
}

TEST(SmallVector, CopiesAreTheirOwnAndEqual) {
  for (const int64_t count : {1, 2, 3}) {
    SmallVector<int64_t, 2> list;
    for (int64_t i = 0; i < count; ++i) list.push_back(i);
    SmallVector<int64_t, 2> copy = list;
    EXPECT_EQ(copy, list);
    copy[0] = 9;
    EXPECT_FALSE(copy == list);
    EXPECT_EQ(list[0], 0);
    const SmallVector<int64_t, 2> moved = std::move(copy);
    EXPECT_EQ(moved[0], 9);
    EXPECT_EQ(copy, moved) << "a list that was moved from keeps its values";
    list = moved;
    EXPECT_EQ(list, moved);
  }
  EXPECT_FALSE((SmallVector<int64_t, 2>{1, 2}) == (SmallVector<int64_t, 2>{1, 2, 3}));
}

TEST(Shared, CopiesAreOneValue) {
  const Shared<std::string> text("layers.0"), copy = text, other(std::string("layers.0"));
  EXPECT_TRUE(text.same(copy));
  EXPECT_FALSE(text.same(other));
  EXPECT_EQ(text, other);
  EXPECT_EQ(*text, "layers.0");
  EXPECT_EQ(&*copy, &*text);
  EXPECT_FALSE(text == Shared<std::string>());
  EXPECT_TRUE(Shared<std::string>()->empty());
}

TEST(Shared, ListsReadLikeVectors) {
  const SharedList<int> list{1, 2, 3}, copy = list;
  EXPECT_THAT(*list, ElementsAre(1, 2, 3));
  EXPECT_EQ(list.at(2), 3);
  EXPECT_TRUE(copy.same(list));
  EXPECT_TRUE(SharedList<int>().empty());
}

}  // namespace
}  // namespace espalier
