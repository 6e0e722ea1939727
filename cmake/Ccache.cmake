# SPDX-License-Identifier: Apache-2.0
# Compiles through ccache where it is installed (CCACHE_DISABLE=1 in the environment passes it by).
# Paths are taken relative to the checkout, so that another clone and a worktree find what this one
# compiled; precompiled headers need the two kinds of sloppiness.
find_program(CCACHE_PROGRAM ccache)
set(launcher "${CMAKE_CXX_COMPILER_LAUNCHER}")
if(CCACHE_PROGRAM AND (launcher STREQUAL "" OR launcher STREQUAL "ccache"))
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE_PROGRAM})
endif()
